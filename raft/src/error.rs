//! What can go wrong in the engine.
//!
//! Every variant has a stable [`Error::code`] and a text that says what to do. Damage is never
//! repaired in place: the replica stops, nothing is deleted.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::DecodeError;
use crate::ids::ShardId;

/// A failure of the engine. Rejections of commands are not errors: they are replies.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The log store lost or changed data that it had acknowledged.
    #[error(
        "log store damaged: {what}. Keep the directory, do not start it again; \
         rebuild this node from the others, or restore a backup when it is the only one"
    )]
    LogDamaged {
        /// What was found.
        what: String,
    },
    /// The state store lost or changed data, or does not fit the log.
    #[error(
        "state store damaged: {what}. Keep the directory, do not start it again; \
         rebuild this node from the others, or restore a backup when it is the only one"
    )]
    StateDamaged {
        /// What was found.
        what: String,
    },
    /// A store belongs to another cluster or node.
    #[error(
        "the {store} store belongs to another cluster or node. \
         Nothing was changed; check the data directory"
    )]
    WrongStore {
        /// Which store.
        store: &'static str,
    },
    /// A store was written by a newer version of the program.
    #[error(
        "the {store} store has format {found}, this version reads up to {supported}. \
         Nothing was changed; start the newer version again"
    )]
    FormatTooNew {
        /// Which store.
        store: &'static str,
        /// The format on disk.
        found: u32,
        /// The newest format that this version reads.
        supported: u32,
    },
    /// The machine was given a command of a newer version of the program.
    #[error(
        "the cluster applies rules {found}, this version knows rules up to {supported}. \
         Nothing was changed; start the newer version again"
    )]
    RulesTooNew {
        /// The rules of the command.
        found: u16,
        /// The newest rules that this version knows.
        supported: u16,
    },
    /// A store that must exist is not there.
    #[error(
        "{path} is missing although this node has been started before. \
         Nothing was created; check that the right disk is mounted"
    )]
    StoreMissing {
        /// Which store.
        path: PathBuf,
    },
    /// The operating system failed a call.
    #[error("{action}: {source}. Check the disk, its free space and permissions")]
    Io {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// RocksDB failed a call for another reason than damage.
    #[error("{action}: {source}. Check the disk, its free space and permissions")]
    Store {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        source: rocksdb::Error,
    },
    /// Stored bytes that this version cannot have written.
    #[error(
        "undecodable record: {0}. Keep the directory, do not start it again; \
         rebuild this node from the others, or restore a backup when it is the only one"
    )]
    Undecodable(#[from] DecodeError),
    /// The machine panicked on a command: a bug, and a start would meet it again.
    #[error(
        "applying entry {index} of shard {shard} panicked. Report it with the log of this node"
    )]
    ApplyPanicked {
        /// Which shard.
        shard: ShardId,
        /// Index of the entry.
        index: u64,
    },
    /// Entries that do not follow each other: a bug, and nothing of it was written.
    #[error(
        "log of shard {shard}: entry {found} where {expected} belongs. Report it with the log of this node"
    )]
    Hole {
        /// Which shard.
        shard: ShardId,
        /// The index that comes next.
        expected: u64,
        /// The index that was given.
        found: u64,
    },
    /// Entries that may not be purged yet: a bug, and nothing was purged.
    #[error(
        "log of shard {shard}: purge up to {upto} is beyond what is flushed ({gate:?}). Report it with the log of this node"
    )]
    PurgeRefused {
        /// Which shard.
        shard: ShardId,
        /// The index that was given.
        upto: u64,
        /// The index up to which the state is flushed.
        gate: Option<u64>,
    },
    /// A received snapshot was not installed; the sender tries again.
    #[error(
        "snapshot refused: {what}. The leader sends another; look at the network if it repeats"
    )]
    SnapshotRefused {
        /// What is wrong with it.
        what: &'static str,
    },
    /// An earlier failure stopped the writer or the replica; the first error tells why.
    #[error("stopped. The first error of this node tells why; nothing was written after it")]
    Stopped,
    /// openraft gave up on a replica.
    #[error("replica of shard {shard} stopped: {what}. Start the node again")]
    Replica {
        /// Which shard.
        shard: ShardId,
        /// The reason that openraft gave.
        what: String,
    },
    /// The first failure of this node, met elsewhere.
    #[error("{first}")]
    Failed {
        /// What it was; gives the code.
        first: Arc<Error>,
    },
    /// Something did not happen in time.
    #[error("{action} took longer than allowed. Try again")]
    Timeout {
        /// What was being done.
        action: &'static str,
    },
    /// A setting that cannot work.
    #[error("setting {setting}: {what}")]
    Config {
        /// Which one.
        setting: &'static str,
        /// Why not.
        what: String,
    },
}

impl Error {
    /// Stable name of the kind of failure.
    pub fn code(&self) -> &'static str {
        match self {
            Error::LogDamaged { .. } => "LOG_DAMAGED",
            Error::StateDamaged { .. } => "STATE_DAMAGED",
            Error::WrongStore { .. } => "WRONG_STORE",
            Error::FormatTooNew { .. } => "FORMAT_TOO_NEW",
            Error::RulesTooNew { .. } => "RULES_TOO_NEW",
            Error::StoreMissing { .. } => "STORE_MISSING",
            Error::Io { .. } | Error::Store { .. } => "IO",
            Error::Undecodable(_) => "UNDECODABLE",
            Error::ApplyPanicked { .. } => "APPLY_PANICKED",
            Error::Hole { .. } => "LOG_HOLE",
            Error::PurgeRefused { .. } => "PURGE_REFUSED",
            Error::SnapshotRefused { .. } => "SNAPSHOT_REFUSED",
            Error::Stopped => "STOPPED",
            Error::Replica { .. } => "REPLICA_STOPPED",
            Error::Failed { first } => first.code(),
            Error::Timeout { .. } => "TIMEOUT",
            Error::Config { .. } => "CONFIG",
        }
    }

    /// Whether the data on disk are not what they were: such a node must not start again by itself.
    pub fn is_damage(&self) -> bool {
        match self {
            Error::LogDamaged { .. } | Error::StateDamaged { .. } | Error::Undecodable(_) => true,
            Error::Failed { first } => first.is_damage(),
            _ => false,
        }
    }

    /// Damage of the log store.
    pub fn log_damaged(what: impl Into<String>) -> Error {
        Error::LogDamaged { what: what.into() }
    }

    /// Damage of the state store.
    pub fn state_damaged(what: impl Into<String>) -> Error {
        Error::StateDamaged { what: what.into() }
    }

    /// A command of rules that this version does not have.
    pub fn rules_too_new(found: u16, supported: u16) -> Error {
        Error::RulesTooNew { found, supported }
    }

    /// A failed call of the operating system.
    pub fn io(action: &'static str, source: io::Error) -> Error {
        Error::Io { action, source }
    }

    /// A failed call of the log store.
    pub(crate) fn from_log_store(action: &'static str, source: &rocksdb::Error) -> Error {
        if is_corruption(source) {
            Error::log_damaged(format!("{action}: {source}"))
        } else {
            Error::store(action, source)
        }
    }

    /// A log store that does not open.
    pub(crate) fn from_log_open(source: &rocksdb::Error) -> Error {
        match open_failure(source) {
            Some(what) => Error::log_damaged(what),
            None => Error::store("open the log store", source),
        }
    }

    /// A failed call of the state store.
    pub(crate) fn from_state_store(action: &'static str, source: &rocksdb::Error) -> Error {
        if is_corruption(source) {
            Error::state_damaged(format!("{action}: {source}"))
        } else {
            Error::store(action, source)
        }
    }

    /// A state store that does not open.
    pub(crate) fn from_state_open(source: &rocksdb::Error) -> Error {
        match open_failure(source) {
            Some(what) => Error::state_damaged(what),
            None => Error::store("open the state store", source),
        }
    }

    /// Undecodable bytes in the log store.
    pub(crate) fn log_decode(what: &str, error: DecodeError) -> Error {
        Error::log_damaged(format!("decode {what}: {error}"))
    }

    /// A store that must exist.
    pub(crate) fn store_missing(path: &Path) -> Error {
        Error::StoreMissing {
            path: path.to_owned(),
        }
    }

    /// A store of a newer version.
    pub(crate) fn format_too_new(store: &'static str, found: u32, supported: u32) -> Error {
        Error::FormatTooNew {
            store,
            found,
            supported,
        }
    }

    /// A store of another node.
    pub(crate) fn wrong_store(store: &'static str) -> Error {
        Error::WrongStore { store }
    }

    /// A panic inside the machine.
    pub(crate) fn apply_panicked(shard: ShardId, index: u64) -> Error {
        Error::ApplyPanicked { shard, index }
    }

    fn store(action: &'static str, source: &rocksdb::Error) -> Error {
        Error::Store {
            action,
            source: source.clone(),
        }
    }
}

/// openraft carries storage errors as `io::Error`; the original stays inside.
impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        io::Error::other(error)
    }
}

/// Bytes that are not what was written, or a file of the store that is gone.
fn is_corruption(error: &rocksdb::Error) -> bool {
    match error.kind() {
        rocksdb::ErrorKind::Corruption => true,
        rocksdb::ErrorKind::IOError => error.to_string().contains("No such file or directory"),
        _ => false,
    }
}

/// A store that does not open is damaged, unless the system refused it to us: then the data may be
/// whole. A file that the manifest names and that is gone is damage.
fn open_failure(error: &rocksdb::Error) -> Option<String> {
    let text = error.to_string();
    let refused = error.kind() == rocksdb::ErrorKind::IOError
        && [
            "lock",
            "Permission denied",
            "No space left",
            "Input/output error",
            "Too many open",
        ]
        .iter()
        .any(|reason| text.contains(reason));
    (!refused).then(|| format!("open: {text}"))
}
