//! Directories that are not this node's are refused, and nothing in them is touched.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use antumbra_tests::client::Client;
use antumbra_tests::files;
use antumbra_tests::node::{Launch, Node, Options};
use antumbra_tests::waiting;

const LIMIT: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(100);

/// A directory with some data of a cluster of its own.
async fn fill(data: &Path) {
    let node = Node::start(&Options::new(data)).unwrap();
    Client::new(node.grpc())
        .update("device", r#"{"a":1}"#)
        .await
        .unwrap();
    assert!(node.terminate().unwrap().status.success());
}

/// Starts over `options`; it must refuse with `code`.
fn assert_refused(options: &Options, code: &str) {
    let Launch::Stopped(stopped) = Node::launch(options).unwrap() else {
        panic!("started over a directory that is not its own")
    };
    assert!(!stopped.status.success(), "exit status {}", stopped.status);
    assert!(
        stopped.output.contains(code),
        "no {code} in\n{}",
        stopped.output
    );
    assert!(!stopped.output.contains("panicked"), "{}", stopped.output);
}

/// As [`assert_refused`], and every file stays as it was.
fn assert_untouched(options: &Options, code: &str) {
    let before = files::hashes(&options.data_dir).unwrap();
    assert_refused(options, code);
    let mut after = files::hashes(&options.data_dir).unwrap();
    // The lock file holds nothing.
    after.retain(|path, _| before.contains_key(path) || path != Path::new("lock"));
    assert_eq!(after, before);
}

/// The node starts over `data` and has what [`fill`] wrote.
async fn assert_intact(data: &Path) {
    let node = Node::start(&Options::new(data)).unwrap();
    let found = Client::new(node.grpc()).get("device").await.unwrap();
    assert_eq!(found.shadow.unwrap().version, 1);
}

fn replace(from: &Path, to: &Path, part: &str) {
    let (source, target) = (from.join(part), to.join(part));
    if source.is_dir() {
        fs::remove_dir_all(&target).unwrap();
        files::copy(&source, &target).unwrap();
    } else {
        fs::copy(&source, &target).unwrap();
    }
}

/// Stores or an identity of another cluster are refused, whichever part was mixed up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_of_mixed_up_directories_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (directory.path().join("one"), directory.path().join("two"));
    fill(&one).await;
    fill(&two).await;
    for part in ["identity", "log", "state"] {
        let mixed = directory.path().join(format!("mixed-{part}"));
        files::copy(&one, &mixed).unwrap();
        replace(&two, &mixed, part);
        assert_refused(&Options::new(&mixed), "WRONG_STORE");
        // Each part is put back where it belongs: nothing of it was lost.
        replace(&mixed, &two, part);
        replace(&one, &mixed, part);
        assert_intact(&mixed).await;
        assert_intact(&two).await;
    }
}

/// CRC-32 as in Ethernet, which ends the header file.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| {
        if sum & 1 == 1 {
            (sum >> 1) ^ 0xedb8_8320
        } else {
            sum >> 1
        }
    };
    !bytes
        .iter()
        .fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}

/// A directory that a newer version wrote is refused; the frame of the header is the same for ever:
/// eight bytes of magic, the format, a length, the content, a checksum.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_of_newer_formats_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path()).await;
    let header = directory.path().join("identity");
    let mut bytes = fs::read(&header).unwrap();
    let end = bytes.len() - 4;
    assert_eq!(
        bytes[end..],
        crc32(&bytes[..end]).to_be_bytes(),
        "the frame has changed"
    );
    bytes[8..12].copy_from_slice(&1000_u32.to_be_bytes());
    let sum = crc32(&bytes[..end]);
    bytes[end..].copy_from_slice(&sum.to_be_bytes());
    fs::write(&header, bytes).unwrap();
    assert_untouched(&Options::new(directory.path()), "FORMAT_TOO_NEW");
}

/// A node that announced rules, and with it the whole cluster, is not started with a version that does not know
/// them: it could not apply what others apply. The newer version goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_of_rules_that_only_a_newer_version_knows_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path()).await;
    let newer =
        Options::new(directory.path()).with_test_switch("ANTUMBRA_TEST_ANNOUNCE_RULES", 1_000);
    let node = Node::start(&newer).unwrap();
    let client = Client::new(node.grpc());
    client.update("device", r#"{"a":2}"#).await.unwrap();
    // It says so beside its work.
    let heard = waiting::until("the rules are in the state", LIMIT, || {
        thread::sleep(STEP);
        let state = fs::read(directory.path().join("cluster")).unwrap();
        let rules: &[u8] = br#""rules":1000"#;
        state
            .windows(rules.len())
            .any(|bytes| bytes == rules)
            .then_some(())
    });
    heard.unwrap();
    assert!(node.terminate().unwrap().status.success());
    assert_refused(&Options::new(directory.path()), "RULES_TOO_NEW");
    let node = Node::start(&newer).unwrap();
    let found = Client::new(node.grpc()).get("device").await.unwrap();
    assert_eq!(found.shadow.unwrap().version, 2);
}

/// A directory that was written under another node name is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_of_another_nodes_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path()).await;
    let other = Options::new(directory.path()).with_env("ANTUMBRA_NODE_NAME", "somebody-else");
    assert_untouched(&other, "WRONG_NODE");
}

/// A store that is gone is not made anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_of_missing_stores_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let original = directory.path().join("original");
    fill(&original).await;
    for part in ["log", "state"] {
        let copy = directory.path().join(format!("without-{part}"));
        files::copy(&original, &copy).unwrap();
        fs::remove_dir_all(copy.join(part)).unwrap();
        assert_refused(&Options::new(&copy), "STORE_MISSING");
        assert!(
            !copy.join(part).join("CURRENT").exists(),
            "{part} was made anew"
        );
        files::copy(&original.join(part), &copy.join(part)).unwrap();
        assert_intact(&copy).await;
    }
    let copy = directory.path().join("without-identity");
    files::copy(&original, &copy).unwrap();
    fs::remove_file(copy.join("identity")).unwrap();
    assert_untouched(&Options::new(&copy), "IDENTITY_MISSING");
}

/// Two processes never share a directory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_by_a_second_process_is_prevented() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new(directory.path());
    let node = Node::start(&options).unwrap();
    let Launch::Stopped(stopped) = Node::launch(&options).unwrap() else {
        panic!("two processes over one directory")
    };
    assert!(!stopped.status.success());
    assert!(
        stopped.output.contains("DIRECTORY_LOCKED"),
        "{}",
        stopped.output
    );
    Client::new(node.grpc())
        .update("device", r#"{"a":1}"#)
        .await
        .unwrap();
}
