//! The state of a simulated cluster, and one turn of all its controllers.

mod make;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use serde_json::{Value, json};

use super::admission::{Admission, Denial, Request};
use super::controller::budget::{self, Answer, Budget};
use super::controller::{self, Action};
use super::dns::{self, Host};
use super::image::Image;
use super::manifest::{self, Labels, Manifests};
use super::node::{Ending, Node};
use super::{api, cluster::Options};
use crate::chaos::network::Network;
use workload::{Key, Workload};

/// The domain of every cluster that nobody configured otherwise.
pub(super) const DOMAIN: &str = "cluster.local";
const DNS_PORT: u16 = 53;
const API_PORT: u16 = 6443;
/// Endings that are remembered.
const ENDINGS_MAX: usize = 10_000;

/// Everything in a cluster. Times count from the beginning.
pub(super) struct World {
    options: Options,
    started: Instant,
    directory: PathBuf,
    image: Image,
    workloads: BTreeMap<Key, Workload>,
    objects: Objects,
    /// Those that no chart has.
    secrets: Vec<Secret>,
    claims: BTreeSet<String>,
    /// Pods whose volumes are to be emptied as soon as nothing runs.
    losing: BTreeSet<String>,
    endings: Vec<Ending>,
    // In the order of their ends: pods first, and the network last.
    nodes: BTreeMap<String, Node>,
    names: dns::server::Server,
    api: api::Server,
    network: Network,
}

/// Objects of the release that are looked up when they are needed.
#[derive(Default)]
struct Objects {
    services: Vec<Service>,
    config_maps: Vec<ConfigMap>,
    secrets: Vec<Secret>,
    accounts: Vec<ServiceAccount>,
    budgets: Vec<Budget>,
    admission: Admission,
}

impl World {
    pub(super) fn create(options: Options, directory: &Path) -> Result<World> {
        let network = Network::create(0)?;
        let address = network.client();
        Ok(World {
            image: Image::collect(&options.binary, &directory.join("image"))?,
            started: Instant::now(),
            directory: directory.to_owned(),
            workloads: BTreeMap::new(),
            objects: Objects::default(),
            secrets: Vec::new(),
            claims: BTreeSet::new(),
            losing: BTreeSet::new(),
            endings: Vec::new(),
            nodes: BTreeMap::new(),
            names: dns::server::Server::start((address, DNS_PORT).into())?,
            api: api::Server::start((address, API_PORT).into())?,
            network,
            options,
        })
    }

    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// Addresses of the pods that a Service leads to: none when there is no such Service.
    pub(super) fn served_by(&self, service: &str) -> Vec<Ipv4Addr> {
        let mut services = self.objects.services.iter();
        let found = services.find(|one| manifest::name(&one.metadata) == service);
        let selector = found.and_then(|one| one.spec.as_ref()?.selector.as_ref());
        let Some(selector) = selector else {
            return Vec::new();
        };
        let pods = self.nodes().filter(|node| {
            let pod = &node.pod;
            let is_ready = pod.ready_since.is_some() && !pod.is_terminating;
            is_ready && manifest::has_all(selector.iter(), &pod.labels)
        });
        pods.map(|node| node.identity.address).collect()
    }

    pub(super) fn endings(&self) -> &[Ending] {
        &self.endings
    }

    pub(super) fn claims(&self) -> &BTreeSet<String> {
        &self.claims
    }

    pub(super) fn log(&self, pod: &str) -> PathBuf {
        self.directory.join("logs").join(pod)
    }

    fn volume(&self, claim: &str) -> PathBuf {
        self.directory.join("volumes").join(claim)
    }

    /// What is wanted from now on, unless the API refuses it.
    pub(super) fn apply(&mut self, manifests: Manifests) -> Result<Option<Denial>> {
        let admission = Admission::read(&manifests.policies, &manifests.bindings)?;
        let budgets: Result<Vec<Budget>> = manifests.budgets.iter().map(Budget::read).collect();
        let budgets = budgets?;
        for set in &manifests.stateful_sets {
            let name = manifest::name(&set.metadata);
            if let Some(old) = self.workloads.get(&Key::set(name))
                && let Some(old) = old.object()?
            {
                let new = serde_json::to_value(set)?;
                // The policies that are there already judge: new ones come with this change.
                if let Some(denial) = self.judge("statefulsets", name, &old, &new)? {
                    return Ok(Some(denial));
                }
            }
        }
        let options = &self.options;
        let mut kept = BTreeSet::new();
        for set in &manifests.stateful_sets {
            let key = Key::set(manifest::name(&set.metadata));
            Workload::apply_set(self.workloads.entry(key.clone()).or_default(), set, options)?;
            kept.insert(key);
        }
        for fleet in &manifests.deployments {
            let key = Key::fleet(manifest::name(&fleet.metadata));
            Workload::apply_fleet(
                self.workloads.entry(key.clone()).or_default(),
                fleet,
                options,
            )?;
            kept.insert(key);
        }
        for (key, workload) in &mut self.workloads {
            if !kept.contains(key) {
                workload.delete();
            }
        }
        self.objects = Objects {
            services: manifests.services,
            config_maps: manifests.config_maps,
            secrets: manifests.secrets,
            accounts: manifests.accounts,
            budgets,
            admission,
        };
        self.api.change(|known| {
            known.roles = manifests.roles;
            known.bindings = manifests.role_bindings;
        });
        self.publish()?;
        Ok(None)
    }

    /// Adds Secrets that no chart has, or changes them.
    pub(super) fn add_secrets(&mut self, secrets: Vec<Secret>) -> Result<()> {
        let is_new = |known: &Secret| {
            let mut names = secrets.iter().map(|secret| &secret.metadata.name);
            names.any(|name| *name == known.metadata.name)
        };
        self.secrets.retain(|known| !is_new(known));
        self.secrets.extend(secrets);
        self.renew_secrets()
    }

    pub(super) fn push(&mut self, image: &str) {
        self.options.images.insert(image.to_owned());
    }

    /// As `kubectl scale`, which sends a Scale.
    pub(super) fn scale(&mut self, set: &str, replicas: u32) -> Result<Option<Denial>> {
        let workload = self.workload(set)?;
        let old = workload.scale(workload.replicas());
        let new = workload.scale(replicas);
        if let Some(denial) = self.judge("statefulsets/scale", set, &old, &new)? {
            return Ok(Some(denial));
        }
        let workload = self.workloads.get_mut(&Key::set(set));
        let workload = workload.context("it was there")?;
        workload.set_replicas(replicas, &self.options)?;
        self.publish()?;
        Ok(None)
    }

    fn workload(&self, set: &str) -> Result<&Workload> {
        let found = self.workloads.get(&Key::set(set));
        let found = found.filter(|workload| !workload.is_deleted());
        found.with_context(|| format!("there is no StatefulSet {set}"))
    }

    fn judge(
        &self,
        resource: &str,
        name: &str,
        old: &Value,
        new: &Value,
    ) -> Result<Option<Denial>> {
        let label = "kubernetes.io/metadata.name".to_owned();
        let labels: Labels = [(label, self.options.namespace.clone())].into();
        self.objects.admission.judge(&Request {
            operation: "UPDATE",
            group: "apps",
            version: "v1",
            resource,
            name,
            namespace_labels: &labels,
            object: new,
            old_object: old,
        })
    }

    /// As the eviction API: deletes the pod if its budget allows it.
    pub(super) fn evict(&mut self, pod: &str) -> Result<Answer> {
        let pods: Vec<controller::Pod> = self.nodes().map(|node| node.pod.clone()).collect();
        let victim = pods.iter().find(|known| known.name == pod);
        let victim = victim.with_context(|| format!("there is no pod {pod}"))?;
        let mut expected = 0;
        for budget in &self.objects.budgets {
            if budget.guards(victim)? {
                for workload in self.workloads.values() {
                    expected += workload.guarded_by(budget)?;
                }
            }
        }
        let answer = budget::evict(&self.objects.budgets, pod, &pods, expected)?;
        if answer == Answer::Evicted {
            self.delete(pod)?;
        }
        Ok(answer)
    }

    /// As `kubectl delete pod`.
    pub(super) fn delete(&mut self, pod: &str) -> Result<()> {
        let now = self.now();
        self.node(pod)?.delete(now)
    }

    pub(super) fn kill(&mut self, pod: &str) -> Result<()> {
        self.node(pod)?.kill()
    }

    pub(super) fn lose_volume(&mut self, pod: &str) -> Result<()> {
        self.node(pod)?.kill()?;
        self.losing.insert(pod.to_owned());
        Ok(())
    }

    fn node(&mut self, pod: &str) -> Result<&mut Node> {
        let node = self.nodes.get_mut(pod);
        node.with_context(|| format!("there is no pod {pod}"))
    }

    /// As `helm uninstall`: names, rights and budgets are gone while the pods still end.
    pub(super) fn uninstall(&mut self) -> Result<()> {
        for workload in self.workloads.values_mut() {
            workload.delete();
        }
        self.objects = Objects::default();
        self.api.change(|known| {
            known.roles.clear();
            known.bindings.clear();
            known.tokens.clear();
        });
        self.publish()
    }

    /// Everything that is due.
    pub(super) fn turn(&mut self) -> Result<()> {
        let now = self.now();
        self.lose_volumes()?;
        for key in self.workloads.keys().cloned().collect::<Vec<_>>() {
            let pods = self.pods_of(&key);
            let seen = controller::Seen {
                pods: &pods,
                claims: &self.claims,
                now,
            };
            let workload = self.workloads.get_mut(&key).context("it was there")?;
            let actions = workload.plan(seen);
            for action in actions {
                self.act(&key, action, now)
                    .with_context(|| format!("{key:?}"))?;
            }
        }
        for node in self.nodes.values_mut() {
            if let Some(ending) = node.turn(now, &self.options.images)? {
                ensure!(
                    self.endings.len() < ENDINGS_MAX,
                    "containers end again and again: {ending:?}"
                );
                self.endings.push(ending);
            }
        }
        let gone = self.nodes.extract_if(.., |_, node| node.is_gone());
        for (_, node) in gone.collect::<Vec<_>>() {
            self.network.remove(node.number)?;
            fs::remove_dir_all(self.place(&node.pod.name, node.number)).ok();
        }
        let pods = &self.nodes;
        self.workloads.retain(|key, workload| {
            let mut names = pods.values().map(|node| node.pod.name.as_str());
            !workload.is_deleted() || names.any(|pod| workload.owns(key, pod))
        });
        self.name()
    }

    /// Kills all pods.
    pub(super) fn end(&mut self) {
        self.nodes.clear();
    }

    fn pods_of(&self, key: &Key) -> Vec<controller::Pod> {
        let Some(workload) = self.workloads.get(key) else {
            return Vec::new();
        };
        let nodes = self.nodes.values();
        let own = nodes.filter(|node| workload.owns(key, &node.pod.name));
        own.map(|node| node.pod.clone()).collect()
    }

    fn act(&mut self, key: &Key, action: Action, now: Duration) -> Result<()> {
        match action {
            Action::CreateClaim(claim) => {
                fs::create_dir_all(self.volume(&claim))?;
                self.claims.insert(claim);
                Ok(())
            }
            Action::Create { pod, revision } => self.make(key, &pod, &revision, now),
            Action::Delete(pod) => self.node(&pod)?.delete(now),
            Action::DeleteClaim(claim) => {
                fs::remove_dir_all(self.volume(&claim))?;
                self.claims.remove(&claim);
                Ok(())
            }
        }
    }

    /// Empties the volumes of pods that are to lose them, once nothing of them runs.
    fn lose_volumes(&mut self) -> Result<()> {
        for pod in self.losing.clone() {
            if self.nodes.get(&pod).is_some_and(Node::is_running) {
                continue;
            }
            let suffix = format!("-{pod}");
            let own = self.claims.iter().filter(|claim| claim.ends_with(&suffix));
            for claim in own {
                for entry in fs::read_dir(self.volume(claim))? {
                    let path = entry?.path();
                    match path.is_dir() {
                        true => fs::remove_dir_all(path)?,
                        false => fs::remove_file(path)?,
                    }
                }
            }
            self.losing.remove(&pod);
        }
        Ok(())
    }

    /// Tells the names of pods as they are now.
    fn name(&self) -> Result<()> {
        let hosts: Vec<Host> = self
            .nodes
            .values()
            .map(|node| Host {
                pod: node.pod.name.clone(),
                subdomain: self.subdomain(&node.pod.name),
                labels: node.pod.labels.clone(),
                address: node.identity.address,
                is_ready: node.pod.is_healthy(),
            })
            .collect();
        let names = dns::names(&self.objects.services, &hosts, DOMAIN)?;
        self.names.set(names);
        Ok(())
    }

    fn subdomain(&self, pod: &str) -> Option<String> {
        let mut owners = self.workloads.iter();
        let owner = owners.find(|(key, workload)| workload.owns(key, pod))?;
        owner.1.service().map(str::to_owned)
    }

    /// Tells the API what there is now. What was deleted is not there, though its pods may be.
    fn publish(&self) -> Result<()> {
        let mut sets = BTreeMap::new();
        for (key, workload) in &self.workloads {
            if let Some(object) = workload.object()? {
                sets.insert((self.options.namespace.clone(), key.name.clone()), object);
            }
        }
        self.api.change(|known| known.stateful_sets = sets);
        Ok(())
    }
}

/// A Scale, in which the number is left out when it is 0.
fn scale(name: &str, uid: &str, replicas: u32) -> Value {
    let spec = match replicas {
        0 => json!({}),
        _ => json!({"replicas": replicas}),
    };
    json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale",
        "metadata": {"name": name, "uid": uid}, "spec": spec,
    })
}
