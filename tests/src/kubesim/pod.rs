//! What it takes to run a pod, read from its template. Pure.

pub mod environment;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{
    Container, KeyToPath, Lifecycle, PodSecurityContext, PodSpec, Volume, VolumeMount,
};

use super::probe::Plans;
pub use environment::Identity;

/// Grace of a pod that does not say what it takes, in seconds.
const DEFAULT_GRACE: i64 = 30;
/// What Kubernetes gives to files of ConfigMaps and Secrets that say nothing else.
const DEFAULT_MODE: i32 = 0o644;

/// How to run the container of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// The image that it is made from.
    pub image: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// All variables.
    pub environment: Vec<(String, String)>,
    /// What is mounted where.
    pub mounts: Vec<Mount>,
    /// Who it runs as.
    pub user: u32,
    /// The group that it runs as.
    pub group: u32,
    /// The group that volumes belong to.
    pub volume_group: u32,
    /// Whether the root file system is read-only.
    pub has_read_only_root: bool,
    /// From the request to end to SIGKILL.
    pub grace: Duration,
    /// The command that is run in the container before SIGTERM.
    pub pre_stop: Option<Vec<String>>,
    /// Its probes.
    pub probes: Plans,
}

/// A volume in the file system of a container.
#[derive(Clone, Debug, PartialEq)]
pub struct Mount {
    /// What is there.
    pub source: Source,
    /// Where.
    pub target: PathBuf,
    /// Whether it is read-only.
    pub is_read_only: bool,
}

/// What a volume has in it.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The volume of a claim template, by the name of the template.
    Claim(String),
    /// Files of a ConfigMap.
    ConfigMap(Files),
    /// Files of a Secret.
    Secret(Files),
    /// Nothing at first. It is gone with the pod.
    Empty(String),
}

/// Files of a ConfigMap or a Secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Files {
    /// Name of the object.
    pub object: String,
    /// Access of files that have none of their own.
    pub mode: u32,
    /// Which keys become which files; all keys under their names when it is not said.
    pub items: Option<Vec<KeyToPath>>,
}

impl Launch {
    /// How to run the containers of a pod, in their order: first those that run to their end, then the one that
    /// stays. Times are divided by `time_scale`; `services` are variables that the kubelet adds. Refuses what is not
    /// modelled.
    pub fn read(
        spec: &PodSpec,
        identity: &Identity,
        claim_templates: &[String],
        services: &[(String, String)],
        time_scale: f64,
    ) -> Result<Vec<Launch>> {
        refuse(spec)?;
        let [container] = spec.containers.as_slice() else {
            bail!("a pod of several containers is not modelled");
        };
        let before = spec.init_containers.as_deref().unwrap_or_default();
        before.iter().try_for_each(refuse_init)?;
        let all = before.iter().chain([container]);
        let launches = all.map(|container| {
            let variables = environment::read(container, identity, services)?;
            Launch::of(container, spec, claim_templates, variables, time_scale)
                .with_context(|| container.name.clone())
        });
        launches.collect()
    }

    fn of(
        container: &Container,
        spec: &PodSpec,
        claim_templates: &[String],
        variables: Vec<(String, String)>,
        time_scale: f64,
    ) -> Result<Launch> {
        let (user, group, volume_group) = owners(spec.security_context.as_ref())?;
        let grace = spec
            .termination_grace_period_seconds
            .unwrap_or(DEFAULT_GRACE);
        let words = container.command.iter().chain(&container.args).flatten();
        let command: Vec<String> = words
            .map(|word| environment::expand(word, &variables))
            .collect();
        ensure!(
            container.command.is_some() && !command.is_empty(),
            "a container without a command: what the image says is not modelled"
        );
        let security = container.security_context.as_ref();
        let image = container.image.clone();
        Ok(Launch {
            image: image.context("a container without an image")?,
            command,
            mounts: mounts(container, spec, claim_templates)?,
            user,
            group,
            volume_group,
            has_read_only_root: security
                .and_then(|security| security.read_only_root_filesystem)
                .unwrap_or(false),
            grace: Duration::from_secs(u64::try_from(grace)?).div_f64(time_scale),
            pre_stop: pre_stop(container.lifecycle.as_ref())?,
            probes: Plans::read(container, time_scale)?,
            environment: variables,
        })
    }
}

/// Refuses containers that start before the others and do not just run to their end.
fn refuse_init(container: &Container) -> Result<()> {
    ensure!(
        container.restart_policy.is_none() && container.lifecycle.is_none(),
        "{}: an init container that stays, or has hooks, is not modelled",
        container.name
    );
    Ok(())
}

/// Refuses what would change how a pod runs and is not modelled.
fn refuse(spec: &PodSpec) -> Result<()> {
    let PodSpec {
        active_deadline_seconds,
        dns_config,
        dns_policy,
        host_aliases,
        host_network,
        readiness_gates,
        restart_policy,
        share_process_namespace,
        ..
    } = spec;
    let set = [
        ("activeDeadlineSeconds", active_deadline_seconds.is_some()),
        ("dnsConfig", dns_config.is_some()),
        ("dnsPolicy", dns_policy.is_some()),
        ("hostAliases", host_aliases.is_some()),
        ("hostNetwork", *host_network == Some(true)),
        ("readinessGates", readiness_gates.is_some()),
        (
            "restartPolicy",
            restart_policy.as_deref().unwrap_or("Always") != "Always",
        ),
        (
            "shareProcessNamespace",
            *share_process_namespace == Some(true),
        ),
    ];
    match set.iter().find(|(_, is_set)| *is_set) {
        Some((name, _)) => bail!("{name} of a pod is not modelled"),
        None => Ok(()),
    }
}

/// User, group, and group of volumes.
fn owners(security: Option<&PodSecurityContext>) -> Result<(u32, u32, u32)> {
    let security = security.context("a pod without a user is not modelled")?;
    let id = |value: Option<i64>, what| {
        let id = value.with_context(|| format!("a pod without {what} is not modelled"))?;
        anyhow::Ok(u32::try_from(id)?)
    };
    let user = id(security.run_as_user, "runAsUser")?;
    ensure!(
        user != 0 || security.run_as_non_root != Some(true),
        "runAsNonRoot forbids the user 0"
    );
    Ok((
        user,
        id(security.run_as_group, "runAsGroup")?,
        id(security.fs_group, "fsGroup")?,
    ))
}

fn pre_stop(lifecycle: Option<&Lifecycle>) -> Result<Option<Vec<String>>> {
    let Some(lifecycle) = lifecycle else {
        return Ok(None);
    };
    ensure!(
        lifecycle.post_start.is_none() && lifecycle.stop_signal.is_none(),
        "postStart and stopSignal are not modelled"
    );
    let Some(hook) = &lifecycle.pre_stop else {
        return Ok(None);
    };
    let exec = hook
        .exec
        .as_ref()
        .context("preStop without exec is not modelled")?;
    Ok(exec.command.clone())
}

fn mounts(container: &Container, spec: &PodSpec, claim_templates: &[String]) -> Result<Vec<Mount>> {
    let volumes: Vec<&Volume> = spec.volumes.iter().flatten().collect();
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let VolumeMount {
            mount_path,
            mount_propagation,
            name,
            read_only,
            recursive_read_only,
            sub_path,
            sub_path_expr,
        } = mount;
        ensure!(
            mount_propagation.is_none()
                && recursive_read_only.is_none()
                && sub_path.is_none()
                && sub_path_expr.is_none(),
            "{mount_path}: a mount of a part of a volume is not modelled"
        );
        // A claim of the StatefulSet takes precedence over a volume of the pod.
        let source = if claim_templates.contains(name) {
            Source::Claim(name.clone())
        } else {
            let volume = volumes.iter().find(|volume| volume.name == *name);
            let volume = volume.with_context(|| format!("the pod has no volume {name}"))?;
            Source::read(volume).with_context(|| format!("volume {name}"))?
        };
        mounts.push(Mount {
            source,
            target: mount_path.into(),
            is_read_only: *read_only == Some(true),
        });
    }
    Ok(mounts)
}

impl Source {
    fn read(volume: &Volume) -> Result<Source> {
        let mode = |mode: Option<i32>| u32::try_from(mode.unwrap_or(DEFAULT_MODE));
        if let Some(map) = &volume.config_map {
            return Ok(Source::ConfigMap(Files {
                object: map.name.clone(),
                mode: mode(map.default_mode)?,
                items: map.items.clone(),
            }));
        }
        if let Some(secret) = &volume.secret {
            let object = secret.secret_name.clone();
            return Ok(Source::Secret(Files {
                object: object.context("a Secret without a name")?,
                mode: mode(secret.default_mode)?,
                items: secret.items.clone(),
            }));
        }
        if volume.empty_dir.is_some() {
            return Ok(Source::Empty(volume.name.clone()));
        }
        bail!("only ConfigMaps, Secrets, emptyDir and claims are modelled")
    }
}

#[cfg(test)]
mod tests;
