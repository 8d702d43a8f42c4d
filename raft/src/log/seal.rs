//! The seal: a note beside the stores of how much of the log store is durable.
//!
//! RocksDB recovers whatever prefix of its files is readable. That a synced suffix is gone, or that
//! CURRENT or the end of the MANIFEST is stale, it cannot know. The seal knows: it is a lower bound
//! of what must be found again. It is written after the sync of what it states, never before.
//!
//! Two slots in separate pages are written in turn, so that a torn write spoils only the newer one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::codec::Tag;
use crate::error::Error;

/// Format of the log store and of the seal; a higher number on disk is refused.
const FORMAT: u32 = 1;

/// Slots are this far apart.
const SLOT_STRIDE_BYTES: usize = 4096;
const FILE_BYTES: usize = 2 * SLOT_STRIDE_BYTES;

/// Tag, format, store id, generation, batch, manifest number, manifest bytes, checksum.
const SLOT_BYTES: usize = 1 + 4 + 16 + 8 + 8 + 8 + 8 + 4;

/// What was durable when the seal was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sealed {
    /// Number of the last durable batch.
    pub(super) batch: u64,
    /// Number of the manifest in use.
    pub(super) manifest: u64,
    /// Length of its readable part.
    pub(super) manifest_bytes: u64,
}

/// The open seal of a node.
#[derive(Debug)]
pub(super) struct Seal {
    file: File,
    store_id: [u8; 16],
    generation: u64,
    sealed: Sealed,
}

impl Seal {
    /// Where the seal of a data directory is.
    pub(super) fn path(directory: &Path) -> PathBuf {
        directory.join("seal")
    }

    /// Makes the seal of a store that does not exist yet.
    pub(super) fn create(directory: &Path, store_id: [u8; 16]) -> Result<Seal, Error> {
        create_file(directory, store_id).map_err(|error| Error::io("create the seal", error))?;
        Seal::open(directory, store_id)
    }

    /// Reads the seal. Refuses one of another store or of a newer format, and one without a readable slot.
    pub(super) fn open(directory: &Path, store_id: [u8; 16]) -> Result<Seal, Error> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(Seal::path(directory))
            .map_err(|error| Error::io("open the seal", error))?;
        let mut bytes = Vec::new();
        (&file)
            .take(FILE_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::io("read the seal", error))?;
        let slots = bytes.chunks(SLOT_STRIDE_BYTES).filter_map(Slot::decode);
        let Some(slot) = slots.max_by_key(|slot| slot.generation) else {
            return Err(Error::log_damaged("no slot of the seal is readable"));
        };
        if slot.format > FORMAT {
            return Err(Error::format_too_new("log", slot.format, FORMAT));
        }
        if slot.store_id != store_id {
            return Err(Error::wrong_store("log"));
        }
        Ok(Seal {
            file,
            store_id,
            generation: slot.generation,
            sealed: slot.sealed,
        })
    }

    /// What the newest readable slot says.
    pub(super) fn sealed(&self) -> Sealed {
        self.sealed
    }

    /// Writes the older slot and syncs it.
    pub(super) fn write(&mut self, sealed: Sealed) -> Result<(), Error> {
        let slot = Slot {
            format: FORMAT,
            store_id: self.store_id,
            generation: self.generation + 1,
            sealed,
        };
        self.file
            .write_all_at(&slot.encode(), slot.offset())
            .and_then(|()| self.file.sync_data())
            .map_err(|error| Error::io("write the seal", error))?;
        self.generation = slot.generation;
        self.sealed = sealed;
        Ok(())
    }
}

struct Slot {
    format: u32,
    store_id: [u8; 16],
    generation: u64,
    sealed: Sealed,
}

impl Slot {
    fn offset(&self) -> u64 {
        (self.generation % 2) * SLOT_STRIDE_BYTES as u64
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SLOT_BYTES);
        bytes.push(Tag::SealV1 as u8);
        bytes.extend_from_slice(&self.format.to_be_bytes());
        bytes.extend_from_slice(&self.store_id);
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&self.sealed.batch.to_be_bytes());
        bytes.extend_from_slice(&self.sealed.manifest.to_be_bytes());
        bytes.extend_from_slice(&self.sealed.manifest_bytes.to_be_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Slot> {
        let (body, sum) = bytes.get(..SLOT_BYTES)?.split_at(SLOT_BYTES - 4);
        if sum != crc32fast::hash(body).to_be_bytes() || body[0] != Tag::SealV1 as u8 {
            return None;
        }
        let number = |at: usize| {
            let bytes: [u8; 8] = body[at..at + 8].try_into().unwrap_or_default();
            u64::from_be_bytes(bytes)
        };
        Some(Slot {
            format: u32::from_be_bytes(body[1..5].try_into().ok()?),
            store_id: body[5..21].try_into().ok()?,
            generation: number(21),
            sealed: Sealed {
                batch: number(29),
                manifest: number(37),
                manifest_bytes: number(45),
            },
        })
    }
}

/// Appears complete or not at all.
fn create_file(directory: &Path, store_id: [u8; 16]) -> io::Result<()> {
    let mut bytes = vec![0; FILE_BYTES];
    for generation in [0, 1] {
        let slot = Slot {
            format: FORMAT,
            store_id,
            generation,
            sealed: Sealed::default(),
        };
        let at = slot.offset() as usize;
        bytes[at..at + SLOT_BYTES].copy_from_slice(&slot.encode());
    }
    let unfinished = directory.join("seal.new");
    fs::write(&unfinished, &bytes)?;
    File::open(&unfinished)?.sync_all()?;
    fs::rename(&unfinished, Seal::path(directory))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const ID: [u8; 16] = [7; 16];

    fn sealed(batch: u64) -> Sealed {
        Sealed {
            batch,
            manifest: 5,
            manifest_bytes: 300,
        }
    }

    fn flip(directory: &Path, at: usize) {
        let mut bytes = fs::read(Seal::path(directory)).unwrap();
        bytes[at] ^= 1;
        fs::write(Seal::path(directory), bytes).unwrap();
    }

    #[test]
    fn newest_slot_counts_and_a_spoiled_one_falls_back() {
        let directory = tempfile::tempdir().unwrap();
        let mut seal = Seal::create(directory.path(), ID).unwrap();
        assert_eq!(seal.sealed(), Sealed::default());
        for batch in 1..=4 {
            seal.write(sealed(batch)).unwrap();
        }
        let reopened = Seal::open(directory.path(), ID).unwrap();
        assert_eq!(reopened.sealed(), sealed(4));
        // Generation 5 was written last: it is in the second slot.
        flip(directory.path(), SLOT_STRIDE_BYTES + 30);
        let reopened = Seal::open(directory.path(), ID).unwrap();
        assert_eq!(reopened.sealed(), sealed(3));
        flip(directory.path(), 30);
        let refused = Seal::open(directory.path(), ID).unwrap_err();
        assert_eq!(refused.code(), "LOG_DAMAGED");
    }

    /// Every bit of a slot is covered, and no flip makes a slot state more than it did.
    #[test]
    fn every_flip_in_a_slot_is_found() {
        let slot = Slot {
            format: FORMAT,
            store_id: ID,
            generation: 9,
            sealed: sealed(4),
        };
        let bytes = slot.encode();
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(Slot::decode(&flipped).is_none());
        }
    }

    #[test]
    fn refuses_another_store_and_a_newer_format() {
        let directory = tempfile::tempdir().unwrap();
        Seal::create(directory.path(), ID).unwrap();
        let refused = Seal::open(directory.path(), [8; 16]).unwrap_err();
        assert_eq!(refused.code(), "WRONG_STORE");
        let newer = Slot {
            format: FORMAT + 1,
            store_id: ID,
            generation: 2,
            sealed: sealed(1),
        };
        let file = OpenOptions::new()
            .write(true)
            .open(Seal::path(directory.path()))
            .unwrap();
        file.write_all_at(&newer.encode(), newer.offset()).unwrap();
        let refused = Seal::open(directory.path(), ID).unwrap_err();
        assert_eq!(refused.code(), "FORMAT_TOO_NEW");
    }

    /// Golden bytes: the seal of today is readable for ever.
    #[test]
    fn slot_has_its_frozen_bytes() {
        let slot = Slot {
            format: 1,
            store_id: [0xab; 16],
            generation: 2,
            sealed: sealed(3),
        };
        let hex: String = slot.encode().iter().map(|b| format!("{b:02x}")).collect();
        let body = format!(
            "0600000001{}{:016x}{:016x}{:016x}{:016x}",
            "ab".repeat(16),
            2,
            3,
            5,
            300
        );
        assert_eq!(hex[..body.len()], body);
        assert_eq!(hex.len(), 2 * SLOT_BYTES);
    }
}
