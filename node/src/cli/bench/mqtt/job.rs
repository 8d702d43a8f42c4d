//! What the parent and its processes say to each other: lines of JSON, the job first.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cli::bench::tally::Tally;
use crate::cli::mqtt::{Settings, TlsFiles};
use crate::cli::problem::Problem;
use crate::gateway::mqtt::wire::Version;

/// The share of one process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Job {
    /// MQTT doors.
    pub(super) endpoints: Vec<String>,
    /// Start of the client ids.
    pub(super) prefix: String,
    /// Named shadow.
    pub(super) shadow: Option<String>,
    /// Number of its first session; 1 is the first of all.
    pub(super) first: u64,
    /// From the number of one session to that of the next: processes take turns.
    pub(super) step: u64,
    /// Sessions.
    pub(super) count: u64,
    /// Sessions that are begun in a second; 0 for as many as possible.
    pub(super) rate: f64,
    /// Local address to connect from.
    pub(super) source: Option<IpAddr>,
    /// How to connect.
    pub(super) link: Link,
}

/// [`Settings`] in a form that travels.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Link {
    is_v5: bool,
    clean_start: bool,
    session_expiry_s: u32,
    keep_alive_s: u16,
    username: Option<String>,
    password: Option<String>,
    timeout: Duration,
    tls: Option<TlsFiles>,
}

impl Link {
    pub(super) fn new(settings: &Settings, tls: &TlsFiles) -> Self {
        Self {
            is_v5: settings.version == Version::V5,
            clean_start: settings.clean_start,
            session_expiry_s: settings.session_expiry_s,
            keep_alive_s: settings.keep_alive_s,
            username: settings.username.clone(),
            password: settings.password.clone(),
            timeout: settings.timeout,
            tls: settings.tls.is_some().then(|| tls.clone()),
        }
    }

    pub(super) fn settings(self, source: Option<IpAddr>) -> Result<Settings, Problem> {
        Ok(Settings {
            version: if self.is_v5 {
                Version::V5
            } else {
                Version::V311
            },
            clean_start: self.clean_start,
            session_expiry_s: self.session_expiry_s,
            keep_alive_s: self.keep_alive_s,
            username: self.username,
            password: self.password,
            source,
            tls: self.tls.map(|files| files.load()).transpose()?,
            timeout: self.timeout,
        })
    }
}

/// What a process is asked, after its job. It ends when its standard input closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ask {
    /// Begin to measure latencies anew.
    Measure,
    /// Say what was counted.
    Report,
}

/// What a process says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Say {
    /// How far it is.
    Progress {
        /// Sessions that are open.
        connected: u64,
        /// Sessions that could not be opened.
        failed: u64,
    },
    /// Every session is open or has failed.
    Opened {
        /// From TCP to CONNACK.
        connect: Counts,
        /// From SUBSCRIBE to SUBACK.
        subscribe: Counts,
    },
    /// What was counted.
    Counted {
        /// From sending an update to its arrival at the device.
        latency: Counts,
    },
}

/// A [`Tally`] in a form that travels.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Counts {
    /// Microseconds and how often.
    latency: Vec<(u64, u64)>,
    errors: BTreeMap<String, u64>,
}

impl Counts {
    pub(super) fn new(tally: &Tally) -> Self {
        let recorded = tally.latency.iter_recorded();
        Self {
            latency: recorded
                .map(|step| (step.value_iterated_to(), step.count_at_value()))
                .collect(),
            errors: tally.errors.clone(),
        }
    }

    pub(super) fn add_to(&self, tally: &mut Tally) {
        for (micros, count) in &self.latency {
            tally.latency.saturating_record_n(*micros, *count);
        }
        for (reason, count) in &self.errors {
            *tally.errors.entry(reason.clone()).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Percentiles over processes are those of all sessions.
    #[test]
    fn tallies_survive_the_pipe() {
        let mut tally = Tally::new();
        (1..=100).for_each(|ms| tally.accepted(Duration::from_millis(ms)));
        tally.failed("TIMED_OUT");
        let latency = Counts::new(&tally);
        let line = serde_json::to_string(&Say::Counted { latency }).unwrap();
        let Say::Counted { latency } = serde_json::from_str(&line).unwrap() else {
            panic!("another kind");
        };
        let mut all = Tally::new();
        latency.add_to(&mut all);
        latency.add_to(&mut all);
        assert_eq!((all.accepted_count(), all.failed_count()), (200, 2));
        assert_eq!(all.quantile(0.5), tally.quantile(0.5));
        assert_eq!(all.max(), tally.max());
    }
}
