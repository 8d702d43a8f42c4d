//! What a node serves at `/metrics` is what `docs/metrics.md` says, both ways.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use antumbra_tests::client::Client;
use antumbra_tests::environment::repository;
use antumbra_tests::node::{self, Node, Options, free_base_port};
use antumbra_tests::{http, waiting};

use crate::mqtt_cluster::Cluster;

/// What is looked at every few seconds, and what is trimmed, is there by then.
const LIMIT: Duration = Duration::from_secs(60);

/// Kind and labels of each metric.
type Metrics = BTreeMap<String, (String, BTreeSet<String>)>;

/// The rows of the tables.
fn documented() -> Metrics {
    let text = fs::read_to_string(repository().join("docs/metrics.md")).unwrap();
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, meaning] = cells.as_slice() else {
            return None;
        };
        let name = name.strip_prefix("`antumbra_")?.strip_suffix('`')?;
        assert!(meaning.len() > 5, "{name} says nothing");
        let labels = labels.split('`').skip(1).step_by(2).map(str::to_owned);
        let row = ((*kind).to_owned(), labels.collect());
        Some((format!("antumbra_{name}"), row))
    });
    let rows: Vec<_> = rows.collect();
    let count = rows.len();
    let metrics = Metrics::from_iter(rows);
    assert_eq!(metrics.len(), count, "a metric has two rows");
    metrics
}

/// What the text of `/metrics` holds. Every metric must say what it is.
fn served(text: &str) -> Metrics {
    let about = |keyword: &str| {
        let lines = text.lines().filter_map(|line| line.strip_prefix(keyword));
        let parts = lines.filter_map(|line| line.trim().split_once(' '));
        parts
            .map(|(name, rest)| (name.to_owned(), rest.to_owned()))
            .collect::<BTreeMap<_, _>>()
    };
    let (helps, kinds) = (about("# HELP"), about("# TYPE"));
    let mut metrics: Metrics = kinds
        .iter()
        .map(|(name, kind)| (name.clone(), (kind.clone(), BTreeSet::new())))
        .collect();
    for name in kinds.keys() {
        assert!(helps.contains_key(name), "{name} has no HELP");
    }
    for line in text.lines().filter(|line| line.starts_with("antumbra_")) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
        let parts = ["_bucket", "_sum", "_count"];
        let whole = parts.iter().find_map(|part| name.strip_suffix(part));
        let whole = whole.filter(|whole| kinds.get(*whole).is_some_and(|kind| kind == "histogram"));
        let (_, labels) = metrics.get_mut(whole.unwrap_or(name)).unwrap();
        for label in rest
            .split("=\"")
            .filter_map(|part| part.rsplit(['{', ',']).next())
        {
            let is_name =
                !label.is_empty() && label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            if is_name && label != "le" && rest.contains(&format!("{label}=\"")) {
                labels.insert(label.to_owned());
            }
        }
    }
    metrics
}

/// A node with a certificate has every metric of the tables, with their labels, and no other one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_of_a_node_are_those_of_the_documentation() {
    let directory = tempfile::tempdir().unwrap();
    let commands = [
        "cert ca --out ca",
        "cert node --ca ca --out certificates --name node-1 --host 127.0.0.1",
    ];
    for command in commands {
        let arguments: Vec<&str> = command.split(' ').collect();
        let made = node::run(&arguments, directory.path()).unwrap();
        assert!(made.status.success(), "{command}: {}", made.output);
    }
    let file = |name: &str| {
        directory
            .path()
            .join("certificates")
            .join(name)
            .display()
            .to_string()
    };
    let secure = free_base_port().unwrap();
    let options = Options::new(directory.path().join("data"))
        .with_env("ANTUMBRA_MQTT_TLS_LISTEN", format!("127.0.0.1:{secure}"))
        .with_env("ANTUMBRA_MQTT_TLS_CERTIFICATE", file("node-1.pem"))
        .with_env("ANTUMBRA_MQTT_TLS_KEY", file("node-1.key"));
    let node = Node::start(&options).unwrap();
    let client = Client::new(node.grpc());
    client.update("device", r#"{"a":1}"#).await.unwrap();
    client.get("device").await.unwrap();

    let documented = documented();
    assert!(documented.len() > 70, "{} rows", documented.len());
    let read = || served(&http::get(node.http(), "/metrics").unwrap().text());
    let complete = waiting::until("all metrics are there", LIMIT, || {
        let seen = read();
        documented
            .keys()
            .all(|name| seen.contains_key(name))
            .then_some(seen)
    });
    let seen = complete.unwrap_or_else(|_| read());
    let names = |metrics: &Metrics| metrics.keys().cloned().collect::<BTreeSet<_>>();
    let (told, there) = (names(&documented), names(&seen));
    let missing: Vec<_> = told.difference(&there).collect();
    let unsaid: Vec<_> = there.difference(&told).collect();
    assert!(
        missing.is_empty() && unsaid.is_empty(),
        "documented and not served: {missing:?}; served and not documented: {unsaid:?}"
    );
    for (name, row) in &documented {
        assert_eq!(&seen[name], row, "{name}");
    }
}

/// A leader and its shard are seen, and what was done is counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count_what_was_done() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(&Options::new(directory.path())).unwrap();
    let client = Client::new(node.grpc());
    for number in 0..10 {
        let desired = format!(r#"{{"n":{number}}}"#);
        client.update("device", &desired).await.unwrap();
    }
    client.get("device").await.unwrap();
    let text = || http::get(node.http(), "/metrics").unwrap().text();
    let value = |series: &str| {
        let text = text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series).map(str::to_owned));
        line.map(|value| value.trim().parse::<f64>().unwrap())
    };
    let updates = r#"antumbra_requests_total{api="grpc",op="UpdateShadow",code="OK"}"#;
    assert_eq!(value(updates), Some(10.0));
    let reads = r#"antumbra_request_duration_seconds_count{api="grpc",op="GetShadow",consistency="linearizable"}"#;
    assert_eq!(value(reads), Some(1.0));
    let committed = value(r#"antumbra_raft_proposals_total{result="committed"}"#);
    assert!(committed.unwrap() >= 10.0, "{committed:?}");
    let leads = |text: &str| {
        let led = text
            .lines()
            .filter(|line| line.starts_with("antumbra_shard_leader{"));
        led.filter(|line| line.ends_with(" 1")).count()
    };
    let shards = waiting::until("every shard has its leader", LIMIT, || {
        let shards = value("antumbra_cluster_shards")?;
        (leads(&text()) as f64 == shards).then_some(shards)
    });
    assert!(shards.unwrap() >= 2.0);
    assert_eq!(value(r#"antumbra_node_state{state="active"}"#), Some(1.0));
    assert!(value("antumbra_disk_free_bytes") < value("antumbra_disk_total_bytes"));
    assert!(value("antumbra_disk_free_bytes") > Some(0.0));
}

/// What one node of a cluster serves.
struct Seen {
    text: String,
}

impl Seen {
    fn at(cluster: &Cluster, node: u16) -> Seen {
        let answer = http::get(cluster.door(node, 80), "/metrics").unwrap();
        Seen {
            text: answer.text(),
        }
    }

    /// The values of a metric by its labels.
    fn series(&self, name: &str) -> BTreeMap<String, f64> {
        let lines = self.text.lines().filter_map(|line| line.strip_prefix(name));
        let parts = lines.filter_map(|line| match line.strip_prefix('{') {
            Some(labelled) => labelled.split_once("} "),
            None => line.strip_prefix(' ').map(|value| ("", value)),
        });
        parts
            .map(|(labels, value)| (labels.to_owned(), value.parse().unwrap()))
            .collect()
    }

    /// Voters, and those that are heard, of the shards that the node leads now.
    fn voters_of_led(&self) -> Vec<(f64, f64)> {
        let voters = self.series("antumbra_shard_voters");
        let heard = self.series("antumbra_shard_voters_heard");
        let leads = self.series("antumbra_shard_leader").into_iter();
        let led = leads.filter(|(_, leads)| *leads == 1.0);
        led.map(|(shard, _)| (voters[&shard], heard[&shard]))
            .collect()
    }
}

/// A node that hangs is missed by the leader of every shard, until it goes on.
#[test]
fn metrics_show_voters_that_are_not_heard() {
    let cluster = Cluster::with_environment(0, &[]);
    let all = |nodes: &[u16], expected: (f64, f64)| {
        let what = format!("every shard has a leader, which sees {expected:?}");
        let seen = waiting::until(&what, LIMIT, || {
            let seen: Vec<Seen> = nodes.iter().map(|node| Seen::at(&cluster, *node)).collect();
            let shards = *seen[0].series("antumbra_cluster_shards").get("")?;
            let led: Vec<_> = seen.iter().flat_map(Seen::voters_of_led).collect();
            let good = led.len() as f64 == shards && led.iter().all(|one| *one == expected);
            good.then_some(())
        });
        seen.unwrap();
    };
    all(&[1, 2, 3], (3.0, 3.0));
    cluster.signal("node-3", "-STOP");
    all(&[1, 2], (3.0, 2.0));
    cluster.signal("node-3", "-CONT");
    all(&[1, 2, 3], (3.0, 3.0));
}
