//! Who may do what, at every door: own device, other device, other tenant, revoked, nobody.

use antumbra_proto::v1;
use antumbra_proto::v1::shadows_client::ShadowsClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::access_support::{BOOTSTRAP, Mqtt, Standings, backend_token, closed, with};
use crate::doors_support::{desired, get, key, patiently};

/// What a caller is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It is done, or there is nothing there.
    Allowed,
    Forbidden,
    Unknown,
}

pub(crate) const VERBS: [&str; 9] = [
    "get",
    "update",
    "delete",
    "list_shadows",
    "list_devices",
    "batch_get",
    "batch_update",
    "watch",
    "watch_all",
];

fn told<T>(result: Result<T, Status>) -> Told {
    match result.map(drop).map_err(|status| status.code()) {
        Ok(()) | Err(Code::NotFound) => Told::Allowed,
        Err(Code::PermissionDenied) => Told::Forbidden,
        Err(Code::Unauthenticated) => Told::Unknown,
        Err(other) => panic!("{other:?}"),
    }
}

fn foreign_key(device: &str) -> Option<v1::ShadowKey> {
    Some(v1::ShadowKey {
        tenant: "default".to_owned(),
        ..key(device, "").unwrap()
    })
}

/// Asks for one thing about the device `lamp` of the tenant `default`.
pub(crate) async fn ask(grpc: &ShadowsClient<Channel>, token: &str, verb: &str) -> Told {
    let mut grpc = grpc.clone();
    let read = v1::GetShadowRequest {
        key: foreign_key("lamp"),
        ..get("lamp")
    };
    let update = v1::UpdateShadowRequest {
        key: foreign_key("lamp"),
        ..desired("lamp", r#"{"on":true}"#)
    };
    let watch = v1::WatchShadowsRequest {
        tenant: "default".to_owned(),
        ..Default::default()
    };
    match verb {
        "get" => told(grpc.get_shadow(with(token, read)).await),
        "update" => told(grpc.update_shadow(with(token, update)).await),
        "delete" => {
            let request = v1::DeleteShadowRequest {
                key: foreign_key("lamp"),
                ..Default::default()
            };
            told(grpc.delete_shadow(with(token, request)).await)
        }
        "list_shadows" => {
            let request = v1::ListShadowsRequest {
                tenant: "default".to_owned(),
                device_id: "lamp".to_owned(),
                ..Default::default()
            };
            told(grpc.list_shadows(with(token, request)).await)
        }
        "list_devices" => {
            let request = v1::ListDevicesRequest {
                tenant: "default".to_owned(),
                ..Default::default()
            };
            told(grpc.list_devices(with(token, request)).await)
        }
        "batch_get" => {
            let requests = vec![read];
            let request = v1::BatchGetShadowsRequest { requests };
            match grpc.batch_get_shadows(with(token, request)).await {
                Ok(reply) => item(&format!("{:?}", reply.into_inner().results[0])),
                Err(status) => told::<()>(Err(status)),
            }
        }
        "batch_update" => {
            let requests = vec![update];
            let request = v1::BatchUpdateShadowsRequest { requests };
            match grpc.batch_update_shadows(with(token, request)).await {
                Ok(reply) => item(&format!("{:?}", reply.into_inner().results[0])),
                Err(status) => told::<()>(Err(status)),
            }
        }
        "watch" => {
            let device_ids = vec!["lamp".to_owned()];
            let request = v1::WatchShadowsRequest {
                device_ids,
                ..watch
            };
            told(grpc.watch_shadows(with(token, request)).await)
        }
        "watch_all" => told(grpc.watch_shadows(with(token, watch)).await),
        other => panic!("{other}"),
    }
}

/// The status of the item of a batch is in its text; there is no need to take it apart.
fn item(result: &str) -> Told {
    match result.contains("not allowed") {
        true => Told::Forbidden,
        false => Told::Allowed,
    }
}

/// The gRPC door: every verb by every standing (invariant 14).
#[tokio::test(flavor = "multi_thread")]
async fn grpc_door_keeps_the_matrix() {
    let site = closed().await;
    let standings = Standings::make(&site).await;
    let backend = backend_token(&site, "", "backend", "").await;
    let reader = backend_token(&site, "", "reader", "reader").await;
    let foreign = backend_token(&site, "acme", "acme-backend", "").await;
    for verb in VERBS {
        let own = match verb {
            "list_devices" | "watch_all" => Told::Forbidden,
            _ => Told::Allowed,
        };
        let reads = match verb {
            "update" | "delete" | "batch_update" => Told::Forbidden,
            _ => Told::Allowed,
        };
        for (who, token, expected) in [
            ("own", &*standings.own, own),
            ("other device", &*standings.other_device, Told::Forbidden),
            ("other tenant", &*standings.other_tenant, Told::Forbidden),
            ("revoked", &*standings.revoked, Told::Unknown),
            ("nobody", "", Told::Unknown),
            ("no token", "nonsense", Told::Unknown),
            ("backend", &*backend, Told::Allowed),
            ("reader", &*reader, reads),
            ("backend of another tenant", &*foreign, Told::Forbidden),
        ] {
            let told = patiently(ask(&site.grpc, token, verb)).await;
            assert_eq!(told, expected, "{verb} by {who}");
        }
    }
    site.close().await;
}

/// The update stream judges every update by itself.
#[tokio::test(flavor = "multi_thread")]
async fn update_stream_keeps_the_matrix() {
    let site = closed().await;
    let standings = Standings::make(&site).await;
    for (token, may) in [(&standings.own, true), (&standings.other_device, false)] {
        let update = v1::StreamUpdatesRequest {
            sequence: 7,
            update: Some(desired("lamp", r#"{"on":true}"#)),
        };
        let updates = tokio_stream::iter([update]);
        let mut grpc = site.grpc.clone();
        let replies = grpc.stream_updates(with(token, updates)).await;
        let mut replies = replies.unwrap().into_inner();
        let reply = patiently(replies.message()).await.unwrap().unwrap();
        let text = format!("{:?}", reply.result);
        assert_eq!(!text.contains("not allowed"), may, "{text}");
    }
    let updates = tokio_stream::iter([]);
    let refused = site.grpc.clone().stream_updates(with("", updates)).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    site.close().await;
}

/// The HTTP door: every operation by every standing. The tenant is that of the caller, so another
/// tenant's device of the same name is another device.
#[tokio::test(flavor = "multi_thread")]
async fn http_door_keeps_the_matrix() {
    let site = closed().await;
    let standings = Standings::make(&site).await;
    let update: &[u8] = br#"{"state":{"desired":{"by":"own"}}}"#;
    let list = "/api/things/shadow/ListNamedShadowsForThing/lamp";
    for (method, path, body) in [
        ("POST", "/things/lamp/shadow", update),
        ("GET", "/things/lamp/shadow", b""),
        ("GET", list, b""),
        ("DELETE", "/things/lamp/shadow", b""),
    ] {
        for (who, token, expected) in [
            ("other device", &*standings.other_device, 403),
            ("revoked", &*standings.revoked, 401),
            ("nobody", "", 401),
            ("own", &*standings.own, 200),
        ] {
            let header = match token.is_empty() {
                true => String::new(),
                false => format!("authorization: Bearer {token}\r\n"),
            };
            let reply = site.send_with(method, path, &header, body).await;
            assert_eq!(
                reply.status, expected,
                "{method} {path} by {who}: {reply:?}"
            );
        }
        if method == "POST" {
            let header = format!("authorization: Bearer {}\r\n", standings.other_tenant);
            let reply = site.send_with("GET", path, &header, b"").await;
            assert_eq!(reply.status, 404, "another tenant sees it: {reply:?}");
        }
    }
    let livez = site.send("GET", "/livez", b"").await;
    assert_eq!(livez.status, 200, "probes show nothing");
    site.close().await;
}

/// The MQTT door: every verb by every standing.
#[tokio::test(flavor = "multi_thread")]
async fn mqtt_door_keeps_the_matrix() {
    const NOT_AUTHORIZED: u8 = 0x87;
    let site = closed().await;
    let standings = Standings::make(&site).await;
    let update = r#"{"state":{"reported":{"on":true}}}"#;
    let topic = |verb: &str| format!("$aws/things/lamp/shadow/{verb}");
    for (user, token, expected) in [
        ("own", &*standings.own, 0),
        ("other", &*standings.other_device, NOT_AUTHORIZED),
    ] {
        let mut client = Mqtt::connect(&site, user, token).await.ok().unwrap();
        for verb in ["update", "get", "delete"] {
            let payload = if verb == "update" { update } else { "" };
            let told = client.publish(&topic(verb), payload).await;
            assert_eq!(told, expected, "{verb} by {user}");
        }
        let granted = client.subscribe(&topic("update/delta")).await;
        assert_eq!(granted & 0x80 == 0, expected == 0, "subscribe by {user}");
        assert!(client.subscribe("#").await & 0x80 != 0, "all topics");
    }
    let mut foreign = Mqtt::connect(&site, "foreign", &standings.other_tenant).await;
    let foreign = foreign.as_mut().ok().unwrap();
    assert_eq!(foreign.publish(&topic("update"), update).await, 0);
    let default = v1::GetShadowRequest {
        key: foreign_key("lamp"),
        ..get("lamp")
    };
    let read = site.grpc.clone().get_shadow(with(BOOTSTRAP, default)).await;
    assert_eq!(
        read.unwrap_err().code(),
        Code::NotFound,
        "it is another device"
    );
    for (user, token) in [("gone", &*standings.revoked), ("gone", "")] {
        let refused = Mqtt::connect(&site, user, token).await.err();
        assert!(refused.is_some(), "{user} came in");
    }
    let wrong = Mqtt::connect(&site, "own", &standings.other_device).await;
    assert!(wrong.is_err(), "a token is for its own user name");
    site.close().await;
}
