//! The repository is as it says it is: arrows between crates, words, places of files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use antumbra_tests::environment::repository;

/// What may be seen at the top, besides dotfiles.
const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "deploy",
    "docs",
    "node",
    "proto",
    "raft",
    "shadow",
    "tests",
];
/// What running leaves behind; ignored by version control.
const LEFT_BEHIND: &[&str] = &["antumbra-data", "target"];

const CRATES: &[&str] = &["node", "shadow", "raft", "proto", "tests"];

/// Text files of the repository, by path relative to it.
pub(crate) fn text_files() -> BTreeMap<PathBuf, String> {
    let root = repository();
    let mut found = BTreeMap::new();
    let mut open = vec![root.clone()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let generated = [
                ".git",
                "target",
                "antumbra-data",
                "__pycache__",
                "Cargo.lock",
            ];
            if generated.contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                found.insert(path.strip_prefix(&root).unwrap().to_owned(), text);
            }
        }
    }
    found
}

/// Names of all dependencies of a crate, of every kind.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line.trim_matches(['[', ']']).ends_with("dependencies");
        } else if inside && let Some((name, _)) = line.split_once('=') {
            let name = name.trim().split('.').next().unwrap_or_default();
            names.insert(name.to_owned());
        }
    }
    names
}

/// A rule: crates whose name starts so may be used by these only.
const USERS: &[(&str, &[&str])] = &[
    ("antumbra-shadow", &["node"]),
    ("antumbra-raft", &["node"]),
    ("antumbra-proto", &["node", "tests"]),
    ("openraft", &["raft"]),
    ("rocksdb", &["raft"]),
    ("bincode", &["raft", "shadow"]),
    ("tonic", &["node", "proto", "tests"]),
    ("prost", &["node", "proto", "tests"]),
    ("axum", &["node"]),
    ("ractor", &["shadow"]),
    ("jiter", &["shadow"]),
];

/// Crates use only what lies below them.
#[test]
fn tidy_crate_arrows_point_down() {
    for name in CRATES {
        let manifest = fs::read_to_string(repository().join(name).join("Cargo.toml")).unwrap();
        let used = dependencies(&manifest);
        assert!(
            used.len() > 2,
            "{name}: the manifest was not understood: {used:?}"
        );
        for (prefix, users) in USERS {
            let wrong = used
                .iter()
                .find(|dependency| dependency.starts_with(prefix));
            if let (Some(wrong), false) = (wrong, users.contains(name)) {
                panic!("{name} must not use {wrong}; only {users:?} may");
            }
        }
    }
}

/// Formats are known in one place per crate.
#[test]
fn tidy_codecs_are_named_in_one_place() {
    let places: [(&str, &[&str]); 3] = [
        ("bincode::", &["raft/src/codec", "shadow/src/stored"]),
        ("jiter::", &["shadow/src/json"]),
        (
            "std::env::var",
            &["node/src/config/environment.rs", "tests/src/environment.rs"],
        ),
    ];
    for (path, text) in rust_sources() {
        for (needle, allowed) in places {
            // Integration tests of a crate have no configuration loader.
            let outside = needle.starts_with("std::env") && !path.contains("/src/");
            let here =
                outside || allowed.iter().any(|place| path.starts_with(place)) || is_this(&path);
            let used = code(&text).any(|line| line.contains(needle));
            assert!(
                here || !used,
                "{needle} in {path}; it belongs to {allowed:?}"
            );
        }
    }
}

/// Nothing is left for later without saying so elsewhere, and nothing names one machine.
#[test]
fn tidy_text_has_no_markers_and_no_machine_paths() {
    let banned = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("db", "g!("),
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("<<<<", "<<< "),
        concat!(">>>>", ">>> "),
    ];
    for (path, text) in text_files() {
        for (number, line) in (1..).zip(text.lines()) {
            let found = banned.iter().find(|word| line.contains(**word));
            assert!(found.is_none(), "{}:{number}: {line}", path.display());
        }
    }
}

/// Every crate forbids unsafe code, in its own root.
#[test]
fn tidy_every_crate_forbids_unsafe_code() {
    for (path, text) in rust_sources() {
        let root = CRATES
            .iter()
            .any(|name| path == format!("{name}/src/lib.rs"));
        let forbids = text.contains("#![forbid(unsafe_code)]");
        assert!(!root || forbids, "{path} does not forbid unsafe code");
    }
}

/// The top level shows exactly what the design names.
#[test]
fn tidy_top_level_is_as_designed() {
    let seen: BTreeSet<String> = fs::read_dir(repository())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && !LEFT_BEHIND.contains(&name.as_str()))
        .collect();
    for name in &seen {
        assert!(
            TOP_LEVEL.contains(&name.as_str()),
            "{name} does not belong to the top level"
        );
    }
    for name in TOP_LEVEL.iter().filter(|name| **name != "deploy") {
        assert!(seen.contains(*name), "{name} is missing");
    }
}

/// One binary of integration tests per crate: each one links everything anew.
#[test]
fn tidy_integration_tests_are_one_binary_per_crate() {
    for name in CRATES {
        let Ok(entries) = fs::read_dir(repository().join(name).join("tests")) else {
            continue;
        };
        for entry in entries {
            let entry = entry.unwrap();
            let is_source = entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "rs");
            assert!(
                !is_source,
                "{} is a binary of its own",
                entry.path().display()
            );
        }
    }
}

fn rust_sources() -> impl Iterator<Item = (String, String)> {
    let files = text_files().into_iter();
    let sources = files.filter(|(path, _)| path.extension().is_some_and(|end| end == "rs"));
    sources.map(|(path, text)| (path.to_string_lossy().into_owned(), text))
}

/// Lines that are not comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

/// Whether this is the file with the rules, which has to name what it forbids.
fn is_this(path: &str) -> bool {
    Path::new(path).ends_with("tests/it/tidy.rs")
}
