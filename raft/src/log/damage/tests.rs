#![allow(clippy::unwrap_used)]

use super::*;

/// Writes records as RocksDB's log writer does.
#[derive(Default)]
struct Wal {
    bytes: Vec<u8>,
    sequence: u64,
}

impl Wal {
    fn starting_at(sequence: u64) -> Wal {
        Wal {
            bytes: Vec::new(),
            sequence,
        }
    }

    /// Adds a record of three changes.
    fn record(&mut self, payload_bytes: usize) -> &mut Wal {
        let mut record = self.sequence.to_le_bytes().to_vec();
        record.extend_from_slice(&3_u32.to_le_bytes());
        record.resize(RECORD_HEAD_BYTES + payload_bytes, 0x5a);
        self.sequence += 3;
        let (mut rest, mut first) = (&record[..], true);
        loop {
            let left = BLOCK_BYTES - self.bytes.len() % BLOCK_BYTES;
            if left < HEADER_BYTES {
                self.bytes.resize(self.bytes.len() + left, 0);
                continue;
            }
            let length = rest.len().min(left - HEADER_BYTES);
            let kind = match (first, length == rest.len()) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4,
            };
            self.fragment(kind, &rest[..length]);
            rest = &rest[length..];
            first = false;
            if kind == 1 || kind == 4 {
                return self;
            }
        }
    }

    fn fragment(&mut self, kind: u8, payload: &[u8]) {
        let mut summed = vec![kind];
        summed.extend_from_slice(payload);
        let sum = mask(crc32c::crc32c(&summed));
        self.bytes.extend_from_slice(&sum.to_le_bytes());
        self.bytes
            .extend_from_slice(&(payload.len() as u16).to_le_bytes());
        self.bytes.extend_from_slice(&summed);
    }
}

fn check(files: &[&[u8]]) -> Result<(), Error> {
    let directory = tempfile::tempdir().unwrap();
    for (number, bytes) in files.iter().enumerate() {
        let name = format!("{:06}.log", number + 1);
        fs::write(directory.path().join(name), bytes).unwrap();
    }
    fs::write(directory.path().join("LOG"), b"no write-ahead log").unwrap();
    check_wal(directory.path())
}

fn refused(files: &[&[u8]]) -> bool {
    matches!(check(files), Err(Error::LogDamaged { .. }))
}

fn three_records() -> Wal {
    let mut wal = Wal::starting_at(10);
    wal.record(100).record(80_000).record(50);
    wal
}

#[test]
fn whole_and_empty_logs_are_fine() {
    check(&[]).unwrap();
    check(&[&[]]).unwrap();
    let wal = three_records();
    let mut next = Wal::starting_at(wal.sequence);
    next.record(10);
    check(&[&wal.bytes, &next.bytes]).unwrap();
}

/// A power cut tears the last record anywhere.
#[test]
fn a_torn_tail_is_fine_wherever_it_is_torn() {
    let wal = three_records();
    for length in (0..wal.bytes.len()).step_by(97) {
        check(&[&wal.bytes[..length]]).unwrap();
        let mut zeroed = wal.bytes[..length].to_vec();
        zeroed.resize(wal.bytes.len() + 5000, 0);
        check(&[&zeroed]).unwrap();
    }
}

/// Pages of one unsynced record reach the disk in any order.
#[test]
fn a_torn_record_of_which_a_later_part_is_there_is_fine() {
    let mut wal = Wal::starting_at(10);
    wal.record(100);
    let torn = wal.bytes.len();
    wal.record(150_000);
    for page in (torn..BLOCK_BYTES * 4).step_by(4096) {
        let mut bytes = wal.bytes.clone();
        bytes[page..page + 4096].fill(0);
        check(&[&bytes]).unwrap();
    }
}

/// Whatever is flipped in a record that was synced before another one: the node is refused.
#[test]
fn a_flip_before_a_complete_record_is_damage() {
    let wal = three_records();
    let mut last = Wal::starting_at(10);
    last.record(100).record(80_000);
    let end_of_second = last.bytes.len();
    for at in (0..end_of_second).step_by(61).chain(0..30) {
        // The padding at the end of a block is not covered by anything.
        for bit in [0, 3, 7] {
            let mut bytes = wal.bytes.clone();
            bytes[at] ^= 1 << bit;
            assert!(refused(&[&bytes]), "flip of bit {bit} at {at}");
        }
    }
}

#[test]
fn a_zeroed_record_before_a_complete_one_is_damage() {
    let wal = three_records();
    let mut bytes = wal.bytes.clone();
    bytes[..100].fill(0);
    assert!(refused(&[&bytes]));
}

/// A torn record that recovery dropped, with a newer file after it: nothing is missing.
#[test]
fn a_dropped_record_before_a_newer_file_is_fine() {
    let mut old = Wal::starting_at(10);
    old.record(100);
    let whole = old.bytes.len();
    let next_sequence = old.sequence;
    old.record(100);
    let torn = &old.bytes[..whole + 40];
    let mut new = Wal::starting_at(next_sequence);
    new.record(30).record(30);
    check(&[torn, &new.bytes]).unwrap();
    let mut later = Wal::starting_at(old.sequence);
    later.record(30);
    assert!(refused(&[torn, &later.bytes]));
}

#[test]
fn manifest_is_readable_up_to_the_first_bad_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("MANIFEST-000004");
    let mut wal = Wal::starting_at(1);
    wal.record(40).record(40);
    let two = wal.bytes.len() as u64;
    wal.record(40_000);
    fs::write(&path, &wal.bytes).unwrap();
    let all = wal.bytes.len() as u64;
    assert_eq!(manifest_readable_bytes(&path).unwrap(), all);
    wal.bytes[two as usize + 4] ^= 0x40;
    fs::write(&path, &wal.bytes).unwrap();
    assert_eq!(manifest_readable_bytes(&path).unwrap(), two);
    fs::write(directory.path().join("CURRENT"), "MANIFEST-000004\n").unwrap();
    assert_eq!(current_manifest(directory.path()).unwrap(), (4, path));
    fs::write(directory.path().join("CURRENT"), "MANIFES-000004\n").unwrap();
    assert!(current_manifest(directory.path()).is_err());
}
