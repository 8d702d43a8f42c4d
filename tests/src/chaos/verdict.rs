//! The last look at the cluster, and everything that was seen before the checkers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use antumbra_proto::v1;

use super::door::{self, Doors};
use super::durability::{self, Shown};
use super::history::{Action, Final, Operation, Outcome, ShadowId};
use super::plan::Faults;
use super::recorder::{self, Names, Recorder};
use super::score::Score;
use super::watch::{self, Expected, Watched};
use super::{availability, linearizability};
use crate::waiting;

/// Shadows that are read in one call.
const BATCH: usize = 100;

/// What a node showed at the end, as the durability checker and as the order checker see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShownAt {
    pub(super) shown: Shown,
    pub(super) operation: Operation,
}

/// Everything that was seen.
pub(super) struct Seen {
    pub(super) operations: Vec<Operation>,
    pub(super) watched: Vec<Watched>,
    pub(super) shown: Vec<Shown>,
    /// The last version of each shadow, as far as it is known.
    pub(super) last: BTreeMap<ShadowId, u64>,
}

/// Reads every shadow through one node.
pub(super) async fn read_all(
    recorder: &Arc<Recorder>,
    doors: &Doors,
    node: usize,
    limit: Duration,
) -> Result<Vec<ShownAt>> {
    let mut all = Vec::new();
    let shadows: Vec<ShadowId> = recorder.names.all().collect();
    for some in shadows.chunks(BATCH) {
        let read = || read_some(recorder, doors, node, some);
        all.extend(waiting::until_async("all can be read", limit, read).await?);
    }
    Ok(all)
}

async fn read_some(
    recorder: &Arc<Recorder>,
    doors: &Doors,
    node: usize,
    shadows: &[ShadowId],
) -> Option<Vec<ShownAt>> {
    let client = doors.client(node).with_limit(Duration::from_secs(2));
    let requests = shadows.iter().map(|shadow| v1::GetShadowRequest {
        key: Some(recorder.names.key(*shadow)),
        ..Default::default()
    });
    let request = v1::BatchGetShadowsRequest {
        requests: requests.collect(),
    };
    let invoked = recorder.now();
    let mut door = client.raw();
    let answer = door.batch_get_shadows(client.request(request)).await.ok()?;
    let completed = recorder.now();
    let results = answer.into_inner().results;
    let pairs = shadows.iter().zip(&results);
    pairs
        .map(|(shadow, result)| {
            let found = door::shown(result)?;
            let outcome = match found {
                Final::Present { version, value } => Outcome::Found { version, value },
                Final::Absent => Outcome::Absent,
            };
            Some(ShownAt {
                shown: Shown {
                    node: node as u32 + 1,
                    shadow: *shadow,
                    found,
                },
                operation: Operation {
                    shadow: *shadow,
                    invoked,
                    completed,
                    action: Action::Read,
                    outcome,
                },
            })
        })
        .collect()
}

/// The last version of each shadow: acknowledged or shown, whichever is later.
pub(super) fn last_versions(
    operations: &[Operation],
    shown: &[ShownAt],
) -> BTreeMap<ShadowId, u64> {
    let acknowledged = durability::acknowledged(operations).into_iter();
    let mut last: BTreeMap<ShadowId, u64> = acknowledged
        .map(|(shadow, (version, _))| (shadow, version))
        .collect();
    for shown in shown {
        if let Final::Present { version, .. } = shown.shown.found {
            let entry = last.entry(shown.shown.shadow).or_default();
            *entry = version.max(*entry);
        }
    }
    last
}

/// A first glance, before anything is waited for: a version that was given twice, or that nobody shows.
/// The checkers say what is wrong with it.
pub(super) fn is_surely_wrong(operations: &[Operation], shown: &[ShownAt]) -> bool {
    let last = last_versions(&[], shown);
    let mut given = BTreeSet::new();
    operations.iter().any(|operation| {
        let (Some(_), Outcome::Accepted { version }) =
            (operation.action.value(), operation.outcome)
        else {
            return false;
        };
        let is_missing = last
            .get(&operation.shadow)
            .is_some_and(|last| version > *last);
        !given.insert((operation.shadow, version)) || is_missing
    })
}

/// Lets every checker judge, and adds what they say to the score.
pub(super) fn judge(
    score: &mut Score,
    seen: &Seen,
    faults: &Faults,
    names: &Names,
    serve_limit: Duration,
) {
    let feeds = watch::feeds(&seen.watched);
    let order = linearizability::check(&seen.operations, &feeds);
    score.violations.extend(order.violations);
    if order.searched > 0 {
        let note = format!(
            "{} shadows were judged without their whole feed",
            order.searched
        );
        score.notes.push(note);
    }

    let durable = durability::check(&seen.operations, &feeds, &seen.shown);
    score.violations.extend(durable.violations);

    let resets = faults.0.iter().flat_map(|fault| fault.resets());
    let expected = Expected {
        last: seen.last.clone(),
        resets: resets
            .map(|reason| (*reason).to_owned())
            .collect::<BTreeSet<_>>(),
    };
    let watched = watch::check(&seen.watched, &seen.operations, &feeds, &expected);
    score.violations.extend(watched.violations);
    score.watch_events = watched.events;
    score.watch_connections = watched.connections;
    score.resets = watched.resets;

    let pulse = recorder::pulse(names, &seen.operations);
    score.measure(&pulse);
    let limit = serve_limit.as_nanos() as u64;
    let late = score
        .injections
        .iter()
        .filter_map(|injection| availability::check_served(&pulse, injection, limit));
    let late: Vec<_> = late.collect();
    score.violations.extend(late);
}

/// Fails unless there is something to judge: a run without load proves nothing.
pub fn check_load(score: &Score) -> Result<()> {
    let live = score.counts.acknowledged > 0 && score.watch_events > 0;
    live.then_some(()).context("nothing was written or watched")
}
