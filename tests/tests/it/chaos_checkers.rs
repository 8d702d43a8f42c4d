//! The checkers of the chaos runs against histories whose verdict is known: each kind of wrong one
//! written by hand, right ones from a simulated store, and small ones judged by trying every order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use antumbra_tests::chaos::history::{
    Action, Change, Feed, Feeds, NEVER, Operation, Outcome, ShadowId, by_shadow,
};
use antumbra_tests::chaos::linearizability::{check, check_shadow};
use antumbra_tests::chaos::search::{Answer, search};
use antumbra_tests::chaos::violation::Kind;
use antumbra_tests::environment;

use crate::chaos_simulation::{Load, Simulated, explained, simulate};

const SHADOW: ShadowId = ShadowId(0);
const BUDGET: usize = 1_000_000;

fn operation(times: (u64, u64), action: Action, outcome: Outcome) -> Operation {
    Operation {
        shadow: SHADOW,
        invoked: times.0,
        completed: times.1,
        action,
        outcome,
    }
}

fn update(value: u64) -> Action {
    let expected = None;
    Action::Update { value, expected }
}

fn update_if(value: u64, expected: u64) -> Action {
    let expected = Some(expected);
    Action::Update { value, expected }
}

/// An acknowledged update from `start` to `end`.
fn wrote(start: u64, end: u64, value: u64, version: u64) -> Operation {
    operation((start, end), update(value), Outcome::Accepted { version })
}

fn deleted(start: u64, end: u64, value: u64, version: u64) -> Operation {
    let action = Action::Delete { value };
    operation((start, end), action, Outcome::Accepted { version })
}

fn unknown(start: u64, value: u64) -> Operation {
    operation((start, NEVER), update(value), Outcome::Unknown)
}

fn failed(start: u64, end: u64, value: u64) -> Operation {
    operation((start, end), update(value), Outcome::Failed)
}

fn read(start: u64, end: u64, version: u64, value: u64) -> Operation {
    let found = Outcome::Found { version, value };
    operation((start, end), Action::Read, found)
}

fn local(start: u64, end: u64, version: u64, value: u64) -> Operation {
    let action = Action::ReadLocal { session: Some(7) };
    operation((start, end), action, Outcome::Found { version, value })
}

fn absent(start: u64, end: u64) -> Operation {
    operation((start, end), Action::Read, Outcome::Absent)
}

fn conflict(start: u64, end: u64, value: u64, expected: u64, current: u64) -> Operation {
    let action = update_if(value, expected);
    operation((start, end), action, Outcome::Conflict { current })
}

/// A complete feed of updates with these values.
fn feed(values: &[u64]) -> Feed {
    let change = |value: &u64| Change {
        value: *value,
        deleted: false,
    };
    Feed {
        changes: (1..).zip(values.iter().map(change)).collect(),
        complete: true,
    }
}

/// The kinds of violations of a history of one shadow.
fn kinds(operations: &[Operation], feed: &Feed) -> Vec<Kind> {
    let judged = check_shadow(SHADOW, operations, feed);
    judged.violations.iter().map(|wrong| wrong.kind).collect()
}

fn searched(operations: &[Operation], feed: &Feed) -> Answer {
    search(operations, &feed.changes, BUDGET)
}

/// A wrong history: the order checker names the violation, and where no feed is needed to see it,
/// the search finds no order either.
fn assert_wrong(operations: &[Operation], feed: &Feed, kind: Kind) {
    let found = kinds(operations, feed);
    assert!(found.contains(&kind), "{found:?} instead of {kind:?}");
    let feed = (!feed.changes.is_empty()).then_some(feed);
    assert!(!explained(operations, feed), "it is not wrong");
}

fn assert_wrong_without_feed(operations: &[Operation], kind: Kind) {
    let none = Feed::default();
    assert_wrong(operations, &none, kind);
    assert_eq!(searched(operations, &none), Answer::Impossible);
}

/// What an honest cluster may answer passes, in every checker.
#[test]
fn accepts_every_honest_answer() {
    let none = Feed::default();
    let honest: [&[Operation]; 9] = [
        &[],
        &[wrote(0, 1, 1, 1), wrote(2, 3, 2, 2), read(4, 5, 2, 2)],
        // Overlapping operations may take effect in any order.
        &[wrote(0, 10, 1, 2), wrote(1, 9, 2, 1), read(2, 8, 1, 2)],
        &[wrote(0, 10, 1, 1), absent(1, 2), read(3, 4, 1, 1)],
        // An unanswered write may be seen, or not, or fill a version much later.
        &[unknown(0, 1), absent(1, 2), read(3, 4, 1, 1)],
        &[unknown(0, 1), absent(1, 2), wrote(3, 4, 2, 1)],
        &[unknown(0, 1), wrote(3, 4, 2, 2), wrote(5, 6, 3, 3)],
        // Deleted, created again, and in between absent.
        &[
            wrote(0, 1, 1, 1),
            deleted(2, 3, 2, 2),
            absent(4, 5),
            operation((6, 7), update_if(3, 0), Outcome::Accepted { version: 3 }),
            conflict(8, 9, 4, 0, 3),
        ],
        &[failed(0, 1, 1), wrote(2, 3, 2, 1), conflict(4, 5, 3, 7, 1)],
    ];
    for operations in honest {
        assert!(explained(operations, None), "{operations:?}");
        assert_eq!(kinds(operations, &none), [], "{operations:?}");
        assert_eq!(searched(operations, &none), Answer::Linearizable);
    }
}

/// An acknowledged write that later reads, or the feed, do not show.
#[test]
fn finds_a_lost_acknowledgement() {
    let history = [wrote(0, 1, 1, 1), absent(2, 3)];
    assert_wrong_without_feed(&history, Kind::ImpossiblyAbsent);
    let history = [wrote(0, 1, 1, 1), wrote(2, 3, 2, 2)];
    assert_wrong(&history, &feed(&[1]), Kind::Lost);
    let history = [wrote(0, 1, 1, 1), wrote(2, 3, 2, 2)];
    assert_wrong(&history, &feed(&[1, 3]), Kind::WrongValue);
}

/// A read that misses a write that was complete before it began.
#[test]
fn finds_a_stale_read() {
    let history = [wrote(0, 1, 1, 1), wrote(2, 3, 2, 2), read(4, 5, 1, 1)];
    assert_wrong_without_feed(&history, Kind::StaleRead);
    let history = [
        wrote(0, 1, 1, 1),
        wrote(2, 3, 2, 2),
        conflict(4, 5, 3, 9, 1),
    ];
    assert_wrong_without_feed(&history, Kind::StaleRead);
}

/// A read that shows what was written only after it was complete.
#[test]
fn finds_a_read_from_the_future() {
    let history = [read(0, 1, 1, 1), wrote(2, 3, 1, 1)];
    assert_wrong_without_feed(&history, Kind::ReadFromFuture);
    let history = [read(0, 1, 1, 1), unknown(2, 1)];
    assert_wrong_without_feed(&history, Kind::ReadFromFuture);
    let history = [local(0, 1, 1, 1), wrote(2, 3, 1, 1)];
    assert_eq!(kinds(&history, &Feed::default()), [Kind::ReadFromFuture]);
}

/// One version for two writes.
#[test]
fn finds_a_version_given_twice() {
    let history = [wrote(0, 5, 1, 1), wrote(1, 4, 2, 1)];
    assert_wrong_without_feed(&history, Kind::RepeatedVersion);
}

/// A version that nobody can have made.
#[test]
fn finds_a_gap() {
    let history = [wrote(0, 1, 1, 1), wrote(2, 3, 2, 3)];
    assert_wrong_without_feed(&history, Kind::Gap);
    // One of unknown outcome cannot make two versions.
    let history = [unknown(0, 1), wrote(2, 3, 2, 3)];
    assert_wrong_without_feed(&history, Kind::Gap);
    // The feed is complete and says that it made none.
    let history = [unknown(0, 1), wrote(2, 3, 2, 2)];
    let mut known = feed(&[9, 2]);
    known.changes.remove(&1);
    let found = kinds(&history, &known);
    assert!(found.contains(&Kind::Gap), "{found:?}");
}

/// A gap that the number of unanswered operations allows, but no order of them.
#[test]
fn finds_a_gap_that_only_the_search_can_exclude() {
    // It began after the version that it would have to make was passed.
    let history = [wrote(0, 1, 1, 2), unknown(5, 2)];
    assert_wrong_without_feed(&history, Kind::NotLinearizable);
    // Only a delete can have made version 2, and then version 3 cannot require version 2.
    let action = Action::Delete { value: 2 };
    let history = [
        wrote(0, 1, 1, 1),
        operation((2, NEVER), action, Outcome::Unknown),
        operation((4, 5), update_if(3, 2), Outcome::Accepted { version: 3 }),
    ];
    assert_wrong_without_feed(&history, Kind::NotLinearizable);
}

/// A write that the client was told is certainly not made.
#[test]
fn finds_a_definite_failure_that_was_applied() {
    let history = [failed(0, 1, 1), read(2, 3, 1, 1)];
    assert_wrong_without_feed(&history, Kind::DeniedButApplied);
    let history = [wrote(0, 1, 1, 1), failed(2, 3, 2)];
    assert_wrong(&history, &feed(&[1, 2]), Kind::DeniedButApplied);
    let history = [wrote(0, 1, 1, 1), conflict(2, 3, 2, 0, 1)];
    assert_wrong(&history, &feed(&[1, 2]), Kind::DeniedButApplied);
}

/// Writes that take effect against the order in which they were made.
#[test]
fn finds_writes_reordered_against_time() {
    let history = [wrote(0, 1, 1, 2), wrote(2, 3, 2, 1)];
    assert_wrong_without_feed(&history, Kind::Reordered);
    // Also when only the feed says where an unanswered one went.
    let history = [wrote(0, 1, 1, 2), unknown(2, 2)];
    assert_wrong(&history, &feed(&[2, 1]), Kind::Reordered);
}

/// A read of another value than the version has, and one that nobody wrote.
#[test]
fn finds_wrong_values_and_phantoms() {
    let history = [wrote(0, 1, 1, 1), wrote(2, 3, 2, 2), read(4, 5, 2, 1)];
    assert_wrong_without_feed(&history, Kind::WrongValue);
    let history = [wrote(0, 1, 1, 1), deleted(2, 3, 2, 2), read(4, 5, 2, 2)];
    assert_wrong_without_feed(&history, Kind::WrongValue);
    let history = [wrote(0, 1, 1, 1), read(4, 5, 2, 99)];
    assert_wrong_without_feed(&history, Kind::Phantom);
    let history = [wrote(0, 1, 1, 1)];
    assert_wrong(&history, &feed(&[1, 99]), Kind::Phantom);
    let history = [wrote(0, 1, 1, 1), read(2, 3, 0, 1)];
    assert_wrong_without_feed(&history, Kind::WrongValue);
}

/// One write that is applied again, as a retry without memory would.
#[test]
fn finds_a_write_applied_twice() {
    let history = [wrote(0, 1, 1, 1), wrote(2, 3, 2, 3)];
    assert_wrong(&history, &feed(&[1, 1, 2]), Kind::AppliedTwice);
    let history = [wrote(0, 1, 1, 1), read(2, 3, 2, 1)];
    assert_wrong_without_feed(&history, Kind::AppliedTwice);
}

/// Reads that go back, linearizable or local.
#[test]
fn finds_reads_that_go_back() {
    let history = [
        unknown(0, 1),
        unknown(0, 2),
        read(1, 2, 2, 2),
        read(3, 4, 1, 1),
    ];
    assert_wrong_without_feed(&history, Kind::ReadWentBack);
    let history = [unknown(0, 1), read(1, 2, 1, 1), absent(3, 4)];
    assert_wrong_without_feed(&history, Kind::ImpossiblyAbsent);
    let history = [
        wrote(0, 1, 1, 1),
        wrote(2, 3, 2, 2),
        local(4, 5, 2, 2),
        local(6, 7, 1, 1),
    ];
    assert_eq!(kinds(&history, &Feed::default()), [Kind::LocalReadWentBack]);
    // Another process may be behind, and one may be behind what was acknowledged.
    let mut other = history;
    other[2].action = Action::ReadLocal { session: Some(8) };
    assert_eq!(kinds(&other, &Feed::default()), []);
}

/// Conditional writes accepted elsewhere than they asked for, and refused where they held.
#[test]
fn finds_broken_conditions() {
    let accepted = |start, value, expected, version| {
        let outcome = Outcome::Accepted { version };
        operation((start, start + 1), update_if(value, expected), outcome)
    };
    let broken: [&[Operation]; 6] = [
        &[wrote(0, 1, 1, 1), accepted(2, 2, 0, 2)],
        &[wrote(0, 1, 1, 1), wrote(2, 3, 2, 2), accepted(4, 3, 1, 3)],
        &[wrote(0, 1, 1, 1), deleted(2, 3, 2, 2), accepted(4, 3, 2, 3)],
        &[wrote(0, 1, 1, 1), conflict(2, 3, 2, 1, 1)],
        &[conflict(0, 1, 1, 0, 0)],
        &[deleted(0, 1, 1, 1)],
    ];
    for history in broken {
        assert_wrong_without_feed(history, Kind::ConditionBroken);
    }
    // A conflict with a version that nobody made.
    let history = [wrote(0, 1, 1, 1), conflict(2, 3, 2, 1, 2)];
    assert_wrong_without_feed(&history, Kind::Gap);
}

/// A feed of a shadow that nobody used.
#[test]
fn finds_a_feed_of_nothing() {
    let feeds = Feeds::from([(ShadowId(9), feed(&[1]))]);
    let report = check(&[wrote(0, 1, 1, 1)], &feeds);
    let kinds: Vec<_> = report.violations.iter().map(|wrong| wrong.kind).collect();
    assert_eq!(kinds, [Kind::Phantom]);
}

/// A search that would take too long says so instead of guessing.
#[test]
fn search_gives_up_at_its_budget() {
    let mut history: Vec<_> = (1..40).map(|value| unknown(0, value)).collect();
    history.push(wrote(1, 2, 99, 30));
    assert_eq!(search(&history, &BTreeMap::new(), 5), Answer::Undecided);
    assert_eq!(searched(&history, &Feed::default()), Answer::Linearizable);
}

fn load(seed: u64, shadows: u32, operations: usize) -> Load {
    Load {
        seed,
        clients: 8,
        shadows,
        operations,
        trouble: 5,
        local: true,
    }
}

/// What a linearizable store answers is never called wrong, with and without its feed.
#[test]
fn simulated_histories_are_accepted() {
    let seed = environment::seed();
    println!("seed {seed}");
    let (mut judged, mut searched) = (0, 0);
    for round in 0..200 {
        let seed = seed.wrapping_add(round);
        let Simulated { operations, feeds } = simulate(load(seed, 3, 400));
        let report = check(&operations, &feeds);
        assert!(report.violations.is_empty(), "seed {seed}: {report:?}");
        let report = check(&operations, &Feeds::new());
        assert!(report.violations.is_empty(), "seed {seed}: {report:?}");
        judged += report.operations;
        searched += report.searched;
    }
    assert!(searched > 0, "no history needed the search");
    println!("{judged} operations of right histories accepted, {searched} searches");
}

/// Small histories, many of them damaged: both checkers say what trying every order says.
#[test]
fn checkers_agree_with_trying_every_order() {
    let seed = environment::seed();
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let mut seen = BTreeSet::new();
    let (mut right, mut wrong) = (0, 0);
    for round in 0..20_000 {
        let small = Load {
            clients: 3,
            trouble: 15,
            local: false,
            ..load(seed.wrapping_add(round), 1, 7)
        };
        let Simulated {
            mut operations,
            mut feeds,
        } = simulate(small);
        operations.sort_by_key(|operation| operation.invoked);
        let mut feed = feeds.remove(&SHADOW).unwrap_or(Feed {
            complete: true,
            ..Feed::default()
        });
        for _ in 0..random.random_range(0..3) {
            damage(&mut operations, &mut random);
        }
        let possible = explained(&operations, None);
        let context = format!("seed {seed} round {round}: {operations:?}");
        let expected = if possible {
            Answer::Linearizable
        } else {
            Answer::Impossible
        };
        let nothing = Feed::default();
        assert_eq!(searched(&operations, &nothing), expected, "{context}");
        let found = kinds(&operations, &nothing);
        assert_eq!(found.is_empty(), possible, "{found:?} {context}");
        seen.extend(found);

        if random.random_bool(0.2) {
            let gone = feed.changes.pop_last();
            if let (Some((_, gone)), true) = (gone, random.random_bool(0.5)) {
                let version = feed.changes.len() as u64 + 1;
                let value = random.random_range(1..9);
                feed.changes.insert(version, Change { value, ..gone });
            }
        }
        let possible = explained(&operations, Some(&feed));
        let found = kinds(&operations, &feed);
        assert_eq!(found.is_empty(), possible, "{found:?} {feed:?} {context}");
        seen.extend(found);
        if possible {
            right += 1;
        } else {
            wrong += 1;
        }
    }
    assert!(right > 1000 && wrong > 1000, "{right} right, {wrong} wrong");
    println!("{right} right and {wrong} wrong histories; kinds seen: {seen:?}");
}

/// Changes one answer or one moment.
fn damage(operations: &mut [Operation], random: &mut SmallRng) {
    let at = random.random_range(0..operations.len());
    let operation = &mut operations[at];
    let shift = |number: u64, random: &mut SmallRng| match random.random_bool(0.5) {
        true => number + 1,
        false => number.saturating_sub(1),
    };
    match &mut operation.outcome {
        Outcome::Accepted { version } => *version = shift(*version, random),
        Outcome::Found { version, value } => match random.random_bool(0.5) {
            true => *version = shift(*version, random),
            false => *value = shift(*value, random),
        },
        Outcome::Conflict { current } => *current = shift(*current, random),
        Outcome::Absent if operation.action.value().is_none() => {
            let (version, value) = (random.random_range(1..5), random.random_range(1..8));
            operation.outcome = Outcome::Found { version, value };
        }
        Outcome::Absent | Outcome::Refused | Outcome::Failed | Outcome::Unknown => {
            let answered = operation.completed != NEVER;
            operation.outcome = match operation.action {
                Action::Update { .. } | Action::Delete { .. } if answered => {
                    let version = random.random_range(1..5);
                    Outcome::Accepted { version }
                }
                _ => operation.outcome,
            };
        }
    }
    if operation.completed != NEVER && random.random_bool(0.3) {
        operation.completed = random.random_range(operation.invoked..=operation.completed);
    }
}

/// A million operations are judged in seconds.
#[test]
fn judges_a_million_operations() {
    let Simulated { operations, feeds } = simulate(load(1, 1000, 1_000_000));
    let started = Instant::now();
    let report = check(&operations, &feeds);
    let with_feed = started.elapsed();
    assert!(report.violations.is_empty(), "{:?}", report.violations);
    let started = Instant::now();
    let report = check(&operations, &Feeds::new());
    let without_feed = started.elapsed();
    assert!(report.violations.is_empty(), "{:?}", report.violations);
    println!(
        "{} operations on {} shadows in {with_feed:?}; without the feed in {without_feed:?}, {} searches",
        report.operations, report.shadows, report.searched
    );
    assert!(with_feed.as_secs() < 30, "{with_feed:?}");
    let largest = by_shadow(&operations)
        .iter()
        .map(|(_, list)| list.len())
        .max();
    assert!(largest.is_some_and(|largest| largest > 500));
}
