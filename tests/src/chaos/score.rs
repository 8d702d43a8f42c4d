//! The result of a run as one line of JSON.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::availability::{self, Injection, Pulse};
use super::history::{Operation, Outcome};
use super::violation::Violation;

/// Violations spelled out in the line; their number is always there.
const SPELLED_OUT_MAX: usize = 20;
/// Characters of each of them.
const TEXT_MAX: usize = 500;

/// Everything a run counts.
#[derive(Clone, Debug, Default)]
pub struct Score {
    /// Repeats the run.
    pub seed: u64,
    /// Number of nodes.
    pub nodes: usize,
    /// How long faults were injected.
    pub seconds: u64,
    /// Operations by outcome.
    pub counts: Counts,
    /// The fewest operations that clients began in a second.
    pub rate_min: u64,
    /// Changes and documents that watchers were told.
    pub watch_events: u64,
    /// Connections of watchers.
    pub watch_connections: u64,
    /// Resets of watches by reason.
    pub resets: BTreeMap<String, u64>,
    /// Shards whose replicas were compared and are equal.
    pub shards_equal: u64,
    /// Shards that the steadily written shadows are on; 0 when that is not known.
    pub shards_written: u64,
    /// Processes that ended by themselves where that is right.
    pub ended: u64,
    /// The faults as they happened.
    pub injections: Vec<Injection>,
    /// The longest silence of each injection, in nanoseconds, in the same order.
    pub outages: Vec<u64>,
    /// What a reader of the score should know.
    pub notes: Vec<String>,
    /// Everything that must never be seen.
    pub violations: Vec<Violation>,
}

/// Operations by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub operations: u64,
    /// Changes that were acknowledged.
    pub acknowledged: u64,
    /// Changes refused because a condition did not hold, or there was nothing to delete.
    pub rejected: u64,
    /// Changes certainly not made.
    pub definite_failures: u64,
    /// Changes whose outcome nobody knows.
    pub unknown: u64,
    /// Linearizable reads that were answered.
    pub reads: u64,
    /// Local reads that were answered.
    pub local_reads: u64,
}

impl Counts {
    /// Counts a history.
    pub fn of(operations: &[Operation]) -> Counts {
        let mut counts = Counts {
            operations: operations.len() as u64,
            ..Counts::default()
        };
        for operation in operations {
            let local = matches!(operation.action, super::history::Action::ReadLocal { .. });
            let counter = match (operation.action.value(), operation.outcome) {
                (Some(_), Outcome::Accepted { .. }) => &mut counts.acknowledged,
                (Some(_), Outcome::Failed) => &mut counts.definite_failures,
                (Some(_), Outcome::Unknown) => &mut counts.unknown,
                (Some(_), _) => &mut counts.rejected,
                (None, Outcome::Failed | Outcome::Unknown) => continue,
                (None, _) if local => &mut counts.local_reads,
                (None, _) => &mut counts.reads,
            };
            *counter += 1;
        }
        counts
    }
}

/// The fewest operations begun in a whole second between two moments.
pub fn rate_min(operations: &[Operation], from: u64, to: u64) -> u64 {
    const SECOND: u64 = 1_000_000_000;
    let seconds = to.saturating_sub(from) / SECOND;
    let mut rates = vec![0; seconds as usize];
    for operation in operations
        .iter()
        .filter(|operation| operation.invoked >= from)
    {
        let second = ((operation.invoked - from) / SECOND) as usize;
        if let Some(rate) = rates.get_mut(second) {
            *rate += 1;
        }
    }
    rates.into_iter().min().unwrap_or_default()
}

impl Score {
    /// Measures the outage of every injection.
    pub fn measure(&mut self, pulse: &Pulse) {
        let outage = |injection| availability::outage(pulse, injection);
        self.outages = self.injections.iter().map(outage).collect();
    }

    /// Whether nothing was seen that must not be.
    pub fn is_ok(&self) -> bool {
        self.violations.is_empty()
    }

    /// How often a fault was injected, and how often it is proven to have hit.
    pub fn count(&self, fault: &str) -> (u64, u64) {
        let named = self.injections.iter().filter(|one| one.fault == fault);
        let hits = named.clone().filter(|one| one.hit);
        (named.count() as u64, hits.count() as u64)
    }

    /// The line.
    pub fn json(&self) -> String {
        let mut names: Vec<&str> = self
            .injections
            .iter()
            .map(|one| one.fault.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        let (mut faults, mut unavailable) = (Map::new(), Map::new());
        for name in names {
            let (injected, hit) = self.count(name);
            faults.insert(name.to_owned(), json!({"injected": injected, "hit": hit}));
            let injections = self.injections.iter().zip(&self.outages);
            let outages: Vec<u64> = injections
                .filter(|(one, _)| one.fault == name)
                .map(|(_, outage)| *outage)
                .collect();
            let percentiles = availability::percentiles(&outages);
            let value = json!({
                "p50": percentiles.p50, "p99": percentiles.p99, "max": percentiles.max,
            });
            unavailable.insert(name.to_owned(), value);
        }
        let spelled_out = self.violations.iter().take(SPELLED_OUT_MAX);
        let violations: Vec<Value> = spelled_out
            .map(|wrong| {
                json!({
                    "kind": format!("{:?}", wrong.kind),
                    "shadow": wrong.shadow.map(|shadow| shadow.0),
                    "text": wrong.text.chars().take(TEXT_MAX).collect::<String>(),
                })
            })
            .collect();
        let resets: u64 = self.resets.values().sum();
        json!({
            "seed": self.seed,
            "nodes": self.nodes,
            "seconds": self.seconds,
            "ops": self.counts.operations,
            "acknowledged": self.counts.acknowledged,
            "rejected": self.counts.rejected,
            "unknown": self.counts.unknown,
            "definite_failures": self.counts.definite_failures,
            "reads": self.counts.reads,
            "local_reads": self.counts.local_reads,
            "ops_per_second_min": self.rate_min,
            "watch_events": self.watch_events,
            "watch_connections": self.watch_connections,
            "resets": resets,
            "resets_by_reason": self.resets,
            "shards_equal": self.shards_equal,
            "shards_written": self.shards_written,
            "ended_by_themselves": self.ended,
            "faults": faults,
            "unavailable_ms": unavailable,
            "notes": self.notes,
            "violations": violations,
            "violations_total": self.violations.len(),
            "verdict": if self.is_ok() { "ok" } else { "violated" },
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::history::{Action, ShadowId};
    use crate::chaos::violation::Kind;

    fn injection(fault: &str, hit: bool) -> Injection {
        Injection {
            fault: fault.to_owned(),
            injected: 0,
            healed: 0,
            until: 0,
            hit,
        }
    }

    /// One line, with every count, and a verdict that follows from the violations.
    #[test]
    fn is_one_line_of_json() {
        let mut score = Score {
            seed: 7,
            injections: vec![injection("kill", true), injection("kill", false)],
            outages: vec![5_000_000, 9_000_000],
            ..Score::default()
        };
        let parse = |score: &Score| -> Value {
            let line = score.json();
            assert!(!line.contains('\n'));
            serde_json::from_str(&line).expect("it is JSON")
        };
        let value = parse(&score);
        assert_eq!(value["faults"], json!({"kill": {"injected": 2, "hit": 1}}));
        assert_eq!(value["unavailable_ms"]["kill"]["max"], 9);
        assert_eq!(value["verdict"], "ok");
        let lost = Violation::of(ShadowId(3), Kind::Lost, "two\nlines");
        score.violations = vec![lost; 50];
        let value = parse(&score);
        assert_eq!(value["verdict"], "violated");
        assert_eq!(value["violations"][0]["kind"], "Lost");
        assert_eq!(value["violations"].as_array().map(Vec::len), Some(20));
        assert_eq!(value["violations_total"], 50);
    }

    /// Outcomes are counted once each, and the slowest second is found.
    #[test]
    fn counts_operations() {
        let at = |second: u64, action, outcome| Operation {
            shadow: ShadowId(0),
            invoked: second * 1_000_000_000 + 1,
            completed: u64::MAX,
            action,
            outcome,
        };
        let update = Action::Update {
            value: 1,
            expected: None,
        };
        let operations = [
            at(1, update, Outcome::Accepted { version: 1 }),
            at(1, update, Outcome::Failed),
            at(2, update, Outcome::Unknown),
            at(3, update, Outcome::Conflict { current: 3 }),
            at(3, Action::Read, Outcome::Absent),
            at(3, Action::Read, Outcome::Unknown),
        ];
        let counts = Counts::of(&operations);
        let expected = Counts {
            operations: 6,
            acknowledged: 1,
            rejected: 1,
            definite_failures: 1,
            unknown: 1,
            reads: 1,
            local_reads: 0,
        };
        assert_eq!(counts, expected);
        assert_eq!(rate_min(&operations, 1_000_000_000, 4_000_000_000), 1);
        assert_eq!(rate_min(&operations, 0, 4_000_000_000), 0);
    }
}
