//! The command line against a real node: `antumbra dev` in a temporary directory.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::cli_program::{Dev, run};

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// The five-minute tour: what is written is read, listed and deleted, and versions count.
#[test]
fn update_get_list_and_delete() {
    let directory = tempfile::tempdir().unwrap();
    let dev = Dev::start(directory.path(), &[], &[]);
    let updated = dev.client(&[
        "shadow",
        "update",
        "lamp-1",
        "--desired",
        r#"{"on":true}"#,
        "-o",
        "json",
    ]);
    assert_eq!(json_of(&updated.success())["version"], 1);
    let reported = r#"{"on":false,"serial":123456789012345678901234567890}"#;
    let piped = [
        "shadow",
        "update",
        "lamp-1",
        "--reported",
        "-",
        "--version",
        "1",
    ];
    dev.client_with_input(&piped, reported).success();

    let text = dev
        .client(&["shadow", "get", "lamp-1", "-o", "json"])
        .success();
    assert!(
        text.contains("123456789012345678901234567890"),
        "a number changed: {text}"
    );
    let shadow = json_of(&text);
    assert_eq!(shadow["version"], 2);
    assert_eq!(shadow["desired"], json!({"on": true}));
    assert_eq!(shadow["reported"]["on"], json!(false));
    assert_eq!(shadow["delta"], json!({"on": true}));
    let table = dev.client(&["shadow", "get", "lamp-1"]).success();
    assert!(
        table
            .lines()
            .any(|line| line.split_whitespace().eq(["version", "2"])),
        "{table}"
    );

    let named = [
        "shadow",
        "update",
        "lamp-1",
        "--name",
        "config",
        "--desired",
        r#"{"a":1}"#,
    ];
    dev.client(&named).success();
    let listed = dev.client(&["shadow", "list", "lamp-1"]).success();
    assert!(
        listed.contains("(classic)") && listed.contains("config"),
        "{listed}"
    );
    let devices = dev.client(&["device", "list", "-o", "json"]).success();
    assert_eq!(json_of(&devices), json!({"devices": ["lamp-1"]}));
    assert_eq!(
        dev.client(&["device", "list", "--prefix", "x"]).success(),
        ""
    );

    let deleted = dev
        .client(&["shadow", "delete", "lamp-1", "-o", "json"])
        .success();
    assert_eq!(json_of(&deleted)["version"], 3);
    dev.client(&["shadow", "get", "lamp-1"]).failure(3);
    assert_eq!(dev.stop(), Some(0));
}

/// Scripts branch on exit codes; people read the three lines.
#[test]
fn refusals_have_exit_codes_and_hints() {
    let directory = tempfile::tempdir().unwrap();
    let dev = Dev::start(directory.path(), &[], &[]);
    let missing = dev.client(&["shadow", "get", "nobody"]).failure(3);
    assert!(
        missing
            .stderr
            .contains("error: cannot read the shadow of `nobody`"),
        "{missing:#?}"
    );
    assert!(missing.stderr.contains("(NOT_FOUND)"), "{missing:#?}");
    assert!(missing.stderr.contains("try this: "), "{missing:#?}");

    let update = |more: &[&str]| {
        let mut arguments = vec!["shadow", "update", "lamp-1", "--desired", r#"{"on":true}"#];
        arguments.extend(more);
        dev.client(&arguments)
    };
    update(&["--version", "0", "--request-id", "r-1"]).success();
    update(&["--version", "0", "--request-id", "r-1"]).success();
    let conflict = update(&["--version", "7"]).failure(4);
    assert!(
        conflict.stderr.contains("VERSION_CONFLICT"),
        "{conflict:#?}"
    );
    assert!(conflict.stderr.contains("at version 1"), "{conflict:#?}");
    let broken = dev
        .client(&["shadow", "update", "lamp-1", "--desired", "{"])
        .failure(2);
    assert!(broken.stderr.contains("INVALID_JSON"), "{broken:#?}");
    dev.client(&["shadow", "get", "no spaces"]).failure(2);
}

/// A watch shows what is there, says so, and then every change in order.
#[test]
fn watch_follows_a_device() {
    let directory = tempfile::tempdir().unwrap();
    let dev = Dev::start(directory.path(), &[], &[]);
    let update = |n: u32| {
        let desired = format!("{{\"n\":{n}}}");
        dev.client(&["shadow", "update", "lamp-1", "--desired", &desired])
            .success();
    };
    update(1);
    let mut watch =
        dev.client_command(&["shadow", "watch", "lamp-1", "--count", "3", "-o", "json"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = || json_of(&lines.next().expect("the watch goes on").unwrap());
    let first = next();
    assert_eq!(
        (&first["event"], &first["document"]["version"]),
        (&json!("document"), &json!(1))
    );
    let synced = next();
    assert_eq!(synced["event"], "synced");
    update(2);
    update(3);
    for n in [2, 3] {
        let change = next();
        assert_eq!(change["change"]["version"], n);
        assert_eq!(change["change"]["desired"], json!({ "n": n }));
    }
    assert!(watch.wait().unwrap().success(), "--count ends the watch");

    // From the cursor after the first document, both changes come again.
    let cursor = synced["cursor"].as_str().unwrap();
    let resumed = dev.client(&[
        "shadow", "watch", "lamp-1", "--cursor", cursor, "--count", "2",
    ]);
    let resumed = resumed.success();
    let changes: Vec<&str> = resumed.lines().filter(|line| line.contains(" v")).collect();
    assert_eq!(changes.len(), 2, "{resumed}");
    assert!(
        changes[0].contains("lamp-1 v2 desired {\"n\":2}"),
        "{resumed}"
    );
}

/// The banner names the doors, the directory and commands that work; a restart finds the data.
#[test]
fn the_banner_can_be_pasted_and_data_stay() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let dev = Dev::start(&data, &[], &[]);
    for part in [
        "gRPC",
        "HTTP",
        data.to_str().unwrap(),
        "persistent",
        "no authentication",
    ] {
        assert!(dev.banner.contains(part), "no `{part}` in\n{}", dev.banner);
    }
    let commands: Vec<&str> = dev
        .banner
        .lines()
        .filter(|line| line.contains("lamp-1"))
        .collect();
    assert_eq!(commands.len(), 3, "{}", dev.banner);
    let shell = |line: &str| {
        let done = std::process::Command::new("sh")
            .args(["-c", line])
            .output()
            .unwrap();
        assert!(done.status.success(), "{line}: {done:#?}");
        String::from_utf8(done.stdout).unwrap()
    };
    shell(commands[0]);
    shell(commands[1]);
    let watched = shell(&format!("{} --count 1", commands[2]));
    assert!(
        watched.contains("lamp-1 v2 is desired {\"on\":true}"),
        "{watched}"
    );
    assert_eq!(dev.stop(), Some(0));

    let again = Dev::start(&data, &[], &[]);
    let shadow = again
        .client(&["shadow", "get", "lamp-1", "-o", "json"])
        .success();
    assert_eq!(json_of(&shadow)["version"], 2);
    let second = run(&[
        "dev",
        "--base-port",
        "0",
        "--data-dir",
        data.to_str().unwrap(),
    ])
    .failure(1);
    assert!(second.stderr.contains("DIRECTORY_LOCKED"), "{second:#?}");
}

/// The numbers of a bench add up, in both modes, and the server's processor time is found.
#[test]
fn bench_measures_a_node() {
    let directory = tempfile::tempdir().unwrap();
    let dev = Dev::start(directory.path(), &[], &[]);
    for mode in ["unary", "stream"] {
        let report = dev.client(&[
            "bench",
            "shadow",
            "--clients",
            "2",
            "--in-flight",
            "4",
            "--seconds",
            "1",
            "--warm-up",
            "0",
            "--devices",
            "100",
            "--mode",
            mode,
            "-o",
            "json",
        ]);
        let report = json_of(&report.success());
        assert!(report["accepted"].as_u64().unwrap() > 0, "{report:#}");
        assert_eq!(report["failed"], 0, "{report:#}");
        assert!(
            report["p50_us"].as_u64() <= report["p999_us"].as_u64(),
            "{report:#}"
        );
        assert!(
            report["server_cpu_us_per_update"].as_f64().unwrap() > 0.0,
            "{report:#}"
        );
    }
}

/// A lost proposal is reported as unknown, and only where tests asked for it.
#[test]
fn a_lost_proposal_is_an_unknown_outcome() {
    let directory = tempfile::tempdir().unwrap();
    let lose = [("ANTUMBRA_TEST_LOSE_PROPOSAL", "1")];
    let dev = Dev::start(directory.path(), &["--allow-test-switches"], &lose);
    let update = [
        "shadow",
        "update",
        "lamp-1",
        "--desired",
        "{}",
        "--request-id",
        "r-1",
    ];
    let unknown = dev.client(&update).failure(6);
    // The node says so just before the deadline; on a busy machine the client's own clock may be first.
    let told = ["OUTCOME_UNKNOWN", "Timeout expired"];
    let is_told = told.iter().any(|text| unknown.stderr.contains(text));
    assert!(is_told, "{unknown:#?}");
    assert!(unknown.stderr.contains("--request-id"), "{unknown:#?}");
    dev.stop();
    let dev = Dev::start(directory.path(), &[], &lose);
    dev.client(&update).success();
}
