//! The rendered chart as Kubernetes reads it, and as it is by default: with certificates.

use std::process::Command;
use std::time::Duration;

use antumbra_tests::chaos::command;
use antumbra_tests::environment;
use antumbra_tests::kubesim::admission::Admission;
use antumbra_tests::kubesim::controller::budget::Budget;
use antumbra_tests::kubesim::controller::deployment::Fleet;
use antumbra_tests::kubesim::controller::stateful_set::Set;
use antumbra_tests::kubesim::helm;
use antumbra_tests::kubesim::manifest::Manifests;
use tempfile::TempDir;

use crate::kubesim_scale::{LIMIT, NAMESPACE, PODS, SET, leave, start};

/// Makes keys.
const SECRETS_LIMIT: Duration = Duration::from_secs(60);

fn render(values: &[&str]) -> Manifests {
    let text = helm::template(SET, NAMESPACE, values).unwrap();
    Manifests::parse(&text).unwrap()
}

/// Kubernetes knows every field of the chart, and everything in it that decides about pods is understood.
#[test]
fn kubesim_reads_the_chart() {
    for values in [&["replicas=5"][..], &["replicas=5", "gateway.enabled=true"]] {
        let found = render(values);
        let set = Set::read(&found.stateful_sets[0]).unwrap();
        assert_eq!((set.name.as_str(), set.replicas), (SET, 5));
        assert_eq!(set.claim_templates, ["data"]);
        assert!(!set.claims_go_with_set, "volumes outlive the release");
        for fleet in &found.deployments {
            let fleet = Fleet::read(fleet).unwrap();
            assert_eq!((fleet.max_surge, fleet.max_unavailable), (1, 0));
        }
        assert_eq!(found.deployments.len() + 1, found.budgets.len());
        for budget in &found.budgets {
            Budget::read(budget).unwrap();
        }
        Admission::read(&found.policies, &found.bindings).unwrap();
        assert_eq!((found.policies.len(), found.bindings.len()), (1, 1));
    }
}

/// The Secrets of an installation, as operators make them.
fn secrets(directory: &TempDir) -> String {
    let mut make = Command::new(environment::repository().join("deploy/secrets"));
    make.arg("--out")
        .arg(directory.path().join("secrets"))
        .args(["--name", SET, "--namespace", NAMESPACE]);
    environment::isolate(&mut make);
    make.env("ANTUMBRA", environment::binary());
    let printed = command::finish(make, "", SECRETS_LIMIT).unwrap();
    assert!(printed.status.success(), "{}", printed.error);
    printed.output
}

/// With certificates on all ways, over three zones: a pod comes back under another address, and one that is scaled
/// away is waited for until its node has left.
#[test]
fn kubesim_operates_with_certificates() {
    if !environment::can_use_root(1) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let simulation = start(&["zone-a", "zone-b", "zone-c"]);
    simulation.add_secrets(&secrets(&directory)).unwrap();
    let values = [
        "replicas=4",
        "access.bootstrapTokenSecretName=antumbra-bootstrap",
    ];
    let chart = helm::template(SET, NAMESPACE, &values).unwrap();
    assert_eq!(simulation.apply(&chart).unwrap(), None);
    simulation.until_ready(&PODS[..4], LIMIT).unwrap();
    let first = simulation.pods().unwrap().remove(0);
    simulation.delete(PODS[0]).unwrap();
    simulation
        .until("the first pod is back", LIMIT, |pods| {
            let back = pods.iter().find(|pod| pod.name == first.name)?;
            (back.is_ready && back.address != first.address).then_some(())
        })
        .unwrap();
    leave(&simulation, 3, || {});
    simulation.until_ready(&PODS[..3], LIMIT).unwrap();
}
