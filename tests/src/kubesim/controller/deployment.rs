//! The controller of Deployments. Its replica sets are counted here by the revision of their pods.

use std::cmp::Reverse;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Action, Pod, Rounding, Seen, amount, seconds};
use crate::kubesim::manifest;

const DEFAULT_SHARE: &str = "25%";

/// What a Deployment wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// Its name, which begins the names of its pods.
    pub name: String,
    /// How many pods.
    pub replicas: u32,
    /// So many more during an update.
    pub max_surge: u32,
    /// So many fewer that are available during an update.
    pub max_unavailable: u32,
    /// How long a pod must have been ready to be counted as available.
    pub min_ready: Duration,
    /// Whether it was deleted.
    pub is_deleted: bool,
}

impl Fleet {
    /// What an object wants. Refuses what is not modelled.
    pub fn read(object: &Deployment) -> Result<Fleet> {
        let spec = object.spec.as_ref().context("a Deployment has a spec")?;
        if spec.paused == Some(true) {
            bail!("a paused Deployment is not modelled");
        }
        let replicas = u32::try_from(spec.replicas.unwrap_or(1))?;
        let (max_surge, max_unavailable) = shares(spec, replicas)?;
        Ok(Fleet {
            name: manifest::name(&object.metadata).to_owned(),
            replicas,
            max_surge,
            max_unavailable,
            min_ready: seconds(spec.min_ready_seconds)?,
            is_deleted: object.metadata.deletion_timestamp.is_some(),
        })
    }

    /// What to do next. Names of new pods end with `next` and the numbers after it.
    pub fn plan(&self, update: &str, seen: Seen<'_>, next: u64) -> Vec<Action> {
        let running: Vec<&Pod> = seen.pods.iter().filter(|pod| !pod.is_terminating).collect();
        if self.is_deleted {
            return running.into_iter().map(delete).collect();
        }
        let is_new = |pod: &&Pod| pod.revision == update;
        let (new, old): (Vec<&Pod>, Vec<&Pod>) = running.iter().copied().partition(is_new);
        let mut actions = self.create(update, new.len(), running.len(), next);
        let surplus = new.len().saturating_sub(self.replicas as usize);
        let worst = self.worst_first(new.clone(), seen.now);
        actions.extend(worst.into_iter().take(surplus).map(delete));
        actions.extend(self.retire(&new, old, seen.now));
        actions
    }

    fn create(&self, update: &str, new: usize, all: usize, next: u64) -> Vec<Action> {
        let wanted = (self.replicas as usize).saturating_sub(new);
        let room = (self.replicas + self.max_surge) as usize;
        let count = wanted.min(room.saturating_sub(all)) as u64;
        let create = |number| Action::Create {
            pod: format!("{}-{update}-{number:05}", self.name),
            revision: update.to_owned(),
        };
        (next..next + count).map(create).collect()
    }

    /// Old pods that may go: first those that serve nobody, then as many as are not needed.
    fn retire(&self, new: &[&Pod], old: Vec<&Pod>, now: Duration) -> Vec<Action> {
        let serves = |pod: &Pod| pod.is_available(now, self.min_ready);
        let least = self.replicas.saturating_sub(self.max_unavailable) as usize;
        let new_available = new.iter().filter(|pod| serves(pod)).count();
        let old_available = old.iter().filter(|pod| serves(pod)).count();
        let unavailable = old.len() - old_available;
        let all = new.len() + old.len();
        let room = all.saturating_sub(least + new.len() - new_available);
        let useless = unavailable.min(room);
        let spare = (new_available + old_available).saturating_sub(least);
        let count = useless + spare.min(old_available).min(room - useless);
        let worst = self.worst_first(old, now);
        worst.into_iter().take(count).map(delete).collect()
    }

    /// Those that do not run before those that do, those that are not ready before those that are, the youngest
    /// before the others.
    fn worst_first<'a>(&self, mut pods: Vec<&'a Pod>, now: Duration) -> Vec<&'a Pod> {
        pods.sort_by_key(|pod| {
            let is_available = pod.is_available(now, self.min_ready);
            (
                pod.is_running,
                is_available,
                pod.ready_since.is_some(),
                Reverse(pod.created),
            )
        });
        pods
    }
}

/// How many more, and how many fewer, there may be during an update.
fn shares(spec: &DeploymentSpec, replicas: u32) -> Result<(u32, u32)> {
    let strategy = spec.strategy.as_ref();
    match strategy.and_then(|strategy| strategy.type_.as_deref()) {
        Some("RollingUpdate") | None => {}
        Some(other) => bail!("the strategy {other} of a Deployment is not modelled"),
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let share = IntOrString::String(DEFAULT_SHARE.to_owned());
    let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref());
    let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
    let is_zero = |share: Option<&IntOrString>| share == Some(&IntOrString::Int(0));
    ensure!(
        !(is_zero(surge) && is_zero(unavailable)),
        "maxUnavailable may not be 0 when maxSurge is 0"
    );
    let surge = amount(surge.unwrap_or(&share), replicas, Rounding::Up)?;
    let unavailable = amount(unavailable.unwrap_or(&share), replicas, Rounding::Down)?;
    // Shares that come to nothing: without either nothing could ever move.
    match (surge, unavailable) {
        (0, 0) => Ok((0, 1)),
        both => Ok(both),
    }
}

fn delete(pod: &Pod) -> Action {
    Action::Delete(pod.name.clone())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::tests::{create, delete, pod};
    use super::*;

    const NOW: Duration = Duration::from_secs(60);

    fn fleet(replicas: u32, max_surge: u32, max_unavailable: u32) -> Fleet {
        Fleet {
            name: "web".into(),
            replicas,
            max_surge,
            max_unavailable,
            min_ready: Duration::from_secs(10),
            is_deleted: false,
        }
    }

    fn plan(fleet: &Fleet, update: &str, pods: &[Pod]) -> Vec<Action> {
        let claims = BTreeSet::new();
        let seen = Seen {
            pods,
            claims: &claims,
            now: NOW,
        };
        fleet.plan(update, seen, 7)
    }

    fn new(name: &str) -> Pod {
        Pod {
            revision: "new".into(),
            created: Duration::from_secs(30),
            ready_since: Some(Duration::from_secs(40)),
            ..pod(name)
        }
    }

    #[test]
    fn deployment_makes_and_removes_pods_to_reach_its_count() {
        let made = [
            create("web-old-00007", "old"),
            create("web-old-00008", "old"),
        ];
        assert_eq!(plan(&fleet(2, 1, 0), "old", &[]), made);
        let mut young = pod("b");
        young.created = Duration::from_secs(9);
        assert_eq!(
            plan(&fleet(1, 1, 0), "old", &[pod("a"), young]),
            [delete("b")]
        );
        let mut broken = pod("a");
        broken.ready_since = None;
        assert_eq!(
            plan(&fleet(1, 1, 0), "old", &[broken.clone(), pod("b")]),
            [delete("a")]
        );
        let mut pending = broken.clone();
        (pending.name, pending.is_running) = ("c".into(), false);
        assert_eq!(
            plan(&fleet(1, 1, 0), "old", &[broken, pending]),
            [delete("c")]
        );
    }

    /// With one more and none fewer, an old pod goes when its successor is available.
    #[test]
    fn deployment_update_keeps_to_max_surge_and_max_unavailable() {
        let fleet = fleet(2, 1, 0);
        let mut pods = vec![pod("a"), pod("b")];
        assert_eq!(plan(&fleet, "new", &pods), [create("web-new-00007", "new")]);
        let mut fresh = new("c");
        fresh.ready_since = Some(NOW);
        pods.push(fresh);
        assert_eq!(
            plan(&fleet, "new", &pods),
            [],
            "it is ready, but not for long enough"
        );
        pods[2] = new("c");
        assert_eq!(plan(&fleet, "new", &pods), [delete("a")]);
        pods[0].is_terminating = true;
        assert_eq!(plan(&fleet, "new", &pods), [create("web-new-00007", "new")]);
    }

    #[test]
    fn deployment_update_may_take_pods_away_first() {
        let actions = plan(
            &fleet(4, 0, 2),
            "new",
            &[pod("a"), pod("b"), pod("c"), pod("d")],
        );
        assert_eq!(actions, [delete("a"), delete("b")]);
    }

    #[test]
    fn deployment_update_removes_old_pods_that_serve_nobody_first() {
        let mut broken = pod("b");
        broken.ready_since = None;
        let actions = plan(&fleet(2, 1, 0), "new", &[pod("a"), broken, new("c")]);
        assert_eq!(actions, [delete("b")]);
    }

    #[test]
    fn pods_of_a_deleted_deployment_go() {
        let gone = Fleet {
            is_deleted: true,
            ..fleet(2, 1, 0)
        };
        assert_eq!(
            plan(&gone, "new", &[pod("a"), pod("b")]),
            [delete("a"), delete("b")]
        );
    }

    #[test]
    fn deployments_are_read() {
        let text = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: fleet}
spec:
  replicas: 5
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web}]}}
";
        let read = |text: &str| {
            let objects = manifest::Manifests::parse(text).unwrap();
            Fleet::read(&objects.deployments[0])
        };
        let expected = Fleet {
            min_ready: Duration::ZERO,
            ..fleet(5, 2, 1)
        };
        assert_eq!(
            read(text).unwrap(),
            expected,
            "a quarter, rounded up and down"
        );
        let none = "  strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 0}}\n";
        assert!(
            read(&format!("{text}{none}")).is_err(),
            "the API refuses it"
        );
        let little = "  strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 1%}}\n";
        assert_eq!(read(&format!("{text}{little}")).unwrap().max_unavailable, 1);
        let other = "  strategy: {type: Recreate}\n";
        assert!(read(&format!("{text}{other}")).is_err());
    }
}
