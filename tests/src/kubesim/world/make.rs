//! Makes a pod: its network, its volumes, its root file system.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};

use super::workload::Key;
use super::{API_PORT, DOMAIN, World};
use crate::kubesim::controller;
use crate::kubesim::image::DEVICES;
use crate::kubesim::manifest;
use crate::kubesim::node::container::{Bind, Place};
use crate::kubesim::node::{Node, volume};
use crate::kubesim::pod::{Identity, Launch, Source};
use crate::kubesim::{api, dns};

const ACCOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// Who a pod is that does not say it.
const DEFAULT_ACCOUNT: &str = "default";

impl World {
    /// The directory of a pod.
    pub(super) fn place(&self, pod: &str, number: usize) -> PathBuf {
        self.directory.join("pods").join(format!("{pod}-{number}"))
    }

    /// Makes a pod; its first container starts at its next turn.
    pub(super) fn make(
        &mut self,
        key: &Key,
        pod: &str,
        revision: &str,
        now: Duration,
    ) -> Result<()> {
        let workload = self.workloads.get(key).context("its owner is there")?;
        let template = workload.template(revision)?.clone();
        let labels = workload.labels(pod, revision);
        let claim_templates = workload.claim_templates().to_vec();
        let spec = template.spec.clone().context("a template has a spec")?;
        let number = self.network.add()?;
        let mut identity = self.identity(&template, pod, number);
        identity.labels.extend(labels);
        let containers = self.containers(&spec, &identity, &claim_templates, number)?;
        let made = controller::Pod {
            name: pod.to_owned(),
            labels: identity.labels.clone(),
            revision: revision.to_owned(),
            created: now,
            is_running: false,
            ready_since: None,
            is_terminating: false,
        };
        let time_scale = self.options.time_scale;
        let node = Node::new(made, identity, number, containers, time_scale);
        self.nodes.insert(pod.to_owned(), node);
        Ok(())
    }

    /// The containers of a pod, and where each runs.
    fn containers(
        &self,
        spec: &PodSpec,
        identity: &Identity,
        claim_templates: &[String],
        number: usize,
    ) -> Result<Vec<(Launch, Place)>> {
        let services = api::variables(self.network.client(), API_PORT);
        let time_scale = self.options.time_scale;
        let launches = Launch::read(spec, identity, claim_templates, &services, time_scale)?;
        let directory = self.place(&identity.name, number);
        let group = launches.last().map_or(0, |launch| launch.volume_group);
        let account = match self.mounts_account(spec, &identity.account) {
            true => Some(self.account(identity, &directory, group)?),
            false => None,
        };
        let mut containers = Vec::new();
        for (nth, launch) in launches.into_iter().enumerate() {
            let own = directory.join(format!("container-{nth}"));
            let mut mounts = self.mount(&launch, &identity.name, [&directory, &own])?;
            mounts.extend(account.clone());
            let place = self.root(identity, number, &own, mounts)?;
            containers.push((launch, place));
        }
        Ok(containers)
    }

    fn identity(&self, template: &PodTemplateSpec, pod: &str, number: usize) -> Identity {
        let metadata = template.metadata.clone().unwrap_or_default();
        let account = template
            .spec
            .as_ref()
            .and_then(|spec| spec.service_account_name.clone());
        let mut labels = metadata.labels.unwrap_or_default();
        let zones = &self.options.zones;
        if !zones.is_empty() {
            // A volume stays in its zone, and so does the pod that has it.
            let ordinal = pod.rsplit('-').next().and_then(|end| end.parse().ok());
            let zone = zones[ordinal.unwrap_or(number) % zones.len()].clone();
            labels.insert(ZONE_LABEL.to_owned(), zone);
        }
        Identity {
            name: pod.to_owned(),
            namespace: self.options.namespace.clone(),
            uid: format!("{:032x}", rand::random::<u128>()),
            address: self.network.address(number),
            host: format!("host-{number}"),
            account: account.unwrap_or_else(|| DEFAULT_ACCOUNT.to_owned()),
            labels,
            annotations: metadata.annotations.unwrap_or_default(),
        }
    }

    /// Makes the volumes that a container mounts: those of the pod in its directory, what is only read in the
    /// container's own.
    fn mount(&self, launch: &Launch, pod: &str, directories: [&Path; 2]) -> Result<Vec<Bind>> {
        let [directory, own] = directories;
        let group = launch.volume_group;
        let mut binds = Vec::new();
        for (number, mount) in launch.mounts.iter().enumerate() {
            let own = own.join(format!("volume-{number}"));
            let source = match &mount.source {
                Source::Claim(template) => {
                    let path = self.volume(&format!("{template}-{pod}"));
                    volume::make(&path, group)?;
                    path
                }
                Source::Empty(name) => {
                    let path = directory.join(format!("empty-{name}"));
                    volume::make(&path, group)?;
                    path
                }
                Source::ConfigMap(files) => {
                    let mut maps = self.objects.config_maps.iter();
                    let found = maps.find(|map| manifest::name(&map.metadata) == files.object);
                    let found = found.with_context(|| format!("no ConfigMap {}", files.object))?;
                    volume::write(&own, files, &volume::of_config_map(found), group)?;
                    own
                }
                Source::Secret(files) => {
                    volume::write(&own, files, &self.secret(&files.object)?, group)?;
                    own
                }
            };
            binds.push(Bind {
                source,
                target: mount.target.clone(),
                is_read_only: mount.is_read_only,
            });
        }
        Ok(binds)
    }

    fn secret(&self, name: &str) -> Result<volume::Contents> {
        let mut secrets = self.objects.secrets.iter().chain(&self.secrets);
        let found = secrets.find(|one| manifest::name(&one.metadata) == name);
        let found = found.with_context(|| format!("no Secret {name}"))?;
        Ok(volume::of_secret(found))
    }

    /// Brings Secrets as they are now to all pods that mount them.
    pub(super) fn renew_secrets(&self) -> Result<()> {
        for node in self.nodes.values() {
            for (files, directory, group) in node.secrets() {
                volume::write(directory, files, &self.secret(&files.object)?, group)?;
            }
        }
        Ok(())
    }

    /// Whether a pod gets the token of its account: it says so itself, or its account does.
    fn mounts_account(&self, spec: &PodSpec, account: &str) -> bool {
        let mut accounts = self.objects.accounts.iter();
        let account = accounts.find(|known| manifest::name(&known.metadata) == account);
        let of_account = account.and_then(|account| account.automount_service_account_token);
        let said = spec.automount_service_account_token.or(of_account);
        said.unwrap_or(true)
    }

    /// The files of the service account of a pod, with a token of its own.
    fn account(&self, identity: &Identity, directory: &Path, group: u32) -> Result<Bind> {
        let token = format!("{:032x}", rand::random::<u128>());
        let path = directory.join("account");
        fs::create_dir_all(&path)?;
        let files = [
            ("token", token.as_str()),
            ("ca.crt", self.api.authority()),
            ("namespace", &identity.namespace),
        ];
        for (name, text) in files {
            volume::write_file(&path.join(name), text.as_bytes(), 0o640, group)?;
        }
        let account = (identity.namespace.clone(), identity.account.clone());
        self.api.change(|known| {
            known.tokens.insert(token, account);
        });
        Ok(Bind {
            source: path,
            target: ACCOUNT_PATH.into(),
            is_read_only: true,
        })
    }

    /// Makes the root file system of a pod.
    fn root(
        &self,
        identity: &Identity,
        number: usize,
        directory: &Path,
        mut mounts: Vec<Bind>,
    ) -> Result<Place> {
        let root = directory.join("root");
        fs::create_dir_all(directory)?;
        let targets: Vec<&Path> = mounts.iter().map(|mount| mount.target.as_path()).collect();
        self.image.unpack(&root, &targets)?;
        let (name, address) = (&identity.name, identity.address);
        let resolv = dns::resolv_conf(self.network.client(), &identity.namespace, DOMAIN);
        let files = [
            ("resolv.conf", resolv),
            ("hosts", format!("127.0.0.1 localhost\n{address} {name}\n")),
            ("hostname", format!("{name}\n")),
        ];
        for (file, text) in files {
            fs::write(root.join("etc").join(file), text)?;
        }
        mounts.extend(DEVICES.map(|device| {
            let path = PathBuf::from("/dev").join(device);
            Bind {
                source: path.clone(),
                target: path,
                is_read_only: false,
            }
        }));
        let log = self.log(name);
        fs::create_dir_all(log.parent().context("a file is in a directory")?)?;
        Ok(Place {
            root,
            namespace: self.network.namespace(number),
            host_name: name.clone(),
            mounts,
            log,
        })
    }
}
