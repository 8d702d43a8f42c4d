//! A small machine, and hosts on temporary directories.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use antumbra_raft::{
    Commands, EntryPosition, Env, Error, HashRange, Host, HostConfig, Key, Machine, NoTransport,
    Node, ProposeError, Proposed, ReplicaId, Replies, Role, Shard, ShardId, ShardSpec, WriteTx,
};
use bytes::Bytes;
use parking_lot::Mutex;

/// Long enough for a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Text commands over counters: `add KEY N` answers the sum, `note TEXT` appends to the feed,
/// `trim INDEX` deletes the feed before an index, `pin NUMBER` keeps the state, `panic` panics.
#[derive(Default)]
pub(crate) struct Counters {
    /// Applied positions as observers were told them.
    pub(crate) applied: Mutex<Vec<(ShardId, u64)>>,
    /// Entries that went through apply.
    pub(crate) entries: AtomicU64,
    /// Those of them whose replies somebody waited for.
    pub(crate) awaited: AtomicU64,
    pub(crate) resets: AtomicU64,
}

impl Machine for Counters {
    type Change = u64;

    fn apply(
        &self,
        tx: &mut WriteTx<'_>,
        at: EntryPosition,
        commands: Commands<'_>,
        replies: Replies,
        changes: &mut Vec<Arc<u64>>,
    ) -> Result<Vec<Bytes>, Error> {
        self.entries.fetch_add(1, Ordering::Relaxed);
        let is_awaited = u64::from(replies == Replies::Awaited);
        self.awaited.fetch_add(is_awaited, Ordering::Relaxed);
        commands
            .map(|command| apply(tx, at, command, changes))
            .collect()
    }

    fn applied(&self, shard: ShardId, index: u64, _changes: Vec<Arc<u64>>) {
        self.applied.lock().push((shard, index));
    }

    fn reset(&self, _shard: ShardId) {
        self.resets.fetch_add(1, Ordering::Relaxed);
    }

    fn pin(&self, command: &[u8]) -> Option<u64> {
        let text = std::str::from_utf8(command).ok()?;
        text.strip_prefix("pin ")?.parse().ok()
    }
}

fn apply(
    tx: &mut WriteTx<'_>,
    at: EntryPosition,
    command: &[u8],
    changes: &mut Vec<Arc<u64>>,
) -> Result<Bytes, Error> {
    let text = std::str::from_utf8(command).unwrap_or_default();
    let words: Vec<&str> = text.split(' ').collect();
    match words[..] {
        ["add", key, n] => {
            let n: u64 = n.parse().unwrap_or(0);
            let row = counter(at.shard, key);
            let sum = tx.get(&row)?.map_or(0, |value| number(&value)) + n;
            tx.put(row, sum.to_be_bytes().to_vec());
            tx.put(feed(at.shard, at.index), command.to_vec());
            changes.push(Arc::new(at.index));
            Ok(sum.to_string().into())
        }
        ["trim", index] => {
            let index = index.parse().unwrap_or(0);
            tx.delete_range(feed(at.shard, 0), feed(at.shard, index));
            Ok(Bytes::new())
        }
        ["panic"] => panic!("asked to"),
        _ => Ok(Bytes::from_static(b"rejected")),
    }
}

pub(crate) fn counter(shard: ShardId, key: &str) -> Key {
    let hash = range(shard).start + crc32fast::hash(key.as_bytes()) % 1000;
    Key::ranged(0, hash, key.as_bytes())
}

pub(crate) fn feed(shard: ShardId, index: u64) -> Key {
    Key::sharded(0, shard, &index.to_be_bytes())
}

pub(crate) fn number(value: &[u8]) -> u64 {
    u64::from_be_bytes(value.try_into().unwrap())
}

pub(crate) fn range(shard: ShardId) -> HashRange {
    let start = shard.0 * 1_000_000;
    HashRange {
        start,
        end: start + 999_999,
    }
}

pub(crate) fn config(directory: &Path) -> HostConfig {
    let mut config = HostConfig::new(directory, [3; 16]);
    config.create = true;
    config
}

pub(crate) fn spec(shard: u32) -> ShardSpec {
    let replica = ReplicaId(u64::from(shard) * 10 + 1);
    ShardSpec {
        shard: ShardId(shard),
        replica,
        range: range(ShardId(shard)),
        members: BTreeMap::from([(replica, Node::default())]),
        create: true,
    }
}

pub(crate) async fn try_open(config: HostConfig) -> Result<Host, Error> {
    Host::open(config, Env::system(), Arc::new(NoTransport)).await
}

pub(crate) async fn open(directory: &Path) -> Host {
    try_open(config(directory)).await.unwrap()
}

/// A host with three shards that serve.
pub(crate) struct Three {
    pub(crate) host: Host,
    pub(crate) shards: Vec<Shard>,
    pub(crate) machine: Arc<Counters>,
}

impl Three {
    pub(crate) async fn start(directory: &Path) -> Three {
        Three::start_with(config(directory)).await
    }

    pub(crate) async fn start_with(config: HostConfig) -> Three {
        let host = try_open(config).await.unwrap();
        let machine = Arc::new(Counters::default());
        let mut shards = Vec::new();
        for n in 1..=3 {
            let shard = host.start_shard(spec(n), Arc::clone(&machine)).await;
            shards.push(shard.unwrap());
        }
        for shard in &shards {
            shard.recovered(PATIENCE).await.unwrap();
            leader(shard).await;
        }
        Three {
            host,
            shards,
            machine,
        }
    }

    pub(crate) async fn shutdown(self) {
        drop(self.shards);
        self.host.shutdown().await.unwrap();
    }
}

/// Waits until the shard may serve here and gives its term.
pub(crate) async fn leader(shard: &Shard) -> u64 {
    let mut role = shard.role();
    let leading = role.wait_for(|role| matches!(role, Role::Leader { .. }));
    let role = tokio::time::timeout(PATIENCE, leading).await;
    match *role.expect("a leader in time").unwrap() {
        Role::Leader { term } => term,
        _ => unreachable!(),
    }
}

pub(crate) async fn propose(
    shard: &Shard,
    command: impl Into<String>,
) -> Result<Proposed, ProposeError> {
    let term = leader(shard).await;
    shard.propose(term, Bytes::from(command.into())).await
}

/// As [`propose`], but gives up when the replica has stopped.
pub(crate) async fn propose_now(
    shard: &Shard,
    command: impl Into<String>,
) -> Result<Proposed, ProposeError> {
    let role = *shard.role().borrow();
    match role {
        Role::Leader { term } => shard.propose(term, Bytes::from(command.into())).await,
        _ => Err(ProposeError::Stopped),
    }
}

/// Adds `n` to a counter and gives the sum.
pub(crate) async fn add(shard: &Shard, key: &str, n: u64) -> u64 {
    let done = propose(shard, format!("add {key} {n}")).await.unwrap();
    std::str::from_utf8(&done.reply).unwrap().parse().unwrap()
}

/// What the counter is in the current state.
pub(crate) fn read(shard: &Shard, key: &str) -> Option<u64> {
    let value = shard.view().get(&counter(shard.id(), key)).unwrap();
    value.map(|value| number(&value))
}

/// Index up to which openraft has purged the log of a shard.
pub(crate) async fn purged(shard: &Shard) -> Option<u64> {
    let now = shard.raft().wait(Some(PATIENCE));
    let now = now.metrics(|_| true, "now").await.unwrap();
    now.purged.map(|id| id.index)
}

/// Waits until the log of a shard is purged up to `index`.
pub(crate) async fn wait_purged(shard: &Shard, index: u64) {
    let purged = shard.raft().wait(Some(PATIENCE));
    let purged = purged.metrics(|m| m.purged.map(|id| id.index) >= Some(index), "purged");
    purged.await.unwrap();
}

/// Everything in the tables of a shard that [`Counters`] writes.
pub(crate) fn dump(shard: &Shard) -> Vec<(Bytes, Bytes)> {
    let range = shard.range();
    let (view, _) = shard.pinned().unwrap();
    let mut rows = view
        .scan(
            &Key::ranged(0, range.start, b""),
            &Key::ranged_end(0, range.end),
            usize::MAX,
        )
        .unwrap();
    let feed = view.scan(
        &Key::sharded(0, shard.id(), b""),
        &Key::sharded_end(0, shard.id()),
        usize::MAX,
    );
    rows.extend(feed.unwrap());
    rows
}

/// The image that a crash at one instant would leave of a running host's directory. A copy takes
/// time, and in it files come and go: only one during which nothing changed is such an image.
pub(crate) fn copy(from: &Path, to: &Path) {
    for _ in 0..1000 {
        let before = fingerprint(from);
        let copied = copy_files(from, to);
        if copied.is_ok() && before.is_ok() && before.ok() == fingerprint(from).ok() {
            return;
        }
        std::fs::remove_dir_all(to).unwrap();
    }
    panic!("the directory never held still");
}

fn copy_files(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_files(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Every file with its length and when it was changed, in order.
fn fingerprint(
    directory: &Path,
) -> std::io::Result<Vec<(std::path::PathBuf, u64, std::time::SystemTime)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            files.extend(fingerprint(&entry.path())?);
        } else {
            files.push((entry.path(), metadata.len(), metadata.modified()?));
        }
    }
    files.sort();
    Ok(files)
}
