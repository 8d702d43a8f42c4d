//! What twins see of their shard: the port of `antumbra-shadow` over a replica of `antumbra-raft`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use antumbra_raft::{BarrierError, Clock, ProposeError, Shard};
use antumbra_shadow::{DeviceKey, Document, Failure, ShadowName, ShardPort, Time};
use bytes::Bytes;
use tracing::error;

use super::keys;

/// The port of one shard.
pub struct Port {
    shard: Shard,
    clock: Arc<dyn Clock>,
    /// What every node with replicas has announced, as far as this node knows.
    rules: Arc<AtomicU16>,
    faults: Faults,
}

/// Faults that tests inject.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// The result of every Nth proposal is lost.
    pub(crate) lose_proposal: Option<u64>,
    proposed: AtomicU64,
}

impl Faults {
    pub(crate) fn new(lose_proposal: Option<u64>) -> Faults {
        Faults {
            lose_proposal,
            proposed: AtomicU64::new(0),
        }
    }

    fn lose_this_one(&self) -> bool {
        let Some(every) = self.lose_proposal else {
            return false;
        };
        (self.proposed.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(every)
    }
}

impl Port {
    pub(crate) fn new(
        shard: Shard,
        clock: Arc<dyn Clock>,
        rules: Arc<AtomicU16>,
        faults: Faults,
    ) -> Port {
        Port {
            shard,
            clock,
            rules,
            faults,
        }
    }

    fn read(&self, device: &DeviceKey, shadow: &ShadowName) -> Result<Loaded, Failure> {
        let row = self.shard.read(&keys::document(device, shadow));
        let (index, row) = row.map_err(|error| self.failed(&error))?;
        let document = row.map(Document::decode).transpose();
        match document {
            Ok(document) => Ok((index, document)),
            Err(error) => {
                error!(shard = %self.shard.id(), %error, "decode a document");
                Err(Failure::Damaged)
            }
        }
    }

    fn failed(&self, error: &antumbra_raft::Error) -> Failure {
        error!(shard = %self.shard.id(), %error, "read a document");
        if error.is_damage() {
            Failure::Damaged
        } else {
            Failure::Unavailable("the replica cannot read its data")
        }
    }
}

/// A document with the applied index it was read at.
type Loaded = (u64, Option<Document>);

impl ShardPort for Port {
    fn now(&self) -> Time {
        Time(self.clock.now_ms())
    }

    fn rules(&self) -> u16 {
        self.rules.load(Ordering::Relaxed)
    }

    async fn propose(&self, term: u64, entry: Bytes) -> Result<Bytes, Failure> {
        let lost = self.faults.lose_this_one();
        let proposed = self.shard.propose(term, entry).await;
        if lost {
            return Err(Failure::Unknown);
        }
        match proposed {
            Ok(proposed) => Ok(proposed.reply),
            Err(error) => Err(propose_failure(&error)),
        }
    }

    async fn barrier(&self) -> Result<u64, Failure> {
        self.shard
            .barrier()
            .await
            .map_err(|error| barrier_failure(&error))
    }

    async fn load(&self, device: &DeviceKey, shadow: &ShadowName) -> Result<Loaded, Failure> {
        self.read(device, shadow)
    }
}

/// Only what the engine is certain about stays certain (invariant 5).
fn propose_failure(error: &ProposeError) -> Failure {
    match error {
        ProposeError::NotLeader => Failure::NotLeader,
        ProposeError::Overloaded => Failure::Overloaded,
        ProposeError::Unknown | ProposeError::Stopped => Failure::Unknown,
    }
}

/// A read that failed has changed nothing.
pub(crate) fn barrier_failure(error: &BarrierError) -> Failure {
    match error {
        BarrierError::NotLeader => Failure::NotLeader,
        BarrierError::Overloaded => Failure::Overloaded,
        BarrierError::Unavailable => Failure::Unavailable("a quorum did not answer in time"),
        BarrierError::NotMember => {
            Failure::Unavailable("the replica here does not belong to the shard any more")
        }
        BarrierError::Stopped => Failure::Unavailable("the replica has stopped"),
    }
}
