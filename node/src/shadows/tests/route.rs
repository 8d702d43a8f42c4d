//! Commands and reads that travel between the nodes of a cluster.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use antumbra_shadow::{ShadowName, Tenant};
use tokio::time::Instant;

use super::support::*;
use crate::shadows::*;

async fn send(shadows: &Shadows, request_id: Option<&str>, json: &str) -> Result<Outcome, Error> {
    let draft = draft(request_id, json);
    shadows
        .update(&caller(), &device("pump"), draft, deadline())
        .await
}

/// Any node accepts any request, and what it acknowledged is seen at every other node.
#[tokio::test(flavor = "multi_thread")]
async fn every_node_serves_every_request() {
    let cluster = Cluster::start(3, 1).await;
    let mut version = 0;
    for writer in ["a", "b", "c", "d"] {
        let item = update(cluster.shadows(writer), "pump", r#"{"x":1}"#).await;
        version += 1;
        assert_eq!(item.version, version);
        for reader in ["a", "b", "c", "d"] {
            let shadows = cluster.shadows(reader);
            let seen = read(shadows, "pump", ReadOptions::default()).await.unwrap();
            assert_eq!(seen.document.version(), version, "at {reader}");
            let local = ReadOptions {
                consistency: Consistency::Local,
                min_version: version,
            };
            let seen = read(shadows, "pump", local).await.unwrap();
            assert_eq!(seen.document.version(), version, "locally at {reader}");
        }
    }
    cluster.stop().await;
}

/// Lists are whole wherever they are asked, and their tokens are good at every node.
#[tokio::test(flavor = "multi_thread")]
async fn pages_go_on_at_another_node() {
    let cluster = Cluster::start(3, 1).await;
    for nth in 0..10 {
        update(cluster.shadows("a"), &format!("d{nth}"), r#"{"x":1}"#).await;
    }
    let (mut names, mut token) = (Vec::new(), String::new());
    for reader in ["d", "a", "b", "c"].iter().cycle() {
        let page = ListRequest {
            page_size: 3,
            page_token: &token,
        };
        let shadows = cluster.shadows(reader);
        let tenant = Tenant::default();
        let page = shadows
            .list_devices(&caller(), &tenant, "", page, deadline())
            .await
            .unwrap();
        names.extend(page.devices.iter().map(ToString::to_string));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    names.sort();
    let expected: Vec<_> = (0..10).map(|nth| format!("d{nth}")).collect();
    assert_eq!(names, expected);
    let page = ListRequest {
        page_size: 10,
        page_token: "",
    };
    let shadows = cluster.shadows("d");
    let page = shadows
        .list_shadows(&caller(), &device("d3"), page, deadline())
        .await;
    assert_eq!(page.unwrap().shadows.len(), 1);
    cluster.stop().await;
}

/// A replica that lags is not asked for what is newest, but for what it has: a reader that is sent to
/// another replica and back would see time go back.
#[tokio::test(flavor = "multi_thread")]
async fn local_read_stays_at_a_replica_that_lags() {
    let cluster = Cluster::start(3, 1).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    update(cluster.shadows(&leader), "pump", r#"{"x":1}"#).await;
    let shadows = cluster.shadows(&follower);
    let local = ReadOptions {
        consistency: Consistency::Local,
        min_version: 1,
    };
    shadows.inner.hints.doubt(SHARD);
    cluster.network.forwarded.lock().clear();
    read(shadows, "pump", local).await.unwrap();
    assert_eq!(*cluster.network.forwarded.lock(), []);
    read(shadows, "pump", ReadOptions::default()).await.unwrap();
    assert_eq!(*cluster.network.forwarded.lock(), [(follower, leader)]);
    cluster.stop().await;
}

/// While its own replica gets ready a node asks others, which may know more. What was shown stays shown: the
/// own replica is left alone until it has caught up with it, and so is one elsewhere that is older.
#[tokio::test(flavor = "multi_thread")]
async fn local_read_never_shows_less_than_before() {
    let cluster = Cluster::start(3, 1).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    update(cluster.shadows(&leader), "pump", r#"{"x":1}"#).await;
    let local = |min_version| ReadOptions {
        consistency: Consistency::Local,
        min_version,
    };
    let shadows = cluster.shadows(&follower);
    read(shadows, "pump", local(1)).await.unwrap();
    cluster.network.cut(&follower);
    update(cluster.shadows(&leader), "pump", r#"{"x":2}"#).await;
    // It is reached as a client, and hears nothing of its shard: its answers are of version 1.
    let before = read(shadows, "pump", local(0)).await.unwrap();
    assert_eq!(before.document.version(), 1, "its own replica is behind");
    let applied = |name: &str| {
        let context = cluster.member(name).context.clone().unwrap();
        context.shard.applied_index()
    };
    shadows.inner.shown.show(SHARD, applied(&leader));
    let soon = Instant::now() + Duration::from_millis(300);
    let shadow = ShadowName::classic();
    let refused = shadows
        .get(&caller(), &device("pump"), &shadow, local(0), soon)
        .await;
    assert!(
        matches!(refused, Err(Error::Unavailable(_) | Error::Deadline)),
        "{refused:?}"
    );
    cluster.network.heal(&follower);
    let after = read(shadows, "pump", local(0)).await.unwrap();
    assert_eq!(after.document.version(), 2);
    // A node without a replica remembers what another one answered, and takes nothing older.
    let other = cluster.shadows("d");
    read(other, "pump", local(2)).await.unwrap();
    assert!(other.inner.shown.least(SHARD) > 0);
    other.inner.shown.show(SHARD, u64::MAX - 1);
    let soon = Instant::now() + Duration::from_millis(300);
    let refused = other
        .get(&caller(), &device("pump"), &shadow, local(0), soon)
        .await;
    assert!(
        matches!(refused, Err(Error::Unavailable(_) | Error::Deadline)),
        "{refused:?}"
    );
    cluster.stop().await;
}

/// Who does not lead refuses with a hint and asks nobody else, so nothing runs in circles.
#[tokio::test(flavor = "multi_thread")]
async fn receiver_never_forwards() {
    let cluster = Cluster::start(3, 1).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    // The node without a replica knows nothing but the follower.
    let only = |name: &str| {
        let mut place = cluster.place.clone();
        place.replicas.retain(|_, node| node.name == name);
        vec![place]
    };
    let shadows = cluster.shadows("d");
    shadows.set_table(only(&follower), BTreeMap::new());
    cluster.network.forwarded.lock().clear();
    accepted(send(shadows, None, r#"{"x":1}"#).await);
    let expected = [
        ("d".to_owned(), follower.clone()),
        ("d".to_owned(), leader.clone()),
    ];
    assert_eq!(*cluster.network.forwarded.lock(), expected);
    // From now on the leader is known.
    accepted(send(shadows, None, r#"{"x":2}"#).await);
    assert_eq!(cluster.network.forwarded.lock()[2..], expected[1..]);
    cluster.stop().await;
}

/// Who sends the updates of a device one after another has each done once and in order, also without a
/// twin, and also while the lead moves under them.
#[tokio::test(flavor = "multi_thread")]
async fn updates_in_turn_keep_their_order_while_the_lead_moves() {
    let cluster = Cluster::start(3, 0).await;
    let has_moved = AtomicBool::new(false);
    let moving = async {
        for to in ["b", "c", "a", "b"] {
            if cluster.leader().await != to {
                cluster.transfer(to).await;
            }
        }
        has_moved.store(true, Ordering::Release);
    };
    let shadows = cluster.shadows("a");
    let writing = async {
        let mut version = 0;
        while !has_moved.load(Ordering::Acquire) {
            version += 1;
            let (caller, device) = (caller(), device("pump"));
            let id = format!("request-{version}");
            let draft = draft(Some(&id), &format!(r#"{{"n":{version}}}"#));
            let outcome =
                shadows.update_in_order(&caller, &device, draft, Order::ByCaller, deadline());
            assert_eq!(accepted(outcome.await).version, version);
            let seen = read(shadows, "pump", ReadOptions::default()).await.unwrap();
            assert_eq!(seen.document.version(), version);
        }
    };
    tokio::join!(moving, writing);
    cluster.stop().await;
}

/// Without a request id a command whose answer was lost is not sent again: it could be done twice.
#[tokio::test(flavor = "multi_thread")]
async fn lost_command_without_request_id_is_unknown() {
    let cluster = Cluster::start(1, 1).await;
    let shadows = cluster.shadows("b");
    accepted(send(shadows, None, r#"{"x":1}"#).await);
    cluster.network.forwarded.lock().clear();
    cluster.network.break_next(&[Fault::AnswerLost]);
    let lost = send(shadows, None, r#"{"x":2}"#).await;
    assert_eq!(lost.unwrap_err(), Error::OutcomeUnknown);
    assert_eq!(cluster.network.forwarded.lock().len(), 1);
    let seen = read(shadows, "pump", ReadOptions::default()).await.unwrap();
    assert_eq!(seen.document.version(), 2, "it was done");
    cluster.stop().await;
}

/// With a request id it is sent again, and the first outcome comes back.
#[tokio::test(flavor = "multi_thread")]
async fn lost_command_with_request_id_is_done_once() {
    let cluster = Cluster::start(1, 1).await;
    let shadows = cluster.shadows("b");
    let lost = [
        Fault::AnswerLost,
        Fault::NotSent,
        Fault::Lost,
        Fault::AnswerLost,
    ];
    cluster.network.break_next(&lost);
    let item = accepted(send(shadows, Some("r"), r#"{"x":1}"#).await);
    assert_eq!(item.version, 1);
    assert_eq!(cluster.network.forwarded.lock().len(), 5);
    let again = accepted(send(cluster.shadows("a"), Some("r"), r#"{"x":1}"#).await);
    assert_eq!(again, item);
    cluster.stop().await;
}

/// A change of leaders costs time and nothing else: every command is done once, in order.
#[tokio::test(flavor = "multi_thread")]
async fn commands_survive_changes_of_leaders() {
    let cluster = Arc::new(Cluster::start(3, 1).await);
    let writers: Vec<_> = ["a", "b", "c", "d"]
        .into_iter()
        .map(|name| {
            let (shadows, id) = (cluster.shadows(name).clone(), format!("of-{name}"));
            tokio::spawn(async move {
                for expected in 1..=60 {
                    let item = update(&shadows, &id, r#"{"x":1}"#).await;
                    assert_eq!(item.version, expected, "{id}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        })
        .collect();
    for _ in 0..3 {
        let to = cluster.follower().await;
        cluster.transfer(&to).await;
    }
    // Then the leader is lost without a word.
    let leader = cluster.leader().await;
    cluster.network.cut(&leader);
    for (writer, name) in writers.into_iter().zip(["a", "b", "c", "d"]) {
        if name == leader {
            // It is cut off and tells so in time.
            writer.abort();
        } else {
            writer.await.unwrap();
        }
    }
    cluster.network.heal(&leader);
    Arc::into_inner(cluster).unwrap().stop().await;
}

/// A replica here that cannot answer leaves the read to others.
#[tokio::test(flavor = "multi_thread")]
async fn reads_go_elsewhere_when_the_replica_here_stops() {
    let cluster = Cluster::start(3, 0).await;
    update(cluster.shadows("a"), "pump", r#"{"x":1}"#).await;
    let follower = cluster.follower().await;
    let member = cluster.member(&follower);
    member.stop_replica().await;
    let seen = read(&member.shadows, "pump", ReadOptions::default()).await;
    assert_eq!(seen.unwrap().document.version(), 1);
    let item = update(&member.shadows, "pump", r#"{"x":2}"#).await;
    assert_eq!(item.version, 2);
    cluster.stop().await;
}
