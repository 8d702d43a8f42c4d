//! The gRPC door as backend services see it: calls about one shadow.

use std::time::{Duration, Instant};

use antumbra_proto::v1;
use antumbra_proto::v1::path_condition::Test;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::doors_support::{Site, answer_within, desired, get, key, reason, refusal};

pub async fn put(site: &Site, device: &str, json: &str) -> v1::UpdateShadowResponse {
    site.grpc
        .clone()
        .update_shadow(desired(device, json))
        .await
        .unwrap()
        .into_inner()
}

pub async fn read(site: &Site, request: v1::GetShadowRequest) -> v1::Shadow {
    let reply = site
        .grpc
        .clone()
        .get_shadow(request)
        .await
        .unwrap()
        .into_inner();
    assert!(!reply.cursor.is_empty());
    reply.shadow.unwrap()
}

pub async fn refused(site: &Site, request: v1::UpdateShadowRequest) -> Status {
    site.grpc.clone().update_shadow(request).await.unwrap_err()
}

/// One shadow, both doors: versions and content agree.
#[tokio::test]
async fn both_doors_see_the_same_shadow() {
    let site = Site::open().await;
    assert_eq!(put(&site, "pump", r#"{"on":true}"#).await.version, 1);
    let body = br#"{"state":{"reported":{"on":false}},"version":1}"#;
    let reply = site.send("POST", "/things/pump/shadow", body).await.json();
    assert_eq!(reply["version"], 2);
    let shadow = read(&site, get("pump")).await;
    assert_eq!(
        (shadow.version, &*shadow.reported_json),
        (2, r#"{"on":false}"#)
    );
    assert_eq!((shadow.desired_version, shadow.reported_version), (1, 2));

    let deleted = site
        .grpc
        .clone()
        .delete_shadow(v1::DeleteShadowRequest {
            key: key("pump", ""),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        deleted.version, 3,
        "this door prints the version of the tombstone"
    );
    assert_eq!(
        site.shadow("pump").await["message"],
        "No shadow exists with name: 'pump'"
    );
    assert_eq!(put(&site, "pump", "{}").await.version, 4);
    site.close().await;
}

#[tokio::test]
async fn reads_give_what_was_asked_for() {
    let site = Site::open().await;
    put(
        &site,
        "pump",
        r#"{"wifi":{"ssid":"a","rssi":-60},"on":true}"#,
    )
    .await;
    let whole = read(&site, get("pump")).await;
    assert_eq!(
        whole.desired_json,
        r#"{"on":true,"wifi":{"rssi":-60,"ssid":"a"}}"#
    );
    assert_eq!((&*whole.delta_json, &*whole.metadata_json), ("", ""));
    assert_eq!(
        whole.key,
        Some(v1::ShadowKey {
            tenant: "default".into(),
            ..key("pump", "").unwrap()
        })
    );

    let include = v1::Include {
        state: false,
        delta: true,
        metadata: true,
    };
    let paths = vec!["/wifi/ssid".to_owned()];
    let request = v1::GetShadowRequest {
        paths,
        include: Some(include),
        ..get("pump")
    };
    let part = read(&site, request).await;
    assert_eq!(
        (&*part.desired_json, &*part.delta_json),
        ("", r#"{"wifi":{"ssid":"a"}}"#)
    );
    let updated = part.updated.unwrap();
    let millis = updated.seconds * 1000 + i64::from(updated.nanos) / 1_000_000;
    let leaf = format!(r#"{{"desired":{{"wifi":{{"ssid":{{"timestamp":{millis}}}}}}}}}"#);
    assert_eq!(part.metadata_json, leaf);

    let local = v1::Consistency::Local as i32;
    let request = v1::GetShadowRequest {
        consistency: local,
        ..get("pump")
    };
    assert_eq!(read(&site, request).await.version, 1);
    site.close().await;
}

#[tokio::test]
async fn a_read_waits_for_its_version() {
    let site = Site::open().await;
    put(&site, "pump", "{}").await;
    let request = v1::GetShadowRequest {
        min_version: 2,
        ..get("pump")
    };
    let waiting = read(&site, request);
    let (shadow, _) = tokio::join!(waiting, async {
        tokio::task::yield_now().await;
        put(&site, "pump", r#"{"a":1}"#).await
    });
    assert_eq!((shadow.version, &*shadow.desired_json), (2, r#"{"a":1}"#));

    let request = v1::GetShadowRequest {
        min_version: 9,
        ..get("pump")
    };
    let status = answer_within(&site, "200m", "GetShadow", request).await;
    assert_eq!(
        (status.code(), &*reason(&status)),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED")
    );
    site.close().await;
}

#[tokio::test]
async fn conditions_guard_the_change() {
    let site = Site::open().await;
    put(&site, "pump", r#"{"mode":"eco"}"#).await;
    let with = |conditions| v1::UpdateShadowRequest {
        conditions: Some(conditions),
        ..desired("pump", r#"{"n":1}"#)
    };
    let version = |expected| v1::Conditions {
        expected_version: Some(expected),
        ..Default::default()
    };
    let status = refused(&site, with(version(0))).await;
    assert_eq!(
        (status.code(), &*reason(&status)),
        (Code::Aborted, "VERSION_CONFLICT")
    );
    let info = status.get_error_details().error_info().unwrap().clone();
    assert_eq!(info.metadata["current_version"], "1");

    let path = |pointer: &str, test| v1::Conditions {
        paths: vec![v1::PathCondition {
            section: v1::Section::Desired as i32,
            pointer: pointer.to_owned(),
            test: Some(test),
        }],
        ..Default::default()
    };
    for (conditions, holds) in [
        (path("/mode", Test::Exists(true)), true),
        (path("/mode", Test::Exists(false)), false),
        (path("/mode", Test::EqualsJson("\"eco\"".into())), true),
        (path("/mode", Test::EqualsJson("\"max\"".into())), false),
        (path("/mode", Test::LeafVersion(1)), true),
        (path("/mode", Test::LeafVersion(2)), false),
        (
            v1::Conditions {
                expected_reported_version: Some(0),
                ..Default::default()
            },
            true,
        ),
        (
            v1::Conditions {
                expected_desired_version: Some(99),
                ..Default::default()
            },
            false,
        ),
        (
            v1::Conditions {
                proposed_version_greater: Some(10),
                ..Default::default()
            },
            true,
        ),
        (
            v1::Conditions {
                proposed_version_greater: Some(10),
                ..Default::default()
            },
            false,
        ),
    ] {
        let result = site
            .grpc
            .clone()
            .update_shadow(with(conditions.clone()))
            .await;
        match result {
            Ok(_) => assert!(holds, "{conditions:?}"),
            Err(status) => {
                assert!(!holds, "{conditions:?}: {status}");
                assert_eq!(status.code(), Code::FailedPrecondition);
                assert_eq!(reason(&status), "CONDITION_FAILED");
            }
        }
    }
    let fresh = v1::UpdateShadowRequest {
        key: key("new", ""),
        ..with(version(0))
    };
    assert_eq!(
        site.grpc
            .clone()
            .update_shadow(fresh)
            .await
            .unwrap()
            .into_inner()
            .version,
        1
    );
    site.close().await;
}

#[tokio::test]
async fn a_request_id_gives_the_first_outcome_again() {
    let site = Site::open().await;
    let request = v1::UpdateShadowRequest {
        request_id: "r1".into(),
        ..desired("pump", r#"{"a":1}"#)
    };
    let first = site
        .grpc
        .clone()
        .update_shadow(request.clone())
        .await
        .unwrap()
        .into_inner();
    put(&site, "pump", r#"{"a":2}"#).await;
    let again = site
        .grpc
        .clone()
        .update_shadow(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again, first);
    let other = v1::UpdateShadowRequest {
        desired_json: Some("{}".into()),
        ..request
    };
    let status = refused(&site, other).await;
    assert_eq!(reason(&status), "REQUEST_ID_REUSED");
    assert_eq!(read(&site, get("pump")).await.version, 2);
    site.close().await;
}

/// The deadline of the caller holds for every call, and one that is no deadline is refused.
#[tokio::test]
async fn deadlines_are_kept() {
    let site = Site::open().await;
    let start = Instant::now();
    let waiting = v1::GetShadowRequest {
        min_version: 5,
        ..get("pump")
    };
    let status = answer_within(&site, "100m", "GetShadow", waiting.clone()).await;
    assert_eq!(
        (status.code(), &*reason(&status)),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED")
    );
    assert!(start.elapsed() < Duration::from_secs(5));

    let status = answer_within(&site, "soon", "GetShadow", waiting).await;
    assert_eq!(refusal(&status).2, "grpc-timeout");
    site.close().await;

    // A call that brings no deadline has the one of the configuration.
    let site =
        Site::open_with(|config| config.api.default_deadline = Duration::from_millis(100)).await;
    let waiting = v1::GetShadowRequest {
        min_version: 5,
        ..get("pump")
    };
    let status = site.grpc.clone().get_shadow(waiting).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    site.close().await;
}
