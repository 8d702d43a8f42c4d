//! A StatefulSet or a Deployment, with the revisions of its template.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use crate::kubesim::cluster::Options;
use crate::kubesim::controller::budget::Budget;
use crate::kubesim::controller::deployment::Fleet;
use crate::kubesim::controller::stateful_set::{Revisions, Set};
use crate::kubesim::controller::{Action, Pod, Seen};
use crate::kubesim::manifest::{self, Labels};

/// What a workload is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    is_set: bool,
    pub(super) name: String,
}

impl Key {
    pub(super) fn set(name: &str) -> Key {
        Key {
            is_set: true,
            name: name.to_owned(),
        }
    }

    pub(super) fn fleet(name: &str) -> Key {
        Key {
            is_set: false,
            name: name.to_owned(),
        }
    }
}

/// Nothing until it is applied.
#[derive(Clone, Debug, Default)]
pub(super) struct Workload {
    wanted: Wanted,
    uid: String,
    revisions: Option<Revisions>,
    templates: BTreeMap<String, PodTemplateSpec>,
    /// Number of the next pod of a Deployment.
    next: u64,
}

#[derive(Clone, Debug, Default)]
enum Wanted {
    #[default]
    Nothing,
    Set(Set, Box<StatefulSet>),
    Fleet(Fleet),
}

impl Workload {
    pub(super) fn apply_set(&mut self, object: &StatefulSet, options: &Options) -> Result<()> {
        let spec = object.spec.as_ref().context("a StatefulSet has a spec")?;
        self.take_template(&spec.template)?;
        self.want_set(object.clone(), options)
    }

    fn want_set(&mut self, mut object: StatefulSet, options: &Options) -> Result<()> {
        object.metadata.uid = Some(self.uid.clone());
        let mut set = Set::read(&object)?;
        set.min_ready = set.min_ready.div_f64(options.time_scale);
        set.generation = options.generation;
        self.wanted = Wanted::Set(set, Box::new(object));
        Ok(())
    }

    pub(super) fn apply_fleet(&mut self, object: &Deployment, options: &Options) -> Result<()> {
        let spec = object.spec.as_ref().context("a Deployment has a spec")?;
        self.take_template(&spec.template)?;
        let mut fleet = Fleet::read(object)?;
        fleet.min_ready = fleet.min_ready.div_f64(options.time_scale);
        self.wanted = Wanted::Fleet(fleet);
        Ok(())
    }

    fn take_template(&mut self, template: &PodTemplateSpec) -> Result<()> {
        let hash = xxh3_64(&serde_json::to_vec(template)?);
        let update = format!("{:010x}", hash >> 24);
        self.templates.insert(update.clone(), template.clone());
        if self.uid.is_empty() || self.is_deleted() {
            self.uid = format!("{:032x}", rand::random::<u128>());
            self.revisions = None;
        }
        let current = match self.revisions.take() {
            Some(revisions) => revisions.current,
            None => update.clone(),
        };
        self.revisions = Some(Revisions { current, update });
        Ok(())
    }

    /// Changes nothing but the number of pods.
    pub(super) fn set_replicas(&mut self, replicas: u32, options: &Options) -> Result<()> {
        let Wanted::Set(_, object) = &self.wanted else {
            anyhow::bail!("only a StatefulSet is scaled");
        };
        let mut object = StatefulSet::clone(object);
        let spec = object.spec.as_mut().context("a StatefulSet has a spec")?;
        spec.replicas = Some(i32::try_from(replicas)?);
        self.want_set(object, options)
    }

    /// What to do next. A complete update is noted.
    pub(super) fn plan(&mut self, seen: Seen<'_>) -> Vec<Action> {
        let Some(revisions) = self.revisions.clone() else {
            return Vec::new();
        };
        match &self.wanted {
            Wanted::Nothing => Vec::new(),
            Wanted::Set(set, _) => {
                let actions = set.plan(&revisions, seen);
                self.revisions = Some(set.settle(revisions, seen));
                actions
            }
            Wanted::Fleet(fleet) => {
                let actions = fleet.plan(&revisions.update, seen, self.next);
                self.next += actions.len() as u64;
                actions
            }
        }
    }

    /// Its pods go, and then it.
    pub(super) fn delete(&mut self) {
        match &mut self.wanted {
            Wanted::Nothing => {}
            Wanted::Set(set, _) => set.is_deleted = true,
            Wanted::Fleet(fleet) => fleet.is_deleted = true,
        }
    }

    pub(super) fn is_deleted(&self) -> bool {
        match &self.wanted {
            Wanted::Nothing => false,
            Wanted::Set(set, _) => set.is_deleted,
            Wanted::Fleet(fleet) => fleet.is_deleted,
        }
    }

    /// Whether it made a pod.
    pub(super) fn owns(&self, key: &Key, pod: &str) -> bool {
        match &self.wanted {
            Wanted::Nothing => false,
            Wanted::Set(set, _) => set.ordinal(pod).is_some(),
            Wanted::Fleet(_) => {
                let rest = pod.strip_prefix(key.name.as_str());
                let mut parts = rest.into_iter().flat_map(|rest| rest.split('-'));
                let revision = parts.nth(1).unwrap_or_default();
                self.templates.contains_key(revision)
            }
        }
    }

    pub(super) fn replicas(&self) -> u32 {
        match &self.wanted {
            Wanted::Nothing => 0,
            Wanted::Set(set, _) => set.replicas,
            Wanted::Fleet(fleet) => fleet.replicas,
        }
    }

    /// How many pods it wants that a budget guards.
    pub(super) fn guarded_by(&self, budget: &Budget) -> Result<u32> {
        let revision = self.revisions.as_ref().map(|revisions| &revisions.update);
        let template = revision.and_then(|revision| self.templates.get(revision));
        let labels = template.and_then(|template| template.metadata.as_ref()?.labels.clone());
        let example = Pod {
            name: String::new(),
            labels: labels.unwrap_or_default(),
            revision: String::new(),
            created: std::time::Duration::ZERO,
            is_running: false,
            ready_since: None,
            is_terminating: false,
        };
        Ok(match budget.guards(&example)? && !self.is_deleted() {
            true => self.replicas(),
            false => 0,
        })
    }

    /// The Service that its pods have their names under.
    pub(super) fn service(&self) -> Option<&str> {
        match &self.wanted {
            Wanted::Set(_, object) => object.spec.as_ref()?.service_name.as_deref(),
            _ => None,
        }
    }

    /// Names of its claim templates.
    pub(super) fn claim_templates(&self) -> &[String] {
        match &self.wanted {
            Wanted::Set(set, _) => &set.claim_templates,
            _ => &[],
        }
    }

    pub(super) fn template(&self, revision: &str) -> Result<&PodTemplateSpec> {
        let template = self.templates.get(revision);
        template.with_context(|| format!("there is no revision {revision}"))
    }

    /// Labels that its controller adds to those of the template.
    pub(super) fn labels(&self, pod: &str, revision: &str) -> Labels {
        let owned = |pairs: &[(&str, &str)]| -> Labels {
            let pairs = pairs.iter();
            pairs
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        };
        match &self.wanted {
            Wanted::Set(set, _) => {
                let ordinal = set.ordinal(pod).unwrap_or_default().to_string();
                owned(&[
                    ("statefulset.kubernetes.io/pod-name", pod),
                    ("apps.kubernetes.io/pod-index", &ordinal),
                    ("controller-revision-hash", revision),
                ])
            }
            _ => owned(&[("pod-template-hash", revision)]),
        }
    }

    /// The StatefulSet as the API shows it; `None` when it is none, or deleted.
    pub(super) fn object(&self) -> Result<Option<Value>> {
        match &self.wanted {
            Wanted::Set(set, object) if !set.is_deleted => Ok(Some(serde_json::to_value(object)?)),
            _ => Ok(None),
        }
    }

    /// It as a Scale of so many replicas.
    pub(super) fn scale(&self, replicas: u32) -> Value {
        let name = match &self.wanted {
            Wanted::Set(_, object) => manifest::name(&object.metadata),
            _ => "",
        };
        super::scale(name, &self.uid, replicas)
    }
}
