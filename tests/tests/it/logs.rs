//! Log lines say which request they are of, and what is logged changes while nodes run.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use antumbra_tests::node::{self, Node, Options};
use antumbra_tests::{http, waiting};
use serde_json::Value;

use crate::mqtt_cluster::Cluster;

const LIMIT: Duration = Duration::from_secs(20);
/// With it there is a line for every request.
const DETAILED: &str = "info,openraft=error,antumbra::requests=info";

/// Sets the filter, or only asks for it; what the program printed as JSON.
fn log_level(grpc: SocketAddr, directory: &Path, arguments: &[&str]) -> Value {
    let endpoint = format!("http://{grpc}");
    let mut words = vec![
        "cluster",
        "log-level",
        "-o",
        "json",
        "--endpoint",
        &endpoint,
    ];
    words.extend(arguments);
    let ended = node::run(&words, directory).unwrap();
    assert!(ended.status.success(), "{arguments:?}: {}", ended.output);
    serde_json::from_str(&ended.output).unwrap()
}

/// The lines of a log that are objects.
fn lines(log: &str) -> Vec<Value> {
    let parsed = log.lines().map(serde_json::from_str);
    parsed
        .filter_map(Result::ok)
        .filter(Value::is_object)
        .collect()
}

fn ask_with_id(http: SocketAddr, request_id: &str) -> Option<String> {
    let request = format!(
        "GET /things/lamp/shadow HTTP/1.1\r\nhost: {http}\r\nconnection: close\r\n\
         x-request-id: {request_id}\r\n\r\n"
    );
    let answer = http::send_raw(http, request.as_bytes()).unwrap();
    answer.header("x-amzn-requestid").map(str::to_owned)
}

fn has_request(log: &str, request_id: &str) -> bool {
    lines(log)
        .iter()
        .any(|line| line["span"]["request_id"] == request_id)
}

/// A filter that names requests shows them by their ids, another one does not, and a wrong one changes nothing.
#[test]
fn logs_follow_the_filter_that_is_set_at_run_time() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new(directory.path().join("data"))
        .with_env("ANTUMBRA_TELEMETRY_LOG_FORMAT", "json");
    let node = Node::start(&options).unwrap();
    let set = |arguments: &[&str]| log_level(node.grpc(), directory.path(), arguments);

    let before = set(&[]);
    assert_eq!(
        ask_with_id(node.http(), "quiet-1").as_deref(),
        Some("quiet-1")
    );
    let detailed = set(&[DETAILED]);
    let filter = detailed["nodes"][0]["filter"].as_str().unwrap();
    assert!(filter.contains("antumbra::requests=info"), "{detailed}");
    assert_eq!(detailed["nodes"][0]["finest_level"], "info");
    assert_ne!(before["nodes"][0]["filter"], detailed["nodes"][0]["filter"]);
    assert_eq!(set(&[]), detailed, "a question changes nothing");

    ask_with_id(node.http(), "loud-1");
    let seen = waiting::until("the request is in the log", LIMIT, || {
        has_request(&node.output(), "loud-1").then_some(())
    });
    seen.unwrap();
    let name = detailed["nodes"][0]["node"].as_str().unwrap();
    set(&["--node", name, "info,openraft=error"]);
    ask_with_id(node.http(), "quiet-2");
    set(&[DETAILED]);
    ask_with_id(node.http(), "loud-2");
    let seen = waiting::until("the next request is in the log", LIMIT, || {
        has_request(&node.output(), "loud-2").then_some(())
    });
    seen.unwrap();
    for quiet in ["quiet-1", "quiet-2"] {
        assert!(!has_request(&node.output(), quiet), "{quiet} was logged");
    }

    let endpoint = format!("http://{}", node.grpc());
    for (wrong, why) in [("inf", "inf"), ("info,[request]=trace", "[request]=trace")] {
        let words = ["cluster", "log-level", wrong, "--endpoint", &endpoint];
        let refused = node::run(&words, directory.path()).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{}", refused.output);
        assert!(refused.output.contains(why), "{}", refused.output);
    }
    assert_eq!(set(&[]), detailed, "what is refused changes nothing");
}

/// A command that one node sends to another is found in both logs by the id that its caller gave it.
#[test]
fn logs_name_a_command_on_the_node_that_leads() {
    let cluster = Cluster::with_environment(0, &[("ANTUMBRA_TELEMETRY_LOG_FORMAT", "json")]);
    let set = log_level(cluster.door(1, 0), cluster.data.path(), &[DETAILED]);
    assert_eq!(set["nodes"].as_array().unwrap().len(), 3, "{set}");
    // Wherever the leader is: not every door is its own.
    for asked in 1..=3 {
        let endpoint = format!("http://{}", cluster.door(asked, 0));
        let id = format!("order-{asked}");
        let words = [
            "shadow",
            "update",
            "lamp",
            "--desired",
            "{}",
            "--request-id",
            &id,
            "--endpoint",
            &endpoint,
        ];
        let done = node::run(&words, cluster.data.path()).unwrap();
        assert!(done.status.success(), "{}", done.output);
    }
    let logs = || {
        let log =
            |number| fs::read_to_string(cluster.data.path().join(format!("node-{number}.log")));
        (1..=3)
            .map(|number| lines(&log(number).unwrap()))
            .collect::<Vec<_>>()
    };
    let found = |span: &str, id: &str| {
        let is_it = |line: &Value| line["span"]["name"] == span && line["span"]["command"] == id;
        let logs = logs();
        let mut with = (1..=3).filter(|number| logs[number - 1].iter().any(is_it));
        with.next()
    };
    let seen = waiting::until("a command is sent on and found", LIMIT, || {
        (1..=3).find(|asked| {
            let id = format!("order-{asked}");
            let leader = found("forwarded", &id);
            found("request", &id) == Some(*asked) && leader.is_some_and(|leader| leader != *asked)
        })
    });
    seen.unwrap_or_else(|error| panic!("{error}: {:#?}", logs()));
}
