//! What the MQTT door does against clients that send too much, and against too many of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use antumbra_proto::v1;
use antumbra_tests::client::Client as Grpc;
use antumbra_tests::mqtt::{Client, Connect, Publish, Version};
use antumbra_tests::node::{Node, Options};
use antumbra_tests::{http, waiting};
use tonic::Code;

/// A client that sends more than its rate is slowed down to it, keeps its connection and loses nothing;
/// others do not wait for it.
#[test]
fn mqtt_bytes_of_a_client_are_paced() {
    const MESSAGES: usize = 10;
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new(directory.path())
        .with_env("ANTUMBRA_LIMITS_MQTT_BYTES_PER_SECOND_MAX", "64KiB");
    let node = Node::start(&options).unwrap();
    for version in Version::ALL {
        let mut fast = Client::connect(node.mqtt(), &Connect::new(version, "fast")).unwrap();
        let mut other = Client::connect(node.mqtt(), &Connect::new(version, "other")).unwrap();
        other.listen(&["load/end"]).unwrap();
        let started = Instant::now();
        // Five seconds' worth, of which the first may come at once.
        for _ in 0..MESSAGES {
            let load = Publish::new("load/nobody", vec![b'x'; 32 * 1024], 0);
            fast.send(&load.encode(version)).unwrap();
        }
        let asked = Instant::now();
        other.ping().unwrap();
        assert!(asked.elapsed() < Duration::from_secs(3), "{version:?}");
        fast.post("load/end", "").unwrap();
        let waited = started.elapsed();
        assert!(waited > Duration::from_secs(3), "{version:?}: {waited:?}");
        assert!(waited < Duration::from_secs(19), "{version:?}: {waited:?}");
        other.message_on("load/end").unwrap();
        fast.disconnect().unwrap();
    }
}

/// What memory allows on a node whose memory a test controls.
struct Ceiling {
    node: Node,
    directory: tempfile::TempDir,
}

/// The ceiling of these nodes.
const CEILING: u64 = 1 << 30;
/// How long a node may take to see what is in use.
const LOOK: Duration = Duration::from_secs(20);

impl Ceiling {
    fn start() -> Ceiling {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("used");
        fs::write(&file, "0").unwrap();
        let options = Options::new(directory.path().join("data"))
            .with_env("ANTUMBRA_LIMITS_MEMORY_BYTES_MAX", "1GiB")
            .with_test_switch("ANTUMBRA_TEST_MEMORY_FILE", file.display());
        let node = Node::start(&options).unwrap();
        Ceiling { node, directory }
    }

    /// Sets what is in use, as percent of the ceiling, and waits until the node is in this stage.
    fn use_percent(&self, percent: u64, stage: f64) {
        let (file, next) = (
            self.directory.path().join("used"),
            self.directory.path().join("next"),
        );
        fs::write(&next, (CEILING / 100 * percent).to_string()).unwrap();
        fs::rename(&next, &file).unwrap();
        let reached =
            || (self.node.metric("antumbra_memory_pressure").unwrap() == stage).then_some(());
        waiting::until("the stage", LOOK, reached).unwrap();
    }

    fn refused(&self) -> f64 {
        let refused = r#"antumbra_mqtt_connects_refused_total{cause="memory"}"#;
        self.node.metric(refused).unwrap()
    }
}

/// A connection that is closed before anything is read from it.
fn is_closed_at_once(node: &Node, version: Version) -> bool {
    let mut client = Client::open(node.mqtt(), version).unwrap();
    let ended = client.ended_within(Duration::from_secs(3));
    ended.is_ok_and(|ended| ended.packets.is_empty())
}

/// At the ceiling nothing new comes in through any door, sessions and streams that are there are served, and
/// below it everything is as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_full_memory_keeps_new_clients_out_and_serves_the_others() {
    let ceiling = Ceiling::start();
    let node = &ceiling.node;
    let grpc = Grpc::new(node.grpc());
    grpc.update("lamp", r#"{"a":1}"#).await.unwrap();
    let post = || {
        let target = "/things/lamp/shadow";
        let body = br#"{"state":{"desired":{"a":2}}}"#;
        http::send(node.http(), "POST", target, body)
            .unwrap()
            .status
    };
    for version in Version::ALL {
        let mut inside = Client::connect(node.mqtt(), &Connect::new(version, "inside")).unwrap();
        inside
            .listen(&["$aws/things/lamp/shadow/update/accepted"])
            .unwrap();
        let before = ceiling.refused();
        ceiling.use_percent(101, 1.0);

        assert!(is_closed_at_once(node, version), "{version:?}");
        assert!(ceiling.refused() > before);
        inside
            .post(
                "$aws/things/lamp/shadow/update",
                r#"{"state":{"reported":{"a":1}}}"#,
            )
            .unwrap();
        inside.message().unwrap();
        assert_eq!(post(), 429);
        let refusal = grpc.update("lamp", r#"{"a":3}"#).await.unwrap_err();
        let seen = (refusal.code, refusal.reason.as_str());
        assert_eq!(seen, (Code::ResourceExhausted, "OVERLOADED"));
        let mut raw = grpc.raw();
        let watch = raw.watch_shadows(grpc.request(v1::WatchShadowsRequest::default()));
        assert_eq!(watch.await.unwrap_err().code(), Code::ResourceExhausted);
        grpc.get("lamp").await.unwrap();

        ceiling.use_percent(90, 0.0);
        Client::connect(node.mqtt(), &Connect::new(version, "later")).unwrap();
        assert_eq!(post(), 200);
        grpc.update("lamp", r#"{"a":4}"#).await.unwrap();
        inside.ping().unwrap();
    }
}

/// Above the ceiling a session for which much is waiting goes, with the reason; quiet ones stay.
#[test]
fn mqtt_sessions_with_a_backlog_are_shed_when_memory_is_short() {
    let ceiling = Ceiling::start();
    let node = &ceiling.node;
    for version in Version::ALL {
        let mut lazy = Client::connect(node.mqtt(), &Connect::new(version, "lazy")).unwrap();
        lazy.hold_acknowledgements();
        lazy.listen(&["backlog"]).unwrap();
        let mut quiet = Client::connect(node.mqtt(), &Connect::new(version, "quiet")).unwrap();
        for _ in 0..4 {
            quiet.post("backlog", vec![b'x'; 32 * 1024]).unwrap();
        }
        lazy.message().unwrap();
        ceiling.use_percent(104, 1.0);
        lazy.ping().unwrap();
        ceiling.use_percent(110, 2.0);
        let ended = lazy.ended().unwrap();
        assert_eq!(
            ended.reason(),
            version.pick(None, Some(0x97)),
            "{version:?}"
        );
        quiet.ping().unwrap();
        ceiling.use_percent(50, 0.0);
    }
    assert!(node.metric("antumbra_mqtt_sessions_shed_total").unwrap() >= 2.0);
}

/// The ceiling is held against what the process really takes.
#[test]
fn mqtt_memory_of_the_process_is_measured() {
    let directory = tempfile::tempdir().unwrap();
    let options =
        Options::new(directory.path()).with_env("ANTUMBRA_LIMITS_MEMORY_BYTES_MAX", "16MiB");
    let node = Node::start(&options).unwrap();
    let is_seen = || (node.metric("antumbra_memory_pressure").unwrap() >= 1.0).then_some(());
    waiting::until("the node sees that it is full", LOOK, is_seen).unwrap();
    assert!(is_closed_at_once(&node, Version::V5));
}

/// A storm: two thousand clients at once at a node that takes two hundred each second. Nobody is turned
/// away, all get in, at the rate, and who is in is served meanwhile.
#[test]
fn mqtt_storm_of_connections_is_let_in_at_the_rate() {
    const CLIENTS: u32 = 2_000;
    const PER_SECOND: u32 = 200;
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new(directory.path())
        .with_env("ANTUMBRA_LIMITS_MQTT_CONNECTS_PER_SECOND_MAX", PER_SECOND);
    let node = Node::start(&options).unwrap();
    let mut inside = Client::connect(node.mqtt(), &Connect::new(Version::V5, "inside")).unwrap();
    // What may come at once, and then what comes at the rate.
    let expected = Duration::from_secs(u64::from(CLIENTS / PER_SECOND - 1));

    let started = Instant::now();
    let mut storm = Vec::new();
    for nth in 0..CLIENTS {
        let mut client = Client::open(node.mqtt(), Version::V5).unwrap();
        let connect = Connect::new(Version::V5, &format!("storm-{nth}"));
        client.send(&connect.encode()).unwrap();
        storm.push(client);
    }
    let is_over = AtomicBool::new(false);
    let slowest = thread::scope(|scope| {
        let served = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while !is_over.load(Ordering::Relaxed) {
                let asked = Instant::now();
                let update = r#"{"state":{"reported":{"a":1}}}"#;
                inside
                    .post("$aws/things/inside/shadow/update", update)
                    .unwrap();
                slowest = slowest.max(asked.elapsed());
                thread::sleep(Duration::from_millis(20));
            }
            slowest
        });
        let accepted = storm.iter_mut().map(Client::connect_ack);
        let accepted: anyhow::Result<Vec<_>> = accepted.collect();
        is_over.store(true, Ordering::Relaxed);
        let slowest = served.join().unwrap();
        let refused = accepted.unwrap().into_iter().find(|ack| ack.reason != 0);
        assert_eq!(refused, None);
        slowest
    });
    let waited = started.elapsed();
    println!("{CLIENTS} clients came in within {waited:?}, the slowest change took {slowest:?}");
    assert!(waited > expected * 9 / 10, "{waited:?}");
    assert!(waited < expected * 10, "{waited:?}");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    for client in &mut storm {
        client.ping().unwrap();
    }
}
