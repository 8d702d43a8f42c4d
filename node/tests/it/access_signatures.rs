//! `iot-data` requests that are signed with an access key, as AWS software development kits sign them.

use antumbra_proto::admin::v1::{CreateCredentialRequest, CredentialKind};
use aws_lc_rs::{digest, hmac};
use prost_types::Timestamp;

use crate::access_support::{closed, credential, revoke};
use crate::doors_support::{Reply, Site};

struct Key {
    id: String,
    secret: String,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sign(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

impl Key {
    async fn make(site: &Site, name: &str, device: &str) -> Key {
        let request = CreateCredentialRequest {
            id: name.to_owned(),
            device_id: device.to_owned(),
            kind: CredentialKind::AccessKey.into(),
            ..Default::default()
        };
        let made = credential(site, request).await;
        Key {
            id: made.credential.unwrap().access_key_id,
            secret: made.secret_access_key,
        }
    }

    /// The headers of a signed request.
    fn headers(&self, method: &str, path: &str, body: &[u8]) -> String {
        let now_ms = antumbra_raft::Env::system().clock.now_ms();
        let now = Timestamp {
            seconds: i64::try_from(now_ms / 1_000).unwrap(),
            nanos: 0,
        };
        let now = now.to_string();
        let digits: String = now.split('.').next().unwrap().replace(['-', ':', 'Z'], "");
        let stamp = format!("{digits}Z");
        let day = &stamp[..8];
        let hash = |bytes: &[u8]| hex(digest::digest(&digest::SHA256, bytes).as_ref());
        let canonical = format!(
            "{method}\n{path}\n\nhost:test\nx-amz-date:{stamp}\n\nhost;x-amz-date\n{}",
            hash(body)
        );
        let scope = format!("{day}/eu-north-1/iotdata/aws4_request");
        let text = format!(
            "AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}",
            hash(canonical.as_bytes())
        );
        let mut key = sign(format!("AWS4{}", self.secret).as_bytes(), day);
        for part in ["eu-north-1", "iotdata", "aws4_request"] {
            key = sign(key.as_ref(), part);
        }
        let signature = hex(sign(key.as_ref(), &text).as_ref());
        format!(
            "x-amz-date: {stamp}\r\nauthorization: AWS4-HMAC-SHA256 Credential={}/{scope}, \
             SignedHeaders=host;x-amz-date, Signature={signature}\r\n",
            self.id
        )
    }

    async fn send(&self, site: &Site, method: &str, path: &str, body: &[u8]) -> Reply {
        let headers = self.headers(method, path, body);
        site.send_with(method, path, &headers, body).await
    }
}

/// A signature lets its device in, and nobody with another body, key or standing.
#[tokio::test(flavor = "multi_thread")]
async fn signed_requests_are_verified() {
    let site = closed().await;
    let lamp = Key::make(&site, "lamp", "lamp").await;
    let path = "/things/lamp/shadow";
    let body: &[u8] = br#"{"state":{"desired":{"on":true}}}"#;
    assert_eq!(lamp.send(&site, "POST", path, body).await.status, 200);
    let read = lamp.send(&site, "GET", path, b"").await;
    assert_eq!(read.json()["state"]["desired"]["on"], true);
    let pump = lamp.send(&site, "GET", "/things/pump/shadow", b"").await;
    assert_eq!(pump.status, 403);

    let headers = lamp.headers("POST", path, body);
    let changed = site.send_with("POST", path, &headers, b"{}").await;
    assert_eq!(changed.status, 401, "another body");
    let other = Key {
        secret: "0".repeat(64),
        id: lamp.id.clone(),
    };
    assert_eq!(other.send(&site, "GET", path, b"").await.status, 401);
    revoke(&site, "lamp").await;
    let revoked = lamp.send(&site, "GET", path, b"").await;
    assert_eq!(revoked.reason(), "UNAUTHENTICATED");
    site.close().await;
}

/// Where the door is open a program for AWS works with whatever keys it has.
#[tokio::test(flavor = "multi_thread")]
async fn open_door_does_not_look_at_signatures() {
    let site = Site::open().await;
    let key = Key {
        id: "AKIDEXAMPLE".to_owned(),
        secret: "anything".to_owned(),
    };
    let body: &[u8] = br#"{"state":{"desired":{"on":true}}}"#;
    let reply = key.send(&site, "POST", "/things/lamp/shadow", body).await;
    assert_eq!(reply.status, 200);
    let bad = "authorization: Bearer atk_nobody_00\r\n";
    let reply = site.send_with("GET", "/things/lamp/shadow", bad, b"").await;
    assert_eq!(reply.status, 401, "what is shown is judged");
    site.close().await;
}
