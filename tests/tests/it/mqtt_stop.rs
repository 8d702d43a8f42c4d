//! A node that stops sends its devices to others, one after another, and is quiet about it.

use std::thread;
use std::time::{Duration, Instant};

use antumbra_tests::chaos::cluster::{self, Cluster};
use antumbra_tests::mqtt::{Client, Connect, Version};
use antumbra_tests::{environment, http, waiting};
use serde_json::json;

use crate::mqtt_shadows::classic;

const LIMIT: Duration = Duration::from_secs(60);
/// Devices of the node that stops, of each version of MQTT.
const DEVICES: usize = 15;
/// How many of them are sent away each second.
const RATE: usize = 10;
/// The last of them hears so much later than the first, at this rate.
const SPREAD: Duration = Duration::from_millis(2_900);
/// Slower than this is stuck.
const SPREAD_MAX: Duration = Duration::from_secs(30);
const USE_ANOTHER_SERVER: u8 = 0x9C;

fn connect(
    cluster: &Cluster,
    node: usize,
    version: Version,
    thing: &str,
) -> Option<(Client, bool)> {
    let durable = Connect::durable(version, thing);
    let (client, ack) = Client::dial(cluster.mqtt(node), &durable).ok()?;
    (ack.reason == 0).then_some((client, ack.session_present))
}

/// Clients learn from the probes first, then from their connections; nobody loses a session, and
/// whoever comes while they are being sent away is sent away too.
#[test]
fn mqtt_devices_leave_a_stopping_node_at_a_rate() {
    if !environment::can_use_root(1) {
        return;
    }
    let rate = (
        "ANTUMBRA_LIMITS_MQTT_DISCONNECTS_PER_SECOND",
        RATE.to_string(),
    );
    let delay = ("ANTUMBRA_NODE_STOP_DELAY", "2s".to_owned());
    let mut cluster = Cluster::create(cluster::Options {
        nodes: 3,
        spares: 0,
        binary: environment::binary(),
        disks: false,
        environment: [rate, delay]
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
    })
    .unwrap();
    for node in 0..3 {
        cluster.start(node).unwrap();
    }
    cluster.wait_ready(&[0, 1, 2], LIMIT).unwrap();
    let probe = |cluster: &Cluster, path: &str| {
        let answer = http::get(cluster.http(2), path).unwrap();
        (answer.status, answer.text())
    };
    let (status, text) = probe(&cluster, "/readyz?verbose");
    assert_eq!(
        (status, text.as_str()),
        (200, "[+] phase\n[+] drained\n[+] cluster\nok\n")
    );

    let names = (0..DEVICES).flat_map(|nth| {
        Version::ALL.map(|version| (version, format!("sent-away-{nth}-{version:?}")))
    });
    let mut devices: Vec<_> = names
        .map(|(version, thing)| {
            let (mut client, _) = connect(&cluster, 2, version, &thing).unwrap();
            client
                .listen(&[&format!("{}/update/accepted", classic(&thing))])
                .unwrap();
            (version, thing, client)
        })
        .collect();

    let begun = Instant::now();
    cluster.process(2).unwrap().signal("TERM").unwrap();
    waiting::until("the node is not ready", LIMIT, || {
        (probe(&cluster, "/readyz").0 == 503).then_some(())
    })
    .unwrap();
    let (status, text) = probe(&cluster, "/readyz");
    assert_eq!(status, 503);
    assert!(text.contains("[-] phase: the node is stopping\n"), "{text}");
    assert_eq!(probe(&cluster, "/livez").0, 200);
    // A load balancer that has not looked yet still sends clients.
    let late = "sent-away-late";
    let (client, _) = connect(&cluster, 2, Version::V5, late).expect("the node serves meanwhile");
    devices.push((Version::V5, late.to_owned(), client));
    assert!(begun.elapsed() < Duration::from_secs(2), "too late to tell");

    let waiting: Vec<_> = devices
        .into_iter()
        .map(|(version, thing, mut client)| {
            thread::spawn(move || {
                let ended = client.ended_within(LIMIT).unwrap();
                (version, thing, ended.reason(), Instant::now())
            })
        })
        .collect();
    let told: Vec<_> = waiting.into_iter().map(|one| one.join().unwrap()).collect();
    let first = told.iter().map(|one| one.3).min().unwrap();
    let last = told.iter().map(|one| one.3).max().unwrap();
    assert!(
        first - begun >= Duration::from_secs(2),
        "before the delay was over"
    );
    let spread = last - first;
    println!("{} devices were sent away within {spread:?}", told.len());
    assert!((SPREAD..SPREAD_MAX).contains(&spread), "{spread:?}");
    for (version, thing, reason, _) in told {
        let expected = version.pick(None, Some(USE_ANOTHER_SERVER));
        assert_eq!(reason, expected, "{thing}");
        let (mut client, had_session) = connect(&cluster, 0, version, &thing).unwrap();
        assert!(had_session, "{thing} has lost its session");
        if thing != late {
            let topic = format!("{}/update", classic(&thing));
            let state = json!({"state": {"reported": {"back": true}}}).to_string();
            client.post(&topic, state).unwrap();
            client.message_on(&format!("{topic}/accepted")).unwrap();
        }
    }
    assert!(
        cluster.wait_ended(2, LIMIT).unwrap(),
        "it ended with an error"
    );
}
