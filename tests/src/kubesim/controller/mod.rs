//! What the controllers of Kubernetes do next, as pure functions of what is wanted and what is seen.

pub mod budget;
pub mod deployment;
pub mod stateful_set;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::manifest::Labels;

/// A pod as a controller sees it. Times count from the beginning of the simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// The revision of the template that it was made from.
    pub revision: String,
    /// When it was made.
    pub created: Duration,
    /// Whether its containers have been started. It is pending before.
    pub is_running: bool,
    /// Since when all its containers have been ready without a break.
    pub ready_since: Option<Duration>,
    /// Whether it was deleted and has not ended yet.
    pub is_terminating: bool,
}

impl Pod {
    /// Whether it is running, ready and not about to end.
    pub fn is_healthy(&self) -> bool {
        self.ready_since.is_some() && !self.is_terminating
    }

    /// Whether it has been healthy for so long.
    pub fn is_available(&self, now: Duration, min_ready: Duration) -> bool {
        let since = self.ready_since.filter(|_| !self.is_terminating);
        since.is_some_and(|since| now.saturating_sub(since) >= min_ready)
    }
}

/// What a controller sees of its own.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The pods that it made and that are not gone.
    pub pods: &'a [Pod],
    /// All claims of the namespace.
    pub claims: &'a BTreeSet<String>,
    /// The time.
    pub now: Duration,
}

/// The next thing to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Make an empty volume with this name.
    CreateClaim(String),
    /// Make a pod.
    Create {
        /// Its name.
        pod: String,
        /// From which revision of the template.
        revision: String,
    },
    /// Ask a pod to end, with its grace period.
    Delete(String),
    /// Remove a volume and what is on it.
    DeleteClaim(String),
}

/// Where a percentage goes that is no whole number.
#[derive(Clone, Copy, Debug)]
pub enum Rounding {
    /// To more.
    Up,
    /// To less.
    Down,
}

/// A number, or a percentage of a total.
pub fn amount(value: &IntOrString, total: u32, rounding: Rounding) -> Result<u32> {
    match value {
        IntOrString::Int(number) => Ok(u32::try_from(*number)?),
        IntOrString::String(text) => {
            let percent = text.strip_suffix('%').and_then(|text| text.parse().ok());
            let percent: u64 = percent.with_context(|| format!("{text} is no percentage"))?;
            ensure!(percent <= 100, "{text} is too much");
            let hundredths = percent * u64::from(total);
            Ok(match rounding {
                Rounding::Up => hundredths.div_ceil(100),
                Rounding::Down => hundredths / 100,
            } as u32)
        }
    }
}

/// A count of seconds that may be left out.
fn seconds(value: Option<i32>) -> Result<Duration> {
    Ok(Duration::from_secs(u64::try_from(value.unwrap_or(0))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pod of revision `old` that has been ready since the beginning.
    pub(super) fn pod(name: &str) -> Pod {
        Pod {
            name: name.to_owned(),
            labels: Labels::new(),
            revision: "old".to_owned(),
            created: Duration::ZERO,
            is_running: true,
            ready_since: Some(Duration::ZERO),
            is_terminating: false,
        }
    }

    pub(super) fn create(pod: &str, revision: &str) -> Action {
        Action::Create {
            pod: pod.to_owned(),
            revision: revision.to_owned(),
        }
    }

    pub(super) fn delete(pod: &str) -> Action {
        Action::Delete(pod.to_owned())
    }

    #[test]
    fn percentages_are_rounded_as_asked() {
        let text = |text: &str| IntOrString::String(text.to_owned());
        assert_eq!(amount(&IntOrString::Int(2), 9, Rounding::Up).unwrap(), 2);
        assert_eq!(amount(&text("25%"), 5, Rounding::Up).unwrap(), 2);
        assert_eq!(amount(&text("25%"), 5, Rounding::Down).unwrap(), 1);
        assert_eq!(amount(&text("100%"), 5, Rounding::Down).unwrap(), 5);
        assert!(amount(&text("25"), 5, Rounding::Up).is_err());
        assert!(amount(&IntOrString::Int(-1), 5, Rounding::Up).is_err());
    }

    #[test]
    fn pod_is_available_when_it_has_been_ready_for_long_enough() {
        let mut ready = pod("a");
        ready.ready_since = Some(Duration::from_secs(5));
        let available =
            |pod: &Pod, now| pod.is_available(Duration::from_secs(now), Duration::from_secs(10));
        assert!(!available(&ready, 14));
        assert!(available(&ready, 15));
        ready.is_terminating = true;
        assert!(!available(&ready, 15));
    }
}
