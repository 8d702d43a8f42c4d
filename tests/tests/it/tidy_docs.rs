//! What the documents name exists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use antumbra_tests::environment::repository;

use crate::tidy::text_files;

fn documents() -> Vec<(PathBuf, String)> {
    let markdown = |path: &Path| path.extension().is_some_and(|end| end == "md");
    text_files()
        .into_iter()
        .filter(|(path, _)| markdown(path))
        .collect()
}

/// Targets of `[text](target)` in a line.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
}

/// Words in backticks in a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Every relative link of a document leads to a file.
#[test]
fn tidy_docs_link_to_files_that_exist() {
    for (path, text) in documents() {
        let base = repository().join(path.parent().unwrap());
        for target in text.lines().flat_map(links) {
            let file = target.split('#').next().unwrap_or_default();
            let elsewhere = target.contains("://") || target.starts_with("mailto:");
            if elsewhere || file.is_empty() {
                continue;
            }
            assert!(base.join(file).exists(), "{}: no {target}", path.display());
        }
    }
}

/// Every path in backticks that starts at the top of the repository leads somewhere.
#[test]
fn tidy_docs_name_paths_that_exist() {
    let tops = [
        "node/", "shadow/", "raft/", "proto/", "tests/", "docs/", ".ci/", ".config/",
    ];
    for (path, text) in documents() {
        for word in text.lines().flat_map(quoted) {
            let is_path = tops.iter().any(|top| word.starts_with(top));
            let plain = !word.contains(['*', '{', '<', '…', ' ', ':']);
            if is_path && plain {
                assert!(
                    repository().join(word).exists(),
                    "{}: no {word}",
                    path.display()
                );
            }
        }
    }
}

/// Names of all test functions of the repository.
fn test_names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (path, text) in text_files() {
        if path.extension().is_none_or(|end| end != "rs") {
            continue;
        }
        let mut marked = false;
        for line in text.lines().map(str::trim) {
            let is_marker = line.starts_with("#[test") || line.starts_with("#[tokio::test");
            marked |= is_marker;
            let function = line.trim_start_matches("pub ").trim_start_matches("async ");
            let Some(rest) = function.strip_prefix("fn ") else {
                continue;
            };
            if marked {
                names.extend(rest.split(['(', '<']).next().map(str::to_owned));
            }
            marked = false;
        }
    }
    names
}

/// Every test that the table of invariants cites exists, and every row cites one.
#[test]
fn tidy_invariants_cite_tests_that_exist() {
    let text = std::fs::read_to_string(repository().join("docs/architecture.md")).unwrap();
    let names = test_names();
    assert!(
        names.contains("tidy_invariants_cite_tests_that_exist"),
        "tests are not found"
    );
    let mut rows = 0;
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [number, .., tests] = cells.as_slice() else {
            continue;
        };
        if number.parse::<u32>().is_err() {
            continue;
        }
        rows += 1;
        let cited: Vec<&str> = quoted(tests).collect();
        assert!(!cited.is_empty(), "invariant {number} cites no test");
        for test in cited {
            let name = test.rsplit("::").next().unwrap_or(test);
            assert!(names.contains(name), "invariant {number}: no test `{test}`");
        }
    }
    assert!(rows >= 8, "{rows} invariants in docs/architecture.md");
}
