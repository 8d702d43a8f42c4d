//! The gRPC door as backend services see it: batches, lists and watches.

use std::time::Duration;

use antumbra_proto::v1;
use antumbra_proto::v1::watch_shadows_response::Event;
use tokio_stream::StreamExt;
use tonic::Code;

use crate::doors_grpc::put;
use crate::doors_support::{Site, desired, key, patiently, reason, refusal, within};

#[tokio::test]
async fn batches_have_a_status_per_item_and_are_atomic_per_device() {
    let site = Site::open().await;
    put(&site, "b", "{}").await;
    let named = |device: &str, name: &str, json: &str| v1::UpdateShadowRequest {
        key: key(device, name),
        ..desired(device, json)
    };
    let conflicting = v1::UpdateShadowRequest {
        conditions: Some(v1::Conditions {
            expected_version: Some(7),
            ..Default::default()
        }),
        ..named("b", "", "{}")
    };
    let requests = vec![
        named("a", "", r#"{"n":1}"#),
        named("b", "x", r#"{"n":1}"#),
        named("a", "x", r#"{"n":2}"#),
        conflicting,
        named("", "", "{}"),
        named("c", "", "{"),
        named("c", "x", "{}"),
    ];
    let reply = site
        .grpc
        .clone()
        .batch_update_shadows(v1::BatchUpdateShadowsRequest { requests })
        .await
        .unwrap()
        .into_inner();
    let reasons: Vec<_> = reply.results.iter().map(|result| &*result.reason).collect();
    assert_eq!(
        reasons,
        [
            "",
            "VERSION_CONFLICT",
            "",
            "VERSION_CONFLICT",
            "INVALID_ARGUMENT",
            "INVALID_JSON",
            "INVALID_JSON"
        ]
    );
    let versions: Vec<_> = reply
        .results
        .iter()
        .filter_map(|result| Some(result.response.as_ref()?.version))
        .collect();
    assert_eq!(versions, [1, 1]);
    assert_eq!(reply.results[1].metadata["failed_item"], "3");
    assert_eq!(reply.results[3].metadata.get("failed_item"), None);
    assert_eq!(reply.results[3].metadata["current_version"], "1");
    assert_eq!(reply.results[6].metadata["failed_item"], "5");

    let requests = [("a", ""), ("b", "x"), ("c", "x"), ("a", "x")];
    let requests = requests.map(|(device, name)| v1::GetShadowRequest {
        key: key(device, name),
        ..Default::default()
    });
    let request = v1::BatchGetShadowsRequest {
        requests: requests.into(),
    };
    let got = site
        .grpc
        .clone()
        .batch_get_shadows(request)
        .await
        .unwrap()
        .into_inner();
    let codes: Vec<_> = got.results.iter().map(|result| result.code).collect();
    assert_eq!(
        codes,
        [0, Code::NotFound as i32, Code::NotFound as i32, 0],
        "all or none"
    );

    let many = vec![desired("a", "{}"); 101];
    let request = v1::BatchUpdateShadowsRequest { requests: many };
    let status = site
        .grpc
        .clone()
        .batch_update_shadows(request)
        .await
        .unwrap_err();
    assert_eq!(refusal(&status).2, "requests");
    let large = vec![desired("a", &format!(r#"{{"a":"{}"}}"#, "x".repeat(700_000))); 6];
    let request = v1::BatchUpdateShadowsRequest { requests: large };
    let status = site
        .grpc
        .clone()
        .batch_update_shadows(request)
        .await
        .unwrap_err();
    assert_eq!(reason(&status), "TOO_LARGE");
    let disagree = vec![
        v1::UpdateShadowRequest {
            request_id: "r1".into(),
            ..named("d", "", "{}")
        },
        v1::UpdateShadowRequest {
            request_id: "r2".into(),
            ..named("d", "x", "{}")
        },
    ];
    let request = v1::BatchUpdateShadowsRequest { requests: disagree };
    let reply = site
        .grpc
        .clone()
        .batch_update_shadows(request)
        .await
        .unwrap()
        .into_inner();
    assert!(
        reply
            .results
            .iter()
            .all(|result| result.reason == "INVALID_ARGUMENT")
    );
    site.close().await;
}

#[tokio::test]
async fn lists_page_through_devices_and_shadows() {
    let site = Site::open().await;
    for nth in 0..7 {
        put(&site, &format!("dev-{nth}"), "{}").await;
    }
    put(&site, "other", "{}").await;
    let mut devices = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListDevicesRequest {
            page_size: 3,
            page_token,
            device_id_prefix: "dev-".into(),
            ..Default::default()
        };
        let page = site
            .grpc
            .clone()
            .list_devices(request)
            .await
            .unwrap()
            .into_inner();
        devices.extend(page.device_ids);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    devices.sort();
    assert_eq!(
        devices,
        (0..7).map(|nth| format!("dev-{nth}")).collect::<Vec<_>>()
    );

    let named = v1::UpdateShadowRequest {
        key: key("dev-0", "cfg"),
        ..desired("", "{}")
    };
    site.grpc.clone().update_shadow(named).await.unwrap();
    let request = v1::ListShadowsRequest {
        device_id: "dev-0".into(),
        ..Default::default()
    };
    let page = site
        .grpc
        .clone()
        .list_shadows(request)
        .await
        .unwrap()
        .into_inner();
    let names: Vec<_> = page
        .shadows
        .iter()
        .map(|shadow| &*shadow.shadow_name)
        .collect();
    assert_eq!(names, ["", "cfg"]);

    for (page_size, page_token, field) in [
        (-1, "", "page_size"),
        (1001, "", "page_size"),
        (0, "garbage", "page_token"),
    ] {
        let page_token = page_token.to_owned();
        let request = v1::ListDevicesRequest {
            page_size,
            page_token,
            ..Default::default()
        };
        let status = site.grpc.clone().list_devices(request).await.unwrap_err();
        assert_eq!(refusal(&status).2, field);
    }
    site.close().await;
}

#[tokio::test]
async fn watches_give_documents_then_changes_and_resume() {
    let site = Site::open().await;
    put(&site, "a", r#"{"n":1}"#).await;
    let request = v1::WatchShadowsRequest {
        device_ids: vec!["a".into()],
        ..Default::default()
    };
    let mut events = site
        .grpc
        .clone()
        .watch_shadows(request.clone())
        .await
        .unwrap()
        .into_inner();
    let mut next = async || loop {
        let response = patiently(events.next()).await.unwrap().unwrap();
        if !matches!(response.event, Some(Event::Bookmark(_))) {
            break response;
        }
    };
    let Some(Event::Document(document)) = next().await.event else {
        panic!("a document first")
    };
    assert_eq!(
        (document.version, &*document.desired_json),
        (1, r#"{"n":1}"#)
    );
    let synced = next().await;
    assert!(matches!(synced.event, Some(Event::Synced(_))));

    let client_token = "t".to_owned();
    let update = v1::UpdateShadowRequest {
        client_token,
        ..desired("a", "null")
    };
    site.grpc.clone().update_shadow(update).await.unwrap();
    let Some(Event::Change(change)) = next().await.event else {
        panic!("a change")
    };
    assert_eq!(
        (change.version, &*change.client_token, &*change.actor),
        (2, "t", "grpc")
    );
    assert_eq!(change.desired_patch_json.as_deref(), Some("null"));
    assert_eq!((change.reported_patch_json, change.deleted), (None, false));
    site.send("DELETE", "/things/a/shadow", b"").await;
    let Some(Event::Change(change)) = next().await.event else {
        panic!("a change")
    };
    assert_eq!(
        (change.version, change.deleted, change.desired_patch_json),
        (3, true, None)
    );
    assert_eq!(change.actor, "http");

    // From the cursor of `synced` both changes come again, and nothing before them.
    let resumed = v1::WatchShadowsRequest {
        cursor: synced.cursor,
        ..request.clone()
    };
    let mut events = site
        .grpc
        .clone()
        .watch_shadows(resumed)
        .await
        .unwrap()
        .into_inner();
    for version in [2, 3] {
        let response = patiently(events.next()).await.unwrap().unwrap();
        let Some(Event::Change(change)) = response.event else {
            panic!("{response:?}")
        };
        assert_eq!(change.version, version);
    }

    // A cursor that means nothing is told so; a deadline that the caller set ends the stream.
    let cursor = "garbage".to_owned();
    let unknown = within(
        Duration::from_millis(500),
        v1::WatchShadowsRequest {
            cursor,
            ..request.clone()
        },
    );
    let mut events = site
        .grpc
        .clone()
        .watch_shadows(unknown)
        .await
        .unwrap()
        .into_inner();
    let first = patiently(events.next()).await.unwrap().unwrap();
    let Some(Event::Reset(reset)) = first.event else {
        panic!("a reset first")
    };
    assert_eq!(reset.reason, "CURSOR_UNKNOWN");
    let end = loop {
        if let Err(status) = patiently(events.next())
            .await
            .expect("an end with a status")
        {
            break status;
        }
    };
    assert_eq!(reason(&end), "DEADLINE_EXCEEDED");

    let both = v1::WatchShadowsRequest {
        device_id_prefix: "a".into(),
        ..request
    };
    let status = site.grpc.clone().watch_shadows(both).await.unwrap_err();
    assert_eq!(refusal(&status).2, "device_id_prefix");
    site.close().await;
}
