//! The environment of a test run; read here and nowhere else.

#![allow(
    clippy::disallowed_methods,
    reason = "tests have no configuration loader"
)]

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Whether the long tests were asked for (`make test-long`).
pub fn long() -> bool {
    env::var_os("ANTUMBRA_LONG").is_some()
}

/// Whether this is continuous integration, where a skipped test is a failure.
pub fn ci() -> bool {
    env::var("CI").is_ok_and(|value| value == "true")
}

/// The binary under test: `ANTUMBRA_BIN`, else the one built beside this test.
pub fn binary() -> PathBuf {
    if let Some(path) = env::var_os("ANTUMBRA_BIN") {
        return path.into();
    }
    let test = env::current_exe().expect("a running test has a path");
    let built = test.parent().and_then(|deps| deps.parent());
    let binary = built
        .expect("tests run from the target directory")
        .join("antumbra");
    assert!(
        binary.exists(),
        "{} is missing: build it with `cargo build`",
        binary.display()
    );
    binary
}

/// The Python of the client tests, made by `tests/clients/setup.sh`.
pub fn python() -> PathBuf {
    let venv = env::var_os("ANTUMBRA_VENV")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            let home = env::var_os("HOME").expect("HOME is set");
            PathBuf::from(home).join(".cache/antumbra/venv")
        });
    venv.join("bin/python")
}

/// Where `deploy/ci/setup` installs the tools for what is in `deploy`.
pub fn deploy_tools() -> PathBuf {
    env::var_os("ANTUMBRA_DEPLOY_TOOLS")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            let home = env::var_os("HOME").expect("HOME is set");
            PathBuf::from(home).join(".cache/antumbra/deploy-tools")
        })
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("the tests crate is inside the workspace")
        .to_owned()
}

/// `ANTUMBRA_SEED`, else a random number. Tests print the seed they use.
pub fn seed() -> u64 {
    match env::var("ANTUMBRA_SEED") {
        Ok(text) => text.parse().expect("ANTUMBRA_SEED is a number"),
        Err(_) => rand::random(),
    }
}

/// Takes the variables of the test run itself out of the environment of a child.
pub fn isolate(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("ANTUMBRA_") {
            command.env_remove(name);
        }
    }
}

/// Whether this process may mount file systems.
pub fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uid.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}

/// True when root; else prints that `tests` tests are skipped, which fails in CI.
pub fn can_use_root(tests: usize) -> bool {
    if is_root() {
        return true;
    }
    assert!(!ci(), "{tests} skipped: need root");
    println!("{tests} skipped: need root");
    false
}
