//! Who decides which nodes belong to the cluster, and who waits for a node that is about to be stopped.

use std::time::{Duration, Instant};

use crate::cli_program::{Dev, command, finish, run};
use crate::cluster_program::parse;

/// Where a node serves HTTP.
fn http(node: &Dev) -> String {
    let nodes = parse(&node.client(&["cluster", "nodes", "-o", "json"]).success());
    let address = nodes["nodes"][0]["http"].as_str().unwrap();
    format!("http://{address}")
}

/// With a static membership no command sends a node away. It can be stopped at any time, so that nobody waits for
/// it, and for one that is gone ten seconds.
#[test]
fn static_nodes_stay_and_are_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let node = Dev::start(
        directory.path(),
        &["--set", "cluster.membership=static"],
        &[],
    );
    for dry_run in [&["--dry-run"][..], &[]] {
        let decommission = ["cluster", "decommission", "node-1"];
        let refused = node.client(&[&decommission, dry_run].concat()).failure(4);
        assert!(refused.stderr.contains("is `static`"), "{refused:#?}");
        assert!(refused.stderr.contains("docs/cluster.md"), "{refused:#?}");
    }
    node.client(&["cluster", "drain", "node-1", "--no-wait"])
        .success();
    node.client(&["cluster", "resume", "node-1"]).success();

    let endpoint = http(&node);
    let prestop = ["prestop", "--endpoint", &endpoint];
    let begun = Instant::now();
    let waited = run(&prestop);
    assert_eq!(waited.code, 0, "{waited:#?}");
    assert!(waited.stderr.contains("node-1 stays"), "{waited:#?}");
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );

    assert_eq!(node.stop(), Some(0));
    let begun = Instant::now();
    let waited = run(&prestop);
    assert_eq!(waited.code, 0, "{waited:#?}");
    assert!(
        waited.stderr.contains("it is not waited for"),
        "{waited:#?}"
    );
    assert!(
        begun.elapsed() >= Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
}

/// A node that should be a pod says at the start that it is none.
#[test]
fn a_process_outside_a_pod_cannot_follow_a_stateful_set() {
    let directory = tempfile::tempdir().unwrap();
    let mut start = command(&["dev", "--base-port", "0", "--data-dir"]);
    start
        .arg(directory.path())
        .args(["--set", "cluster.membership=kubernetes"]);
    let refused = finish(start).failure(1);
    assert!(refused.stderr.contains("KUBERNETES"), "{refused:#?}");
    assert!(refused.stderr.contains("in no pod"), "{refused:#?}");
    assert!(
        !directory.path().join("identity").exists(),
        "something was begun"
    );
}

/// What cannot be asked is a mistake on the command line, which a pod should show.
#[test]
fn prestop_refuses_what_is_no_http_door() {
    for endpoint in [
        "127.0.0.1:7480",
        "https://10.0.0.1:7480",
        "grpc://127.0.0.1:7400",
    ] {
        let refused = run(&["prestop", "--endpoint", endpoint]).failure(2);
        assert!(
            refused.stderr.contains("--endpoint http://"),
            "{refused:#?}"
        );
    }
}
