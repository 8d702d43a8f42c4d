//! The rendered chart as Kubernetes reads it, and as it is by default: with certificates.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use antumbra_tests::chaos::command;
use antumbra_tests::kubesim::admission::Admission;
use antumbra_tests::kubesim::cluster::Simulation;
use antumbra_tests::kubesim::controller::budget::Budget;
use antumbra_tests::kubesim::controller::deployment::Fleet;
use antumbra_tests::kubesim::controller::stateful_set::Set;
use antumbra_tests::kubesim::helm;
use antumbra_tests::kubesim::manifest::Manifests;
use antumbra_tests::kubesim::tls::Tls;
use antumbra_tests::{environment, waiting};
use serde_json::Value;
use tempfile::TempDir;

use crate::kubesim_scale::{LIMIT, NAMESPACE, PODS, SET, leave, start};
use crate::kubesim_traffic::{Proof, Traffic};

/// Makes keys.
const SECRETS_LIMIT: Duration = Duration::from_secs(60);
/// Nodes look at their files every ten seconds.
const RENEWED_LIMIT: Duration = Duration::from_secs(60);

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

/// Deletes the first pod, and waits until it is back, under another address.
fn replace_first(simulation: &Simulation) {
    let first = simulation.pods().unwrap().remove(0);
    simulation.delete(PODS[0]).unwrap();
    simulation
        .until("the first pod is back", LIMIT, |pods| {
            let back = pods.iter().find(|pod| pod.name == first.name)?;
            (back.is_ready && back.address != first.address).then_some(())
        })
        .unwrap();
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
    replace_first(&simulation);
    leave(&simulation, 3, || {});
    simulation.until_ready(&PODS[..3], LIMIT).unwrap();
}

/// A credential for devices, as an operator makes it through an address that takes TLS off.
fn credential(door: SocketAddr, token: &str) -> Proof {
    let mut create = Command::new(environment::binary());
    create
        .args(["credential", "create", "fleet", "--role", "backend"])
        .args(["-o", "json", "--endpoint"])
        .arg(format!("http://{door}"));
    environment::isolate(&mut create);
    create.env("ANTUMBRA_TOKEN", token);
    let printed = command::finish(create, "", SECRETS_LIMIT).unwrap();
    assert!(printed.status.success(), "{}", printed.error);
    let made: Value = serde_json::from_str(&printed.output).unwrap();
    let secret = made["token"].as_str().unwrap().to_owned();
    Proof {
        token: token.to_owned(),
        device: ("fleet".to_owned(), secret),
    }
}

/// What all doors of all pods show.
async fn shown(simulation: &Simulation, tls: &Tls) -> Vec<Option<Vec<u8>>> {
    let mut all = Vec::new();
    for pod in simulation.pods().unwrap() {
        for port in [7400, 7480, 8883] {
            let door = SocketAddr::from((pod.address, port));
            all.push(tls.certificate(door).await.ok());
        }
    }
    all
}

/// Certificates of the doors and between the nodes are renewed while clients are connected: nobody notices, new
/// connections see the new ones, and a pod that starts with them is taken for what it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubesim_operates_while_certificates_are_renewed() {
    if !environment::can_use_root(1) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let simulation = start(&[]);
    simulation.add_secrets(&secrets(&directory)).unwrap();
    let values = [
        "placement.zoneLabel=",
        "access.bootstrapTokenSecretName=antumbra-bootstrap",
    ];
    let chart = helm::template(SET, NAMESPACE, &values).unwrap();
    assert_eq!(simulation.apply(&chart).unwrap(), None);
    simulation.until_ready(&PODS[..3], LIMIT).unwrap();

    let kept = directory.path().join("secrets");
    let authority = kept.join("doors-ca/ca.pem");
    let tls = |protocol| Tls::trusting(&authority, protocol).unwrap();
    let doors = [
        simulation.expose_tls(7400, tls(Some("h2"))).unwrap(),
        simulation.expose_tls(8883, tls(None)).unwrap(),
    ];
    let token = std::fs::read_to_string(kept.join("bootstrap.token")).unwrap();
    let proof = credential(doors[0], token.trim());
    let traffic = Traffic::start(doors, Some(&proof));
    traffic.goes_on("nothing is done").await;

    let any = tls(None);
    let before = shown(&simulation, &any).await;
    assert!(before.len() == 9 && before.iter().all(Option::is_some));
    simulation.add_secrets(&secrets(&directory)).unwrap();
    let renewed = || async {
        let now = shown(&simulation, &any).await;
        let is_new = |(now, before): (&Option<_>, &Option<_>)| now.is_some() && now != before;
        now.iter().zip(&before).all(is_new).then_some(())
    };
    let renewed = waiting::until_async("all doors show new certificates", RENEWED_LIMIT, renewed);
    renewed.await.unwrap();
    traffic.goes_on("certificates were renewed").await;

    replace_first(&simulation);
    traffic.goes_on("a pod started with the new ones").await;
    traffic.stop().await;
}
