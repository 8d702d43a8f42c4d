//! Accounting of a shard's feed: how many bytes it has, and marks along the way that say how many
//! it had by then, so that the leader can decide up to where to trim without reading the feed.
//!
//! All of it is written by apply from what is in the entry, hence the same on every replica.

use antumbra_raft::{Error, ShardId, WriteTx};
use antumbra_shadow::{Position, Time};

use super::keys;

/// A mark is due after so many bytes of feed. Part of the rules of apply: never changes.
const MARK_BYTES: u64 = 64 * 1024;

/// A mark is due when the last one is so old. Part of the rules of apply: never changes.
const MARK_AGE_MS: u64 = 60_000;

/// Format tag of both rows.
const TAG_V1: u8 = 1;

/// Totals of the feed of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Account {
    /// Bytes of all records ever written.
    pub(crate) written_bytes: u64,
    /// Bytes of the records that were trimmed, as of the mark they were trimmed to.
    pub(crate) trimmed_bytes: u64,
    /// Records up to and including this entry are gone; 0 when none are.
    pub(crate) trimmed_index: u64,
    /// `written_bytes` at the last mark.
    pub(crate) marked_bytes: u64,
    /// Time of the last mark.
    pub(crate) marked_time: u64,
}

/// What the feed amounted to after an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// [`Account::written_bytes`] after the entry.
    pub(crate) written_bytes: u64,
    /// Time of the entry.
    pub(crate) time: Time,
}

impl Account {
    /// Reads the totals inside apply.
    pub(crate) fn load(tx: &mut WriteTx<'_>, shard: ShardId) -> Result<Account, Error> {
        let Some(row) = tx.get(&keys::account(shard))? else {
            return Ok(Account::default());
        };
        Account::decode(&row).ok_or_else(|| Error::state_damaged("the feed's account"))
    }

    /// Notes the records of the entry at `index`, `bytes` long together, and marks it when due.
    pub(crate) fn record(mut self, tx: &mut WriteTx<'_>, shard: ShardId, index: u64, entry: Mark) {
        self.written_bytes += entry.written_bytes;
        let due = self.written_bytes - self.marked_bytes >= MARK_BYTES
            || entry.time.0.saturating_sub(self.marked_time) >= MARK_AGE_MS;
        if due {
            self.marked_bytes = self.written_bytes;
            self.marked_time = entry.time.0;
            let mark = Mark {
                written_bytes: self.written_bytes,
                time: entry.time,
            };
            tx.put(keys::mark(shard, index), mark.encode());
        }
        tx.put(keys::account(shard), self.encode());
    }

    /// Deletes the records of all entries up to and including `upto` and the marks that name them.
    pub(crate) fn trim(
        mut self,
        tx: &mut WriteTx<'_>,
        shard: ShardId,
        upto: u64,
    ) -> Result<(), Error> {
        if upto <= self.trimmed_index {
            return Ok(());
        }
        let mark = tx.get(&keys::mark(shard, upto))?;
        if let Some(mark) = mark {
            let mark = Mark::decode(&mark);
            let mark = mark.ok_or_else(|| Error::state_damaged("a mark of the feed"))?;
            self.trimmed_bytes = mark.written_bytes;
        }
        self.trimmed_index = upto;
        let after = upto.saturating_add(1);
        let first = |index| keys::feed(shard, Position::first(index));
        tx.delete_range(first(0), first(after));
        tx.delete_range(keys::mark(shard, 0), keys::mark(shard, after));
        tx.put(keys::account(shard), self.encode());
        Ok(())
    }

    /// Ends the feed at the entry at `index` and begins it anew behind: whoever built on what came before
    /// starts over with the documents.
    pub(crate) fn cut(
        mut self,
        tx: &mut WriteTx<'_>,
        shard: ShardId,
        index: u64,
    ) -> Result<(), Error> {
        self.trimmed_bytes = self.written_bytes;
        self.trim(tx, shard, index)
    }

    /// Bytes of the records that are still there.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.written_bytes.saturating_sub(self.trimmed_bytes)
    }

    /// Reads a stored row; `None` when it is of a format this version does not know.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Account> {
        let [
            written_bytes,
            trimmed_bytes,
            trimmed_index,
            marked_bytes,
            marked_time,
        ] = decode_numbers(bytes)?;
        Some(Account {
            written_bytes,
            trimmed_bytes,
            trimmed_index,
            marked_bytes,
            marked_time,
        })
    }

    fn encode(&self) -> Vec<u8> {
        encode_numbers([
            self.written_bytes,
            self.trimmed_bytes,
            self.trimmed_index,
            self.marked_bytes,
            self.marked_time,
        ])
    }
}

impl Mark {
    /// Reads a stored row; `None` when it is of a format this version does not know.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Mark> {
        let [written_bytes, time] = decode_numbers(bytes)?;
        Some(Mark {
            written_bytes,
            time: Time(time),
        })
    }

    fn encode(&self) -> Vec<u8> {
        encode_numbers([self.written_bytes, self.time.0])
    }
}

fn encode_numbers<const N: usize>(numbers: [u64; N]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + N * 8);
    bytes.push(TAG_V1);
    for number in numbers {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes
}

fn decode_numbers<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let (tag, rest) = bytes.split_first()?;
    if *tag != TAG_V1 || rest.len() != N * 8 {
        return None;
    }
    let mut numbers = [0; N];
    for (number, bytes) in numbers.iter_mut().zip(rest.chunks_exact(8)) {
        *number = u64::from_be_bytes(bytes.try_into().ok()?);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden bytes of both rows.
    #[test]
    fn rows_have_their_frozen_bytes() {
        let account = Account {
            written_bytes: 1,
            trimmed_bytes: 2,
            trimmed_index: 3,
            marked_bytes: 4,
            marked_time: 5,
        };
        let golden = b"\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\
                       \0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x05";
        assert_eq!(account.encode(), golden);
        assert_eq!(Account::decode(golden), Some(account));
        let mark = Mark {
            written_bytes: 1,
            time: Time(2),
        };
        let golden = b"\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02";
        assert_eq!(mark.encode(), golden);
        assert_eq!(Mark::decode(golden), Some(mark));
    }

    #[test]
    fn rows_of_an_unknown_format_are_not_read() {
        assert_eq!(
            Mark::decode(b"\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02"),
            None
        );
        assert_eq!(Mark::decode(b"\x01\0"), None);
        assert_eq!(Account::decode(b""), None);
    }
}
