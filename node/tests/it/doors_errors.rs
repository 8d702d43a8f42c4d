//! Every documented reason comes out of a real call, as far as one can be provoked; health and
//! reflection as clients use them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use antumbra::boot::{self, Listeners};
use antumbra::config::Seeds;
use antumbra::error::Reason;
use antumbra::shadows::Caller;
use antumbra::{api, http};
use antumbra_proto::v1;
use antumbra_proto::v1::shadows_client::ShadowsClient;
use antumbra_shadow::{Limits, Tenant};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::doors_support::{
    Site, answer_within, desired, get, grpc_door, key, patiently, raw, reason,
};
use crate::shadows_support::config;

/// What cannot be provoked yet: nobody is authenticated, and damage and bugs are not on call.
const NOT_PROVOKED: [Reason; 2] = [Reason::DataDamaged, Reason::Internal];

#[tokio::test]
async fn every_reason_is_produced_by_a_real_call() {
    let mut seen = BTreeSet::new();
    seen.extend(reasons_of_a_healthy_node().await);
    seen.extend(reasons_of_a_crowded_node().await);
    seen.extend(reasons_of_a_forgetful_node().await);
    seen.extend(reasons_of_a_stopping_node().await);
    let expected: BTreeSet<String> = Reason::ALL
        .iter()
        .filter(|reason| !NOT_PROVOKED.contains(reason))
        .map(|reason| reason.row().name.to_owned())
        .collect();
    assert_eq!(seen, expected);
}

async fn update(site: &Site, request: v1::UpdateShadowRequest) -> Result<u64, Status> {
    Ok(site
        .grpc
        .clone()
        .update_shadow(request)
        .await?
        .into_inner()
        .version)
}

async fn refusal_of(site: &Site, request: v1::UpdateShadowRequest) -> String {
    reason(&update(site, request).await.unwrap_err())
}

async fn reasons_of_a_healthy_node() -> Vec<String> {
    let site = Site::open_with(|config| config.limits.shadows_per_device_max = 2).await;
    let conditions = |conditions| v1::UpdateShadowRequest {
        conditions: Some(conditions),
        request_id: String::new(),
        ..desired("pump", "{}")
    };
    let deep = format!("{}1{}", "{\"a\":".repeat(9), "}".repeat(9));
    let mut seen = vec![
        refusal_of(&site, desired("", "{}")).await,
        refusal_of(&site, desired("pump", "{")).await,
        refusal_of(&site, desired("pump", r#"{"a":[null]}"#)).await,
        refusal_of(&site, desired("pump", &deep)).await,
        refusal_of(
            &site,
            desired("pump", &format!(r#"{{"a":"{}"}}"#, "x".repeat(9000))),
        )
        .await,
        reason(&site.grpc.clone().get_shadow(get("none")).await.unwrap_err()),
        refusal_of(
            &site,
            conditions(v1::Conditions {
                expected_version: Some(7),
                ..Default::default()
            }),
        )
        .await,
        refusal_of(
            &site,
            conditions(v1::Conditions {
                expected_desired_version: Some(7),
                ..Default::default()
            }),
        )
        .await,
    ];

    let named = |name: &str, request_id: &str| v1::UpdateShadowRequest {
        key: key("pump", name),
        request_id: request_id.to_owned(),
        ..desired("pump", "{}")
    };
    update(&site, named("a", "r1")).await.unwrap();
    seen.push(refusal_of(&site, named("b", "r1")).await);
    update(&site, named("b", "")).await.unwrap();
    seen.push(refusal_of(&site, named("c", "")).await);

    let waiting = v1::GetShadowRequest {
        min_version: 5,
        ..get("pump")
    };
    seen.push(reason(
        &answer_within(&site, "50m", "GetShadow", waiting).await,
    ));

    seen.push(site.send("GET", "/nothing", b"").await.reason());
    seen.push(site.send("PUT", "/things/pump/shadow", b"").await.reason());
    let compressed = "content-encoding: gzip\r\n";
    let reply = site
        .send_with("POST", "/things/pump/shadow", compressed, b"{}")
        .await;
    seen.push(reply.reason());

    let unknown = "authorization: Bearer nonsense\r\n";
    let reply = site
        .send_with("GET", "/things/pump/shadow", unknown, b"")
        .await;
    seen.push(reply.reason());

    seen.push(stranger(&site).await);
    site.close().await;
    seen
}

/// Somebody of another tenant, through doors of their own over the same shadows.
async fn stranger(site: &Site) -> String {
    let elsewhere = Tenant::parse("elsewhere").unwrap();
    let caller = Arc::new(Caller::of_tenant("stranger", elsewhere));
    let stop = CancellationToken::new();
    let door = http::Door {
        shadows: site.node.shadows().clone(),
        gate: site.node.gate(),
        caller: Arc::clone(&caller),
        limits: Limits::default(),
        health: site.node.health().clone(),
        office: site.node.office(),
        metrics: None,
        clock: antumbra_raft::Env::system().clock,
        default_deadline: Duration::from_secs(10),
        body_bytes_max: 1 << 20,
        grpc_address: site.node.addresses().grpc,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let http = tokio::spawn(http::serve(listener, door, None, stop.clone()));
    let request = b"GET /things/pump/shadow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let reply = raw(address, request).await;
    assert_eq!(
        reply.failure(),
        (
            404,
            "ResourceNotFoundException".to_owned(),
            "No shadow exists with name: 'pump'".to_owned()
        ),
        "in their own tenant it is another device"
    );

    let door = grpc_door(site, caller);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let grpc = tokio::spawn(api::serve(listener, door, None, stop.clone()));
    let mut client = ShadowsClient::connect(format!("http://{address}"))
        .await
        .unwrap();
    let foreign = v1::ShadowKey {
        tenant: "default".into(),
        ..key("pump", "").unwrap()
    };
    let request = v1::GetShadowRequest {
        key: Some(foreign),
        ..Default::default()
    };
    let refused = reason(&client.get_shadow(request).await.unwrap_err());
    drop(client);
    stop.cancel();
    patiently(http).await.unwrap();
    patiently(grpc).await.unwrap().unwrap();
    refused
}

/// More commands for one device than may wait.
async fn reasons_of_a_crowded_node() -> Vec<String> {
    let site = Site::open_with(|config| config.limits.commands_per_device_max = 1).await;
    let calls = (0..50).map(|_| update(&site, desired("pump", "{}")));
    let results = patiently(futures::future::join_all(calls)).await;
    let refused: BTreeSet<String> = results
        .iter()
        .filter_map(|result| Some(reason(result.as_ref().err()?)))
        .collect();
    let accepted = results.iter().filter(|result| result.is_ok()).count() as u64;
    let version = site
        .grpc
        .clone()
        .get_shadow(get("pump"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        version.shadow.unwrap().version,
        accepted,
        "OVERLOADED means not applied"
    );
    site.close().await;
    refused.into_iter().collect()
}

/// The result of every proposal is lost, though the change is applied.
async fn reasons_of_a_forgetful_node() -> Vec<String> {
    let site = Site::open_with(|config| config.test_switches.lose_proposal = Some(1)).await;
    let lost = refusal_of(&site, desired("pump", r#"{"a":1}"#)).await;
    let reply = site
        .send("POST", "/things/tank/shadow", br#"{"state":{}}"#)
        .await;
    assert_eq!((reply.status, reply.reason()), (500, lost.clone()));
    site.close().await;
    vec![lost]
}

/// A watch that is open while the node stops.
async fn reasons_of_a_stopping_node() -> Vec<String> {
    let site = Site::open().await;
    let mut client = site.grpc.clone();
    let watch = client.watch_shadows(v1::WatchShadowsRequest::default());
    let mut events = patiently(watch).await.unwrap().into_inner();
    drop(client);
    patiently(events.next()).await.unwrap().unwrap();
    let end = async {
        loop {
            if let Err(status) = events.next().await.expect("an end with a status") {
                return reason(&status);
            }
        }
    };
    let (seen, ()) = tokio::join!(patiently(end), site.close());
    vec![seen]
}

/// Load balancers ask the health service, people ask reflection.
#[tokio::test]
async fn health_and_reflection_answer() {
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
    use tonic_reflection::pb::{v1 as reflection, v1alpha as alpha};

    let site = Site::open().await;
    let address = format!("http://{}", site.node.addresses().grpc);
    let endpoint = tonic::transport::Endpoint::new(address).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let mut health = HealthClient::new(channel.clone());
    for service in ["", "antumbra.v1.Shadows"] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let status = || async {
            let reply = health.clone().check(request.clone()).await;
            reply.map(|reply| reply.into_inner().status())
        };
        let serving = async {
            while !matches!(status().await, Ok(ServingStatus::Serving)) {
                tokio::task::yield_now().await;
            }
        };
        patiently(serving).await;
    }
    let unknown = HealthCheckRequest {
        service: "nothing".to_owned(),
    };
    assert!(health.check(unknown).await.is_err());

    let request = reflection::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            reflection::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
    };
    let mut client =
        reflection::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let stream = tokio_stream::iter([request]);
    let mut replies = client
        .server_reflection_info(stream)
        .await
        .unwrap()
        .into_inner();
    let reply = format!("{:?}", patiently(replies.next()).await.unwrap().unwrap());
    assert!(reply.contains("antumbra.v1.Shadows") && reply.contains("grpc.health.v1.Health"));

    let request = alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
                "antumbra.v1.Shadows".to_owned(),
            ),
        ),
    };
    let mut client = alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let stream = tokio_stream::iter([request]);
    let mut replies = client
        .server_reflection_info(stream)
        .await
        .unwrap()
        .into_inner();
    let reply = format!("{:?}", patiently(replies.next()).await.unwrap().unwrap());
    assert!(reply.contains("FileDescriptorResponse"), "{reply}");
    drop((client, health));
    site.close().await;
}

/// A seed that waits for the others says that it lives and is not ready, and refuses every request at
/// once: whoever asks need not wait until the cluster is founded.
#[tokio::test(flavor = "multi_thread")]
async fn doors_answer_before_the_cluster_is_founded() {
    let directory = TempDir::new().unwrap();
    let mut config = config(directory.path());
    config.node.name = "node-1".to_owned();
    // Port 1 of the loopback interface: nobody is there.
    let seeds = ["node-1", "node-2"].map(|name| (name.to_owned(), "127.0.0.1:1".to_owned()));
    config.cluster.seeds = Seeds(seeds.into());
    config.cluster.expect = 2;
    let listeners = Listeners::bind(&config).await.unwrap();
    let address = |listener: &TcpListener| listener.local_addr().unwrap();
    let (grpc, http) = (address(&listeners.grpc), address(&listeners.http));
    let starting = tokio::spawn(boot::start(config, listeners));

    let probe = async |path: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        raw(http, head.as_bytes()).await.status
    };
    assert_eq!(probe("/livez").await, 200);
    assert_eq!(probe("/startupz").await, 503);
    assert_eq!(probe("/readyz").await, 503);
    assert_eq!(probe("/things/pump/shadow").await, 503);
    let mut client = ShadowsClient::connect(format!("http://{grpc}"))
        .await
        .unwrap();
    let refused = client.get_shadow(get("pump")).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    assert!(!starting.is_finished());
    starting.abort();
}
