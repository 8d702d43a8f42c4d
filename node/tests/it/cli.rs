//! The command line without a server: arguments, refusals, and how problems look.

use std::fs;

use crate::cli_program::run;

/// Mistakes on the command line end with 2 before anything is done.
#[test]
fn wrong_arguments_are_usage_errors() {
    let cases: &[&[&str]] = &[
        &["frobnicate"],
        &["shadow", "get"],
        &["shadow", "update", "lamp-1"],
        &["shadow", "get", "lamp-1", "--timeout", "10"],
        &["shadow", "get", "lamp-1", "-o", "xml"],
        &["dev", "--nodes", "0"],
        &["dev", "--nodes", "3", "--base-port", "0"],
        &["cluster"],
        &["cluster", "transfer", "1"],
        &["cluster", "transfer", "one", "node-1"],
        &["cluster", "verify", "one"],
        &["dev", "--devices", "many"],
        &["dev", "--base-port", "70000"],
        &["dev", "--set", "nonsense"],
        &["bench", "shadow", "--clients", "0"],
        &["serve"],
    ];
    for arguments in cases {
        let run = run(arguments);
        assert_eq!(run.code, 2, "{arguments:?}: {run:#?}");
        assert!(run.stdout.is_empty(), "{arguments:?}: {run:#?}");
    }
}

/// Whoever reaches a peer door without TLS is taken for a node, so that must be asked for by name.
#[test]
fn serve_refuses_an_open_peer_door_without_insecure() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("node.toml");
    fs::write(
        &file,
        "[peer]\nlisten = \"0.0.0.0:7401\"\nadvertise = \"a:1\"\n",
    )
    .unwrap();
    let run = run(&["serve", "--config", file.to_str().unwrap()]).failure(2);
    for part in [
        "error: refusing to serve",
        "why: ",
        "without TLS",
        "try this: `antumbra cert`",
        "--insecure",
    ] {
        assert!(run.stderr.contains(part), "no `{part}` in {}", run.stderr);
    }
}

/// A problem says what, why and what to try, on standard error.
#[test]
fn problems_have_three_parts() {
    let run = run(&[
        "shadow",
        "get",
        "lamp-1",
        "--endpoint",
        "http://127.0.0.1:1",
    ])
    .failure(5);
    assert!(run.stdout.is_empty());
    assert!(
        run.stderr
            .starts_with("error: cannot reach http://127.0.0.1:1\n  why: "),
        "{run:#?}"
    );
    assert!(
        run.stderr
            .contains("\n  try this: start a node with `antumbra dev`"),
        "{run:#?}"
    );
}

/// With several endpoints each failure is named, after all were tried.
#[test]
fn all_endpoints_are_tried() {
    let endpoints = "http://127.0.0.1:1, 127.0.0.1:2";
    let run = run(&["cluster", "status", "--endpoint", endpoints]).failure(5);
    for part in [
        "error: cannot reach any of 2 endpoints\n  why: http://127.0.0.1:1: ",
        "\n       http://127.0.0.1:2: ",
    ] {
        assert!(run.stderr.contains(part), "no `{part}` in {run:#?}");
    }
}

/// A secure endpoint must not be talked to in the clear.
#[test]
fn https_is_refused_rather_than_downgraded() {
    let run = run(&[
        "shadow",
        "get",
        "lamp-1",
        "--endpoint",
        "https://127.0.0.1:1",
    ])
    .failure(2);
    assert!(run.stderr.contains("no authority is trusted"), "{run:#?}");
}

/// `config check` names every problem of a file with its line; `config show` names origins.
#[test]
fn config_is_checked_and_explained() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.toml");
    let path = file.to_str().unwrap();
    fs::write(&file, "[nod]\n[api]\nlisten = \"nowhere\"\n").unwrap();
    let wrong = run(&["config", "check", "-f", path]).failure(2);
    assert!(
        wrong.stderr.contains("the configuration has 2 problems"),
        "{wrong:#?}"
    );
    assert!(
        wrong
            .stderr
            .contains(":1: there is no section `nod`; did you mean `node`?")
    );
    assert!(
        wrong
            .stderr
            .contains(":3: `api.listen`: `nowhere` is not an address")
    );

    fs::write(&file, "[api]\nlisten = \"127.0.0.1:7500\"\n").unwrap();
    assert!(
        run(&["config", "check", "-f", path])
            .success()
            .starts_with("ok: 1 option")
    );
    let shown = run(&[
        "config",
        "show",
        "--origin",
        "-f",
        path,
        "--set",
        "node.name=n-7",
    ])
    .success();
    let line = |start: &str| shown.lines().find(|line| line.starts_with(start)).unwrap();
    assert!(
        line("listen = \"127.0.0.1:7500\"").ends_with(&format!("# {path}:2")),
        "{shown}"
    );
    assert!(line("name = \"n-7\"").ends_with("# --set"), "{shown}");
    assert!(line("flush_interval").ends_with("# default"), "{shown}");

    // Without origins it is a file that reads back as the same configuration.
    fs::write(&file, run(&["config", "show", "-f", path]).success()).unwrap();
    run(&["config", "check", "-f", path]).success();
    let missing = run(&["config", "check", "-f", "/nowhere.toml"]).failure(2);
    assert!(
        missing
            .stderr
            .contains("cannot read the configuration /nowhere.toml")
    );
}

/// Packagers call these.
#[test]
fn version_and_completions_print() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(run(&["version"]).success(), format!("antumbra {version}\n"));
    assert_eq!(
        run(&["version", "-o", "json"]).success(),
        format!("{{\n  \"version\": \"{version}\"\n}}\n")
    );
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            run(&["completions", shell]).success().contains("antumbra"),
            "{shell}"
        );
    }
    assert!(run(&["--help"]).success().contains("Exit codes:"));
}
