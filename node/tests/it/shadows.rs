//! The use cases on a node in this process: update, get, delete, list, retry.

use antumbra::error::Error;
use antumbra::shadows::{Consistency, ListRequest, ReadOptions};
use antumbra_shadow::{BatchItem, Outcome, Section, Tenant};
use tokio::time::Instant;

use super::shadows_support::*;

/// Versions grow by one per change, deletes included, and reads see what was acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn version_grows_by_one_per_change_deletes_included() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(&config(directory.path())).await;
    let shadows = node.shadows();
    assert_eq!(get(shadows, "pump", "").await.unwrap_err(), Error::NotFound);
    assert_eq!(update(shadows, "pump", r#"{"a":1}"#).await.version, 1);
    assert_eq!(update(shadows, "pump", r#"{"b":2}"#).await.version, 2);
    let read = get(shadows, "pump", "").await.unwrap();
    assert_eq!(read.document.version(), 2);
    let state = read.document.state_json(Section::Reported, &[]);
    assert_eq!(state.as_deref(), Some(r#"{"a":1,"b":2}"#));
    assert_eq!(delete(shadows, "pump", "").await.version, 3);
    assert_eq!(get(shadows, "pump", "").await.unwrap_err(), Error::NotFound);
    assert_eq!(update(shadows, "pump", r#"{"c":3}"#).await.version, 4);
    let state = get(shadows, "pump", "").await.unwrap().document;
    let state = state.state_json(Section::Reported, &[]);
    assert_eq!(state.as_deref(), Some(r#"{"c":3}"#));
    node.shutdown().await.unwrap();
}

/// What was acknowledged before a stop is there after it.
#[tokio::test(flavor = "multi_thread")]
async fn documents_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let node = start(&config).await;
    for nth in 0..50 {
        update(node.shadows(), &format!("d{nth}"), r#"{"n":1}"#).await;
    }
    let info = node.info().clone();
    node.shutdown().await.unwrap();
    let node = start(&config).await;
    assert_eq!(node.info().incarnation, info.incarnation);
    for nth in 0..50 {
        let read = get(node.shadows(), &format!("d{nth}"), "").await.unwrap();
        assert_eq!(read.document.version(), 1);
    }
    assert_eq!(update(node.shadows(), "d0", r#"{"n":2}"#).await.version, 2);
    node.shutdown().await.unwrap();
}

/// A retry gets the first outcome, also from a node that was started anew in between.
#[tokio::test(flavor = "multi_thread")]
async fn request_id_retry_gets_the_first_outcome_across_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let node = start(&config).await;
    let send = async |node: &antumbra::boot::Node, json: &str| {
        let draft = draft(Some("r-1"), reported("", json));
        let (caller, device) = (caller(), device("pump"));
        let outcome = node
            .shadows()
            .update(&caller, &device, draft, deadline())
            .await;
        outcome.unwrap()
    };
    let first = accepted(send(&node, r#"{"a":1}"#).await);
    node.shutdown().await.unwrap();
    let node = start(&config).await;
    assert_eq!(accepted(send(&node, r#"{"a":1}"#).await), first);
    let Outcome::Rejected(reused) = send(&node, r#"{"a":2}"#).await else {
        panic!("another command under the same id was accepted");
    };
    assert_eq!(reused.code(), "REQUEST_ID_REUSED");
    let read = get(node.shadows(), "pump", "").await.unwrap();
    assert_eq!(read.document.version(), 1);
    node.shutdown().await.unwrap();
}

/// Several shadows of one device change together or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn batch_of_one_device_is_applied_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(&config(directory.path())).await;
    let shadows = node.shadows();
    let send = async |items: Vec<BatchItem>| {
        let outcome = shadows
            .update_many(&caller(), &device("pump"), header(), items, deadline())
            .await;
        outcome.unwrap()
    };
    let items = ["a", "b", "a"].map(|name| BatchItem::Update(reported(name, r#"{"x":1}"#)));
    let Outcome::Accepted(done) = send(items.to_vec()).await else {
        panic!("a batch without conditions was rejected");
    };
    let versions: Vec<_> = done
        .iter()
        .map(|item| (item.shadow.as_str(), item.version))
        .collect();
    assert_eq!(versions, [("a", 1), ("b", 1), ("a", 2)]);
    assert!(
        done.iter()
            .all(|item| item.position.index == done[0].position.index)
    );

    let mut bad = reported("b", r#"{"x":2}"#);
    bad.conditions.expected_version = Some(9);
    let good = BatchItem::Update(reported("a", r#"{"x":2}"#));
    let Outcome::Rejected(rejection) = send(vec![good, BatchItem::Update(bad)]).await else {
        panic!("a batch with a failed condition was accepted");
    };
    assert_eq!(rejection.code(), "VERSION_CONFLICT");
    assert_eq!(
        get(shadows, "pump", "a").await.unwrap().document.version(),
        2
    );
    assert_eq!(
        get(shadows, "pump", "b").await.unwrap().document.version(),
        1
    );
    node.shutdown().await.unwrap();
}

/// Every device is listed exactly once, whatever the page size; deleted ones are not.
#[tokio::test(flavor = "multi_thread")]
async fn pages_list_every_device_once_and_no_tombstones() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(&config(directory.path())).await;
    let shadows = node.shadows();
    let mut expected: Vec<String> = (0..40).map(|nth| format!("pump-{nth}")).collect();
    for id in &expected {
        update(shadows, id, r#"{"a":1}"#).await;
        update_named(shadows, id, "cfg", r#"{"a":1}"#).await;
    }
    update(shadows, "valve", r#"{"a":1}"#).await;
    update(shadows, "pump-gone", r#"{"a":1}"#).await;
    delete(shadows, "pump-gone", "").await;
    expected.sort();
    let one_page = devices(shadows, "pump", 1000).await;
    for page_size in [1, 7, 40] {
        let listed = devices(shadows, "pump", page_size).await;
        assert_eq!(listed, one_page, "the order is stable");
    }
    let mut sorted = one_page;
    sorted.sort();
    assert_eq!(sorted, expected);
    assert_eq!(devices(shadows, "", 10).await.len(), 41);
    node.shutdown().await.unwrap();
}

/// The shadows of a device are listed by name, and tokens lead from page to page.
#[tokio::test(flavor = "multi_thread")]
async fn pages_list_every_shadow_of_a_device_once() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(&config(directory.path())).await;
    let shadows = node.shadows();
    for name in ["", "a", "b", "c", "d"] {
        update_named(shadows, "pump", name, r#"{"x":1}"#).await;
    }
    update_named(shadows, "pump2", "other", r#"{"x":1}"#).await;
    delete(shadows, "pump", "b").await;
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let page = ListRequest {
            page_size: 2,
            page_token: &token,
        };
        let page = shadows
            .list_shadows(&caller(), &device("pump"), page, deadline())
            .await;
        let page = page.unwrap();
        names.extend(page.shadows.iter().map(|shadow| shadow.name.to_string()));
        if page.next_page_token.is_empty() {
            break;
        }
        token = page.next_page_token;
    }
    assert_eq!(names, ["", "a", "c", "d"]);
    for bad in ["x", token.as_str()] {
        let page = ListRequest {
            page_size: 2,
            page_token: bad,
        };
        let refused = shadows
            .list_shadows(&caller(), &device("pump2"), page, deadline())
            .await;
        assert!(matches!(refused, Err(Error::Invalid { field, .. }) if field == "page_token"));
    }
    for page_size in [0, 1001] {
        let page = ListRequest {
            page_size,
            page_token: "",
        };
        let tenant = Tenant::default();
        let refused = shadows
            .list_devices(&caller(), &tenant, "", page, deadline())
            .await;
        assert!(matches!(refused, Err(Error::Invalid { field, .. }) if field == "page_size"));
    }
    node.shutdown().await.unwrap();
}

/// A read for a version that is not there yet waits for it, but never beyond the deadline.
#[tokio::test(flavor = "multi_thread")]
async fn read_waits_for_the_version_it_asks_for() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(&config(directory.path())).await;
    let shadows = node.shadows().clone();
    for consistency in [Consistency::Linearizable, Consistency::Local] {
        let before = update(&shadows, "pump", r#"{"a":1}"#).await.version;
        let options = ReadOptions {
            consistency,
            min_version: before + 1,
        };
        let reader = {
            let shadows = shadows.clone();
            tokio::spawn(async move {
                let (device, name) = (device("pump"), shadow(""));
                shadows
                    .get(&caller(), &device, &name, options, deadline())
                    .await
            })
        };
        tokio::task::yield_now().await;
        update(&shadows, "pump", r#"{"a":2}"#).await;
        assert!(reader.await.unwrap().unwrap().document.version() > before);

        let options = ReadOptions {
            consistency,
            min_version: before + 1000,
        };
        let soon = Instant::now() + std::time::Duration::from_millis(50);
        let late = shadows
            .get(&caller(), &device("pump"), &shadow(""), options, soon)
            .await;
        assert_eq!(late.unwrap_err(), Error::Deadline);
    }
    drop(shadows);
    node.shutdown().await.unwrap();
}

/// Linearizability under concurrency: once an update is acknowledged, every read sees it.
#[tokio::test(flavor = "multi_thread")]
async fn read_sees_every_acknowledged_update() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(&config(directory.path())).await;
    let mut tasks = Vec::new();
    for task in 0..8 {
        let shadows = node.shadows().clone();
        tasks.push(tokio::spawn(async move {
            for nth in 0..25 {
                let done = update(&shadows, "pump", &format!(r#"{{"t{task}":{nth}}}"#)).await;
                let read = get(&shadows, "pump", "").await.unwrap();
                assert!(read.document.version() >= done.version);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(
        get(node.shadows(), "pump", "")
            .await
            .unwrap()
            .document
            .version(),
        200
    );
    node.shutdown().await.unwrap();
}
