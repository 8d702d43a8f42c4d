//! The checkers of watches, durability, availability and replicas against notes whose verdict is
//! known.

use std::collections::{BTreeMap, BTreeSet};

use antumbra_tests::chaos::availability::{
    Acknowledged, Injection, Percentiles, Pulse, check_served, outage, percentiles,
};
use antumbra_tests::chaos::durability::{self, Shown};
use antumbra_tests::chaos::hashes;
use antumbra_tests::chaos::history::{
    Action, Change, Feed, Feeds, Final, NEVER, Operation, Outcome, ShadowId,
};
use antumbra_tests::chaos::violation::Kind;
use antumbra_tests::chaos::watch::{Expected, Note, Watched, check, feeds};

const SHADOW: ShadowId = ShadowId(0);
const OTHER: ShadowId = ShadowId(1);

fn changed(shadow: ShadowId, version: u64) -> Note {
    let change = Change {
        value: value(shadow, version),
        deleted: false,
    };
    Note::Changed {
        shadow,
        version,
        change,
    }
}

fn document(shadow: ShadowId, version: u64) -> Note {
    Note::Document {
        shadow,
        version,
        value: value(shadow, version),
    }
}

fn reset() -> Note {
    Note::Reset("CURSOR_TRIMMED".into())
}

fn value(shadow: ShadowId, version: u64) -> u64 {
    u64::from(shadow.0) * 100 + version
}

fn wrote(shadow: ShadowId, version: u64) -> Operation {
    Operation {
        shadow,
        invoked: version * 10,
        completed: version * 10 + 1,
        action: Action::Update {
            value: value(shadow, version),
            expected: None,
        },
        outcome: Outcome::Accepted { version },
    }
}

/// Three versions of the shadow; what a watcher that noted these is accused of.
fn kinds_of(notes: Vec<Note>, resets: &[&str]) -> Vec<Kind> {
    let operations = [1, 2, 3].map(|version| wrote(SHADOW, version));
    let expected = Expected {
        last: BTreeMap::from([(SHADOW, 3)]),
        resets: resets.iter().map(|reason| (*reason).to_owned()).collect(),
    };
    let name = "watcher".to_owned();
    let watched = [Watched { name, notes }];
    let report = check(&watched, &operations, &Feeds::new(), &expected);
    report.violations.iter().map(|wrong| wrong.kind).collect()
}

fn kinds(mut notes: Vec<Note>) -> Vec<Kind> {
    notes.splice(0..0, [Note::Opened, Note::Synced]);
    kinds_of(notes, &["CURSOR_TRIMMED"])
}

/// Everything a watch may do passes: resuming, starting over, versions once and in order.
#[test]
fn accepts_honest_watches() {
    let one = || changed(SHADOW, 1);
    let (two, three) = (|| changed(SHADOW, 2), || changed(SHADOW, 3));
    assert_eq!(kinds(vec![one(), two(), three()]), []);
    assert_eq!(
        kinds(vec![one(), Note::Resumed, two(), Note::Resumed, three()]),
        []
    );
    let over = vec![one(), reset(), document(SHADOW, 3), Note::Synced];
    assert_eq!(kinds(over), []);
    let opened = vec![
        one(),
        Note::Opened,
        document(SHADOW, 2),
        Note::Synced,
        three(),
    ];
    assert_eq!(kinds(opened), []);
    // Broken off between the documents, then without a cursor again.
    let again = vec![reset(), Note::Opened, document(SHADOW, 3), Note::Synced];
    assert_eq!(kinds(again), []);
    // Deleted while nobody looked; then any later version may follow.
    let gone = vec![one(), reset(), Note::Synced, three()];
    assert_eq!(kinds(gone), []);
}

/// A version left out, also over a reconnection and at the very beginning.
#[test]
fn finds_watch_gaps() {
    let gap = vec![changed(SHADOW, 1), changed(SHADOW, 3)];
    assert_eq!(kinds(gap), [Kind::WatchGap]);
    let gap = vec![changed(SHADOW, 1), Note::Resumed, changed(SHADOW, 3)];
    assert_eq!(kinds(gap), [Kind::WatchGap]);
    let gap = vec![changed(SHADOW, 2), changed(SHADOW, 3)];
    assert_eq!(kinds(gap), [Kind::WatchGap]);
    let gap = vec![
        reset(),
        document(SHADOW, 1),
        Note::Synced,
        changed(SHADOW, 3),
    ];
    assert_eq!(kinds(gap), [Kind::WatchGap]);
}

/// A version told again, and documents older than what was told.
#[test]
fn finds_watch_repeats() {
    let three = || changed(SHADOW, 3);
    let repeat = vec![
        changed(SHADOW, 1),
        changed(SHADOW, 2),
        Note::Resumed,
        changed(SHADOW, 2),
        three(),
    ];
    assert_eq!(kinds(repeat), [Kind::WatchRepeat]);
    let back = vec![
        changed(SHADOW, 1),
        changed(SHADOW, 2),
        reset(),
        document(SHADOW, 1),
        Note::Synced,
        changed(SHADOW, 2),
        three(),
    ];
    assert_eq!(kinds(back), [Kind::WatchRepeat]);
    let gone = vec![
        changed(SHADOW, 1),
        reset(),
        Note::Synced,
        changed(SHADOW, 1),
        three(),
    ];
    assert_eq!(kinds(gone), [Kind::WatchRepeat]);
}

/// Another value than was acknowledged, in a change or a document.
#[test]
fn finds_wrong_watch_values() {
    let (version, value) = (3, 77);
    let deleted = false;
    let change = Change { value, deleted };
    let wrong = Note::Changed {
        shadow: SHADOW,
        version,
        change,
    };
    let notes = vec![changed(SHADOW, 1), changed(SHADOW, 2), wrong];
    assert_eq!(kinds(notes), [Kind::WatchWrong]);
    let wrong = Note::Document {
        shadow: SHADOW,
        version,
        value,
    };
    let notes = vec![reset(), wrong, Note::Synced];
    assert_eq!(kinds(notes), [Kind::WatchWrong]);
}

/// The protocol of a watch: documents only while it begins, changes only behind `synced`.
#[test]
fn finds_broken_watch_protocols() {
    let all = |last| {
        vec![
            changed(SHADOW, 1),
            changed(SHADOW, 2),
            changed(SHADOW, 3),
            last,
        ]
    };
    assert_eq!(kinds(all(document(SHADOW, 3))), [Kind::WatchProtocol]);
    assert_eq!(kinds(all(Note::Synced)), [Kind::WatchProtocol]);
    let early = vec![
        reset(),
        document(SHADOW, 2),
        changed(SHADOW, 3),
        Note::Synced,
    ];
    assert_eq!(kinds(early), [Kind::WatchProtocol]);
    let twice = vec![
        reset(),
        document(SHADOW, 3),
        document(SHADOW, 3),
        Note::Synced,
    ];
    assert_eq!(kinds(twice), [Kind::WatchProtocol]);
    let resumed = vec![reset(), document(SHADOW, 3), Note::Resumed];
    assert_eq!(kinds(resumed), [Kind::WatchProtocol]);
}

/// A reset without a documented reason for this run, and a watch that never gets to the end.
#[test]
fn finds_watch_resets_and_unfinished_watches() {
    let over = || {
        vec![
            Note::Opened,
            Note::Synced,
            reset(),
            document(SHADOW, 3),
            Note::Synced,
        ]
    };
    assert_eq!(kinds_of(over(), &[]), [Kind::WatchReset]);
    assert_eq!(kinds_of(over(), &["CURSOR_TRIMMED"]), []);
    let short = vec![changed(SHADOW, 1), changed(SHADOW, 2)];
    assert_eq!(kinds(short), [Kind::WatchIncomplete]);
    assert_eq!(kinds(vec![]), [Kind::WatchIncomplete]);
}

/// Watchers together make the feeds; a watcher that started over does not make them complete, and
/// one that disagrees with another is found.
#[test]
fn joins_watchers_to_feeds() {
    let watched = |notes| Watched {
        name: String::new(),
        notes,
    };
    let start = [Note::Opened, Note::Synced];
    let steady = [&start[..], &[changed(SHADOW, 1), changed(OTHER, 1)]].concat();
    let broken = [&start[..], &[reset(), document(SHADOW, 1), Note::Synced]].concat();
    let both = [watched(broken.clone()), watched(steady.clone())];
    let joined = feeds(&both);
    assert!(joined.values().all(|feed| feed.complete));
    assert_eq!(joined.keys().copied().collect::<Vec<_>>(), [SHADOW, OTHER]);
    let late = [&broken[..], &[changed(SHADOW, 2)]].concat();
    let joined = feeds(&[watched(late)]);
    assert!(!joined[&SHADOW].complete);

    let mut liar = steady;
    liar[2] = Note::Changed {
        shadow: SHADOW,
        version: 1,
        change: Change {
            value: 66,
            deleted: false,
        },
    };
    let watchers = [both[1].clone(), watched(liar)];
    let expected = Expected {
        last: BTreeMap::new(),
        resets: BTreeSet::new(),
    };
    let report = check(&watchers, &[], &feeds(&watchers), &expected);
    let kinds: Vec<_> = report.violations.iter().map(|wrong| wrong.kind).collect();
    assert_eq!(kinds, [Kind::WatchWrong]);
    assert_eq!((report.events, report.connections), (4, 2));
}

fn shown(found: Final) -> Vec<Kind> {
    durable(found, &[wrote(SHADOW, 1), wrote(SHADOW, 2)], &Feeds::new())
}

fn durable(found: Final, operations: &[Operation], feeds: &Feeds) -> Vec<Kind> {
    let shadow = SHADOW;
    let shown = [Shown {
        node: 1,
        shadow,
        found,
    }];
    let report = durability::check(operations, feeds, &shown);
    assert_eq!(report.shown, 1);
    report.violations.iter().map(|wrong| wrong.kind).collect()
}

/// After the heal every node shows the last acknowledged version or a later one.
#[test]
fn judges_durability() {
    let present = |version, value| Final::Present { version, value };
    assert_eq!(shown(present(2, 2)), []);
    assert_eq!(shown(present(3, 9)), []);
    assert_eq!(shown(present(1, 1)), [Kind::Lost]);
    assert_eq!(shown(present(2, 1)), [Kind::WrongValue]);
    assert_eq!(shown(Final::Absent), [Kind::Lost]);

    // Absent is right only behind a delete: acknowledged, told by the feed, or possible.
    let mut history = vec![wrote(SHADOW, 1), wrote(SHADOW, 2)];
    history[1].action = Action::Delete { value: 2 };
    assert_eq!(durable(Final::Absent, &history, &Feeds::new()), []);
    assert_eq!(
        durable(present(2, 2), &history, &Feeds::new()),
        [Kind::WrongValue]
    );
    history[1].outcome = Outcome::Unknown;
    history[1].completed = NEVER;
    assert_eq!(durable(Final::Absent, &history, &Feeds::new()), []);
    let mut feed = Feed {
        complete: true,
        ..Feed::default()
    };
    let change = |value, deleted| Change { value, deleted };
    feed.changes.insert(1, change(1, false));
    let feeds = |feed: &Feed| Feeds::from([(SHADOW, feed.clone())]);
    assert_eq!(
        durable(Final::Absent, &history, &feeds(&feed)),
        [Kind::Lost]
    );
    feed.changes.insert(2, change(2, true));
    assert_eq!(durable(Final::Absent, &history, &feeds(&feed)), []);
}

const MS: u64 = 1_000_000;

fn injection(injected: u64, healed: u64, until: u64) -> Injection {
    Injection {
        fault: "kill".into(),
        injected: injected * MS,
        healed: healed * MS,
        until: until * MS,
        hit: true,
    }
}

fn pulse(shadows: &[&[(u64, u64)]]) -> Pulse {
    let shadow = |times: &&[(u64, u64)]| {
        let times = times.iter().map(|(invoked, completed)| Acknowledged {
            invoked: invoked * MS,
            completed: completed * MS,
        });
        times.collect::<Vec<_>>()
    };
    (0..)
        .map(ShadowId)
        .zip(shadows.iter().map(shadow))
        .collect()
}

/// The outage is the longest silence of the shadow that was silent longest.
#[test]
fn measures_outages() {
    let quick: &[(u64, u64)] = &[(90, 100), (190, 200), (300, 310), (390, 400)];
    let slow: &[(u64, u64)] = &[(90, 100), (110, 350), (390, 400)];
    let fault = injection(150, 300, 400);
    assert_eq!(outage(&pulse(&[quick]), &fault), 110 * MS);
    assert_eq!(outage(&pulse(&[quick, slow]), &fault), 200 * MS);
    assert_eq!(outage(&pulse(&[&[]]), &fault), 250 * MS);
    assert_eq!(outage(&Pulse::new(), &fault), 0);
    let of = |count: u64| (1..=count).map(|ms| ms * MS).collect::<Vec<_>>();
    let expected = |p50, p99, max| Percentiles { p50, p99, max };
    assert_eq!(percentiles(&of(100)), expected(50, 99, 100));
    assert_eq!(percentiles(&of(1)), expected(1, 1, 1));
    assert_eq!(percentiles(&[]), expected(0, 0, 0));
}

/// Every shadow takes a write that was sent after the heal, in time.
#[test]
fn finds_shadows_that_are_not_served_after_the_heal() {
    let limit = 100 * MS;
    let fault = injection(150, 300, 900);
    let judge = |shadows| check_served(&pulse(shadows), &fault, limit).map(|wrong| wrong.kind);
    assert_eq!(judge(&[&[(310, 320)], &[(350, 400)]]), None);
    let not_serving = Some(Kind::NotServing);
    // Sent before the heal; too late; never.
    assert_eq!(judge(&[&[(310, 320)], &[(290, 320)]]), not_serving);
    assert_eq!(judge(&[&[(310, 401)]]), not_serving);
    assert_eq!(judge(&[&[]]), not_serving);
}

/// The comparison of replicas as the command line prints it.
#[test]
fn judges_replica_hashes() {
    let judge = |text| {
        let report = hashes::judge(text);
        let kinds: Vec<_> = report.violations.iter().map(|wrong| wrong.kind).collect();
        (report.equal, kinds)
    };
    let equal = r#"{"shards":[{"shard":1,"equal":true},{"shard":2,"equal":true}]}"#;
    assert_eq!(judge(equal), (2, vec![]));
    let differ = r#"{"shards":[{"shard":1,"equal":true},{"shard":2,"equal":false}]}"#;
    assert_eq!(judge(differ), (1, vec![Kind::ReplicasDiffer]));
    for nothing in ["", "{}", r#"{"shards":[]}"#, r#"{"shards":[{"shard":1}]}"#] {
        assert_eq!(judge(nothing), (0, vec![Kind::NotVerified]), "{nothing}");
    }
}
