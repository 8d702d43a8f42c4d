//! A node inside the test process, on free ports and a directory of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use antumbra::access::Mode;
use antumbra::boot::{self, Listeners, Node};
use antumbra::config::{Config, Shards};
use antumbra::error::Error;
use antumbra::shadows::{
    Caller, CommandHeader, ListRequest, Read, ReadOptions, Shadows, WatchEvent, WatchMessage,
    WatchRequest, WatchSelection, WatchStream,
};
use antumbra_shadow::json::{self, DuplicateKeys};
use antumbra_shadow::{
    AcceptedItem, Conditions, Delete, DeviceId, DeviceKey, Draft, Kind, Limits, Outcome, Patch,
    RequestId, SectionInput, ShadowName, Tenant, Update,
};
use tokio::time::{Instant, timeout};

/// Nothing that these tests wait for may take longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A configuration on free ports, without waiting for the disk.
pub(crate) fn config(directory: &Path) -> Config {
    let mut config = Config::default();
    config.node.data_dir = directory.to_owned();
    config.api.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.http.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.mqtt.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.peer.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.cluster.shards = Shards::Count(2);
    config.test_switches.no_fsync = true;
    config.mode = Mode::Open;
    config
}

pub(crate) async fn start(config: &Config) -> Node {
    try_start(config).await.unwrap()
}

pub(crate) async fn try_start(config: &Config) -> Result<Node, boot::Error> {
    let listeners = Listeners::bind(config).await?;
    boot::start(config.clone(), listeners).await
}

pub(crate) fn caller() -> Caller {
    Caller::anyone("test")
}

pub(crate) fn device(id: &str) -> DeviceKey {
    DeviceKey::new(Tenant::default(), DeviceId::parse(id).unwrap())
}

pub(crate) fn shadow(name: &str) -> ShadowName {
    ShadowName::parse(name).unwrap()
}

pub(crate) fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

pub(crate) fn header() -> CommandHeader {
    CommandHeader {
        request_id: None,
        issued: None,
        client_token: None,
        limits: Limits::default(),
    }
}

/// A change that merges `reported` into a shadow.
pub(crate) fn reported(name: &str, reported: &str) -> Update {
    let value = json::parse(reported.as_bytes(), DuplicateKeys::Reject, 32).unwrap();
    let patch = Patch::build(
        SectionInput::Absent,
        SectionInput::Merge(&value),
        &Limits::default(),
    );
    Update {
        shadow: shadow(name),
        patch: patch.unwrap(),
        conditions: Conditions::default(),
    }
}

pub(crate) fn draft(request_id: Option<&str>, update: Update) -> Draft {
    let header = CommandHeader {
        request_id: request_id.map(|id| RequestId::parse(id).unwrap()),
        ..header()
    };
    header.draft(&caller(), Kind::Update(update))
}

/// Merges into the classic shadow of a device.
pub(crate) async fn update(shadows: &Shadows, id: &str, json: &str) -> AcceptedItem {
    update_named(shadows, id, "", json).await
}

pub(crate) async fn update_named(
    shadows: &Shadows,
    id: &str,
    name: &str,
    json: &str,
) -> AcceptedItem {
    let draft = draft(None, reported(name, json));
    let outcome = shadows
        .update(&caller(), &device(id), draft, deadline())
        .await;
    accepted(outcome.unwrap())
}

pub(crate) async fn delete(shadows: &Shadows, id: &str, name: &str) -> AcceptedItem {
    let delete = Delete {
        shadow: shadow(name),
        conditions: Conditions::default(),
    };
    let outcome = shadows
        .delete(&caller(), &device(id), header(), delete, deadline())
        .await;
    accepted(outcome.unwrap())
}

pub(crate) fn accepted(outcome: Outcome) -> AcceptedItem {
    match outcome {
        Outcome::Accepted(items) => items.into_iter().next().unwrap(),
        Outcome::Rejected(rejection) => panic!("rejected: {rejection}"),
    }
}

pub(crate) async fn get(shadows: &Shadows, id: &str, name: &str) -> Result<Read, Error> {
    let options = ReadOptions::default();
    shadows
        .get(&caller(), &device(id), &shadow(name), options, deadline())
        .await
}

/// All devices of the default tenant, page by page.
pub(crate) async fn devices(shadows: &Shadows, prefix: &str, page_size: usize) -> Vec<String> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListRequest {
            page_size,
            page_token: &page_token,
        };
        let page = shadows
            .list_devices(&caller(), &Tenant::default(), prefix, request, deadline())
            .await
            .unwrap();
        assert!(page.devices.len() <= page_size);
        all.extend(page.devices.iter().map(ToString::to_string));
        if page.next_page_token.is_empty() {
            return all;
        }
        page_token = page.next_page_token;
    }
}

pub(crate) fn watch_prefix(shadows: &Shadows, prefix: &str, cursor: Option<String>) -> WatchStream {
    watch(shadows, WatchSelection::Prefix(prefix.to_owned()), cursor)
}

pub(crate) fn watch_devices(
    shadows: &Shadows,
    ids: &[&str],
    cursor: Option<String>,
) -> WatchStream {
    let ids = ids.iter().map(|id| DeviceId::parse(id).unwrap());
    watch(shadows, WatchSelection::Devices(ids.collect()), cursor)
}

fn watch(shadows: &Shadows, selection: WatchSelection, cursor: Option<String>) -> WatchStream {
    let request = WatchRequest {
        tenant: Tenant::default(),
        selection,
        cursor,
    };
    shadows.watch(&caller(), request).unwrap()
}

pub(crate) async fn next(stream: &mut WatchStream) -> WatchMessage {
    let message = timeout(PATIENCE, stream.next()).await;
    message
        .expect("an event in time")
        .expect("an open stream")
        .unwrap()
}

/// The next message that is not a bookmark.
pub(crate) async fn next_event(stream: &mut WatchStream) -> WatchMessage {
    loop {
        let message = next(stream).await;
        if !matches!(message.event, WatchEvent::Bookmark) {
            return message;
        }
    }
}

/// The opening documents as (device, shadow, version) in order, and the cursor of `Synced`.
pub(crate) async fn opening(stream: &mut WatchStream) -> (Vec<(String, String, u64)>, String) {
    let mut documents = Vec::new();
    loop {
        let message = next(stream).await;
        match message.event {
            WatchEvent::Document {
                device,
                shadow,
                document,
            } => {
                assert_eq!(
                    message.cursor, "",
                    "no cursor before all documents were sent"
                );
                let (device, shadow) = (device.device.to_string(), shadow.to_string());
                documents.push((device, shadow, document.version()));
            }
            WatchEvent::Synced => {
                documents.sort();
                return (documents, message.cursor);
            }
            other => panic!("unexpected before synced: {other:?}"),
        }
    }
}

/// The next change as (device, shadow, version, deleted), and its cursor.
pub(crate) async fn change(stream: &mut WatchStream) -> ((String, String, u64, bool), String) {
    let message = next_event(stream).await;
    match message.event {
        WatchEvent::Change(change) => {
            let (device, shadow) = (change.device(), change.shadow());
            let what = (
                device.device.to_string(),
                shadow.to_string(),
                *change.version(),
                *change.deleted(),
            );
            (what, message.cursor)
        }
        other => panic!("not a change: {other:?}"),
    }
}
