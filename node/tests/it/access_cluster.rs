//! A credential that is revoked on one node of a closed cluster is good for nothing on any.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use antumbra::boot::{self, Listeners, Node};
use antumbra::config::Seeds;
use antumbra_proto::admin::v1 as admin;
use antumbra_proto::admin::v1::admin_client::AdminClient;
use antumbra_proto::v1;
use antumbra_proto::v1::shadows_client::ShadowsClient;
use futures::future::{join_all, try_join_all};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use crate::access_support::{BOOTSTRAP, Mqtt, close, with};
use crate::doors_support::{get, patiently, raw};
use crate::shadows_support::config;

/// What is promised: so long after the answer of a revocation may something go on.
const PROMISE: Duration = Duration::from_secs(5);
/// Longer than the founding of a cluster on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Three nodes in this process that let nobody in without credentials.
struct Cluster {
    nodes: Vec<Node>,
    _directories: Vec<TempDir>,
}

impl Cluster {
    async fn start() -> Cluster {
        let mut prepared = Vec::new();
        let mut seeds = BTreeMap::new();
        for number in 1..=3 {
            let directory = TempDir::new().unwrap();
            let mut config = config(directory.path());
            close(&mut config);
            config.node.name = format!("node-{number}");
            let listeners = Listeners::bind(&config).await.unwrap();
            let address = listeners.peer.local_addr().unwrap().to_string();
            seeds.insert(config.node.name.clone(), address);
            prepared.push((directory, config, listeners));
        }
        let (mut starts, mut directories) = (Vec::new(), Vec::new());
        for (directory, mut config, listeners) in prepared {
            config.cluster.seeds = Seeds(seeds.clone());
            directories.push(directory);
            starts.push(boot::start(config, listeners));
        }
        let nodes = tokio::time::timeout(PATIENCE, try_join_all(starts)).await;
        Cluster {
            nodes: nodes.expect("in time").unwrap(),
            _directories: directories,
        }
    }

    /// Nodes are counted from 1.
    fn node(&self, number: usize) -> &Node {
        &self.nodes[number - 1]
    }

    async fn channel(&self, number: usize) -> Channel {
        let url = format!("http://{}", self.node(number).addresses().grpc);
        Channel::from_shared(url).unwrap().connect().await.unwrap()
    }

    async fn shadows(&self, number: usize) -> ShadowsClient<Channel> {
        ShadowsClient::new(self.channel(number).await)
    }

    /// Makes a credential of a device and gives its token, once every node knows it.
    async fn credential(&self, device: &str) -> String {
        let request = admin::CreateCredentialRequest {
            id: device.to_owned(),
            device_id: device.to_owned(),
            ..Default::default()
        };
        let mut operator = AdminClient::new(self.channel(1).await);
        let made = patiently(operator.create_credential(with(BOOTSTRAP, request))).await;
        let token = made.unwrap().into_inner().token;
        let deadline = Instant::now() + PATIENCE;
        for number in 1..=3 {
            let unknown = [Code::Unauthenticated, Code::Unavailable];
            while unknown.contains(&self.status(number, &token).await) {
                assert!(Instant::now() < deadline, "node-{number}: {device}");
                sleep(Duration::from_millis(20)).await;
            }
        }
        token
    }

    /// What a read of the own shadow is told.
    async fn status(&self, number: usize, token: &str) -> Code {
        let read = with(token, get("lamp"));
        let asked = patiently(self.shadows(number).await.get_shadow(read)).await;
        asked.map_or_else(|status| status.code(), |_| Code::Ok)
    }

    async fn close(self) {
        let stopped = join_all(self.nodes.into_iter().map(Node::shutdown)).await;
        stopped.into_iter().for_each(|stopped| stopped.unwrap());
    }
}

/// The code that a stream ends with.
async fn end_of<T>(stream: &mut Streaming<T>) -> Code {
    loop {
        match patiently(stream.message()).await {
            Ok(message) => assert!(message.is_some(), "ended without an error"),
            Err(status) => return status.code(),
        }
    }
}

/// A session on node 2, a watch on node 3 and an update stream on node 1 end within five seconds after
/// node 1 has answered that the credential is revoked, and nobody comes in with it again (invariant
/// 14). What others have stays.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_revocation_ends_sessions_and_streams_on_every_node() {
    let cluster = Cluster::start().await;
    let token = cluster.credential("lamp").await;
    let other = cluster.credential("pump").await;
    let mqtt = cluster.node(2).addresses().mqtt;
    let mut session = Mqtt::connect_to(mqtt, "lamp", &token).await.ok().unwrap();
    let mut stays = Mqtt::connect_to(mqtt, "pump", &other).await.ok().unwrap();
    let watch = |device: &str| v1::WatchShadowsRequest {
        device_ids: vec![device.to_owned()],
        ..Default::default()
    };
    let mut third = cluster.shadows(3).await;
    let watching = third.watch_shadows(with(&token, watch("lamp"))).await;
    let mut watching = watching.unwrap().into_inner();
    let goes_on = third.watch_shadows(with(&other, watch("pump"))).await;
    let mut goes_on = goes_on.unwrap().into_inner();
    let (_updates, receiver) = mpsc::channel(1);
    let mut first = cluster.shadows(1).await;
    let updating = with(&token, ReceiverStream::new(receiver));
    let mut updating = first.stream_updates(updating).await.unwrap().into_inner();

    let revoke = admin::RevokeCredentialRequest {
        id: "lamp".to_owned(),
    };
    let mut operator = AdminClient::new(cluster.channel(1).await);
    let revoked = patiently(operator.revoke_credential(with(BOOTSTRAP, revoke))).await;
    revoked.unwrap();
    let begun = Instant::now();
    let (reason, watched, updated) = tokio::join!(
        session.closed(),
        end_of(&mut watching),
        end_of(&mut updating),
    );
    println!("all closed after {:?}", begun.elapsed());
    assert!(begun.elapsed() < PROMISE, "{:?}", begun.elapsed());
    assert_eq!(reason, Some(0x87));
    assert_eq!(
        (watched, updated),
        (Code::Unauthenticated, Code::Unauthenticated)
    );

    for number in 1..=3 {
        let status = cluster.status(number, &token).await;
        assert_eq!(status, Code::Unauthenticated, "gRPC of node-{number}");
        let addresses = cluster.node(number).addresses();
        let request = format!(
            "GET /things/lamp/shadow HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
             authorization: Bearer {token}\r\n\r\n"
        );
        let reply = raw(addresses.http, request.as_bytes()).await;
        assert_eq!(reply.status, 401, "HTTP of node-{number}: {reply:?}");
        let refused = Mqtt::connect_to(addresses.mqtt, "lamp", &token).await;
        assert!(refused.is_err(), "MQTT of node-{number}");
    }
    assert_eq!(stays.publish("$aws/things/pump/shadow/get", "").await, 0);
    let update = with(
        &other,
        crate::doors_support::desired("pump", r#"{"on":true}"#),
    );
    first.update_shadow(update).await.unwrap();
    let heard = loop {
        let message = patiently(goes_on.message()).await.unwrap().unwrap();
        if format!("{message:?}").contains("pump") {
            break message;
        }
    };
    assert!(format!("{heard:?}").contains("on"), "{heard:?}");
    drop((first, third, operator, goes_on));
    cluster.close().await;
}
