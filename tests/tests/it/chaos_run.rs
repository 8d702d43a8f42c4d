//! Invariants 2, 4, 5, 7 and 8 on clusters of real processes under real faults: nothing acknowledged
//! is lost, every order that clients saw is one order, what failed for certain never happens, and
//! watches tell everything once.
//!
//! The runs are those of the program `chaos`, which prints how to repeat them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use antumbra_tests::chaos::command::{self, Printed};
use antumbra_tests::chaos::network::{Cut, Network};
use antumbra_tests::environment;

/// What a run may take on top of its faults.
const AROUND: Duration = Duration::from_secs(400);

/// One run of the program.
struct Run<'a> {
    nodes: usize,
    faults: &'a str,
    minutes: f64,
    hold_max: f64,
    arguments: &'a [&'a str],
}

impl Run<'_> {
    fn finish(&self) -> (Printed, Value) {
        let seed = environment::seed();
        let mut command = Command::new(env!("CARGO_BIN_EXE_chaos"));
        command
            .arg("--binary")
            .arg(environment::binary())
            .args(["--seed", &seed.to_string()])
            .args(["--nodes", &self.nodes.to_string()])
            .args(["--faults", self.faults])
            .args(["--minutes", &self.minutes.to_string()])
            .args(["--hold-max", &self.hold_max.to_string()])
            .args(self.arguments);
        let lasts = Duration::from_secs_f64(self.minutes * 60.0);
        let printed = command::finish(command, "", lasts + AROUND).unwrap();
        println!("{}\n{}", printed.error, printed.output);
        let score = serde_json::from_str(&printed.output).unwrap_or_default();
        (printed, score)
    }

    /// The run must be right, and every kind of fault must have hit.
    fn must_be_right(&self) {
        let (printed, score) = self.finish();
        assert_eq!(printed.status.code(), Some(0), "see the lines above");
        assert_eq!(score["verdict"], "ok");
        let faults = score["faults"].as_object().unwrap();
        for (fault, counts) in faults {
            let hit = counts["hit"].as_u64().unwrap();
            assert!(hit > 0, "{fault} never hit: {counts}");
        }
        assert!(!faults.is_empty(), "there were no faults");
        assert!(score["acknowledged"].as_u64().unwrap() > 500, "{score}");
        assert!(score["watch_events"].as_u64().unwrap() > 500, "{score}");
        assert!(
            score["ops_per_second_min"].as_u64().unwrap() >= 50,
            "{score}"
        );
    }
}

/// Three nodes are killed, stopped, cut off from each other and from power, again and again.
#[test]
fn chaos_run_three_nodes_keep_every_promise() {
    if !environment::can_use_root(1) {
        return;
    }
    Run {
        nodes: 3,
        faults: "kill,kill-leader,kill-all,shutdown,stop,partition,power,power-all",
        minutes: 2.0,
        hold_max: 3.0,
        arguments: &[],
    }
    .must_be_right();
}

/// Three nodes lose their data one after the other, and their disks are slow or full.
#[test]
fn chaos_run_three_nodes_survive_their_disks() {
    if !environment::can_use_root(1) {
        return;
    }
    Run {
        nodes: 3,
        faults: "wipe,slow,full",
        minutes: 0.6,
        hold_max: 3.0,
        arguments: &[],
    }
    .must_be_right();
}

/// Of five nodes any two may be gone.
#[test]
fn chaos_run_five_nodes_survive_the_loss_of_two() {
    if !environment::can_use_root(1) {
        return;
    }
    Run {
        nodes: 5,
        faults: "kill-two",
        minutes: 0.4,
        hold_max: 3.0,
        arguments: &[],
    }
    .must_be_right();
}

/// A node is drained, one leaves and returns with a directory that has left, a replica moves, and who has it
/// moved dies in every step of that. Nobody is told anything that is not so, and no watch misses anything.
#[test]
fn chaos_run_replicas_move_whoever_dies() {
    if !environment::can_use_root(1) {
        return;
    }
    Run {
        nodes: 3,
        faults: "drain,decommission,move,crash",
        minutes: 1.8,
        hold_max: 2.0,
        arguments: &["--pulse", "50"],
    }
    .must_be_right();
}

/// The same for longer, and two nodes come and go, a dead one is replaced and comes back, and one loses its
/// data.
#[test]
fn long_chaos_run_cluster_grows_shrinks_and_heals() {
    if !environment::can_use_root(1) || !environment::long() {
        return;
    }
    Run {
        nodes: 3,
        faults: "add,drain,decommission,move,crash,replace,wipe,kill",
        minutes: 12.0,
        hold_max: 2.0,
        arguments: &["--pulse", "50"],
    }
    .must_be_right();
}

/// The same program must find fault with nodes that have a defect: else the runs above prove nothing.
fn must_be_caught(defect: &str, faults: &str, kinds: &[&str]) {
    if !environment::can_use_root(1) {
        return;
    }
    let (printed, score) = Run {
        nodes: 3,
        faults,
        minutes: 0.25,
        hold_max: 1.0,
        arguments: &["--node-env", defect],
    }
    .finish();
    assert_eq!(printed.status.code(), Some(1), "{defect} was not caught");
    assert_eq!(score["verdict"], "violated");
    let violations = score["violations"].as_array().unwrap();
    let seen = |wrong: &Value| kinds.iter().any(|kind| wrong["kind"] == *kind);
    assert!(violations.iter().any(seen), "{violations:?}");
    let seed = format!("--seed {}", score["seed"]);
    assert!(
        printed.error.contains(&seed),
        "it does not say how to repeat it"
    );
}

/// Without any fsync a power cut of all nodes loses what was acknowledged.
#[test]
fn chaos_run_catches_nodes_that_do_not_sync() {
    // Or the nodes notice by themselves that something is missing, and do not start.
    let kinds = ["Lost", "RepeatedVersion", "ProcessEnded"];
    must_be_caught("ANTUMBRA_TEST_NO_FSYNC=1", "power-all", &kinds);
}

/// What is acknowledged before it is synced is lost when all nodes end at once.
#[test]
fn chaos_run_catches_early_acknowledgement() {
    let defect = "ANTUMBRA_TEST_EARLY_ACKNOWLEDGEMENT=1";
    must_be_caught(defect, "kill-all", &["Lost", "RepeatedVersion"]);
}

/// Replicas that read without a barrier show old documents, with the mildest of faults.
#[test]
fn chaos_run_catches_reads_without_a_barrier() {
    must_be_caught("ANTUMBRA_TEST_STALE_READS=1", "kill", &["StaleRead"]);
}

/// Nodes that forget their votes elect two leaders of one term, or go back to terms that have been.
#[test]
fn chaos_run_catches_votes_that_are_not_synced() {
    let kinds = ["Lost", "NotServing", "ProcessEnded", "RepeatedVersion"];
    must_be_caught("ANTUMBRA_TEST_VOTES_NOT_SYNCED=1", "kill-all", &kinds);
}

/// Everything, for long: only on demand.
#[test]
fn chaos_run_long() {
    if !environment::long() || !environment::can_use_root(2) {
        return;
    }
    for (nodes, minutes) in [(3, 20.0), (5, 10.0)] {
        Run {
            nodes,
            faults: "all",
            minutes,
            hold_max: 30.0,
            arguments: &[],
        }
        .must_be_right();
    }
}

/// Sends one datagram from node `from` to node `to`, and says whether it arrived.
fn arrives(network: &Network, from: usize, to: usize) -> bool {
    const LISTEN: &str = "import socket, subprocess, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], 9))
s.settimeout(0.1)
for attempt in range(5):
    inside = ['nsenter', '--net=' + sys.argv[2], sys.executable]
    subprocess.run(inside + ['-c', sys.argv[3], sys.argv[1]])
    try:
        s.recv(10)
        print('arrived')
        break
    except TimeoutError:
        pass
";
    const SEND: &str = "import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.sendto(b'x', (sys.argv[1], 9))
";
    let inside = |node: usize| network.namespace(node).display().to_string();
    let listener = format!("--net={}", inside(to));
    let address = network.address(to).to_string();
    let arguments = [
        &listener,
        "python3",
        "-c",
        LISTEN,
        &address,
        &inside(from),
        SEND,
    ];
    command::run("nsenter", &arguments)
        .unwrap()
        .contains("arrived")
}

/// A cut is one-way, counts what it drops, and ends; a silent node is heard by nobody; nothing of a
/// network is left when it is dropped.
#[test]
fn chaos_run_networks_cut_one_way_and_count() {
    if !environment::can_use_root(1) {
        return;
    }
    let network = Network::create(3).unwrap();
    assert!(arrives(&network, 0, 1) && arrives(&network, 1, 0));
    network.cut(&[Cut { at: 1, from: 0 }]).unwrap();
    assert!(!arrives(&network, 0, 1), "a cut lets packets through");
    assert!(arrives(&network, 1, 0), "a cut works both ways");
    assert!(arrives(&network, 2, 1), "a cut hits others");
    let dropped = network.dropped(1).unwrap();
    assert!(dropped.len() == 1 && dropped[0] > 0, "{dropped:?}");
    assert!(network.dropped(0).unwrap().is_empty());
    network.heal().unwrap();
    assert!(arrives(&network, 0, 1));
    network.silence(2).unwrap();
    assert!(!arrives(&network, 2, 0), "a silent node is heard");
    let namespace = network.namespace(0);
    drop(network);
    assert!(!Path::new(&namespace).exists());
}
