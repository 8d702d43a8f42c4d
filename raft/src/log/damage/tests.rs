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
    let mut scan = Scan::default();
    for (number, bytes) in (1..).zip(files) {
        scan.begin_file(number, format!("{number:06}.log").into());
        scan.file(*bytes, bytes.len() as u64)?;
        scan.end_file();
    }
    scan.finish()
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

#[test]
fn the_logs_of_a_directory_are_read_in_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
    check_wal(directory.path()).unwrap();
    let (mut old, mut new) = (Wal::starting_at(10), Wal::starting_at(13));
    old.record(40_000);
    new.record(10).record(10);
    write("000009.log", &old.bytes);
    write("000010.log", &new.bytes);
    write("LOG", b"no write-ahead log");
    check_wal(directory.path()).unwrap();
    old.bytes[35_000] ^= 1;
    write("000009.log", &old.bytes);
    let refused = check_wal(directory.path()).unwrap_err().to_string();
    assert!(refused.contains("000009.log is unreadable"), "{refused}");
}

/// A power cut tears the last record anywhere.
#[test]
fn a_torn_tail_is_fine_wherever_it_is_torn() {
    let wal = three_records();
    for length in (0..wal.bytes.len()).step_by(97) {
        check(&[&wal.bytes[..length]]).unwrap();
        // Sectors are written as a whole.
        let mut zeroed = wal.bytes[..length / SECTOR_BYTES * SECTOR_BYTES].to_vec();
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

/// The first record of a file, which has no sequence number before it to compare with.
#[test]
fn a_flipped_record_alone_in_its_file_is_damage_whatever_follows() {
    let mut old = Wal::starting_at(10);
    old.record(100);
    let mut new = Wal::starting_at(old.sequence);
    new.record(30);
    old.bytes[20] ^= 1;
    assert!(refused(&[&old.bytes]));
    assert!(refused(&[&old.bytes, &[]]));
    assert!(refused(&[&old.bytes, &new.bytes]));
}

/// A file whose last record begins at `begins`.
struct Ending {
    bytes: Vec<u8>,
    begins: usize,
}

impl Ending {
    /// `before` fills the file up to where the last record begins, which carries `last` bytes.
    fn new(before: &[usize], last: usize) -> Ending {
        let mut wal = Wal::starting_at(10);
        for payload_bytes in before {
            wal.record(*payload_bytes);
        }
        let mut begins = wal.bytes.len();
        if BLOCK_BYTES - begins % BLOCK_BYTES < HEADER_BYTES {
            begins = begins.next_multiple_of(BLOCK_BYTES);
        }
        wal.record(last);
        Ending {
            bytes: wal.bytes,
            begins,
        }
    }

    /// Small and large, alone and behind others, over block boundaries with and without padding.
    fn all() -> Vec<Ending> {
        let head = HEADER_BYTES + RECORD_HEAD_BYTES;
        vec![
            Ending::new(&[], 0),
            Ending::new(&[], 200),
            Ending::new(&[100, 900], 200),
            Ending::new(&[100], 3000),
            Ending::new(&[300], 70 << 10),
            // The last block is full.
            Ending::new(&[300], BLOCK_BYTES - 300 - 2 * head),
            Ending::new(&[300], 2 * BLOCK_BYTES - 300 - 2 * head - HEADER_BYTES),
            // The first fragment has no payload; the block before ends in padding.
            Ending::new(&[BLOCK_BYTES - head - HEADER_BYTES], 500),
            Ending::new(&[BLOCK_BYTES - head - HEADER_BYTES + 1], 500),
            Ending::new(&[BLOCK_BYTES - head - 1], 40 << 10),
        ]
    }

    /// Every offset of a small last record; of a large one those around its headers and its end, and samples.
    fn offsets(&self) -> Vec<usize> {
        let end = self.bytes.len();
        let near = |at: &usize| {
            let in_block = at % BLOCK_BYTES;
            end - self.begins < 4000
                || at - self.begins < 40
                || end - at < 40
                || !(10..BLOCK_BYTES - 10).contains(&in_block)
                || at.is_multiple_of(397)
        };
        (self.begins..end).filter(near).collect()
    }
}

/// No later record gives the loss away, and no torn write looks like this.
#[test]
fn every_flip_in_the_last_record_is_damage() {
    for (number, ending) in Ending::all().iter().enumerate() {
        for at in ending.offsets() {
            for mask in [0x01, 0x04, 0x10, 0x80, 0xff] {
                let mut bytes = ending.bytes.clone();
                bytes[at] ^= mask;
                let refused = refused(&[&bytes]) && readable(&bytes).is_err();
                assert!(refused, "flip {mask:#x} at {at} of file {number}");
            }
        }
    }
}

/// A kill ends the file anywhere in the last record.
#[test]
fn every_cut_in_the_last_record_is_torn() {
    for ending in Ending::all() {
        for length in ending.offsets() {
            assert_torn(&ending.bytes[..length], ending.begins);
        }
    }
}

/// A power cut leaves sectors or pages of the last record unwritten, in any order, or all from one on.
#[test]
fn every_unwritten_sector_of_the_last_record_is_torn() {
    for ending in Ending::all() {
        let end = ending.bytes.len();
        for unit in [SECTOR_BYTES, 4096] {
            let first = ending.begins / unit * unit;
            for sector in (first..end).step_by(unit) {
                let from = sector.max(ending.begins);
                let to = (sector + unit).min(end);
                for to in [to, end] {
                    // So few bytes at an edge cannot be told from data.
                    if from > ending.begins && to - from < ZEROS_MIN {
                        continue;
                    }
                    let mut bytes = ending.bytes.clone();
                    bytes[from..to].fill(0);
                    assert_torn(&bytes, ending.begins);
                }
            }
        }
    }
}

fn assert_torn(bytes: &[u8], begins: usize) {
    check(&[bytes]).unwrap();
    check(&[bytes, &[]]).unwrap();
    assert!(readable(bytes).unwrap() <= begins as u64);
}

fn readable(manifest: &[u8]) -> Result<u64, Error> {
    manifest_readable_bytes(Path::new("MANIFEST-000004"), manifest)
}

#[test]
fn manifest_is_readable_up_to_its_last_complete_record() {
    let mut wal = Wal::starting_at(1);
    wal.record(40).record(40);
    let two = wal.bytes.len();
    wal.record(40_000);
    assert_eq!(readable(&[]).unwrap(), 0);
    assert_eq!(readable(&wal.bytes).unwrap(), wal.bytes.len() as u64);
    assert_eq!(readable(&wal.bytes[..40_000]).unwrap(), two as u64);
    wal.bytes[two + 4] ^= 0x40;
    let refused = readable(&wal.bytes).unwrap_err().to_string();
    let place = format!("MANIFEST-000004 is unreadable at offset {two}");
    assert!(refused.contains(&place), "{refused}");
}

#[test]
fn current_names_the_manifest() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("MANIFEST-000004");
    fs::write(directory.path().join("CURRENT"), "MANIFEST-000004\n").unwrap();
    assert_eq!(current_manifest(directory.path()).unwrap(), (4, path));
    fs::write(directory.path().join("CURRENT"), "MANIFES-000004\n").unwrap();
    assert!(current_manifest(directory.path()).is_err());
}
