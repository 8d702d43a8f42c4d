//! Many writers of one device, more work than permits, and results that get lost.

use std::time::Duration;

use futures::{StreamExt, stream};
use tonic::Code;

use antumbra_proto::v1;
use antumbra_tests::checker::{self, Attempt, Ending, State};
use antumbra_tests::client::{self, Client, Refusal};
use antumbra_tests::node::{Node, Options};

const MIB: u64 = 1 << 20;

async fn write(client: &Client, device: &str, value: u64) -> Result<u64, Refusal> {
    let accepted = client
        .update(device, &format!(r#"{{"n":{value}}}"#))
        .await?;
    Ok(accepted.version)
}

async fn read(client: &Client, device: &str) -> State {
    let shadow = client.get(device).await.unwrap().shadow.unwrap();
    let desired: serde_json::Value = serde_json::from_str(&shadow.desired_json).unwrap();
    State {
        version: shadow.version,
        value: desired["n"].as_u64().unwrap(),
    }
}

/// A thousand writers of one device at once get the versions 1 to 1000, each once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twins_give_1000_concurrent_writes_versions_1_to_1000() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(&Options::new(directory.path())).unwrap();
    let clients: Vec<Client> = (0..8).map(|_| Client::new(node.grpc())).collect();
    let writes = (0..1000_u64).map(|value| {
        let client = clients[value as usize % clients.len()].clone();
        async move { (value, write(&client, "hot", value).await.unwrap()) }
    });
    let written: Vec<(u64, u64)> = stream::iter(writes).buffer_unordered(1000).collect().await;
    let versions: Vec<u64> = written.iter().map(|(_, version)| *version).collect();
    checker::check_versions(&versions).unwrap();
    let found = read(&clients[0], "hot").await;
    let last = written
        .iter()
        .find(|(_, version)| *version == 1000)
        .unwrap();
    assert_eq!(
        found,
        State {
            version: 1000,
            value: last.0
        }
    );
}

/// A flood over the permits is refused at once, with memory flat, and harms nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twins_flood_is_refused_and_memory_stays_flat() {
    const WRITES: u64 = 30_000;
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new(directory.path())
        .with_env("ANTUMBRA_LIMITS_COMMANDS_MAX", 64)
        .with_env("ANTUMBRA_LIMITS_COMMANDS_PER_DEVICE_MAX", 8);
    let node = Node::start(&options).unwrap();
    let clients: Vec<Client> = (0..8).map(|_| Client::new(node.grpc())).collect();
    let flood = |writes: u64| {
        let clients = clients.clone();
        let writes = (0..writes).map(move |value| {
            let client = clients[value as usize % clients.len()].clone();
            async move { write(&client, &format!("flood-{}", value % 50), value).await }
        });
        stream::iter(writes).buffer_unordered(4000)
    };
    // Connections, threads and caches are there before memory is measured.
    let _: Vec<_> = flood(4_000).collect().await;
    let before = node.rss().unwrap();
    let outcomes: Vec<Result<u64, Refusal>> = flood(WRITES).collect().await;
    let grown = node.rss_peak().unwrap().saturating_sub(before);

    let refused: Vec<&Refusal> = outcomes
        .iter()
        .filter_map(|ended| ended.as_ref().err())
        .collect();
    for refusal in &refused {
        let seen = (refusal.code, refusal.reason.as_str());
        assert_eq!(seen, (Code::ResourceExhausted, "OVERLOADED"), "{refusal:?}");
    }
    let accepted = outcomes.len() - refused.len();
    println!(
        "{WRITES} writes: {accepted} accepted, {} refused, memory grew by {} MiB",
        refused.len(),
        grown / MIB
    );
    assert!(
        !refused.is_empty() && accepted > 0,
        "{accepted} of {WRITES} accepted"
    );
    assert!(grown < 128 * MIB, "memory grew by {} MiB", grown / MIB);
    write(&clients[0], "calm", 1).await.unwrap();
}

/// A write whose result is lost is reported unknown, a retry with its request id tells the truth,
/// and the versions that follow are right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twins_reload_after_an_unknown_outcome() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new(directory.path()).with_test_switch("ANTUMBRA_TEST_LOSE_PROPOSAL", 5);
    let node = Node::start(&options).unwrap();
    let client = Client::new(node.grpc());

    let mut attempts = Vec::new();
    for value in 1..=50 {
        let ending = match write(&client, "lossy", value).await {
            Ok(version) => Ending::Acknowledged(version),
            Err(refusal) => {
                let seen = (refusal.code, refusal.reason.as_str());
                assert_eq!(seen, (Code::Unknown, "OUTCOME_UNKNOWN"), "{refusal:?}");
                Ending::Unknown
            }
        };
        attempts.push(Attempt { value, ending });
    }
    let verdict = checker::check_history(&attempts, read(&client, "lossy").await).unwrap();
    println!("{verdict:?}");
    assert!(
        verdict.unknown >= 5 && verdict.acknowledged >= 25,
        "{verdict:?}"
    );

    for value in 1..=20_u64 {
        let update = v1::UpdateShadowRequest {
            request_id: format!("attempt-{value}"),
            ..client::desired_update("settled", &format!(r#"{{"n":{value}}}"#))
        };
        let settle = || async { client.send(update.clone()).await.ok() };
        let limit = Duration::from_secs(10);
        let accepted = antumbra_tests::waiting::until_async("a settled write", limit, settle)
            .await
            .unwrap();
        assert_eq!(accepted.version, value, "a request id applies once");
    }
    assert_eq!(
        read(&client, "settled").await,
        State {
            version: 20,
            value: 20
        }
    );
}
