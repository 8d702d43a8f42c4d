//! `antumbra dev --nodes 3` and `antumbra cluster …`, as a user meets them.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::cli_program::{Dev, command, finish, run};
use crate::cluster_program::{Cluster, dev, free_base_port, gone, parse, signal};

fn array<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name]
        .as_array()
        .unwrap_or_else(|| panic!("no {name} in {value:#}"))
}

/// The shard with this number.
fn shard(shards: &Value, number: u64) -> &Value {
    let mut shards = array(shards, "shards").iter();
    shards.find(|shard| shard["shard"] == number).unwrap()
}

fn serves(status: &Value) -> bool {
    status["serving"] == true && status["concerns"] == json!([])
}

/// Every command of an operator, at every node, in words and for programs.
#[test]
fn cluster_is_shown_explained_verified_and_moved() {
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(directory.path());
    let status = cluster.until(1, &["cluster", "status"], serves);
    assert_eq!(array(&status, "nodes").len(), 3);
    let words = cluster.client(2, &["cluster", "status"]).success();
    for part in ["3 of 3 answer", "node-2", "all is well"] {
        assert!(words.contains(part), "no `{part}` in\n{words}");
    }

    let nodes = cluster.json(3, &["cluster", "nodes"]);
    for (nth, node) in (1_u16..).zip(array(&nodes, "nodes")) {
        assert_eq!(node["node"], format!("node-{nth}"));
        assert_eq!(node["reachable"], true);
        assert_eq!(
            format!("http://{}", node["grpc"].as_str().unwrap()),
            cluster.endpoint(nth)
        );
    }

    // All nodes name the same leaders, and every replica catches up.
    let caught_up = |shards: &Value| {
        shards["shards"].as_array().is_some_and(|shards| {
            let replicas = || shards.iter().flat_map(|shard| array(shard, "replicas"));
            !shards.is_empty() && replicas().all(|replica| replica["lag"] == 0)
        })
    };
    let shards = cluster.until(1, &["cluster", "shards"], caught_up);
    assert!(
        array(&shards, "shards").len() >= 4,
        "three and the cluster's own: {shards:#}"
    );
    for shard in array(&shards, "shards") {
        let replicas = array(shard, "replicas");
        let leading = replicas
            .iter()
            .filter(|replica| replica["role"] == "leader");
        assert_eq!(leading.count(), 1, "{shard:#}");
        assert_eq!(
            (replicas.len(), &shard["quorum"]),
            (3, &json!(true)),
            "{shard:#}"
        );
    }

    let update = ["shadow", "update", "lamp-1", "--desired", r#"{"on":true}"#];
    cluster.client(1, &update).success();
    cluster.client(2, &update).success();
    let named = [
        "shadow",
        "update",
        "lamp-1",
        "--name",
        "config",
        "--desired",
        "{}",
    ];
    cluster.client(3, &named).success();
    for node in 1..=3 {
        let explained = cluster.json(node, &["cluster", "explain", "lamp-1"]);
        let versions = json!([
            {"shadow": "", "version": 2},
            {"shadow": "config", "version": 1},
        ]);
        assert_eq!(explained["shadows"], versions, "{explained:#}");
        assert_eq!(explained["twin_live"], true);
        let (hash, place) = (explained["hash"].as_u64(), &explained["shard"]);
        assert!(place["first_hash"].as_u64() <= hash && hash <= place["last_hash"].as_u64());
        assert!(place["leader"].is_string(), "{explained:#}");
    }
    let words = cluster
        .client(1, &["cluster", "explain", "lamp-1"])
        .success();
    assert!(words.contains("(classic) v2"), "{words}");

    let verified = cluster.json(2, &["cluster", "verify"]);
    assert_eq!(
        array(&verified, "shards").len(),
        array(&shards, "shards").len()
    );
    for shard in array(&verified, "shards") {
        assert_eq!(shard["equal"], true, "{shard:#}");
        let replicas = array(shard, "replicas");
        assert_eq!(replicas.len(), 3);
        let same = |name| {
            replicas
                .windows(2)
                .all(|pair| pair[0][name] == pair[1][name])
        };
        assert!(
            same("rows") && same("checksum") && same("index"),
            "{shard:#}"
        );
    }
    let one = cluster.json(3, &["cluster", "verify", "1"]);
    assert_eq!(array(&one, "shards").len(), 1);

    // A lead is moved to each node in turn, and stays a lead.
    for node in ["node-1", "node-2", "node-3"] {
        let moved = cluster.json(2, &["cluster", "transfer", "1", node]);
        assert_eq!(moved, json!({"shard": 1, "leader": node}));
        let shards = cluster.json(1, &["cluster", "shards"]);
        assert_eq!(shard(&shards, 1)["leader"], node);
        cluster.client(1, &update).success();
    }
    for wrong in [["99", "node-1"], ["1", "node-9"]] {
        let refused = cluster
            .client(1, &["cluster", "transfer", wrong[0], wrong[1]])
            .failure(2);
        assert!(
            refused
                .stderr
                .contains("try this: `antumbra cluster shards`"),
            "{refused:#?}"
        );
    }
    cluster.client(1, &["cluster", "verify", "99"]).failure(2);
    cluster
        .client(1, &["cluster", "explain", "no spaces"])
        .failure(2);
    assert_eq!(cluster.stop(), Some(0));
}

/// What the banner promises: kill one of three and go on. It is seen, and it comes back.
#[test]
fn cluster_goes_on_without_a_killed_node_which_is_started_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(directory.path());
    cluster.until(1, &["cluster", "status"], serves);
    let pid = cluster.pid(2);
    signal("KILL", pid);
    cluster.says("node-2 was killed by signal 9; it starts again in 1 s");
    // Node 2 is tried first and is not there, or is there again.
    let endpoints = format!(
        "http://127.0.0.1:1,{},{}",
        cluster.endpoint(2),
        cluster.endpoint(3)
    );
    let mut update = command(&["shadow", "update", "lamp-1", "--desired", r#"{"on":true}"#]);
    update.args(["--request-id", "r-1", "--endpoint", &endpoints]);
    let updated = finish(update);
    assert!([0, 5, 6].contains(&updated.code), "{updated:#?}");
    cluster.says("node-2 is ready again, pid ");
    assert!(
        !cluster
            .said
            .contains(&format!("node-2 is ready again, pid {pid}\n"))
    );
    cluster.until(2, &["cluster", "status"], serves);
    let again = [
        "shadow",
        "update",
        "lamp-1",
        "--desired",
        r#"{"on":true}"#,
        "--request-id",
        "r-1",
    ];
    let shadow = parse(
        &cluster
            .client(2, &[&again[..], &["-o", "json"]].concat())
            .success(),
    );
    assert_eq!(shadow["version"], 1, "the retry is the same change");
    let verified = cluster.json(1, &["cluster", "verify"]);
    assert!(
        array(&verified, "shards")
            .iter()
            .all(|shard| shard["equal"] == true)
    );

    // A node that hangs is reported, not waited for.
    let mute = cluster.pid(3);
    signal("STOP", mute);
    let nodes = cluster.json(1, &["cluster", "nodes"]);
    signal("CONT", mute);
    let last = &array(&nodes, "nodes")[2];
    assert_eq!(
        (&last["node"], &last["reachable"]),
        (&json!("node-3"), &json!(false))
    );
    assert!(last["reason"].is_string(), "{last:#}");
    assert_eq!(cluster.stop(), Some(0));
}

/// Stopped or killed, the next start finds the cluster; with another number of nodes it is refused.
#[test]
fn cluster_stops_whole_and_continues() {
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(directory.path());
    let base_port = cluster.base_port();
    let pids = [1, 2, 3].map(|node| cluster.pid(node));
    let update = ["shadow", "update", "lamp-1", "--desired", r#"{"on":true}"#];
    cluster.client(1, &update).success();
    let second = finish(dev(directory.path(), base_port, &["--nodes", "3"])).failure(1);
    assert!(second.stderr.contains("DIRECTORY_LOCKED"), "{second:#?}");
    assert_eq!(cluster.stop(), Some(0));
    for pid in pids {
        gone(pid);
    }
    for nodes in ["1", "2", "4"] {
        let refused = finish(dev(directory.path(), base_port, &["--nodes", nodes])).failure(2);
        assert!(
            refused.stderr.contains("a cluster of 3 nodes"),
            "{refused:#?}"
        );
        assert!(refused.stderr.contains("--nodes 3"), "{refused:#?}");
    }
    let moved = finish(dev(directory.path(), base_port + 1, &["--nodes", "3"])).failure(2);
    assert!(
        moved.stderr.contains(&format!("at base port {base_port}")),
        "{moved:#?}"
    );

    let mut cluster = Cluster::start_at(directory.path(), base_port);
    let get = ["shadow", "get", "lamp-1"];
    assert_eq!(cluster.json(3, &get)["version"], 1);
    // Nobody is left behind when the parent is killed, and the next start waits for them.
    let pids = [1, 2, 3].map(|node| cluster.pid(node));
    cluster.kill_parent();
    let mut cluster = Cluster::start_at(directory.path(), base_port);
    for pid in pids {
        gone(pid);
    }
    assert_eq!(cluster.json(2, &get)["version"], 1);
    assert_eq!(cluster.stop(), Some(0));
}

/// All three commands of the banner work as they are.
#[test]
fn cluster_banner_can_be_pasted() {
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(directory.path());
    let banner = cluster.banner.clone();
    let commands: Vec<&str> = banner
        .lines()
        .filter(|line| line.contains("lamp-1"))
        .collect();
    let shell = |line: &str| {
        let done = std::process::Command::new("sh")
            .args(["-c", line])
            .output()
            .unwrap();
        assert!(done.status.success(), "{line}: {done:#?}");
        String::from_utf8(done.stdout).unwrap()
    };
    assert_eq!(commands.len(), 3, "{banner}");
    shell(commands[0]);
    shell(commands[1]);
    let watched = shell(&format!("{} --count 1", commands[2]));
    assert!(
        watched.contains("lamp-1 v2 is desired {\"on\":true}"),
        "{watched}"
    );
    assert_eq!(cluster.stop(), Some(0));
}

/// One node is a cluster too, and is asked in the same way.
#[test]
fn cluster_of_one_answers_alike() {
    let directory = tempfile::tempdir().unwrap();
    let single = Dev::start(directory.path(), &[], &[]);
    single
        .client(&["shadow", "update", "lamp-1", "--desired", "{}"])
        .success();
    let status = parse(
        &single
            .client(&["cluster", "status", "-o", "json"])
            .success(),
    );
    assert_eq!(status["serving"], true, "{status:#}");
    assert_eq!(array(&status, "nodes").len(), 1);
    let explained = single
        .client(&["cluster", "explain", "lamp-1", "-o", "json"])
        .success();
    assert_eq!(
        parse(&explained)["shadows"],
        json!([{"shadow": "", "version": 1}])
    );
    let verified = parse(
        &single
            .client(&["cluster", "verify", "-o", "json"])
            .success(),
    );
    assert!(
        array(&verified, "shards")
            .iter()
            .all(|shard| shard["equal"] == true)
    );
    assert_eq!(single.stop(), Some(0));
    // Its data are not those of a cluster.
    let several = finish(dev(directory.path(), 7400, &["--nodes", "3"])).failure(2);
    assert!(
        several.stderr.contains("the data of a single node"),
        "{several:#?}"
    );
}

/// A node that cannot start says why, here and not only in its log, and leaves nobody running.
#[test]
fn cluster_start_says_why_a_node_cannot_start() {
    let directory = tempfile::tempdir().unwrap();
    let base_port = free_base_port();
    let _taken = TcpListener::bind(("127.0.0.1", base_port + 100)).unwrap();
    let failed = finish(dev(directory.path(), base_port, &["--nodes", "3"])).failure(1);
    for part in ["error: node-2 does not start", "LISTEN", "node-2.log"] {
        assert!(failed.stderr.contains(part), "no `{part}` in {failed:#?}");
    }
    assert!(failed.stdout.is_empty(), "{failed:#?}");
    for door in [0, 1, 80, 200, 201, 280] {
        TcpListener::bind(("127.0.0.1", base_port + door)).unwrap();
    }
}

/// Options that would give two nodes one value are refused before anything is started.
#[test]
fn cluster_start_refuses_what_cannot_work() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["--base-port", "0"], "each other's ports"),
        (&["--base-port", "65500"], "ports end at 65535"),
        (&["--set", "node.name=a"], "cannot set `node.name`"),
        (&["--set", "raft.heartbeat=0ms"], "raft.heartbeat"),
    ];
    for (arguments, why) in cases {
        let arguments = [&["dev", "--nodes", "3", "--data-dir", path], *arguments].concat();
        let refused = run(&arguments).failure(2);
        assert!(refused.stderr.contains(why), "no `{why}` in {refused:#?}");
    }
    assert!(
        directory.path().read_dir().unwrap().next().is_none(),
        "nothing was written"
    );
}

/// Nodes are drained one at a time and resumed, a preview changes nothing, and nobody leaves a cluster that
/// needs it.
#[test]
fn cluster_nodes_are_drained_one_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(directory.path());
    cluster.until(1, &["cluster", "status"], serves);
    let node = |nodes: &Value, name: &str| {
        let mut nodes = array(nodes, "nodes").iter();
        nodes.find(|node| node["node"] == name).unwrap().clone()
    };
    let plan = cluster.json(1, &["cluster", "drain", "node-2", "--dry-run"]);
    assert_eq!(plan["dry_run"], true);
    let leads = array(&plan, "steps").iter().map(|step| &step["leader"]);
    assert!(leads.clone().count() > 0 && leads.clone().all(|node| node != "node-2"));
    let nodes = cluster.json(3, &["cluster", "nodes"]);
    assert_eq!(node(&nodes, "node-2")["life"], "active");

    cluster.client(1, &["cluster", "drain", "node-2"]).success();
    let nodes = cluster.json(1, &["cluster", "nodes"]);
    let drained = node(&nodes, "node-2");
    assert_eq!(drained["life"], "draining");
    assert_eq!(drained["leaderships"], 0);
    assert_eq!(drained["replicas"], node(&nodes, "node-1")["replicas"]);
    let words = cluster.client(1, &["cluster", "nodes"]).success();
    assert!(words.contains("draining"), "{words}");

    let refused = cluster
        .client(1, &["cluster", "drain", "node-3"])
        .failure(5);
    assert!(
        refused.stderr.contains("node-2 is in maintenance"),
        "{refused:#?}"
    );
    for dry_run in [&["--dry-run"][..], &[]] {
        let leave = [&["cluster", "decommission", "node-3"][..], dry_run].concat();
        let refused = cluster.client(1, &leave).failure(5);
        assert!(
            refused.stderr.contains("2 nodes would be left"),
            "{refused:#?}"
        );
    }
    for wrong in [
        &["cluster", "drain", "node-9"][..],
        &["cluster", "resume", "node-9"],
        &["cluster", "decommission", "node-9"],
        &["cluster", "move", "1", "node-1", "node-2"],
        &["cluster", "move", "1", "node-9", "node-2"],
        &["cluster", "move", "99", "node-1", "node-2"],
    ] {
        let refused = cluster.client(1, wrong).failure(2);
        assert!(refused.stderr.contains("try this"), "{refused:#?}");
    }

    cluster
        .client(2, &["cluster", "resume", "node-2"])
        .success();
    let back = |nodes: &Value| {
        let node = node(nodes, "node-2");
        node["life"] == "active" && node["leaderships"].as_u64().is_some_and(|led| led > 0)
    };
    cluster.until(3, &["cluster", "nodes"], back);
    assert_eq!(cluster.stop(), Some(0));
}
