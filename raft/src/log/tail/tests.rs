#![allow(clippy::unwrap_used)]

use bytes::Bytes;

use super::*;
use crate::types::{Command, log_id};

const SHARD: ShardId = ShardId(1);

fn entry(term: u64, index: u64) -> Entry {
    Entry {
        log_id: log_id(term, index),
        payload: Payload::Normal(Command::one(Bytes::from(vec![index as u8; 1000]))),
    }
}

fn entries(term: u64, range: std::ops::Range<u64>) -> Vec<Entry> {
    range.map(|index| entry(term, index)).collect()
}

fn blank(bytes_max: usize) -> Tail {
    Tail::new(SHARD, bytes_max, ShardRows::default(), 0, VecDeque::new())
}

fn ids(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.log_id.index).collect()
}

/// What is not durable can be read nowhere else, so it stays whatever it weighs.
#[test]
fn keeps_what_is_not_durable_and_drops_the_rest_over_the_limit() {
    let tail = blank(3000);
    let first = tail.append(&entries(1, 0..10)).unwrap();
    let second = tail.append(&entries(1, 10..20)).unwrap();
    assert_eq!(tail.held().0, 20);
    tail.durable(first);
    assert_eq!(tail.held().0, 10);
    tail.durable(second);
    assert_eq!(tail.held().0, 2);
    let plan = tail.plan(0, 20, usize::MAX);
    assert_eq!(
        (plan.stored.clone(), ids(&plan.entries)),
        (0..18, vec![18, 19])
    );
}

/// An old completion must not pass for one of the entries that took the place of the old ones.
#[test]
fn completion_of_truncated_entries_does_not_count_for_their_successors() {
    let tail = blank(0);
    let old = tail.append(&entries(1, 0..10)).unwrap();
    assert_eq!(tail.truncate(Some(log_id(1, 4))), 5);
    let new = tail.append(&entries(2, 5..10)).unwrap();
    tail.durable(old);
    assert_eq!(tail.held().0, 10);
    tail.durable(new);
    assert_eq!(tail.held().0, 0);
    assert_eq!(tail.bounds().1, Some(log_id(2, 9)));
}

#[test]
fn refuses_a_hole_and_adds_nothing() {
    let tail = blank(usize::MAX);
    tail.append(&entries(1, 0..3)).unwrap();
    assert!(matches!(
        tail.append(&entries(1, 4..6)),
        Err(Error::Hole {
            expected: 3,
            found: 4,
            ..
        })
    ));
    let torn = [entry(1, 3), entry(1, 5)];
    assert!(matches!(tail.append(&torn), Err(Error::Hole { .. })));
    assert_eq!(tail.bounds().1, Some(log_id(1, 2)));
    assert_eq!(tail.held().0, 3);
}

/// What the state store has not flushed must stay in the log.
#[test]
fn purge_stops_at_the_gate() {
    let tail = blank(usize::MAX);
    tail.append(&entries(1, 0..10)).unwrap();
    assert!(matches!(
        tail.purge(log_id(1, 0)),
        Err(Error::PurgeRefused { gate: None, .. })
    ));
    tail.set_purge_gate(5);
    tail.set_purge_gate(3);
    assert!(matches!(
        tail.purge(log_id(1, 6)),
        Err(Error::PurgeRefused { gate: Some(5), .. })
    ));
    assert_eq!(tail.purge(log_id(1, 5)).unwrap(), Some(0));
    assert_eq!(tail.purge(log_id(1, 5)).unwrap(), None);
    assert_eq!(tail.purge(log_id(1, 2)).unwrap(), None);
    assert_eq!(tail.bounds(), (Some(log_id(1, 5)), Some(log_id(1, 9))));
    assert_eq!(ids(&tail.plan(0, 20, usize::MAX).entries), [6, 7, 8, 9]);
}

/// A state that is ahead of the log moves the log to it.
#[test]
fn purge_beyond_the_end_leaves_an_empty_log_there() {
    let tail = blank(usize::MAX);
    tail.append(&entries(1, 0..3)).unwrap();
    tail.set_purge_gate(100);
    tail.purge(log_id(2, 100)).unwrap();
    assert_eq!(tail.bounds(), (Some(log_id(2, 100)), Some(log_id(2, 100))));
    assert!(tail.append(&entries(2, 3..4)).is_err());
    tail.append(&entries(2, 101..103)).unwrap();
    assert_eq!(ids(&tail.plan(0, 200, usize::MAX).entries), [101, 102]);
}

/// A committed position on disk beyond the entries on disk would stop the next start.
#[test]
fn committed_is_written_once_and_never_beyond_durable_entries() {
    let tail = blank(usize::MAX);
    let appended = tail.append(&entries(1, 0..10)).unwrap();
    tail.set_committed(Some(log_id(1, 4)));
    assert_eq!(tail.take_committed(0), None);
    assert_eq!(tail.take_committed(5), Some(log_id(1, 4)));
    assert_eq!(tail.take_committed(5), None);
    tail.set_committed(Some(log_id(1, 9)));
    assert_eq!(tail.take_committed(5), None);
    tail.durable(appended);
    assert_eq!(tail.take_committed(0), Some(log_id(1, 9)));
    tail.set_committed(Some(log_id(1, 9)));
    assert_eq!(tail.take_committed(0), None);
    assert_eq!(tail.committed(), Some(log_id(1, 9)));
}

#[test]
fn a_limited_plan_has_at_least_one_entry() {
    let tail = blank(usize::MAX);
    tail.append(&entries(1, 0..10)).unwrap();
    assert_eq!(ids(&tail.plan(2, 9, 1).entries), [2]);
    assert_eq!(ids(&tail.plan(2, 9, 2500).entries), [2, 3]);
    assert!(tail.plan(9, 9, 1).entries.is_empty());
    assert!(tail.plan(20, 30, 1).entries.is_empty());
    assert!(tail.plan(20, 30, 1).stored.is_empty());
}

#[test]
fn a_plan_does_not_hold_after_entries_were_removed() {
    let tail = blank(usize::MAX);
    tail.append(&entries(1, 0..10)).unwrap();
    let plan = tail.plan(0, 10, usize::MAX);
    tail.append(&entries(1, 10..11)).unwrap();
    assert!(tail.holds(&plan));
    tail.truncate(Some(log_id(1, 7)));
    assert!(!tail.holds(&plan));
}
