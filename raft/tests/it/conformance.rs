//! openraft's own storage suite over both stores.

use std::sync::Arc;

use antumbra_raft::types::TypeConfig;
use antumbra_raft::{Host, ShardLog, ShardState};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use crate::host_support::{Counters, open, spec};

/// Builds blank stores on a directory of their own.
struct Builder;

/// Keeps a host and its directory while the suite uses the stores.
struct Guard {
    _host: Host,
    _directory: TempDir,
}

impl StoreBuilder<TypeConfig, ShardLog, ShardState, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, ShardLog, ShardState), StorageError<TypeConfig>> {
        let directory = TempDir::new().unwrap();
        let host = open(directory.path()).await;
        let machine = Arc::new(Counters::default());
        let (log, state) = host.replica_stores(&spec(1), machine).await.unwrap();
        let guard = Guard {
            _host: host,
            _directory: directory,
        };
        Ok((guard, log, state))
    }
}

/// The contract between openraft and its stores, as openraft itself states it.
#[tokio::test(flavor = "multi_thread")]
async fn openraft_accepts_both_stores() {
    Suite::test_all(Builder).await.unwrap();
}
