//! The rendered chart in the hands of an operator: pods are evicted, killed and lose their volumes,
//! updates go wrong and right, everything is parked for a while, uninstalled and installed again, and
//! a grace is too short.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use antumbra_proto::v1;
use antumbra_tests::chaos::topology;
use antumbra_tests::client::Client as Grpc;
use antumbra_tests::kubesim::cluster::{Simulation, View};
use antumbra_tests::kubesim::controller::budget::Answer;
use antumbra_tests::{environment, waiting};
use serde_json::{Value, json};

use crate::kubesim_scale::{
    LIMIT, PODS, SET, address, ask, chart, doors, image, install, list, wait_even, wait_members,
};
use crate::kubesim_traffic::Traffic;

/// An update that does not work is watched for so long.
const STUCK_FOR: Duration = Duration::from_secs(5);
/// No node leaves in so short a time: for 15 seconds nobody is sure that it should.
const TOO_SHORT: Duration = Duration::from_secs(10);

fn devices() -> Vec<String> {
    (0..50).map(|nth| format!("kept-{nth}")).collect()
}

fn grpc(simulation: &Simulation, pod: &str) -> Grpc {
    Grpc::new(SocketAddr::from((address(simulation, pod), 7400)))
}

/// Tells every device what it should be, through the first pod, again until it is accepted.
async fn tell(simulation: &Simulation, number: u64) {
    let (first, devices) = (grpc(simulation, PODS[0]), devices());
    let desired = json!({"n": number}).to_string();
    let told = || async { first.update_all(&devices, &desired).await.ok() };
    waiting::until_async("devices are told", LIMIT, told)
        .await
        .unwrap();
}

/// Every device is what it was last told to be, whichever pod is asked.
async fn check(simulation: &Simulation, number: u64) {
    for pod in simulation.pods().unwrap().iter().filter(|pod| pod.is_ready) {
        let found = grpc(simulation, &pod.name)
            .get_all(&devices())
            .await
            .unwrap();
        let is_wrong = |shadow: &v1::Shadow| {
            let desired: Value = serde_json::from_str(&shadow.desired_json).unwrap();
            desired != json!({"n": number})
        };
        let wrong = found.iter().find(|(_, shadow)| is_wrong(shadow));
        assert!(wrong.is_none(), "{} says {wrong:?}", pod.name);
    }
}

fn view(pods: &[View], name: &str) -> Option<View> {
    pods.iter().find(|pod| pod.name == name).cloned()
}

fn see(simulation: &Simulation, name: &str) -> View {
    view(&simulation.pods().unwrap(), name).unwrap()
}

/// Waits until every shard has all its replicas, equal to each other.
fn wait_repaired(simulation: &Simulation) {
    let mut why = None;
    let repaired = waiting::until("every shard is repaired", LIMIT, || {
        thread::sleep(Duration::from_millis(200));
        let shards = list(simulation, "shards");
        let judged = match shards.is_empty() {
            true => Err(anyhow::anyhow!("nobody lists the shards")),
            false => topology::judge_repaired(&shards, &ask(simulation, &["cluster", "verify"]), 3),
        };
        why = judged.err();
        why.is_none().then_some(())
    });
    repaired.unwrap_or_else(|error| panic!("{error}: {why:?}"));
}

/// The budget lets one pod go and holds the next one until it is back. A pod that is made again has
/// another address and its former volume.
fn evict(simulation: &Simulation) {
    let before = see(simulation, PODS[2]);
    assert_eq!(simulation.evict(PODS[2]).unwrap(), Answer::Evicted);
    let held = simulation.evict(PODS[1]).unwrap();
    assert!(matches!(held, Answer::TooManyRequests(_)), "{held:?}");
    let back = simulation.until("the evicted pod is back", LIMIT, |pods| {
        view(pods, PODS[2]).filter(|pod| pod.is_ready && pod.address != before.address)
    });
    assert_eq!(back.unwrap().restarts, 0);
    wait_repaired(simulation);
    let endings = simulation.endings().unwrap();
    let ended: Vec<&str> = endings.iter().map(|ending| ending.pod.as_str()).collect();
    assert_eq!(ended, [PODS[2]], "nobody else has ended");
    assert!(endings[0].was_asked && !endings[0].was_killed && endings[0].status.success());
}

/// A container that is killed is started again in its pod, with its volume or without.
fn crash(simulation: &Simulation) {
    simulation.kill(PODS[1]).unwrap();
    wait_restarted(simulation, PODS[1], 1);
    wait_repaired(simulation);
    simulation.lose_volume(PODS[0]).unwrap();
    wait_restarted(simulation, PODS[0], 1);
    wait_repaired(simulation);
}

fn wait_restarted(simulation: &Simulation, name: &str, restarts: u32) {
    let what = format!("{name} has been started again");
    simulation
        .until(&what, LIMIT, |pods| {
            view(pods, name).filter(|pod| pod.restarts == restarts && pod.is_ready)
        })
        .unwrap();
}

/// An update with which no pod starts, for want of an image or of a good configuration, stops at the
/// first one, and is over when it is taken back.
async fn update_wrongly(simulation: &Simulation, good: &str, bad: &str) {
    let before = see(simulation, PODS[0]).revision;
    assert_eq!(simulation.apply(&chart(&[bad])).unwrap(), None);
    simulation
        .until("the new revision fails again and again", LIMIT, |pods| {
            let new = view(pods, PODS[2]).filter(|pod| pod.revision != before);
            new.filter(|pod| pod.restarts.max(pod.failed_pulls) >= 2)
        })
        .unwrap();
    let begun = Instant::now();
    while begun.elapsed() < STUCK_FOR {
        for name in &PODS[..2] {
            let pod = see(simulation, name);
            assert!(pod.revision == before && !pod.is_terminating, "{pod:?}");
        }
        thread::sleep(Duration::from_millis(200));
    }
    check(simulation, 1).await;
    assert_eq!(simulation.apply(good).unwrap(), None);
    simulation
        .until("the old revision is back", LIMIT, |pods| {
            view(pods, PODS[2]).filter(|pod| pod.revision == before && pod.is_ready)
        })
        .unwrap();
    wait_repaired(simulation);
}

/// An update whose image comes late waits for it, and goes from the highest pod to the lowest.
fn update(simulation: &Simulation) {
    let before = see(simulation, PODS[0]).revision;
    let known = simulation.endings().unwrap().len();
    let changed = chart(&["config.node.shutdown_timeout=11s", "image.tag=late"]);
    assert_eq!(simulation.apply(&changed).unwrap(), None);
    simulation
        .until("the image cannot be pulled", LIMIT, |pods| {
            view(pods, PODS[2]).filter(|pod| pod.failed_pulls > 0)
        })
        .unwrap();
    simulation.push(&image("late")).unwrap();
    simulation
        .until("all pods have the new revision", 2 * LIMIT, |pods| {
            let is_new = |pod: &View| pod.is_ready && pod.revision != before;
            (pods.len() == 3 && pods.iter().all(is_new)).then_some(())
        })
        .unwrap();
    let endings = simulation.endings().unwrap();
    let order: Vec<&str> = endings[known..]
        .iter()
        .map(|ending| ending.pod.as_str())
        .collect();
    assert_eq!(order, [PODS[2], PODS[1], PODS[0]]);
    let is_good =
        |pod: &antumbra_tests::kubesim::node::Ending| !pod.was_killed && pod.status.success();
    assert!(
        endings[known..].iter().all(is_good),
        "{:?}",
        &endings[known..]
    );
    wait_repaired(simulation);
}

/// Without pods for a while, and without anybody being sent away.
fn park(simulation: &Simulation, good: &str) {
    let denial = simulation.scale(SET, 0).unwrap();
    assert!(denial.is_some(), "parking takes more than a number");
    assert_eq!(simulation.apply(&chart(&["parked=true"])).unwrap(), None);
    wait_gone(simulation);
    assert_eq!(simulation.apply(good).unwrap(), None);
    simulation.until_ready(&PODS[..3], LIMIT).unwrap();
    wait_repaired(simulation);
}

/// Uninstalling leaves the volumes, and with them everything.
fn reinstall(simulation: &Simulation, good: &str) {
    simulation.uninstall().unwrap();
    wait_gone(simulation);
    assert_eq!(simulation.apply(good).unwrap(), None);
    simulation.until_ready(&PODS[..3], LIMIT).unwrap();
    wait_repaired(simulation);
}

/// Waits until no pod is left. Volumes are.
fn wait_gone(simulation: &Simulation) {
    simulation
        .until("all pods are gone", LIMIT, |pods| {
            pods.is_empty().then_some(())
        })
        .unwrap();
    let claims: Vec<String> = simulation.claims().unwrap().into_iter().collect();
    assert_eq!(
        claims,
        ["data-antumbra-0", "data-antumbra-1", "data-antumbra-2"]
    );
}

/// Whatever an operator does with the pods, everything is still there, and at every pod the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubesim_operates_without_loss() {
    if !environment::can_use_root(1) {
        return;
    }
    let good = chart(&["config.node.shutdown_timeout=10s"]);
    let simulation = install(&good, 3);
    tell(&simulation, 1).await;
    check(&simulation, 1).await;
    let doors = doors(&simulation);
    let traffic = Traffic::start(doors, None);
    traffic.goes_on("nothing is done").await;
    evict(&simulation);
    traffic.goes_on("a pod was evicted").await;
    crash(&simulation);
    traffic
        .goes_on("a container was killed and a volume lost")
        .await;
    for bad in ["config.raft.heartbeat=never", "image.tag=unknown"] {
        update_wrongly(&simulation, &good, bad).await;
        let after = format!("an update to {bad} failed and was taken back");
        traffic.goes_on(&after).await;
    }
    update(&simulation);
    traffic.goes_on("an update went through").await;
    park(&simulation, &good);
    traffic.comes_back("the cluster was parked").await;
    reinstall(&simulation, &good);
    traffic
        .comes_back("the release was uninstalled and installed")
        .await;
    traffic.stop().await;
    check(&simulation, 1).await;
}

/// A pod that is killed before its node has left costs nothing: the others go on without it, and when
/// it comes back with its former volume, it joins anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubesim_operates_with_too_short_a_grace() {
    if !environment::can_use_root(1) {
        return;
    }
    let chart = chart(&["replicas=4", "terminationGracePeriodSeconds=30"]);
    let simulation = install(&chart, 4);
    wait_even(&simulation, 4, &mut []);
    tell(&simulation, 1).await;
    let doors = doors(&simulation);
    let traffic = Traffic::start(doors, None);
    traffic.goes_on("nothing is done").await;
    assert_eq!(simulation.scale(SET, 3).unwrap(), None);
    let is_left = |pods: &[View]| (pods.len() == 3).then_some(());
    simulation.until("the pod is gone", LIMIT, is_left).unwrap();
    let endings = simulation.endings().unwrap();
    let ending = endings.last().unwrap();
    assert!(ending.pod == PODS[3] && ending.was_asked, "{ending:?}");
    assert!(ending.took < TOO_SHORT, "it had time to leave: {ending:?}");
    tell(&simulation, 2).await;
    wait_members(&simulation, 3, LIMIT);
    wait_even(&simulation, 3, &mut []);
    wait_repaired(&simulation);
    traffic.goes_on("a pod was killed before it had left").await;
    check(&simulation, 2).await;
    assert_eq!(simulation.scale(SET, 4).unwrap(), None);
    simulation.until_ready(&PODS[..4], LIMIT).unwrap();
    wait_even(&simulation, 4, &mut []);
    wait_repaired(&simulation);
    traffic
        .goes_on("a pod came back with a volume of a node that had left")
        .await;
    traffic.stop().await;
    check(&simulation, 2).await;
}
