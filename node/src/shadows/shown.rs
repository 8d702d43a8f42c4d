//! What LOCAL reads of this node have shown that another node answered. The replica here may be older,
//! and who reads at one node must not see time go back.

use std::collections::BTreeMap;

use antumbra_raft::ShardId;
use parking_lot::Mutex;

/// The newest applied index that was shown, by shard.
#[derive(Debug, Default)]
pub(crate) struct Shown(Mutex<BTreeMap<ShardId, u64>>);

impl Shown {
    /// What a read that begins now must have seen at least; 0 for anything.
    pub(crate) fn least(&self, shard: ShardId) -> u64 {
        self.0.lock().get(&shard).copied().unwrap_or(0)
    }

    /// An answer is about to be given that has seen so much.
    pub(crate) fn show(&self, shard: ShardId, seen: u64) {
        let mut shown = self.0.lock();
        let newest = shown.entry(shard).or_default();
        *newest = seen.max(*newest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_answer_takes_nothing_back() {
        let shown = Shown::default();
        assert_eq!(shown.least(ShardId(1)), 0);
        shown.show(ShardId(1), 7);
        shown.show(ShardId(1), 5);
        assert_eq!(shown.least(ShardId(1)), 7);
        assert_eq!(shown.least(ShardId(2)), 0);
    }
}
