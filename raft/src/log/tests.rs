//! The log on RocksDB and a real directory.

#![allow(clippy::unwrap_used)]

mod damaged;
mod reopened;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;

use crate::config::HostConfig;
use crate::error::Error;
use crate::failure::Failure;
use crate::ids::ShardId;
use crate::log::{Log, ShardLog};
use crate::types::{Command, Entry, Payload, TypeConfig, log_id};

const SHARD: ShardId = ShardId(7);
const STORE_ID: [u8; 16] = [3; 16];

fn config(directory: &Path, create: bool) -> HostConfig {
    HostConfig {
        create,
        tail_bytes: 4 << 10,
        ..HostConfig::new(directory, STORE_ID)
    }
}

fn create(directory: &Path) -> Arc<Log> {
    Log::open(&config(directory, true), Failure::new()).unwrap()
}

fn open(directory: &Path) -> Result<Arc<Log>, Error> {
    Log::open(&config(directory, false), Failure::new())
}

fn reopen(directory: &Path) -> Arc<Log> {
    open(directory).unwrap()
}

/// The code with which opening, or reading a shard after it, is refused.
async fn refusal(directory: &Path) -> Option<&'static str> {
    let log = match open(directory) {
        Ok(log) => log,
        Err(error) => return Some(error.code()),
    };
    match log.shard(SHARD).await {
        Ok(_) => None,
        Err(error) => Some(error.code()),
    }
}

fn entry(term: u64, index: u64) -> Entry {
    Entry {
        log_id: log_id(term, index),
        payload: Payload::Normal(Command::one(Bytes::from(format!(
            "command {index} {}",
            "x".repeat(200)
        )))),
    }
}

async fn append(log: &mut ShardLog, term: u64, range: std::ops::Range<u64>) {
    let (flushed, done) = TypeConfig::oneshot();
    let entries: Vec<_> = range.map(|index| entry(term, index)).collect();
    log.append(entries, IOFlushed::signal(flushed))
        .await
        .unwrap();
    done.await.unwrap().unwrap();
}
