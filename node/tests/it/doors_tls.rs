//! Doors with TLS: who gets in with which certificate, and who is only in the way.

use std::time::{Duration, Instant};

use antumbra::access::{Fingerprint, Mode};
use antumbra_proto::admin::v1 as admin;
use antumbra_proto::admin::v1::admin_client::AdminClient;
use antumbra_proto::v1;
use antumbra_proto::v1::shadows_client::ShadowsClient;
use axum::body::Body;
use axum::http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use crate::access_matrix::{Told, VERBS, ask};
use crate::access_support::{BOOTSTRAP, Mqtt, with};
use crate::doors_support::{get, patiently};
use crate::tls_support::{Authority, Secured, client, dial};

/// How a client of HTTP/2 begins, with an empty SETTINGS frame (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The token of a new credential, made over TLS.
pub(crate) async fn credential(site: &Secured, request: admin::CreateCredentialRequest) -> String {
    let mut operator = AdminClient::new(site.grpc(None).await);
    let made = operator.create_credential(with(BOOTSTRAP, request)).await;
    made.unwrap().into_inner().token
}

async fn make_acme(site: &Secured) {
    let mut operator = AdminClient::new(site.grpc(None).await);
    let request = admin::CreateTenantRequest {
        name: "acme".to_owned(),
        limits: None,
    };
    let made = operator.create_tenant(with(BOOTSTRAP, request)).await;
    made.unwrap();
}

/// The gRPC door: every verb by whoever a certificate is for (invariant 14).
#[tokio::test(flavor = "multi_thread")]
async fn certificates_keep_the_matrix_at_the_grpc_door() {
    let site = Secured::open(|_| {}).await;
    make_acme(&site).await;
    let request = admin::CreateCredentialRequest {
        id: "backend".to_owned(),
        ..Default::default()
    };
    let backend = credential(&site, request).await;
    let own = site.authority.device("lamp", "");
    let other_device = site.authority.device("pump", "default");
    let other_tenant = site.authority.device("lamp", "acme");
    let no_tenant = site.authority.device("lamp", "nowhere");
    for verb in VERBS {
        let expected = match verb {
            "list_devices" | "watch_all" => Told::Forbidden,
            _ => Told::Allowed,
        };
        for (who, shown, token, expected) in [
            ("own", Some(&own), "", expected),
            ("other device", Some(&other_device), "", Told::Forbidden),
            ("other tenant", Some(&other_tenant), "", Told::Forbidden),
            ("no tenant", Some(&no_tenant), "", Told::Unknown),
            ("nobody", None, "", Told::Unknown),
            ("bad token", Some(&own), "nonsense", Told::Unknown),
            ("token", None, &*backend, Told::Allowed),
            (
                "token of more",
                Some(&other_device),
                &*backend,
                Told::Allowed,
            ),
        ] {
            let grpc = ShadowsClient::new(site.grpc(shown).await);
            let told = patiently(ask(&grpc, token, verb)).await;
            assert_eq!(told, expected, "{verb} by {who}");
        }
    }
    site.close().await;
}

/// The HTTP door: every operation by whoever a certificate is for. Probes need none.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_keep_the_matrix_at_the_http_door() {
    let site = Secured::open(|_| {}).await;
    make_acme(&site).await;
    let own = site.authority.device("lamp", "");
    let other_device = site.authority.device("pump", "");
    let other_tenant = site.authority.device("lamp", "acme");
    let update: &[u8] = br#"{"state":{"desired":{"by":"own"}}}"#;
    let list = "/api/things/shadow/ListNamedShadowsForThing/lamp";
    for (method, path, body) in [
        ("POST", "/things/lamp/shadow", update),
        ("GET", "/things/lamp/shadow", b""),
        ("GET", list, b""),
        ("DELETE", "/things/lamp/shadow", b""),
    ] {
        for (who, shown, expected) in [
            ("other device", Some(&other_device), 403),
            ("nobody", None, 401),
            ("own", Some(&own), 200),
        ] {
            let reply = site.http(shown, (method, path), "", body).await;
            assert_eq!(
                reply.status, expected,
                "{method} {path} by {who}: {reply:?}"
            );
        }
        if method == "POST" {
            let reply = site.http(Some(&other_tenant), ("GET", path), "", b"").await;
            assert_eq!(reply.status, 404, "another tenant sees it: {reply:?}");
        }
    }
    for probe in ["/livez", "/metrics"] {
        let reply = site.http(None, ("GET", probe), "", b"").await;
        assert_eq!(reply.status, 200, "probes show nothing");
    }
    let header = "authorization: Bearer nonsense\r\n";
    let reply = site.http(Some(&own), ("GET", "/things/lamp/shadow"), header, b"");
    assert_eq!(reply.await.status, 401, "what is shown is judged");
    site.close().await;
}

/// HTTP/2 is served to whoever chooses it, on the same port.
#[tokio::test(flavor = "multi_thread")]
async fn http_door_speaks_http2_over_tls() {
    let site = Secured::open(|_| {}).await;
    let own = site.authority.device("lamp", "");
    let config = client(&site.authority, Some(&own), "h2");
    let stream = dial(site.node.addresses().http, config).await.unwrap();
    let shake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = shake.await.unwrap();
    let connection = tokio::spawn(connection);
    for (path, expected) in [("/things/lamp/shadow", 404), ("/things/pump/shadow", 403)] {
        let request = Request::get(format!("https://localhost{path}"));
        let request = request.body(Body::empty()).unwrap();
        let reply = patiently(sender.send_request(request)).await.unwrap();
        assert_eq!(reply.status(), expected, "{path}");
    }
    drop(sender);
    patiently(connection).await.unwrap().unwrap();
    site.close().await;
}

/// Whom nobody here vouches for does not get as far as a request; who speaks no TLS gets no answer.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_plain_text_get_nowhere() {
    let site = Secured::open(|config| config.mode = Mode::Open).await;
    let other = Authority::new();
    let stranger = other.device("lamp", "");
    let addresses = site.node.addresses();
    let config = client(&site.authority, Some(&stranger), "h2");
    // In TLS 1.3 a client hears of its refusal when it first reads. One connection, and no gRPC
    // client: that would connect again and again.
    if let Ok(mut stream) = dial(addresses.grpc, config).await {
        let _ = stream.write_all(PREFACE).await;
        let mut heard = Vec::new();
        assert!(patiently(stream.read_to_end(&mut heard)).await.is_err());
        assert_eq!(heard, b"");
    }
    let config = client(&other, None, "h2");
    assert!(
        dial(addresses.grpc, config).await.is_err(),
        "the server proves who it is, too"
    );
    let config = client(&site.authority, None, "mqtt");
    assert!(
        dial(addresses.grpc, config).await.is_err(),
        "this port speaks HTTP/2"
    );

    let http: &[u8] = b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n";
    for (address, said) in [(addresses.grpc, PREFACE), (addresses.http, http)] {
        let mut plain = TcpStream::connect(address).await.unwrap();
        plain.write_all(said).await.unwrap();
        let mut heard = Vec::new();
        let _ = patiently(plain.read_to_end(&mut heard)).await;
        // An alert of TLS at most (RFC 8446 section 5.1, content type 21).
        assert!(matches!(heard.first(), None | Some(21)), "{heard:?}");
    }

    // The node is open to everybody, and its doors know clients by certificates: nothing is no proof.
    let reply = site
        .http(None, ("GET", "/things/lamp/shadow"), "", b"")
        .await;
    assert_eq!(reply.status, 401, "{reply:?}");
    let grpc = ShadowsClient::new(site.grpc(None).await);
    assert_eq!(ask(&grpc, "", "get").await, Told::Unknown);
    site.close().await;
}

/// A certificate that was registered and revoked ends its streams and comes in no more.
#[tokio::test(flavor = "multi_thread")]
async fn revoked_certificate_loses_its_streams() {
    let site = Secured::open(|_| {}).await;
    let lamp = site.authority.device("lamp", "");
    let fingerprint = Fingerprint::of(lamp.der()).to_string();
    let register = admin::CreateCredentialRequest {
        id: "lamp".to_owned(),
        kind: admin::CredentialKind::Certificate as i32,
        device_id: "lamp".to_owned(),
        fingerprint,
        ..Default::default()
    };
    credential(&site, register).await;
    let mut grpc = ShadowsClient::new(site.grpc(Some(&lamp)).await);
    let request = v1::WatchShadowsRequest {
        device_ids: vec!["lamp".to_owned()],
        ..Default::default()
    };
    let mut watch = grpc.watch_shadows(request).await.unwrap().into_inner();
    let config = client(&site.authority, Some(&lamp), "mqtt");
    let stream = dial(site.mqtts, config).await.unwrap();
    let mut session = Mqtt::over(Box::new(stream), "lamp", "").await.ok().unwrap();

    let revoke = admin::RevokeCredentialRequest {
        id: "lamp".to_owned(),
    };
    let mut operator = AdminClient::new(site.grpc(None).await);
    operator
        .revoke_credential(with(BOOTSTRAP, revoke))
        .await
        .unwrap();
    let begun = Instant::now();
    let ended = loop {
        match patiently(watch.message()).await {
            Ok(message) => assert!(message.is_some(), "ended without an error"),
            Err(status) => break status.code(),
        }
    };
    assert_eq!(ended, Code::Unauthenticated);
    assert_eq!(session.closed().await, Some(0x87));
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    // The connection is still there; what it showed counts no more.
    let refused = grpc.get_shadow(get("lamp")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let reply = site.http(Some(&lamp), ("GET", "/things/lamp/shadow"), "", b"");
    assert_eq!(reply.await.status, 401);
    site.close().await;
}

/// Connections that shake no hands, or shake them and say nothing, keep nobody out and are closed.
#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_are_in_nobodys_way() {
    let site = Secured::open(|_| {}).await;
    let lamp = site.authority.device("lamp", "");
    let addresses = site.node.addresses();
    let begun = Instant::now();
    let mut silent = Vec::new();
    for address in [addresses.grpc, addresses.http, site.mqtts] {
        for _ in 0..100 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
    }
    let config = client(&site.authority, Some(&lamp), "h2");
    let mut mute = dial(addresses.grpc, config).await.unwrap();
    let grpc = ShadowsClient::new(site.grpc(Some(&lamp)).await);
    assert_eq!(ask(&grpc, "", "get").await, Told::Allowed);
    let reply = site.http(Some(&lamp), ("GET", "/things/lamp/shadow"), "", b"");
    assert_eq!(reply.await.status, 404);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    for mut stream in silent {
        let mut heard = Vec::new();
        let _ = patiently(stream.read_to_end(&mut heard)).await;
    }
    let _ = patiently(mute.read_to_end(&mut Vec::new())).await;
    assert_eq!(ask(&grpc, "", "get").await, Told::Allowed, "others stay");
    site.close().await;
}
