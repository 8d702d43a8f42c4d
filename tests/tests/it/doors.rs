//! What every operator and load balancer looks at first.

use std::process::Command;
use std::time::Duration;

use antumbra_tests::client::Client;
use antumbra_tests::node::{self, Node, Options};
use antumbra_tests::{environment, http};

/// Health, metrics and the root page answer, and metrics have names of ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_answers_health_metrics_and_the_root_page() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(&Options::new(directory.path())).unwrap();
    for path in ["/livez", "/readyz", "/startupz"] {
        let answer = http::get(node.http(), path).unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    let root = http::get(node.http(), "/").unwrap();
    assert_eq!(root.status, 200);
    assert!(
        root.header("content-type")
            .unwrap()
            .starts_with("text/plain"),
        "{root:?}"
    );
    assert!(
        root.text().contains(&node.grpc().port().to_string()),
        "{}",
        root.text()
    );

    let client = Client::new(node.grpc());
    client.update("device", r#"{"a":1}"#).await.unwrap();
    let metrics = http::get(node.http(), "/metrics").unwrap().text();
    let names = metrics
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    for name in names {
        assert!(name.starts_with("antumbra_"), "{name}");
        assert!(
            !name.contains("device=\"") && !name.contains("device_id"),
            "{name}"
        );
    }
    assert_eq!(node.metric("antumbra_twins_live").unwrap(), 1.0);
}

/// An orderly stop exits with 0, and a second start has everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stops_orderly_on_sigterm_and_starts_again() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new(directory.path());
    let node = Node::start(&options).unwrap();
    Client::new(node.grpc())
        .update("device", r#"{"a":1}"#)
        .await
        .unwrap();
    let stopped = node.terminate().unwrap();
    assert!(
        stopped.status.success(),
        "{}\n{}",
        stopped.status,
        stopped.output
    );

    let node = Node::start(&options).unwrap();
    let client = Client::new(node.grpc());
    assert_eq!(
        client.get("device").await.unwrap().shadow.unwrap().version,
        1
    );
    assert_eq!(
        client.update("device", r#"{"a":2}"#).await.unwrap().version,
        2
    );
}

/// The banner names the doors and the data directory, and each command it offers works when it is
/// pasted.
#[test]
fn banner_offers_commands_that_work() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(&Options::new(directory.path())).unwrap();
    let banner = node.output();
    let grpc = node.grpc().port().to_string();
    let http = node.http().port().to_string();
    for wanted in [
        grpc.as_str(),
        http.as_str(),
        directory.path().to_str().unwrap(),
    ] {
        assert!(banner.contains(wanted), "no {wanted} in\n{banner}");
    }
    let offered = banner.split("Commands to paste:").nth(1).unwrap();
    // Indented; lines of the log may stand between them.
    let lines = offered.lines().take_while(|line| *line != "ready");
    let commands = lines.filter_map(|line| line.strip_prefix("  "));
    let commands: Vec<&str> = commands.filter(|line| !line.trim().is_empty()).collect();
    assert!(commands.len() >= 3, "{commands:?} in\n{banner}");
    let bin = environment::binary();
    let path = format!("{}:/usr/bin:/bin", bin.parent().unwrap().display());
    for line in commands {
        // A watch does not end by itself: 124 says that it was still running.
        let mut command = Command::new("timeout");
        command
            .args(["3", "sh", "-c", line])
            .env("PATH", &path)
            .current_dir(directory.path());
        environment::isolate(&mut command);
        let ended = node::run_command(command, Duration::from_secs(20)).unwrap();
        let worked = ended.status.success() || ended.status.code() == Some(124);
        assert!(worked, "{line}: {}\n{}", ended.status, ended.output);
        assert!(!ended.output.trim().is_empty(), "{line} prints nothing");
    }
}
