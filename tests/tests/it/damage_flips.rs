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
use antumbra_tests::{environment, files};

const FLIPS: usize = 200;
const FLIPS_AT_THE_END: usize = 20;
/// All of them belong to the last record of the log.
const END_BYTES: usize = 600;
const DEVICES: usize = 300;
const WORKERS: usize = 2;
const KILLS_MAX: usize = 20;
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
        node.kill().unwrap();
        return (reader, content);
    }
    unreachable!("the last round returns")
}

/// The newest write-ahead log.
fn newest_log(data: &Path) -> PathBuf {
    let mut logs = targets(data).remove("log/ WAL").unwrap();
    logs.pop().unwrap()
}

/// Whether the log was written to since the seal was, so that nothing but the last record itself
/// tells what became of it.
fn is_unsealed(data: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(data.join(path)).unwrap().modified().unwrap();
    modified(Path::new("seal")) < modified(&newest_log(data))
}

/// A directory of a node that was killed right after its last acknowledgement, before it sealed.
async fn prepare_unsealed(options: &Options) -> (Reader, Content) {
    let device = "flip".to_owned();
    let mut reader = Reader {
        devices: vec![device.clone()],
        cursor: String::new(),
        changes: 0,
    };
    for round in 0..KILLS_MAX {
        let node = Node::start(options).unwrap();
        let client = Client::new(node.grpc());
        if round == 0 {
            reader.cursor = client.opening("").await.unwrap().1;
        }
        // One after another: a node that was quiet before an update seals right after it.
        for _ in 0..20 {
            reader.changes += 1;
            let text = "words ".repeat(END_BYTES / 4);
            let desired = format!(r#"{{"update":{},"text":"{text}"}}"#, reader.changes);
            let told = client.update(&device, &desired).await.unwrap();
            assert_eq!(told.version as usize, reader.changes);
        }
        node.kill().unwrap();
        if is_unsealed(&options.data_dir) {
            let content = read_copy(options, &reader).await;
            assert_eq!(content.feed[&device].len(), reader.changes);
            return (reader, content);
        }
    }
    panic!("{KILLS_MAX} kills, and each time the log was sealed");
}

/// What a node finds in an undamaged copy.
async fn read_copy(options: &Options, reader: &Reader) -> Content {
    let copy = options.data_dir.with_extension("undamaged");
    files::copy(&options.data_dir, &copy).unwrap();
    let node = Node::start(&options.over(&copy)).unwrap();
    let content = reader.read(&node).await.unwrap();
    node.kill().unwrap();
    fs::remove_dir_all(&copy).unwrap();
    content
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

    /// Somewhere in the last record of the log.
    fn choose_at_the_end(data: &Path, random: &mut SmallRng) -> Flip {
        let path = newest_log(data);
        let bytes = fs::metadata(data.join(&path)).unwrap().len() as usize;
        Flip {
            kind: "log/ WAL",
            path,
            offset: random.random_range(bytes - END_BYTES..bytes),
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

type Counts = BTreeMap<(&'static str, Outcome), usize>;

/// Applies each flip to a copy of `original`, looks what a node makes of it, and counts. Panics with
/// all flips that went wrong.
fn judge(
    flips: &[Flip],
    seed: u64,
    original: &Path,
    reader: &Reader,
    expected: &Content,
) -> Counts {
    let counts: Mutex<Counts> = Mutex::default();
    let wrong: Mutex<Vec<String>> = Mutex::default();
    let work = |worker: usize| {
        let (counts, wrong) = (&counts, &wrong);
        let mine = flips.iter().enumerate().skip(worker).step_by(WORKERS);
        async move {
            for (number, flip) in mine {
                let copy = original.with_extension(format!("copy-{number}"));
                files::copy(original, &copy).unwrap();
                flip.apply(&copy);
                match outcome(&quick(&copy), reader, expected).await {
                    Ok(outcome) => {
                        let mut counts = counts.lock().unwrap();
                        *counts.entry((flip.kind, outcome)).or_default() += 1;
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
    assert_eq!(counts.values().sum::<usize>(), flips.len());
    counts
}

/// Flips after which something was missing and the node said so.
fn noticed(counts: &Counts) -> usize {
    let noticed = counts
        .iter()
        .filter(|((_, outcome), _)| *outcome != Outcome::Identical);
    noticed.map(|(_, count)| count).sum()
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
    let counts = judge(&flips, seed, &original, &reader, &expected);
    let noticed = noticed(&counts);
    assert!(
        noticed >= FLIPS / 4,
        "only {noticed} flips were noticed: are the data read at all?"
    );
}

/// The last record of the log, acknowledged but not sealed yet, has nothing behind it that would give
/// its loss away: a flipped byte in it is told from a torn write all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_of_the_last_record_stops_the_node() {
    let seed = environment::seed();
    println!("seed {seed}");
    let directory = tempfile::tempdir().unwrap();
    let original = directory.path().join("original");
    let (reader, expected) = prepare_unsealed(&quick(&original)).await;
    let mut random = SmallRng::seed_from_u64(seed);
    let flips: Vec<Flip> = (0..FLIPS_AT_THE_END)
        .map(|_| Flip::choose_at_the_end(&original, &mut random))
        .collect();
    let counts = judge(&flips, seed, &original, &reader, &expected);
    // A few bytes between two blocks hold nothing.
    let noticed = noticed(&counts);
    assert!(
        noticed >= FLIPS_AT_THE_END / 2,
        "only {noticed} were noticed"
    );
}
