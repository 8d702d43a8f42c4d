//! Whether the replicas of every shard hold the same, as `antumbra cluster verify` says.

use serde_json::Value;

use super::violation::{Kind, Violation};

/// What the comparison said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Everything that must not be.
    pub violations: Vec<Violation>,
    /// Shards whose replicas are equal.
    pub equal: u64,
}

/// Reads the JSON of `antumbra cluster verify -o json`: `{"shards":[{"shard":1,"equal":true,…},…]}`.
pub fn judge(text: &str) -> Report {
    let mut report = Report::default();
    let parsed: Value = serde_json::from_str(text).unwrap_or_default();
    let shards = parsed["shards"].as_array().map_or(&[][..], Vec::as_slice);
    if shards.is_empty() {
        let text = format!("no shards in {text:?}");
        report
            .violations
            .push(Violation::general(Kind::NotVerified, text));
    }
    for shard in shards {
        match shard["equal"].as_bool() {
            Some(true) => report.equal += 1,
            Some(false) => report
                .violations
                .push(Violation::general(Kind::ReplicasDiffer, shard.to_string())),
            None => report
                .violations
                .push(Violation::general(Kind::NotVerified, shard.to_string())),
        }
    }
    report
}
