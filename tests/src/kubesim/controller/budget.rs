//! Whether a pod may be evicted.

use anyhow::{Context, Result, bail};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Pod, Rounding, amount};
use crate::kubesim::manifest;

/// A budget of disruptions.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Its name.
    pub name: String,
    limit: Limit,
    selector: LabelSelector,
    always_evicts_unhealthy: bool,
}

#[derive(Clone, Debug)]
enum Limit {
    MinAvailable(IntOrString),
    MaxUnavailable(IntOrString),
}

/// What the API answers to an eviction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200: the pod is deleted.
    Evicted,
    /// 429: not now.
    TooManyRequests(String),
    /// 500: the budgets contradict each other.
    Misconfigured(String),
}

impl Budget {
    /// What an object wants.
    pub fn read(object: &PodDisruptionBudget) -> Result<Budget> {
        let spec = object.spec.as_ref().context("a budget has a spec")?;
        let limit = match (&spec.min_available, &spec.max_unavailable) {
            (Some(least), None) => Limit::MinAvailable(least.clone()),
            (None, Some(most)) => Limit::MaxUnavailable(most.clone()),
            _ => bail!("a budget has either minAvailable or maxUnavailable"),
        };
        let always_evicts_unhealthy = match spec.unhealthy_pod_eviction_policy.as_deref() {
            Some("AlwaysAllow") => true,
            Some("IfHealthyBudget") | None => false,
            Some(other) => bail!("unhealthyPodEvictionPolicy {other} is unknown"),
        };
        let selector = spec.selector.clone();
        Ok(Budget {
            name: manifest::name(&object.metadata).to_owned(),
            limit,
            selector: selector.context("a budget without a selector takes no pod")?,
            always_evicts_unhealthy,
        })
    }

    /// Whether it guards a pod.
    pub fn guards(&self, pod: &Pod) -> Result<bool> {
        manifest::selects(&self.selector, &pod.labels)
    }

    /// How many of `expected` pods have to be healthy.
    fn least(&self, expected: u32) -> Result<u32> {
        match &self.limit {
            Limit::MinAvailable(least) => amount(least, expected, Rounding::Up),
            Limit::MaxUnavailable(most) => {
                Ok(expected.saturating_sub(amount(most, expected, Rounding::Up)?))
            }
        }
    }

    fn judge(&self, victim: &Pod, pods: &[Pod], expected: u32) -> Result<Answer> {
        let mut healthy = 0;
        for pod in pods {
            healthy += u32::from(self.guards(pod)? && pod.is_healthy());
        }
        let least = self.least(expected)?;
        let allowed = match victim.is_healthy() {
            true => healthy > least,
            false => self.always_evicts_unhealthy || healthy >= least,
        };
        Ok(match allowed {
            true => Answer::Evicted,
            false => Answer::TooManyRequests(format!(
                "{} needs {least} healthy pods and has {healthy}",
                self.name
            )),
        })
    }
}

/// What the API answers to the eviction of a pod. `pods` are all pods of the namespace; `expected`
/// is how many the controllers of the guarded pods want.
pub fn evict(budgets: &[Budget], victim: &str, pods: &[Pod], expected: u32) -> Result<Answer> {
    let found = pods.iter().find(|pod| pod.name == victim);
    let victim = found.with_context(|| format!("there is no pod {victim}"))?;
    // Nothing is disrupted that does not run yet, or ends already.
    if victim.is_terminating || !victim.is_running {
        return Ok(Answer::Evicted);
    }
    let mut guards = Vec::new();
    for budget in budgets {
        if budget.guards(victim)? {
            guards.push(budget);
        }
    }
    match guards.as_slice() {
        [] => Ok(Answer::Evicted),
        [budget] => budget.judge(victim, pods, expected),
        _ => Ok(Answer::Misconfigured(format!(
            "{} has more than one budget",
            victim.name
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::pod;
    use super::*;

    fn budget(limit: &str, more: &str) -> Budget {
        let text = format!(
            "
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{name: web, namespace: fleet}}
spec: {{{limit}, selector: {{matchLabels: {{app: web}}}}{more}}}
"
        );
        let objects = manifest::Manifests::parse(&text).unwrap();
        Budget::read(&objects.budgets[0]).unwrap()
    }

    fn pods(count: u32) -> Vec<Pod> {
        let labelled = |ordinal| Pod {
            labels: [("app".to_owned(), "web".to_owned())].into(),
            ..pod(&format!("web-{ordinal}"))
        };
        (0..count).map(labelled).collect()
    }

    fn ask(budget: &Budget, victim: &str, pods: &[Pod]) -> Answer {
        evict(
            std::slice::from_ref(budget),
            victim,
            pods,
            pods.len() as u32,
        )
        .unwrap()
    }

    fn is_refused(answer: &Answer) -> bool {
        matches!(answer, Answer::TooManyRequests(_))
    }

    #[test]
    fn eviction_is_refused_with_429_when_the_budget_is_used_up() {
        let budget = budget("maxUnavailable: 1", "");
        let mut three = pods(3);
        assert_eq!(ask(&budget, "web-2", &three), Answer::Evicted);
        three[2].is_terminating = true;
        assert!(is_refused(&ask(&budget, "web-1", &three)), "one is ending");
        three[2].is_terminating = false;
        three[2].ready_since = None;
        assert!(
            is_refused(&ask(&budget, "web-1", &three)),
            "one is not ready"
        );
        three.remove(2);
        let answer = evict(std::slice::from_ref(&budget), "web-1", &three, 3).unwrap();
        assert!(is_refused(&answer), "one is missing");
    }

    #[test]
    fn budget_in_percent_is_rounded_up() {
        let quarter = budget("maxUnavailable: 25%", "");
        let mut five = pods(5);
        five[0].ready_since = None;
        assert_eq!(
            ask(&quarter, "web-4", &five),
            Answer::Evicted,
            "2 of 5 may be down"
        );
        five[1].ready_since = None;
        assert!(is_refused(&ask(&quarter, "web-4", &five)));
        let least = budget("minAvailable: 50%", "");
        assert!(
            is_refused(&ask(&least, "web-4", &five)),
            "3 of 5 must be up"
        );
    }

    #[test]
    fn unhealthy_pod_is_evicted_when_the_others_suffice() {
        let strict = budget("maxUnavailable: 1", "");
        let mut three = pods(3);
        three[0].ready_since = None;
        assert_eq!(ask(&strict, "web-0", &three), Answer::Evicted);
        three[1].ready_since = None;
        assert!(is_refused(&ask(&strict, "web-0", &three)));
        let lenient = budget(
            "maxUnavailable: 1",
            ", unhealthyPodEvictionPolicy: AlwaysAllow",
        );
        assert_eq!(ask(&lenient, "web-0", &three), Answer::Evicted);
    }

    #[test]
    fn budget_does_not_hold_what_does_not_run() {
        let budget = budget("maxUnavailable: 0", "");
        let mut three = pods(3);
        assert!(is_refused(&ask(&budget, "web-0", &three)));
        three[0].is_running = false;
        three[0].ready_since = None;
        assert_eq!(
            ask(&budget, "web-0", &three),
            Answer::Evicted,
            "it is pending"
        );
    }

    #[test]
    fn pods_without_a_budget_are_evicted_and_two_budgets_are_a_mistake() {
        let one = budget("maxUnavailable: 0", "");
        let mut stranger = pods(1);
        stranger[0].labels.clear();
        assert_eq!(ask(&one, "web-0", &stranger), Answer::Evicted);
        let both = [one.clone(), one];
        let answer = evict(&both, "web-0", &pods(3), 3).unwrap();
        assert!(matches!(answer, Answer::Misconfigured(_)));
        assert!(evict(&both, "web-9", &pods(3), 3).is_err());
    }

    #[test]
    fn times_do_not_matter_to_budgets() {
        let budget = budget("maxUnavailable: 1", "");
        let mut three = pods(3);
        three[0].ready_since = Some(Duration::from_secs(59));
        assert_eq!(ask(&budget, "web-1", &three), Answer::Evicted);
    }
}
