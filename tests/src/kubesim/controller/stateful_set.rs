//! The controller of StatefulSets, with parallel pod management.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Action, Pod, Rounding, Seen, amount, seconds};
use crate::kubesim::manifest;

/// What a StatefulSet wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its name, which begins the names of its pods.
    pub name: String,
    /// How many pods.
    pub replicas: u32,
    /// Ordinal of the first one.
    pub start: u32,
    /// How pods get a new template.
    pub update: Update,
    /// Which Kubernetes gives it to them.
    pub generation: Generation,
    /// How long a pod must have been ready to be counted as available.
    pub min_ready: Duration,
    /// Names of the templates of claims.
    pub claim_templates: Vec<String>,
    /// Whether claims go with the StatefulSet. They stay when pods are scaled away in any case.
    pub claims_go_with_set: bool,
    /// Whether it was deleted.
    pub is_deleted: bool,
}

/// How pods get a new template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// When somebody else deletes them.
    OnDelete,
    /// One after another, from the highest ordinal down.
    Rolling {
        /// Only ordinals from here on, counted from the first one.
        partition: u32,
        /// So many pods may be missing or unavailable.
        max_unavailable: u32,
    },
}

/// How Kubernetes updates pods that are managed in parallel, which changed with its versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Generation {
    /// Up to 1.34, and 1.35.4 to 1.36: one pod at a time, looking only at those above it.
    #[default]
    Ordered,
    /// 1.35.0 to 1.35.3: as many as may be unavailable, whichever pods are.
    Counted,
    /// 1.37 and newer: the same, and pods of another template that are not available go at once.
    Repairing,
}

/// Revisions of the template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revisions {
    /// The one that all pods had when an update was last complete.
    pub current: String,
    /// The one of the template as it is now.
    pub update: String,
}

impl Set {
    /// What an object wants. Refuses what is not modelled.
    pub fn read(object: &StatefulSet) -> Result<Set> {
        let spec = object.spec.as_ref().context("a StatefulSet has a spec")?;
        let policy = spec.pod_management_policy.as_deref();
        ensure!(
            policy == Some("Parallel"),
            "podManagementPolicy {} is not modelled",
            policy.unwrap_or("OrderedReady")
        );
        let retention = spec.persistent_volume_claim_retention_policy.as_ref();
        let scaled = retention.and_then(|policy| policy.when_scaled.as_deref());
        ensure!(
            scaled.unwrap_or("Retain") == "Retain",
            "persistentVolumeClaimRetentionPolicy.whenScaled {scaled:?} is not modelled"
        );
        let deleted = retention.and_then(|policy| policy.when_deleted.as_deref());
        let replicas = u32::try_from(spec.replicas.unwrap_or(1))?;
        let ordinals = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start);
        let templates = spec.volume_claim_templates.iter().flatten();
        Ok(Set {
            name: manifest::name(&object.metadata).to_owned(),
            replicas,
            start: u32::try_from(ordinals.unwrap_or(0))?,
            update: Update::read(spec, replicas)?,
            generation: Generation::default(),
            min_ready: seconds(spec.min_ready_seconds)?,
            claim_templates: templates
                .map(|claim| manifest::name(&claim.metadata).to_owned())
                .collect(),
            claims_go_with_set: deleted == Some("Delete"),
            is_deleted: object.metadata.deletion_timestamp.is_some(),
        })
    }

    /// Name of the pod with an ordinal.
    pub fn pod(&self, ordinal: u32) -> String {
        format!("{}-{ordinal}", self.name)
    }

    /// The ordinal of a pod of this set.
    pub fn ordinal(&self, pod: &str) -> Option<u32> {
        let rest = pod.strip_prefix(&self.name)?.strip_prefix('-')?;
        rest.parse().ok()
    }

    /// The claims of a pod, one for each template.
    pub fn claims<'a>(&'a self, pod: &'a str) -> impl Iterator<Item = String> + 'a {
        let templates = self.claim_templates.iter();
        templates.map(move |template| format!("{template}-{pod}"))
    }

    /// Ordinals of the pods that there should be.
    pub fn ordinals(&self) -> Range<u32> {
        self.start..self.start + self.replicas
    }

    /// What to do next.
    pub fn plan(&self, revisions: &Revisions, seen: Seen<'_>) -> Vec<Action> {
        if self.is_deleted {
            return self.follow_owner(seen);
        }
        let mut actions = Vec::new();
        for ordinal in self.ordinals() {
            let pod = self.pod(ordinal);
            // A pod that is ending still has the name: there are never two with one identity.
            if seen.pods.iter().any(|known| known.name == pod) {
                continue;
            }
            let missing = self
                .claims(&pod)
                .filter(|claim| !seen.claims.contains(claim));
            actions.extend(missing.map(Action::CreateClaim));
            let revision = self.revision_of(ordinal, revisions).to_owned();
            actions.push(Action::Create { pod, revision });
        }
        let mut surplus = self.by_ordinal(seen.pods, |ordinal| !self.ordinals().contains(&ordinal));
        surplus.retain(|(_, pod)| !pod.is_terminating);
        actions.extend(surplus.iter().map(|(_, pod)| delete(pod)));
        actions.extend(self.roll(&revisions.update, seen));
        actions
    }

    /// The revisions after this look: an update is complete when every pod has it and is available.
    pub fn settle(&self, revisions: Revisions, seen: Seen<'_>) -> Revisions {
        let done = |ordinal| {
            let name = self.pod(ordinal);
            let pod = seen.pods.iter().find(|pod| pod.name == name);
            pod.is_some_and(|pod| {
                pod.revision == revisions.update && pod.is_available(seen.now, self.min_ready)
            })
        };
        let is_rolling = matches!(self.update, Update::Rolling { .. });
        if is_rolling && self.ordinals().all(done) {
            return Revisions {
                current: revisions.update.clone(),
                update: revisions.update,
            };
        }
        revisions
    }

    /// The pods of a deleted owner go, all at once; claims go when no pod can use them any more.
    fn follow_owner(&self, seen: Seen<'_>) -> Vec<Action> {
        let running = seen.pods.iter().filter(|pod| !pod.is_terminating);
        let mut actions: Vec<Action> = running.map(delete).collect();
        if self.claims_go_with_set {
            let unused = seen.claims.iter().filter(|claim| {
                let pod = self.claim_templates.iter().find_map(|template| {
                    let pod = claim.strip_prefix(template.as_str())?.strip_prefix('-')?;
                    self.ordinal(pod).map(|_| pod)
                });
                pod.is_some_and(|pod| seen.pods.iter().all(|known| known.name != pod))
            });
            actions.extend(unused.cloned().map(Action::DeleteClaim));
        }
        actions
    }

    /// Which revision a pod that is missing is made from.
    fn revision_of<'a>(&self, ordinal: u32, revisions: &'a Revisions) -> &'a str {
        match self.update {
            Update::Rolling { partition, .. } if ordinal < self.start + partition => {
                &revisions.current
            }
            _ => &revisions.update,
        }
    }

    /// Pods that give way to the new revision now.
    fn roll(&self, update: &str, seen: Seen<'_>) -> Vec<Action> {
        let Update::Rolling {
            partition,
            max_unavailable,
        } = self.update
        else {
            return Vec::new();
        };
        let pods = self.by_ordinal(seen.pods, |ordinal| self.ordinals().contains(&ordinal));
        let is_available = |pod: &Pod| pod.is_available(seen.now, self.min_ready);
        let is_old = |pod: &Pod| pod.revision != update && !pod.is_terminating;
        let available = pods.iter().filter(|(_, pod)| is_available(pod)).count() as u32;
        let unavailable = self.replicas.saturating_sub(available);
        let affected = pods
            .iter()
            .filter(|(ordinal, _)| *ordinal >= self.start + partition)
            .map(|(_, pod)| *pod);
        match self.generation {
            Generation::Ordered => {
                // A pod that is missing is not available, and was made again by this look.
                let is_whole = pods.len() as u32 == self.replicas;
                let mut waits = affected.filter(|pod| is_old(pod) || !is_available(pod));
                let next = waits.next().filter(|pod| is_whole && is_old(pod));
                next.map(delete).into_iter().collect()
            }
            Generation::Counted => {
                let room = max_unavailable.saturating_sub(unavailable);
                let old = affected.filter(|pod| is_old(pod));
                old.take(room as usize).map(delete).collect()
            }
            Generation::Repairing => {
                let room = max_unavailable.saturating_sub(unavailable);
                let (good, broken): (Vec<&Pod>, Vec<&Pod>) = affected
                    .filter(|pod| is_old(pod))
                    .partition(|pod| is_available(pod));
                let good = good.into_iter().take(room as usize);
                broken.into_iter().chain(good).map(delete).collect()
            }
        }
    }

    /// Pods with such ordinals, the highest first.
    fn by_ordinal<'a>(&self, pods: &'a [Pod], wanted: impl Fn(u32) -> bool) -> Vec<(u32, &'a Pod)> {
        let numbered = pods
            .iter()
            .filter_map(|pod| Some((self.ordinal(&pod.name)?, pod)));
        let mut found: Vec<_> = numbered.filter(|(ordinal, _)| wanted(*ordinal)).collect();
        found.sort_by_key(|(ordinal, _)| std::cmp::Reverse(*ordinal));
        found
    }
}

impl Update {
    fn read(spec: &StatefulSetSpec, replicas: u32) -> Result<Update> {
        let strategy = spec.update_strategy.as_ref();
        match strategy.and_then(|strategy| strategy.type_.as_deref()) {
            Some("OnDelete") => Ok(Update::OnDelete),
            Some("RollingUpdate") | None => {
                let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
                let partition = rolling.and_then(|rolling| rolling.partition).unwrap_or(0);
                let most = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
                let most = most.unwrap_or(&IntOrString::Int(1));
                Ok(Update::Rolling {
                    partition: u32::try_from(partition)?,
                    max_unavailable: amount(most, replicas, Rounding::Up)?.max(1),
                })
            }
            Some(other) => bail!("updateStrategy {other} is unknown"),
        }
    }
}

fn delete(pod: &Pod) -> Action {
    Action::Delete(pod.name.clone())
}

#[cfg(test)]
mod tests;
