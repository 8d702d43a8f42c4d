//! The rendered chart as Kubernetes reads it, and as it is by default: with certificates.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use antumbra_tests::chaos::command;
use antumbra_tests::kubesim::admission::Admission;
use antumbra_tests::kubesim::cluster::{Simulation, View};
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

/// The Secrets of an installation, as operators make them, those of gateways included.
fn secrets(directory: &TempDir) -> String {
    let mut make = Command::new(environment::repository().join("deploy/secrets"));
    make.arg("--out")
        .arg(directory.path().join("secrets"))
        .args(["--name", SET, "--namespace", NAMESPACE, "--gateways"]);
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

/// A cluster with certificates on all ways, and the clients of its Services.
struct Secured {
    directory: TempDir,
    simulation: Simulation,
    traffic: Traffic,
}

impl Secured {
    /// Installs a chart, and waits until so many pods are ready.
    fn install(zones: &[&str], values: &[&str], pods: usize) -> Secured {
        let directory = tempfile::tempdir().unwrap();
        let simulation = start(zones);
        simulation.add_secrets(&secrets(&directory)).unwrap();
        let chart = secured(values);
        assert_eq!(simulation.apply(&chart).unwrap(), None);
        all_ready(&simulation, pods);
        let kept = directory.path().join("secrets");
        let authority = kept.join("doors-ca/ca.pem");
        let expose = |service, port, protocol| {
            let tls = Tls::trusting(&authority, protocol).unwrap();
            simulation.expose_tls(service, port, tls).unwrap()
        };
        let doors = [
            expose("antumbra-api", 7400, Some("h2")),
            expose("antumbra-mqtt", 8883, None),
        ];
        let token = std::fs::read_to_string(kept.join("bootstrap.token")).unwrap();
        let proof = credential(doors[0], token.trim());
        let traffic = Traffic::start(doors, Some(&proof));
        Secured {
            directory,
            simulation,
            traffic,
        }
    }
}

/// The rendered chart as it is by default, with more values.
fn secured(values: &[&str]) -> String {
    let token = ["access.bootstrapTokenSecretName=antumbra-bootstrap"];
    helm::template(SET, NAMESPACE, &[&token[..], values].concat()).unwrap()
}

/// Waits until there are so many pods, all of them ready.
fn all_ready(simulation: &Simulation, count: usize) -> Vec<View> {
    let all = |pods: &[View]| {
        let is_ready = |pod: &View| pod.is_ready && !pod.is_terminating;
        (pods.len() == count && pods.iter().all(is_ready)).then(|| pods.to_vec())
    };
    let what = format!("{count} pods are ready");
    simulation.until(&what, LIMIT, all).unwrap()
}

fn is_gateway(pod: &View) -> bool {
    pod.name.starts_with("antumbra-gateway-")
}

/// Waits until other gateways have taken the places of these.
fn replaced(simulation: &Simulation, before: &[View], count: usize) {
    let new = |pods: &[View]| {
        let gateways: Vec<&View> = pods.iter().filter(|pod| is_gateway(pod)).collect();
        let is_new = |pod: &&View| pod.is_ready && before.iter().all(|old| old.name != pod.name);
        (gateways.len() == count && gateways.iter().all(is_new)).then_some(())
    };
    simulation
        .until("gateways are replaced", LIMIT, new)
        .unwrap();
}

/// With certificates on all ways, over three zones and behind gateways that make their certificates themselves: a
/// gateway is killed, all are replaced, a storage node comes back under another address, and one that is scaled away is
/// waited for until its node has left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubesim_operates_with_certificates_and_gateways() {
    if !environment::can_use_root(1) {
        return;
    }
    let zones = ["zone-a", "zone-b", "zone-c"];
    let values = ["replicas=4", "gateway.enabled=true"];
    let Secured {
        simulation,
        traffic,
        ..
    } = Secured::install(&zones, &values, 6);
    traffic.goes_on("nothing is done").await;

    let gateways: Vec<View> = all_ready(&simulation, 6)
        .into_iter()
        .filter(is_gateway)
        .collect();
    simulation.kill(&gateways[0].name).unwrap();
    let restarted = |pods: &[View]| {
        let mut pods = pods.iter();
        let killed = pods.find(|pod| pod.name == gateways[0].name)?;
        (killed.restarts == 1 && killed.is_ready).then_some(())
    };
    simulation.until("it is back", LIMIT, restarted).unwrap();
    traffic.goes_on("a gateway was killed").await;

    // What is only of gateways: the storage nodes stay.
    let changed = [&values[..], &["gateway.resources.requests.cpu=2"]].concat();
    assert_eq!(simulation.apply(&secured(&changed)).unwrap(), None);
    replaced(&simulation, &gateways, gateways.len());
    traffic.goes_on("all gateways were replaced").await;

    replace_first(&simulation);
    traffic.goes_on("a storage node has another address").await;
    leave(&simulation, 3, || {});
    all_ready(&simulation, 5);
    traffic.goes_on("a storage node has left").await;
    traffic.stop().await;
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
    let Secured {
        directory,
        simulation,
        traffic,
    } = Secured::install(&[], &["placement.zoneLabel="], 3);
    traffic.goes_on("nothing is done").await;

    let authority = directory.path().join("secrets/doors-ca/ca.pem");
    let any = Tls::trusting(&authority, None).unwrap();
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
