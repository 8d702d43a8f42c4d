//! What ends when a credential is taken back, and what an administrator may not give.

use std::time::{Duration, Instant};

use antumbra_proto::admin::v1 as admin;
use antumbra_proto::cluster::v1::cluster_client::ClusterClient;
use antumbra_proto::cluster::v1::{GetStatusRequest, SetLogFilterRequest};
use antumbra_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::access_support::{
    BOOTSTRAP, Mqtt, backend_token, closed, credential, device_token, make_tenant, operator,
    revoke, with,
};
use crate::doors_support::{get, patiently};

/// So long may something go on that was revoked.
const LIMIT: Duration = Duration::from_secs(5);

/// Sessions, watches and update streams end, each within five seconds; others go on.
#[tokio::test(flavor = "multi_thread")]
async fn revocation_ends_sessions_and_streams() {
    let site = closed().await;
    let token = device_token(&site, "", "lamp", "lamp").await;
    let other = device_token(&site, "", "pump", "pump").await;
    let mut session = Mqtt::connect(&site, "lamp", &token).await.ok().unwrap();
    let mut stays = Mqtt::connect(&site, "pump", &other).await.ok().unwrap();
    let request = v1::WatchShadowsRequest {
        device_ids: vec!["lamp".to_owned()],
        ..Default::default()
    };
    let watch = site.grpc.clone().watch_shadows(with(&token, request)).await;
    let mut watch = watch.unwrap().into_inner();
    let (_updates, receiver) = mpsc::channel(1);
    let updates = with(&token, ReceiverStream::new(receiver));
    let stream = site.grpc.clone().stream_updates(updates).await;
    let mut stream = stream.unwrap().into_inner();

    let begun = Instant::now();
    revoke(&site, "lamp").await;
    let (reason, watched, streamed) = tokio::join!(
        session.closed(),
        async {
            loop {
                match patiently(watch.message()).await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("ended without an error"),
                    Err(status) => return status.code(),
                }
            }
        },
        patiently(stream.message()),
    );
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    assert_eq!(reason, Some(0x87));
    assert_eq!(watched, Code::Unauthenticated);
    assert_eq!(streamed.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(stays.publish("$aws/things/pump/shadow/get", "").await, 0);
    site.close().await;
}

/// A credential that ends takes its session along, without anybody doing anything.
#[tokio::test(flavor = "multi_thread")]
async fn session_ends_with_its_credential() {
    let site = closed().await;
    let now_ms = antumbra_raft::Env::system().clock.now_ms();
    let soon = prost_types::Timestamp {
        seconds: i64::try_from(now_ms / 1_000).unwrap() + 3,
        nanos: 0,
    };
    let request = admin::CreateCredentialRequest {
        id: "short".to_owned(),
        device_id: "lamp".to_owned(),
        expires: Some(soon),
        ..Default::default()
    };
    let token = credential(&site, request).await.token;
    let mut session = Mqtt::connect(&site, "short", &token).await.ok().unwrap();
    assert_eq!(session.closed().await, Some(0x87));
    site.close().await;
}

/// A role that changes closes the streams that were opened under the old one.
#[tokio::test(flavor = "multi_thread")]
async fn changed_role_ends_streams() {
    let site = closed().await;
    let put = |document: &str| admin::PutRoleRequest {
        name: "pumps".to_owned(),
        document_json: document.to_owned(),
        ..Default::default()
    };
    let reads = r#"{"shadows":[{"verbs":["read"],"devices":{"prefix":"pump-"}}]}"#;
    let mut admin = operator(&site).await;
    admin.put_role(with(BOOTSTRAP, put(reads))).await.unwrap();
    let token = backend_token(&site, "", "watcher", "pumps").await;
    let request = v1::WatchShadowsRequest {
        device_id_prefix: "pump-".to_owned(),
        ..Default::default()
    };
    let watch = site.grpc.clone().watch_shadows(with(&token, request)).await;
    let mut watch = watch.unwrap().into_inner();
    admin.put_role(with(BOOTSTRAP, put("{}"))).await.unwrap();
    while let Ok(message) = patiently(watch.message()).await {
        assert!(message.is_some(), "ended without an error");
    }
    let denied = site
        .grpc
        .clone()
        .get_shadow(with(&token, get("pump-1")))
        .await;
    assert_eq!(denied.unwrap_err().code(), Code::PermissionDenied);
    site.close().await;
}

/// Administrators stay in their tenant, and cannot make themselves more than they are.
#[tokio::test(flavor = "multi_thread")]
async fn administrators_cannot_reach_further_than_they_may() {
    let site = closed().await;
    make_tenant(&site, "acme").await;
    let mut admin = operator(&site).await;
    let document_json = r#"{"admin":["manage_credentials"]}"#.to_owned();
    let clerk = admin::PutRoleRequest {
        name: "clerk".to_owned(),
        document_json,
        ..Default::default()
    };
    admin.put_role(with(BOOTSTRAP, clerk)).await.unwrap();
    let acme = backend_token(&site, "acme", "acme-admin", "admin").await;
    let clerk = backend_token(&site, "", "clerk", "clerk").await;
    let backend = backend_token(&site, "", "backend", "").await;
    let create = |tenant: &str, role: &str| admin::CreateCredentialRequest {
        tenant: tenant.to_owned(),
        role: role.to_owned(),
        ..Default::default()
    };
    for (who, token, tenant, role, expected) in [
        ("acme", &acme, "", "backend", None),
        ("acme", &acme, "acme", "admin", None),
        (
            "acme",
            &acme,
            "default",
            "backend",
            Some(Code::PermissionDenied),
        ),
        (
            "acme",
            &acme,
            ":access",
            "backend",
            Some(Code::PermissionDenied),
        ),
        ("clerk", &clerk, "", "backend", None),
        ("clerk", &clerk, "", "admin", Some(Code::PermissionDenied)),
        (
            "clerk",
            &clerk,
            "acme",
            "backend",
            Some(Code::PermissionDenied),
        ),
        (
            "backend",
            &backend,
            "",
            "backend",
            Some(Code::PermissionDenied),
        ),
    ] {
        let made = admin.create_credential(with(token, create(tenant, role)));
        let code = made.await.err().map(|status| status.code());
        assert_eq!(code, expected, "{who} makes {role} in `{tenant}`");
    }
    let request = admin::ListTenantsRequest::default();
    let listed = admin.list_tenants(with(&acme, request)).await;
    assert_eq!(listed.unwrap_err().code(), Code::PermissionDenied);
    let request = admin::RevokeCredentialRequest {
        id: "clerk".to_owned(),
    };
    let revoked = admin.revoke_credential(with(&acme, request)).await;
    assert_eq!(revoked.unwrap_err().code(), Code::PermissionDenied);

    let address = site.node.addresses().grpc;
    let cluster = ClusterClient::connect(format!("http://{address}")).await;
    let mut cluster = cluster.unwrap();
    for (token, may) in [
        (&acme, false),
        (&backend, false),
        (&BOOTSTRAP.to_owned(), true),
    ] {
        let status = cluster.get_status(with(token, GetStatusRequest {})).await;
        assert_eq!(status.is_ok(), may);
        let question = SetLogFilterRequest::default();
        let filters = cluster.set_log_filter(with(token, question)).await;
        let code = filters.err().map(|status| status.code());
        let refused = (!may).then_some(Code::PermissionDenied);
        assert_eq!(
            code, refused,
            "who may not operate may not see the log filter"
        );
    }
    site.close().await;
}

/// Secrets are shown once; a name is given once; a tenant with shadows stays.
#[tokio::test(flavor = "multi_thread")]
async fn records_are_made_once_and_listed_without_secrets() {
    let site = closed().await;
    make_tenant(&site, "acme").await;
    let token = device_token(&site, "acme", "lamp", "lamp").await;
    let mut admin = operator(&site).await;
    let again = admin::CreateCredentialRequest {
        id: "lamp".to_owned(),
        ..Default::default()
    };
    let taken = admin.create_credential(with(BOOTSTRAP, again)).await;
    assert_eq!(taken.unwrap_err().code(), Code::FailedPrecondition);
    let request = admin::ListCredentialsRequest {
        tenant: "acme".to_owned(),
        ..Default::default()
    };
    let listed = admin.list_credentials(with(BOOTSTRAP, request)).await;
    let listed = listed.unwrap().into_inner();
    assert_eq!(listed.credentials.len(), 1);
    let secret = token.rsplit('_').next().unwrap();
    assert!(!format!("{listed:?}").contains(secret));
    assert!(!format!("{listed:?}").contains("argon2"));

    let update = crate::doors_support::desired("lamp", "{}");
    let update = v1::UpdateShadowRequest {
        desired_json: Some(r#"{"on":true}"#.to_owned()),
        ..update
    };
    let updated = site.grpc.clone().update_shadow(with(&token, update)).await;
    updated.unwrap();
    let request = admin::DeleteTenantRequest {
        name: "acme".to_owned(),
    };
    let deleted = admin.delete_tenant(with(BOOTSTRAP, request.clone())).await;
    assert_eq!(deleted.unwrap_err().code(), Code::FailedPrecondition);
    let delete = v1::DeleteShadowRequest {
        key: crate::doors_support::key("lamp", ""),
        ..Default::default()
    };
    let gone = site.grpc.clone().delete_shadow(with(&token, delete)).await;
    gone.unwrap();
    admin.delete_tenant(with(BOOTSTRAP, request)).await.unwrap();
    let denied = site
        .grpc
        .clone()
        .get_shadow(with(&token, get("lamp")))
        .await;
    assert_eq!(denied.unwrap_err().code(), Code::Unauthenticated);
    make_tenant(&site, "acme").await;
    let denied = site
        .grpc
        .clone()
        .get_shadow(with(&token, get("lamp")))
        .await;
    assert_eq!(
        denied.unwrap_err().code(),
        Code::Unauthenticated,
        "a tenant made anew has nobody of the old one"
    );
    site.close().await;
}
