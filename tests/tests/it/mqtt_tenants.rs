//! What the clients of one tenant may take: documents, sessions, changes, and connections each second.

use std::net::SocketAddr;
use std::time::Duration;

use antumbra_proto::admin::v1::TenantLimits;
use antumbra_proto::v1;
use antumbra_tests::admin::{Admin, Backend};
use antumbra_tests::client::{Client as Grpc, Refusal};
use antumbra_tests::mqtt::{Client, Connect, Version};
use antumbra_tests::node::{Node, Options};
use antumbra_tests::{client, http, waiting};
use tonic::Code;
use tonic_types::StatusExt;

/// How long what a tenant has used up may take to come back.
const LIMIT: Duration = Duration::from_secs(60);

/// Posts a document to a thing, and gives the code of the refusal, or nothing when it is accepted.
fn refused_with(client: &mut Client, thing: &str, document: &str) -> Option<u64> {
    let topic = |end: &str| format!("$aws/things/{thing}/shadow/update{end}");
    client
        .listen(&[&topic("/accepted"), &topic("/rejected")])
        .unwrap();
    client.post(&topic(""), document).unwrap();
    let answer = client.message().unwrap();
    let body: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
    match answer.topic.ends_with("/rejected") {
        true => Some(body["code"].as_u64().unwrap()),
        false => None,
    }
}

fn document(bytes: usize) -> String {
    format!(
        r#"{{"state":{{"desired":{{"a":"{}"}}}}}}"#,
        "x".repeat(bytes)
    )
}

/// The documents of a tenant are limited as its record says at the MQTT door, too: to less than the
/// others have, and to more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_tenant_has_document_limits_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(&Options::new(directory.path())).unwrap();
    let admin = Admin::new(node.grpc());
    let limits = |bytes| TenantLimits {
        document_bytes_max: Some(bytes),
        ..TenantLimits::default()
    };
    let small = admin.tenant("small", limits(100)).await.unwrap();
    let large = admin.tenant("large", limits(16 * 1024)).await.unwrap();
    for version in Version::ALL {
        let thing = version.pick("thing-311", "thing-5");
        let mut of_small = Client::connect(node.mqtt(), &small.connect(version, "a")).unwrap();
        assert_eq!(refused_with(&mut of_small, thing, &document(50)), None);
        assert_eq!(
            refused_with(&mut of_small, thing, &document(200)),
            Some(413)
        );
        let mut of_large = Client::connect(node.mqtt(), &large.connect(version, "a")).unwrap();
        assert_eq!(refused_with(&mut of_large, thing, &document(12_000)), None);
        let mut other = Client::connect(node.mqtt(), &Connect::new(version, "a")).unwrap();
        assert_eq!(refused_with(&mut other, thing, &document(200)), None);
        assert_eq!(
            refused_with(&mut other, thing, &document(12_000)),
            Some(413)
        );
    }
}

/// A tenant has as many sessions as it may have: one more is refused with the reason, whoever goes makes
/// room, a client that comes back takes its own place, and others are not concerned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_tenant_has_only_so_many_sessions() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(&Options::new(directory.path())).unwrap();
    let limits = TenantLimits {
        sessions_max: Some(2),
        ..TenantLimits::default()
    };
    let tenant = Admin::new(node.grpc()).tenant("few", limits).await.unwrap();
    for version in Version::ALL {
        let connect = |client_id: &str| tenant.connect(version, client_id);
        let mut one = Client::connect(node.mqtt(), &connect("one")).unwrap();
        let two = Client::connect(node.mqtt(), &connect("two")).unwrap();
        let (mut three, ack) = Client::dial(node.mqtt(), &connect("three")).unwrap();
        assert_eq!(ack.reason, version.pick(3, 0x97), "{version:?}");
        three.ended().unwrap();
        let mut again = Client::connect(node.mqtt(), &connect("one")).unwrap();
        assert_eq!(
            one.ended().unwrap().reason(),
            version.pick(None, Some(0x8E))
        );
        Client::connect(node.mqtt(), &Connect::new(version, "other")).unwrap();
        two.disconnect().unwrap();
        let three = Client::connect(node.mqtt(), &connect("three")).unwrap();
        again.ping().unwrap();
        three.disconnect().unwrap();
        again.disconnect().unwrap();
    }
    let refused = r#"antumbra_mqtt_connects_refused_total{cause="tenant_sessions"}"#;
    assert_eq!(node.metric(refused).unwrap(), 2.0);
}

/// The code and the reason with which a change of a tenant is refused at the gRPC door, if it is; with
/// the time to wait it must say.
async fn change(node: &Node, tenant: &Backend, update: v1::UpdateShadowRequest) -> Option<Refusal> {
    let grpc = Grpc::new(node.grpc());
    let mut request = grpc.request(update);
    let header = tenant.authorization().parse().unwrap();
    request.metadata_mut().insert("authorization", header);
    let status = grpc.raw().update_shadow(request).await.err()?;
    let wait = status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay);
    assert!(wait.is_some_and(|wait| !wait.is_zero()), "{status:?}");
    Some(status.into())
}

/// Changes ten shadows of a device at once.
async fn change_ten(node: &Node, tenant: &Backend) {
    let grpc = Grpc::new(node.grpc());
    let requests = (0..10).map(|nth| {
        let mut update = client::desired_update("many", r#"{"a":1}"#);
        update.key.as_mut().unwrap().shadow_name = format!("shadow-{nth}");
        update
    });
    let requests = requests.collect();
    let mut request = grpc.request(v1::BatchUpdateShadowsRequest { requests });
    let header = tenant.authorization().parse().unwrap();
    request.metadata_mut().insert("authorization", header);
    let answer = grpc.raw().batch_update_shadows(request).await.unwrap();
    let results = answer.into_inner().results;
    assert!(results.iter().all(|result| result.code == 0), "{results:?}");
}

/// Posts a change at the HTTP door and gives the status.
fn change_over_http(address: SocketAddr, tenant: &Backend) -> u16 {
    let body = document(1);
    let request = format!(
        "POST /things/web/shadow HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         authorization: {}\r\ncontent-length: {}\r\n\r\n{body}",
        tenant.authorization(),
        body.len()
    );
    http::send_raw(address, request.as_bytes()).unwrap().status
}

/// Changes of a tenant that come too fast are refused, each door in its own words and all of them from
/// one account; other tenants go on, and with time the tenant does, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_changes_of_a_tenant_are_limited_with_those_of_all_doors() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(&Options::new(directory.path())).unwrap();
    let limits = TenantLimits {
        updates_per_second_max: Some(1),
        ..TenantLimits::default()
    };
    let tenant = Admin::new(node.grpc())
        .tenant("slow", limits)
        .await
        .unwrap();
    let mut device = Client::connect(node.mqtt(), &tenant.connect(Version::V5, "a")).unwrap();
    let update = || client::desired_update("backend", r#"{"a":1}"#);

    // Ten seconds' worth at once: it is let through, and what comes next waits.
    change_ten(&node, &tenant).await;
    let refusal = change(&node, &tenant, update()).await.unwrap();
    let seen = (refusal.code, refusal.reason.as_str());
    assert_eq!(seen, (Code::ResourceExhausted, "OVERLOADED"));
    assert_eq!(change_over_http(node.http(), &tenant), 429);
    assert_eq!(refused_with(&mut device, "lamp", &document(1)), Some(429));
    Grpc::new(node.grpc())
        .update("other", r#"{"a":1}"#)
        .await
        .unwrap();
    let refused = r#"antumbra_requests_refused_total{cause="tenant_rate"}"#;
    assert_eq!(node.metric(refused).unwrap(), 3.0);

    let accepted = || async {
        change(&node, &tenant, update())
            .await
            .is_none()
            .then_some(())
    };
    waiting::until_async("an accepted change", LIMIT, accepted)
        .await
        .unwrap();
}

/// CONNECTs of a tenant that come too fast are refused with the reason, and those of others are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_connects_of_a_tenant_are_limited() {
    const CLIENTS: usize = 20;
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new(directory.path())
        .with_env("ANTUMBRA_LIMITS_MQTT_CONNECTS_PER_SECOND_PER_TENANT_MAX", 1);
    let node = Node::start(&options).unwrap();
    let admin = Admin::new(node.grpc());
    for version in Version::ALL {
        let name = version.pick("eager-311", "eager-5");
        let tenant = admin.tenant(name, TenantLimits::default()).await.unwrap();
        let mut clients = Vec::new();
        for nth in 0..CLIENTS {
            let mut client = Client::open(node.mqtt(), version).unwrap();
            let connect = tenant.connect(version, &format!("client-{nth}"));
            client.send(&connect.encode()).unwrap();
            clients.push(client);
        }
        let reasons = clients
            .iter_mut()
            .map(|client| client.connect_ack().unwrap().reason);
        let reasons: Vec<u8> = reasons.collect();
        let accepted = reasons.iter().filter(|&&reason| reason == 0).count();
        assert!(accepted > 0 && accepted < CLIENTS, "{reasons:?}");
        let too_fast = version.pick(3, 0x9F);
        let known = |reason: &u8| [0, too_fast].contains(reason);
        assert!(reasons.iter().all(known), "{reasons:?}");
        for (client, _) in clients
            .iter_mut()
            .zip(&reasons)
            .filter(|(_, reason)| **reason != 0)
        {
            client.ended().unwrap();
        }
        Client::connect(node.mqtt(), &Connect::new(version, "other")).unwrap();
        let comes_in = || {
            let dialled = Client::dial(node.mqtt(), &tenant.connect(version, "later"));
            (dialled.unwrap().1.reason == 0).then_some(())
        };
        waiting::until("the tenant comes in again", LIMIT, comes_in).unwrap();
    }
}
