//! Files that are replaced under a running node: certificates of the doors, keys of an issuer.

use std::time::Duration;

use antumbra_proto::v1;
use antumbra_proto::v1::shadows_client::ShadowsClient;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::CertificateDer;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;

use crate::access_matrix::{Told, ask};
use crate::access_support::Mqtt;
use crate::doors_support::{desired, patiently};
use crate::tls_support::{Secured, client, dial};

/// Files are looked at every ten seconds.
const LIMIT: Duration = Duration::from_secs(25);

/// Waits until something is so that a change of files brings.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what} after {LIMIT:?}");
        sleep(Duration::from_millis(200)).await;
    }
}

/// The certificates that the three doors show now.
async fn shown(site: &Secured) -> Vec<CertificateDer<'static>> {
    let addresses = site.node.addresses();
    let doors = [
        (addresses.grpc, "h2"),
        (addresses.http, "http/1.1"),
        (site.mqtts, "mqtt"),
    ];
    let mut shown = Vec::new();
    for (address, protocol) in doors {
        let config = client(&site.authority, None, protocol);
        let stream = dial(address, config).await.unwrap();
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        shown.push(chain[0].clone().into_owned());
    }
    shown
}

/// A new certificate is shown at all doors within seconds, and no session or stream ends with the old
/// one, not even when the authority that vouched for it is replaced.
#[tokio::test(flavor = "multi_thread")]
async fn replaced_certificates_come_into_force_and_sessions_go_on() {
    let site = Secured::open(|_| {}).await;
    let lamp = site.authority.device("lamp", "");
    let grpc = ShadowsClient::new(site.grpc(Some(&lamp)).await);
    let (updates, receiver) = mpsc::channel(1);
    let mut again = grpc.clone();
    let stream = again.stream_updates(ReceiverStream::new(receiver));
    let mut stream = patiently(stream).await.unwrap().into_inner();
    let config = client(&site.authority, Some(&lamp), "mqtt");
    let link = dial(site.mqtts, config).await.unwrap();
    let mut session = Mqtt::over(Box::new(link), "lamp", "").await.ok().unwrap();
    let before = shown(&site).await;

    let after = site.replace_certificate();
    assert!(!before.contains(&after));
    until("new certificates", async || {
        shown(&site).await.iter().all(|shown| *shown == after)
    })
    .await;
    // The clients of another authority come in now, and those of the old one do not.
    let other = crate::tls_support::Authority::new();
    std::fs::write(site.file("ca.pem"), other.certificate.pem()).unwrap();
    let pump = other.device("pump", "");
    until("another authority", async || {
        let reply = site
            .http_if(Some(&pump), ("GET", "/things/pump/shadow"))
            .await;
        reply.is_some_and(|reply| reply.status == 404)
    })
    .await;
    let refused = site
        .http_if(Some(&lamp), ("GET", "/things/lamp/shadow"))
        .await;
    assert!(refused.is_none(), "{refused:?}");

    let update = v1::StreamUpdatesRequest {
        sequence: 7,
        update: Some(desired("lamp", r#"{"on":true}"#)),
    };
    updates.send(update).await.unwrap();
    let reply = patiently(stream.message()).await.unwrap().unwrap();
    assert_eq!(reply.result.unwrap().code, 0);
    assert_eq!(session.publish("$aws/things/lamp/shadow/get", "").await, 0);
    assert_eq!(ask(&grpc, "", "get").await, Told::Allowed);
    site.close().await;
}

/// An issuer with one key.
struct Issuer {
    id: &'static str,
    key: Ed25519KeyPair,
}

impl Issuer {
    fn new(id: &'static str) -> Issuer {
        let key = Ed25519KeyPair::generate().unwrap();
        Issuer { id, key }
    }

    fn keys(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.key.public_key().as_ref());
        let id = self.id;
        format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{id}","x":"{x}"}}]}}"#)
    }

    fn token(&self) -> String {
        let header = format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, self.id);
        let claims = r#"{"iss":"issuer","aud":"fleet","sub":"lamp","exp":4102444800}"#;
        let [header, claims] = [header.as_str(), claims].map(|part| URL_SAFE_NO_PAD.encode(part));
        let message = format!("{header}.{claims}");
        let signature = self.key.sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

/// An issuer that changes its key is followed without a restart; a file that is broken changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn replaced_keys_of_an_issuer_come_into_force() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let site = Secured::open(|config| {
        let file = config.node.data_dir.join("../keys.json");
        std::fs::write(&file, old.keys()).unwrap();
        config.access.jwt_issuer = "issuer".to_owned();
        config.access.jwt_audience = "fleet".to_owned();
        config.access.jwt_keys_file = file.to_string_lossy().into_owned();
    })
    .await;
    let grpc = ShadowsClient::new(site.grpc(None).await);
    assert_eq!(ask(&grpc, &old.token(), "get").await, Told::Allowed);
    assert_eq!(ask(&grpc, &new.token(), "get").await, Told::Unknown);

    std::fs::write(site.file("keys.json"), "{").unwrap();
    sleep(Duration::from_secs(11)).await;
    assert_eq!(ask(&grpc, &old.token(), "get").await, Told::Allowed);
    std::fs::write(site.file("keys.json"), new.keys()).unwrap();
    until("the new key", async || {
        ask(&grpc, &new.token(), "get").await == Told::Allowed
    })
    .await;
    assert_eq!(ask(&grpc, &old.token(), "get").await, Told::Unknown);
    site.close().await;
}
