//! Each test names one documented behaviour; the table is in `kubesim/README.md`.

use std::collections::BTreeSet;

use super::super::tests::{create, delete, pod};
use super::*;

const MIN_READY: Duration = Duration::from_secs(10);
const NOW: Duration = Duration::from_secs(60);

fn set(replicas: u32) -> Set {
    Set {
        name: "web".into(),
        replicas,
        start: 0,
        update: Update::Rolling {
            partition: 0,
            max_unavailable: 1,
        },
        generation: Generation::default(),
        min_ready: MIN_READY,
        claim_templates: Vec::new(),
        claims_go_with_set: false,
        is_deleted: false,
    }
}

fn partitioned(replicas: u32, partition: u32, max_unavailable: u32) -> Set {
    Set {
        update: Update::Rolling {
            partition,
            max_unavailable,
        },
        ..set(replicas)
    }
}

fn of_generation(generation: Generation, set: Set) -> Set {
    Set { generation, ..set }
}

const GENERATIONS: [Generation; 3] = [
    Generation::Ordered,
    Generation::Counted,
    Generation::Repairing,
];

fn pods(count: u32) -> Vec<Pod> {
    (0..count)
        .map(|ordinal| pod(&format!("web-{ordinal}")))
        .collect()
}

fn revisions(current: &str, update: &str) -> Revisions {
    Revisions {
        current: current.into(),
        update: update.into(),
    }
}

fn plan_with(set: &Set, update: &str, pods: &[Pod], claims: &[&str]) -> Vec<Action> {
    let claims: BTreeSet<String> = claims.iter().map(|claim| (*claim).to_owned()).collect();
    let seen = Seen {
        pods,
        claims: &claims,
        now: NOW,
    };
    set.plan(&revisions("old", update), seen)
}

fn plan(set: &Set, update: &str, pods: &[Pod]) -> Vec<Action> {
    plan_with(set, update, pods, &[])
}

#[test]
fn parallel_management_launches_all_pods_at_once() {
    let all = [
        create("web-0", "old"),
        create("web-1", "old"),
        create("web-2", "old"),
    ];
    assert_eq!(plan(&set(3), "old", &[]), all);
    let mut two = pods(2);
    two[0].ready_since = None;
    let added = [create("web-2", "old"), create("web-3", "old")];
    assert_eq!(plan(&set(4), "old", &two), added, "it waits for nobody");
}

#[test]
fn parallel_management_terminates_all_surplus_pods_at_once_highest_first() {
    let mut five = pods(5);
    five[1].ready_since = None;
    assert_eq!(
        plan(&set(3), "old", &five),
        [delete("web-4"), delete("web-3")]
    );
    five[4].is_terminating = true;
    assert_eq!(
        plan(&set(3), "old", &five),
        [delete("web-3")],
        "once is enough"
    );
    assert_eq!(
        plan(&set(0), "old", &pods(2)),
        [delete("web-1"), delete("web-0")]
    );
}

#[test]
fn pod_is_made_again_only_when_the_old_one_is_gone() {
    let mut three = pods(3);
    three[1].is_terminating = true;
    assert_eq!(plan(&set(3), "old", &three), []);
    three.remove(1);
    assert_eq!(plan(&set(3), "old", &three), [create("web-1", "old")]);
}

#[test]
fn ordinals_begin_where_they_are_told_to() {
    let later = Set { start: 5, ..set(2) };
    assert_eq!(
        plan(&later, "old", &[]),
        [create("web-5", "old"), create("web-6", "old")]
    );
    assert_eq!(
        plan(&later, "old", &[pod("web-5"), pod("web-6"), pod("web-0")]),
        [delete("web-0")]
    );
}

#[test]
fn rolling_update_takes_the_highest_ordinal_first_one_at_a_time() {
    for generation in GENERATIONS {
        let set = of_generation(generation, set(3));
        let mut three = pods(3);
        assert_eq!(plan(&set, "new", &three), [delete("web-2")]);
        three[2].is_terminating = true;
        assert_eq!(plan(&set, "new", &three), []);
        three.pop();
        assert_eq!(plan(&set, "new", &three), [create("web-2", "new")]);
        let fresh = Pod {
            revision: "new".into(),
            ..pod("web-2")
        };
        three.push(fresh);
        assert_eq!(plan(&set, "new", &three), [delete("web-1")]);
    }
}

#[test]
fn rolling_update_stops_at_a_pod_that_does_not_become_ready() {
    let mut three = pods(3);
    three[2].revision = "new".into();
    three[2].ready_since = None;
    for generation in GENERATIONS {
        let set = of_generation(generation, set(3));
        assert_eq!(plan(&set, "new", &three), []);
        let back = plan(&set, "old", &three);
        match generation {
            Generation::Counted => assert_eq!(back, [], "going back does not help"),
            _ => assert_eq!(back, [delete("web-2")], "going back replaces it"),
        }
        assert_eq!(
            plan(&set, "old", &three[..2]),
            [create("web-2", "old")],
            "deleting it helps"
        );
    }
}

#[test]
fn rolling_update_waits_until_a_pod_has_been_ready_for_min_ready_seconds() {
    for generation in GENERATIONS {
        let set = of_generation(generation, set(3));
        let mut three = pods(3);
        three[2].revision = "new".into();
        three[2].ready_since = Some(NOW - MIN_READY + Duration::from_secs(1));
        assert_eq!(plan(&set, "new", &three), []);
        three[2].ready_since = Some(NOW - MIN_READY);
        assert_eq!(plan(&set, "new", &three), [delete("web-1")]);
    }
}

#[test]
fn rolling_update_looks_only_at_pods_above_before_max_unavailable_counts() {
    let mut five = pods(5);
    five[0].ready_since = None;
    assert_eq!(
        plan(&partitioned(5, 0, 2), "new", &five),
        [delete("web-4")],
        "one at a time, and one that is down at the other end does not count"
    );
    five[4].ready_since = None;
    five[4].revision = "new".into();
    assert_eq!(plan(&partitioned(5, 0, 2), "new", &five), []);
}

#[test]
fn rolling_update_counts_every_unavailable_pod_against_max_unavailable() {
    for generation in [Generation::Counted, Generation::Repairing] {
        let two = of_generation(generation, partitioned(5, 0, 2));
        let mut five = pods(5);
        assert_eq!(plan(&two, "new", &five), [delete("web-4"), delete("web-3")]);
        five[0].ready_since = None;
        five[0].revision = "new".into();
        assert_eq!(plan(&two, "new", &five), [delete("web-4")]);
        assert_eq!(
            plan(&of_generation(generation, set(5)), "new", &five),
            [],
            "one that is down at the other end counts"
        );
    }
}

#[test]
fn rolling_update_replaces_what_is_not_available_at_once_since_1_37() {
    let mut five = pods(5);
    five[0].ready_since = None;
    five[2].ready_since = None;
    let set = of_generation(Generation::Repairing, set(5));
    assert_eq!(
        plan(&set, "new", &five),
        [delete("web-2"), delete("web-0")],
        "and nothing that serves"
    );
}

#[test]
fn partition_leaves_lower_ordinals_alone() {
    let canary = partitioned(3, 2, 1);
    let mut three = pods(3);
    assert_eq!(plan(&canary, "new", &three), [delete("web-2")]);
    three[2].revision = "new".into();
    assert_eq!(plan(&canary, "new", &three), []);
    assert_eq!(plan(&partitioned(3, 4, 1), "new", &pods(3)), []);
}

#[test]
fn pod_below_the_partition_is_made_again_from_the_previous_revision() {
    let missing = [pod("web-2")];
    let made = [create("web-0", "old"), create("web-1", "new")];
    assert_eq!(plan(&partitioned(3, 1, 1), "new", &missing), made);
}

#[test]
fn update_on_delete_touches_nothing_and_makes_from_the_new_revision() {
    let waiting = Set {
        update: Update::OnDelete,
        ..set(3)
    };
    assert_eq!(plan(&waiting, "new", &pods(3)), []);
    assert_eq!(plan(&waiting, "new", &pods(2)), [create("web-2", "new")]);
}

#[test]
fn update_is_complete_when_every_pod_has_it_and_is_available() {
    let settle = |set: &Set, pods: &[Pod]| {
        let claims = BTreeSet::new();
        let seen = Seen {
            pods,
            claims: &claims,
            now: NOW,
        };
        set.settle(revisions("old", "new"), seen)
    };
    let mut three = pods(3);
    three[1].revision = "new".into();
    three[2].revision = "new".into();
    assert_eq!(settle(&set(3), &three), revisions("old", "new"));
    three[0].revision = "new".into();
    assert_eq!(settle(&set(3), &three), revisions("new", "new"));
    three[0].ready_since = None;
    assert_eq!(settle(&set(3), &three), revisions("old", "new"));
}

#[test]
fn every_pod_gets_a_claim_that_outlives_it() {
    let set = Set {
        claim_templates: vec!["data".into()],
        ..set(2)
    };
    let made = [
        create_claim("data-web-0"),
        create("web-0", "old"),
        create_claim("data-web-1"),
        create("web-1", "old"),
    ];
    let mut actions = plan_with(&set, "old", &[], &[]);
    assert_eq!(actions, made);
    actions = plan_with(&set, "old", &pods(1), &["data-web-0", "data-web-1"]);
    assert_eq!(
        actions,
        [create("web-1", "old")],
        "the claim that is there is used again"
    );
}

#[test]
fn claims_stay_when_pods_are_scaled_away() {
    let set = Set {
        claim_templates: vec!["data".into()],
        ..set(1)
    };
    let actions = plan_with(&set, "old", &pods(2), &["data-web-0", "data-web-1"]);
    assert_eq!(actions, [delete("web-1")]);
    let actions = plan_with(&set, "old", &pods(1), &["data-web-0", "data-web-1"]);
    assert_eq!(actions, []);
}

#[test]
fn pods_of_a_deleted_set_go_all_at_once_and_claims_stay() {
    let gone = Set {
        is_deleted: true,
        claim_templates: vec!["data".into()],
        ..set(3)
    };
    let claims = ["data-web-0", "data-web-1"];
    let actions = plan_with(&gone, "new", &pods(2), &claims);
    assert_eq!(
        actions,
        [delete("web-0"), delete("web-1")],
        "and none is made again"
    );
    assert_eq!(plan_with(&gone, "new", &[], &claims), []);
}

#[test]
fn claims_go_with_a_deleted_set_when_told_so() {
    let gone = Set {
        is_deleted: true,
        claim_templates: vec!["data".into()],
        claims_go_with_set: true,
        ..set(2)
    };
    let mut two = pods(2);
    two[1].is_terminating = true;
    let claims = ["data-web-1", "data-other-0", "logs-web-0"];
    assert_eq!(
        plan_with(&gone, "old", &two[1..], &claims),
        [],
        "a pod still uses it"
    );
    let actions = plan_with(&gone, "old", &[], &claims);
    assert_eq!(actions, [Action::DeleteClaim("data-web-1".into())]);
}

fn create_claim(name: &str) -> Action {
    Action::CreateClaim(name.to_owned())
}

const OBJECT: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web, namespace: fleet}
spec:
  serviceName: web-headless
  replicas: 4
  podManagementPolicy: Parallel
  minReadySeconds: 10
  updateStrategy:
    type: RollingUpdate
    rollingUpdate: {partition: 1, maxUnavailable: 30%}
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Retain, whenScaled: Retain}
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web}]}}
  volumeClaimTemplates:
    - metadata: {name: data}
      spec: {accessModes: [ReadWriteOnce]}
";

fn read(text: &str) -> Result<Set> {
    let objects = manifest::Manifests::parse(text)?;
    Set::read(&objects.stateful_sets[0])
}

#[test]
fn objects_are_read() {
    let expected = Set {
        claim_templates: vec!["data".into()],
        ..partitioned(4, 1, 2)
    };
    assert_eq!(read(OBJECT).unwrap(), expected);
}

/// What is not modelled must not look as if it had been tried.
#[test]
fn what_is_not_modelled_is_refused() {
    let refused = |from, to| read(&OBJECT.replace(from, to)).unwrap_err().to_string();
    assert!(refused("  podManagementPolicy: Parallel\n", "").contains("OrderedReady"));
    assert!(refused("whenScaled: Retain", "whenScaled: Delete").contains("whenScaled"));
    assert!(refused("type: RollingUpdate", "type: Sometimes").contains("Sometimes"));
}
