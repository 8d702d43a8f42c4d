//! When a container is probed, and what follows from the outcomes. Pure: time and outcomes come in.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Container, ContainerPort, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// A GET at the address of the pod; 200 to 399 is a success.
    Http {
        /// Port of the container.
        port: u16,
        /// What is asked for.
        path: String,
        /// Whether with TLS. Nobody looks at the certificate.
        is_https: bool,
    },
    /// A connection to the address of the pod.
    Tcp {
        /// Port of the container.
        port: u16,
    },
    /// A command in the container; status 0 is a success.
    Exec {
        /// The command and its arguments.
        command: Vec<String>,
    },
}

/// When it does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From the start of the container to the first probe.
    pub initial_delay: Duration,
    /// From one probe to the next.
    pub period: Duration,
    /// What a probe may take.
    pub timeout: Duration,
    /// So many successes in a row make a success.
    pub success_threshold: u32,
    /// So many failures in a row make a failure.
    pub failure_threshold: u32,
}

/// A probe of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What it does.
    pub check: Check,
    /// When.
    pub timing: Timing,
}

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Whether the container has started: the others wait for it.
    Startup,
    /// Whether it must be started again.
    Liveness,
    /// Whether it serves.
    Readiness,
}

/// The probes of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plans {
    /// Whether it has started.
    pub startup: Option<Plan>,
    /// Whether it must be started again.
    pub liveness: Option<Plan>,
    /// Whether it serves.
    pub readiness: Option<Plan>,
}

impl Plans {
    /// The probes of a container, with periods and delays divided by `time_scale`. Refuses what is
    /// not modelled.
    pub fn read(container: &Container, time_scale: f64) -> Result<Plans> {
        let ports: Vec<&ContainerPort> = container.ports.iter().flatten().collect();
        let read = |probe: &Option<Probe>| {
            let probe = probe.as_ref();
            probe
                .map(|probe| Plan::read(probe, &ports, time_scale))
                .transpose()
        };
        Ok(Plans {
            startup: read(&container.startup_probe).context("startupProbe")?,
            liveness: read(&container.liveness_probe).context("livenessProbe")?,
            readiness: read(&container.readiness_probe).context("readinessProbe")?,
        })
    }

    /// The probe for something.
    pub fn get(&self, kind: Kind) -> Option<&Plan> {
        match kind {
            Kind::Startup => self.startup.as_ref(),
            Kind::Liveness => self.liveness.as_ref(),
            Kind::Readiness => self.readiness.as_ref(),
        }
    }
}

impl Plan {
    fn read(probe: &Probe, ports: &[&ContainerPort], time_scale: f64) -> Result<Plan> {
        ensure!(
            probe.termination_grace_period_seconds.is_none(),
            "terminationGracePeriodSeconds of a probe is not modelled"
        );
        let check = match (&probe.exec, &probe.http_get, &probe.tcp_socket, &probe.grpc) {
            (Some(exec), None, None, None) => Check::Exec {
                command: exec.command.clone().unwrap_or_default(),
            },
            (None, Some(get), None, None) => Check::http(get, ports)?,
            (None, None, Some(tcp), None) => Check::Tcp {
                port: number(&tcp.port, ports)?,
            },
            _ => bail!("a probe has exactly one of exec, httpGet and tcpSocket"),
        };
        let or = |value: Option<i32>, default| u32::try_from(value.unwrap_or(default));
        let seconds = |value, default| anyhow::Ok(Duration::from_secs(or(value, default)?.into()));
        let timing = Timing {
            initial_delay: seconds(probe.initial_delay_seconds, 0)?.div_f64(time_scale),
            period: seconds(probe.period_seconds, 10)?.div_f64(time_scale),
            timeout: seconds(probe.timeout_seconds, 1)?,
            success_threshold: or(probe.success_threshold, 1)?,
            failure_threshold: or(probe.failure_threshold, 3)?,
        };
        Ok(Plan { check, timing })
    }
}

impl Check {
    fn http(get: &HTTPGetAction, ports: &[&ContainerPort]) -> Result<Check> {
        ensure!(
            get.host.is_none() && get.http_headers.is_none(),
            "host and httpHeaders of a probe are not modelled"
        );
        let is_https = match get.scheme.as_deref() {
            Some("HTTPS") => true,
            Some("HTTP") | None => false,
            Some(other) => bail!("the scheme {other} is unknown"),
        };
        Ok(Check::Http {
            port: number(&get.port, ports)?,
            path: get.path.clone().unwrap_or_else(|| "/".to_owned()),
            is_https,
        })
    }
}

/// The number of a port that may be given by its name.
fn number(port: &IntOrString, ports: &[&ContainerPort]) -> Result<u16> {
    match port {
        IntOrString::Int(number) => Ok(u16::try_from(*number)?),
        IntOrString::String(name) => {
            let found = ports.iter().find(|port| port.name.as_ref() == Some(name));
            let found = found.with_context(|| format!("the container has no port {name}"))?;
            Ok(u16::try_from(found.container_port)?)
        }
    }
}

/// The state of a container as its probes tell it, from one start to its end.
#[derive(Clone, Debug)]
pub struct Health {
    probers: Vec<Prober>,
    is_stopping: bool,
    wants_restart: Option<Kind>,
}

#[derive(Clone, Debug)]
struct Prober {
    kind: Kind,
    timing: Timing,
    /// When it may run next.
    next: Duration,
    is_under_way: bool,
    /// The last outcome, and how often it came in a row.
    row: Option<(bool, u32)>,
    succeeded: bool,
}

impl Health {
    /// Of a container that starts now.
    pub fn new(plans: &Plans, now: Duration) -> Health {
        let kinds = [Kind::Startup, Kind::Liveness, Kind::Readiness];
        let planned = kinds
            .into_iter()
            .filter_map(|kind| Some((kind, plans.get(kind)?)));
        let probers = planned.map(|(kind, plan)| Prober {
            kind,
            timing: plan.timing,
            next: now + plan.timing.initial_delay,
            is_under_way: false,
            row: None,
            // Alive until shown otherwise; neither started nor ready until shown.
            succeeded: kind == Kind::Liveness,
        });
        Health {
            probers: probers.collect(),
            is_stopping: false,
            wants_restart: None,
        }
    }

    /// The probes to run now. Each is expected to come back through [`Health::note`].
    pub fn due(&mut self, now: Duration) -> Vec<Kind> {
        let (has_started, is_stopping) = (self.has_started(), self.is_stopping);
        if self.wants_restart.is_some() {
            return Vec::new();
        }
        let mut due = Vec::new();
        for prober in &mut self.probers {
            let is_its_turn = match prober.kind {
                Kind::Startup => !has_started && !is_stopping,
                Kind::Liveness => has_started && !is_stopping,
                Kind::Readiness => has_started,
            };
            if is_its_turn && !prober.is_under_way && now >= prober.next {
                prober.is_under_way = true;
                prober.next = now + prober.timing.period;
                due.push(prober.kind);
            }
        }
        due
    }

    /// What a probe found.
    pub fn note(&mut self, kind: Kind, success: bool) {
        let prober = self.probers.iter_mut().find(|prober| prober.kind == kind);
        let Some(prober) = prober else { return };
        prober.is_under_way = false;
        let count = match prober.row {
            Some((same, count)) if same == success => count + 1,
            _ => 1,
        };
        prober.row = Some((success, count));
        let threshold = match success {
            true => prober.timing.success_threshold,
            false => prober.timing.failure_threshold,
        };
        if count < threshold {
            return;
        }
        prober.succeeded = success;
        if !success && kind != Kind::Readiness && !self.is_stopping {
            self.wants_restart = Some(kind);
        }
    }

    /// The pod is about to end: it is only asked whether it still serves.
    pub fn stop(&mut self) {
        self.is_stopping = true;
    }

    /// Whether the container has started, as far as its probes are concerned.
    pub fn has_started(&self) -> bool {
        self.succeeded(Kind::Startup)
    }

    /// Whether the container is ready.
    pub fn is_ready(&self) -> bool {
        self.has_started() && self.wants_restart.is_none() && self.succeeded(Kind::Readiness)
    }

    /// Which probe wants the container to be ended and started again.
    pub fn wants_restart(&self) -> Option<Kind> {
        self.wants_restart
    }

    /// What has no probe is a success.
    fn succeeded(&self, kind: Kind) -> bool {
        let prober = self.probers.iter().find(|prober| prober.kind == kind);
        prober.is_none_or(|prober| prober.succeeded)
    }
}

#[cfg(test)]
mod tests;
