//! Invariant 13: damage on disk is noticed. A byte of a stopped node's directory is changed; then
//! either everything that was acknowledged is still there, or the node stops and says why. Fewer
//! acknowledged writes than before must never be served.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::runtime::Handle;

use antumbra_proto::v1;
use antumbra_tests::client::{self, Client};
use antumbra_tests::node::{Launch, Node, Options, Stopped};
use antumbra_tests::{environment, files, waiting};

const FLIPS: usize = 200;
const DEVICES: usize = 300;
const WORKERS: usize = 2;
const STOP_LIMIT: Duration = Duration::from_secs(20);
const READ_LIMIT: Duration = Duration::from_secs(10);

/// Codes that a node may stop with because of damage.
pub(crate) const CODES: &[&str] = &[
    "LOG_DAMAGED",
    "STATE_DAMAGED",
    "IDENTITY_DAMAGED",
    "WRONG_STORE",
    "FORMAT_TOO_NEW",
    "STORE_MISSING",
    "UNDECODABLE",
];

/// Everything acknowledged: documents, and the feed since the beginning.
#[derive(PartialEq)]
struct Content {
    documents: BTreeMap<String, v1::Shadow>,
    /// Per device, because the order between devices of different shards is free.
    feed: BTreeMap<String, Vec<v1::Change>>,
}

/// What is read back: which devices, from which cursor, how many changes.
struct Reader {
    devices: Vec<String>,
    cursor: String,
    changes: usize,
}

impl Reader {
    async fn read(&self, node: &Node) -> anyhow::Result<Content> {
        let client = Client::new(node.grpc()).with_limit(READ_LIMIT);
        let mut listed = client.list_devices().await?;
        listed.sort();
        anyhow::ensure!(listed == self.devices, "{} devices listed", listed.len());
        let documents = client.get_all(&self.devices).await?;
        let enough = |changes: &[v1::Change]| changes.len() >= self.changes;
        let mut feed: BTreeMap<String, Vec<v1::Change>> = BTreeMap::new();
        for change in client.changes("", &self.cursor, enough).await? {
            feed.entry(client::full_name(change.key.as_ref()))
                .or_default()
                .push(change);
        }
        Ok(Content { documents, feed })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Every acknowledged write was there.
    Identical,
    /// The node did not start, with a code.
    Refused,
    /// The node started and stopped when it met the damage, with a code.
    Stopped,
}

/// Which kind of file this is, or `None` for files that hold no data (RocksDB's own text logs).
fn kind(path: &Path) -> Option<&'static str> {
    let store = path.iter().next()?.to_str()?;
    let name = path.file_name()?.to_str()?;
    match (store, name) {
        ("log", name) if name.ends_with(".log") => Some("log/ WAL"),
        ("log", name) if name.ends_with(".sst") => Some("log/ SST"),
        ("log", name) if name.starts_with("MANIFEST") => Some("log/ MANIFEST"),
        ("log", "CURRENT") => Some("log/ CURRENT"),
        ("state", name) if name.ends_with(".sst") => Some("state/ SST"),
        ("state", name) if name.starts_with("MANIFEST") => Some("state/ MANIFEST"),
        ("state", "CURRENT") => Some("state/ CURRENT"),
        ("identity", _) => Some("identity"),
        ("seal", _) => Some("seal"),
        _ => None,
    }
}

/// The files that are flipped, by kind.
fn targets(data: &Path) -> BTreeMap<&'static str, Vec<PathBuf>> {
    let mut targets: BTreeMap<&'static str, Vec<PathBuf>> = BTreeMap::new();
    for path in files::list(data).unwrap() {
        let empty = fs::metadata(data.join(&path)).unwrap().len() == 0;
        if let (Some(kind), false) = (kind(&path), empty) {
            targets.entry(kind).or_default().push(path);
        }
    }
    targets
}

/// Waits until the node has noted its last synced batch in the seal, which it does soon after it
/// falls quiet. Before that, a changed byte in the last record of the log cannot be told from a write
/// that was cut off.
fn wait_until_sealed(data: &Path) {
    let modified = |path: &Path| fs::metadata(data.join(path)).unwrap().modified().unwrap();
    let logs = || {
        let files = files::list(data).unwrap().into_iter();
        files
            .filter(|path| kind(path) == Some("log/ WAL"))
            .map(|path| modified(&path))
            .max()
    };
    waiting::until("the seal is newer than the log", READ_LIMIT, || {
        (modified(Path::new("seal")) > logs()?).then_some(())
    })
    .unwrap();
}

/// A small directory with data in every kind of file, of a node that was killed.
async fn prepare(options: &Options) -> (Reader, Content) {
    let mut devices: Vec<String> = (0..DEVICES)
        .map(|number| format!("flip-{number}"))
        .collect();
    devices.sort();
    let mut cursor = String::new();
    const ROUNDS: usize = 4;
    for round in 0..ROUNDS {
        let node = Node::start(options).unwrap();
        let client = Client::new(node.grpc());
        if round == 0 {
            cursor = client.opening("").await.unwrap().1;
        }
        let desired = format!(r#"{{"round":{round},"text":"{}"}}"#, "words ".repeat(8));
        client.update_all(&devices, &desired).await.unwrap();
        if round + 1 < ROUNDS {
            // An orderly stop flushes both stores: sorted files with this round.
            assert!(node.terminate().unwrap().status.success());
            continue;
        }
        let reader = Reader {
            devices,
            cursor,
            changes: ROUNDS * DEVICES,
        };
        let content = reader.read(&node).await.unwrap();
        wait_until_sealed(&options.data_dir);
        node.kill().unwrap();
        return (reader, content);
    }
    unreachable!("the last round returns")
}

/// Whether a node said that it stopped because of damage. Anything else is a bug.
fn coded(stopped: &Stopped) -> Result<(), String> {
    let coded = CODES.iter().any(|code| stopped.output.contains(code));
    let failed = !stopped.status.success() && stopped.status.code().is_some();
    if coded && failed && !stopped.output.contains("panicked") {
        return Ok(());
    }
    Err(format!(
        "ended with {} and\n{}",
        stopped.status, stopped.output
    ))
}

/// Starts a node over a damaged directory and reads everything.
async fn outcome(
    options: &Options,
    reader: &Reader,
    expected: &Content,
) -> Result<Outcome, String> {
    let mut node = match Node::launch(options).map_err(|error| format!("{error:#}"))? {
        Launch::Stopped(stopped) => return coded(&stopped).map(|()| Outcome::Refused),
        Launch::Ready(node) => node,
    };
    match reader.read(&node).await {
        Ok(found) if found != *expected => Err("other data than were acknowledged".to_owned()),
        Ok(_) if !node.is_running() => Err("served everything and then stopped".to_owned()),
        Ok(_) => Ok(Outcome::Identical),
        Err(error) => match node.wait_exit(STOP_LIMIT) {
            Ok(stopped) => coded(&stopped).map(|()| Outcome::Stopped),
            Err(going) => Err(format!(
                "reads fail, and the node goes on: {error:#}\n{going:#}"
            )),
        },
    }
}

/// One flip: where, and to what.
struct Flip {
    kind: &'static str,
    path: PathBuf,
    offset: usize,
    mask: u8,
}

impl Flip {
    fn choose(
        number: usize,
        targets: &BTreeMap<&'static str, Vec<PathBuf>>,
        data: &Path,
        random: &mut SmallRng,
    ) -> Flip {
        let kinds: Vec<_> = targets.keys().copied().collect();
        let kind = kinds[number % kinds.len()];
        let paths = &targets[kind];
        let path = paths[random.random_range(0..paths.len())].clone();
        let bytes = fs::metadata(data.join(&path)).unwrap().len() as usize;
        Flip {
            kind,
            path,
            offset: random.random_range(0..bytes),
            mask: random.random_range(1..=255),
        }
    }

    fn apply(&self, data: &Path) {
        let path = data.join(&self.path);
        let mut content = fs::read(&path).unwrap();
        content[self.offset] ^= self.mask;
        fs::write(&path, content).unwrap();
    }

    fn describe(&self, number: usize, seed: u64) -> String {
        let Flip {
            path, offset, mask, ..
        } = self;
        format!(
            "flip {number} of seed {seed}: {} at {offset} xor {mask:#04x}",
            path.display()
        )
    }
}

/// Options that make a node start as fast as it can.
fn quick(data: &Path) -> Options {
    let mut options = Options::new(data)
        .with_env("ANTUMBRA_RAFT_HEARTBEAT", "20ms")
        .with_env("ANTUMBRA_RAFT_ELECTION_TIMEOUT_MIN", "60ms")
        .with_env("ANTUMBRA_RAFT_ELECTION_TIMEOUT_MAX", "120ms");
    options.ready_limit = Duration::from_secs(30);
    options
}

/// 200 flipped bytes over every kind of file: identical data or a coded stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_of_200_bytes_is_harmless_or_stops_the_node() {
    let seed = environment::seed();
    println!("seed {seed}");
    let directory = tempfile::tempdir().unwrap();
    let original = directory.path().join("original");
    let (reader, expected) = prepare(&quick(&original)).await;
    let targets = targets(&original);
    let kinds: Vec<_> = targets.keys().copied().collect();
    assert_eq!(kinds.len(), 9, "a kind of file is missing: {kinds:?}");

    let mut random = SmallRng::seed_from_u64(seed);
    let flips: Vec<Flip> = (0..FLIPS)
        .map(|number| Flip::choose(number, &targets, &original, &mut random))
        .collect();
    let counts: Mutex<BTreeMap<(&str, Outcome), usize>> = Mutex::default();
    let wrong: Mutex<Vec<String>> = Mutex::default();
    let work = |worker: usize| {
        let (flips, reader, expected) = (&flips, &reader, &expected);
        let (counts, wrong) = (&counts, &wrong);
        let (directory, original) = (directory.path(), &original);
        async move {
            for (number, flip) in flips
                .iter()
                .enumerate()
                .filter(|(n, _)| n % WORKERS == worker)
            {
                let copy = directory.join(format!("copy-{number}"));
                files::copy(original, &copy).unwrap();
                flip.apply(&copy);
                match outcome(&quick(&copy), reader, expected).await {
                    Ok(outcome) => {
                        *counts
                            .lock()
                            .unwrap()
                            .entry((flip.kind, outcome))
                            .or_default() += 1;
                    }
                    Err(what) => {
                        let flip = flip.describe(number, seed);
                        wrong.lock().unwrap().push(format!("{flip}: {what}"));
                    }
                }
                fs::remove_dir_all(&copy).unwrap();
            }
        }
    };
    // Starting a node blocks: each worker has a thread of its own.
    let runtime = Handle::current();
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (runtime, work) = (&runtime, &work);
            scope.spawn(move || runtime.block_on(work(worker)));
        }
    });

    let counts = counts.into_inner().unwrap();
    for ((kind, outcome), count) in &counts {
        println!("{kind:<16} {outcome:?}: {count}");
    }
    let wrong = wrong.into_inner().unwrap();
    assert!(
        wrong.is_empty(),
        "{} flips went wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(counts.values().sum::<usize>(), FLIPS);
    let identical = counts
        .iter()
        .filter(|((_, outcome), _)| *outcome == Outcome::Identical);
    let noticed = FLIPS - identical.map(|(_, count)| count).sum::<usize>();
    assert!(
        noticed >= FLIPS / 4,
        "only {noticed} flips were noticed: are the data read at all?"
    );
}
