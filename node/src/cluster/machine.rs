//! The state machine of the meta shard: one row, replaced by every command.

use std::sync::Arc;

use antumbra_raft::{
    Commands, EntryPosition, Error, Key, Machine, Replies, Shard, ShardId, WriteTx,
};
use bytes::Bytes;
use tokio::sync::watch;

use super::pin;
use super::state::{ClusterState, META_SHARD, MetaCommand, MetaReply};

/// The sharded table that holds the state; part of the format on disk.
const TABLE: u8 = 0;

/// Applies the commands of the meta shard and tells the node what the state is.
pub(crate) struct MetaMachine {
    state: watch::Sender<Option<Arc<ClusterState>>>,
    /// Counts snapshots that replaced the row behind our back.
    resets: watch::Sender<u64>,
}

impl MetaMachine {
    pub(crate) fn new() -> MetaMachine {
        MetaMachine {
            state: watch::Sender::new(None),
            resets: watch::Sender::new(0),
        }
    }

    /// The newest state that this replica has applied.
    pub(crate) fn state(&self) -> watch::Receiver<Option<Arc<ClusterState>>> {
        self.state.subscribe()
    }

    /// Changes whenever the row was replaced by a snapshot: [`MetaMachine::reload`] is due.
    pub(crate) fn resets(&self) -> watch::Receiver<u64> {
        self.resets.subscribe()
    }

    /// Reads the state that is stored: at the start, and after a snapshot.
    pub(crate) fn reload(&self, shard: &Shard) -> Result<(), Error> {
        let Some(row) = shard.view().get(&key())? else {
            return Ok(());
        };
        let state = ClusterState::decode(&row).ok_or_else(damaged)?;
        self.publish(Arc::new(state));
        Ok(())
    }

    /// This node has no replica of the meta shard any more.
    pub(crate) fn forget(&self) {
        self.state.send_replace(None);
    }

    /// A state never goes back: what is applied may be read twice.
    fn publish(&self, state: Arc<ClusterState>) {
        self.state.send_if_modified(|current| {
            let newer = current
                .as_ref()
                .is_none_or(|current| current.version < state.version);
            if newer {
                *current = Some(state);
            }
            newer
        });
    }
}

impl Machine for MetaMachine {
    type Change = ClusterState;

    fn apply(
        &self,
        tx: &mut WriteTx<'_>,
        _at: EntryPosition,
        commands: Commands<'_>,
        _replies: Replies,
        changes: &mut Vec<Arc<ClusterState>>,
    ) -> Result<Vec<Bytes>, Error> {
        commands.map(|one| apply_one(tx, one, changes)).collect()
    }

    fn applied(&self, _shard: ShardId, _index: u64, changes: Vec<Arc<ClusterState>>) {
        if let Some(newest) = changes.into_iter().next_back() {
            self.publish(newest);
        }
    }

    fn pin(&self, command: &[u8]) -> Option<u64> {
        pin::parse(command)
    }

    fn reset(&self, _shard: ShardId) {
        self.resets.send_modify(|resets| *resets += 1);
    }
}

fn apply_one(
    tx: &mut WriteTx<'_>,
    command: &[u8],
    changes: &mut Vec<Arc<ClusterState>>,
) -> Result<Bytes, Error> {
    if pin::parse(command).is_some() {
        return Ok(Bytes::new());
    }
    let Some(command) = MetaCommand::decode(command) else {
        let reply = MetaReply::Refused("the command cannot be read".into());
        return Ok(reply.encode().into());
    };
    let row = tx.get(&key())?;
    let state = row
        .map(|row| ClusterState::decode(&row).ok_or_else(damaged))
        .transpose()?;
    let before = state.as_ref().map(|state| state.version);
    let (state, reply) = ClusterState::apply(state, command);
    if let Some(state) = state
        && before != Some(state.version)
    {
        tx.put(key(), state.encode());
        changes.push(Arc::new(state));
    }
    Ok(reply.encode().into())
}

fn key() -> Key {
    Key::sharded(TABLE, META_SHARD, b"cluster")
}

fn damaged() -> Error {
    Error::state_damaged("the state of the cluster cannot be read")
}
