//! Invariant 8: a watcher sees every version once and in order, however often it reconnects.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use antumbra_proto::v1;
use antumbra_tests::client::Client;
use antumbra_tests::load::{self, Load};
use antumbra_tests::node::{Node, Options};
use antumbra_tests::{environment, waiting};
use v1::watch_shadows_response::Event;

const WITHIN: Duration = Duration::from_secs(60);
const PREFIX: &str = "watched";

/// A watcher that breaks off again and again and resumes at the last cursor it got.
struct Watcher {
    client: Client,
    cursor: String,
    changes: Vec<v1::Change>,
    connections: usize,
}

impl Watcher {
    /// One connection of a random number of events; a broken connection is fine.
    async fn connect(&mut self, random: &mut SmallRng) {
        let Ok(mut stream) = self.client.watch(PREFIX, &self.cursor).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            return;
        };
        self.connections += 1;
        for _ in 0..random.random_range(1..200) {
            let next = tokio::time::timeout(Duration::from_millis(500), stream.message()).await;
            let Ok(Ok(Some(message))) = next else { return };
            match message.event {
                Some(Event::Change(change)) => self.changes.push(change),
                Some(Event::Bookmark(_)) => {}
                other => panic!("{other:?} while resuming"),
            }
            assert!(!message.cursor.is_empty(), "an event without a cursor");
            self.cursor = message.cursor;
        }
    }
}

/// Across hundreds of reconnections and a crash of the node, the changes that a watcher collects
/// are exactly what was written: no gap, no repeat, no other order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_sees_every_version_once_across_reconnects_and_a_crash() {
    let seed = environment::seed();
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let directory = tempfile::tempdir().unwrap();
    let mut options = Options::new(directory.path());
    let mut node = Node::start(&options).unwrap();
    options.base_port = Some(node.base_port());
    let client = Client::new(node.grpc());
    let (documents, cursor) = client.opening(PREFIX).await.unwrap();
    assert!(documents.is_empty());
    let mut watcher = Watcher {
        client: client.clone(),
        cursor,
        changes: Vec::new(),
        connections: 0,
    };

    let writing = load::Options {
        prefix: PREFIX.into(),
        writers: 4,
        devices: 3,
        padding: 10,
    };
    let load = Load::start(node.grpc(), writing);
    for round in 0..100 {
        watcher.connect(&mut random).await;
        if round == 50 {
            load.progress(10, WITHIN).await.unwrap();
            node.kill().unwrap();
            node = Node::start(&options).unwrap();
        }
    }
    load.progress(100, WITHIN).await.unwrap();
    let history = load.stop(WITHIN).await.unwrap();
    let total = load::versions(&client, &history).await.unwrap();
    let started = std::time::Instant::now();
    while watcher.changes.len() < total {
        assert!(
            started.elapsed() < WITHIN,
            "{} of {total} changes",
            watcher.changes.len()
        );
        watcher.connect(&mut random).await;
    }
    load::judge_feed(&watcher.changes, &history).unwrap();
    println!("{total} changes over {} connections", watcher.connections);
}

/// A watch without a cursor starts with the documents as they are, then says that it is complete,
/// then goes on with changes; deletes are changes too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_opens_with_the_current_documents() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(&Options::new(directory.path())).unwrap();
    let client = Client::new(node.grpc());
    for number in 0..20 {
        client
            .update(&format!("watched-{number}"), r#"{"a":1}"#)
            .await
            .unwrap();
    }
    client.update("other", r#"{"a":1}"#).await.unwrap();
    let (documents, cursor) = client.opening(PREFIX).await.unwrap();
    assert_eq!(documents.len(), 20);
    assert!(documents.values().all(|shadow| shadow.version == 1));

    client.update("watched-3", r#"{"a":2}"#).await.unwrap();
    let key = antumbra_tests::client::key("watched-3");
    let delete = v1::DeleteShadowRequest {
        key,
        ..Default::default()
    };
    client.raw().delete_shadow(delete).await.unwrap();
    client.update("other", r#"{"a":2}"#).await.unwrap();
    let changes = client
        .changes(PREFIX, &cursor, |changes| changes.len() == 2)
        .await
        .unwrap();
    let seen: Vec<_> = changes
        .iter()
        .map(|change| (change.version, change.deleted))
        .collect();
    assert_eq!(seen, [(2, false), (3, true)]);

    let gone = || async {
        let (documents, _) = client.opening(PREFIX).await.unwrap();
        (documents.len() == 19).then_some(())
    };
    waiting::until_async("the deleted shadow is not listed", WITHIN, gone)
        .await
        .unwrap();
}
