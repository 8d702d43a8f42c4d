//! Whatever happens to the files of a snapshot is found.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::directory::{Draft, open_rows, verify};
use super::frames::{Error, Reader, Writer};
use super::manifest::{self, FORMAT, Manifest, checksum_text, file_of};
use super::row::{Row, Tally, device_row};

/// Devices of each half of the hashes.
fn halves() -> [Vec<Row>; 2] {
    let rows = (0..40).map(|number| device_row(&format!("device-{number}")));
    let (mut low, mut high): (Vec<Row>, Vec<Row>) = rows.partition(|row| row.key[1] < 0x80);
    low.sort_by(|a, b| a.key.cmp(&b.key));
    high.sort_by(|a, b| a.key.cmp(&b.key));
    assert!(!low.is_empty() && !high.is_empty());
    [low, high]
}

/// A small snapshot of two shards, each with a few frames.
fn save(place: &Path) -> Manifest {
    let draft = Draft::begin(place).unwrap();
    let hashes = [(0, 0x7fff_ffff), (0x8000_0000, u32::MAX)];
    let mut shards = Vec::new();
    for ((shard, rows), (first_hash, last_hash)) in (1..).zip(halves()).zip(hashes) {
        let mut writer = draft.create(&file_of(shard)).unwrap();
        let mut tally = Tally::default();
        for rows in rows.chunks(7) {
            writer.write(rows).unwrap();
            rows.iter().for_each(|row| tally.add(row, false));
        }
        Draft::close(writer).unwrap();
        let counts = tally.counts();
        shards.push(manifest::Shard {
            shard,
            file: file_of(shard),
            first_hash,
            last_hash,
            index: 5,
            time_ms: 6,
            rows: counts.rows,
            documents: counts.documents,
            bytes: counts.bytes,
            checksum: checksum_text(&counts),
        });
    }
    let manifest = Manifest {
        format: FORMAT,
        antumbra: "0.1.0".to_owned(),
        cluster_id: "c".to_owned(),
        cluster_name: "plant".to_owned(),
        time_ms: 7,
        replication_factor: 3,
        shards,
    };
    draft.finish(&manifest).unwrap();
    manifest
}

fn saved() -> (tempfile::TempDir, PathBuf, Manifest) {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("backup");
    let manifest = save(&place);
    (directory, place, manifest)
}

fn wrong(place: &Path) -> Vec<String> {
    verify(place, |_| {}).err().unwrap_or_default()
}

fn names(place: &Path) -> Vec<String> {
    let entries = fs::read_dir(place).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn snapshot_is_read_back_as_it_was_written() {
    let (_directory, place, manifest) = saved();
    let mut seen = Vec::new();
    let read = verify(&place, |shard| seen.push(shard.shard)).unwrap();
    assert_eq!(read, manifest);
    assert_eq!(seen, [1, 2]);
    for (shard, rows) in manifest.shards.iter().zip(halves()) {
        let mut frames = open_rows(&place, shard).unwrap();
        let mut read = Vec::new();
        while let Some(rows) = frames.next().unwrap() {
            read.extend(rows);
        }
        assert_eq!(read, rows);
    }
    assert_eq!(
        names(&place),
        [
            "SHA256SUMS",
            "manifest.json",
            "shard-00001.rows",
            "shard-00002.rows"
        ]
    );
    assert!(!place.with_file_name("backup.partial").exists());
}

/// People check copies with what they have.
#[test]
fn sums_are_those_of_sha256sum() {
    let (_directory, place, _) = saved();
    let checked = Command::new("sha256sum")
        .args(["--check", "--strict", "--quiet", "SHA256SUMS"])
        .current_dir(&place)
        .status();
    assert!(checked.unwrap().success());
}

/// Each byte of each file, sums and manifest included: what is damaged is named.
#[test]
fn every_flipped_byte_is_found() {
    let (_directory, place, _) = saved();
    for name in names(&place) {
        let path = place.join(&name);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            // A bit that turns a letter into its other case, and one that does not.
            for bit in [0x20, 0x01] {
                let mut flipped = whole.clone();
                flipped[at] ^= bit;
                fs::write(&path, &flipped).unwrap();
                let wrong = wrong(&place);
                assert!(!wrong.is_empty(), "byte {at} of {name}, bit {bit:#x}");
            }
        }
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(wrong(&place), Vec::<String>::new());
}

#[test]
fn file_that_ends_early_is_found_wherever_it_ends() {
    let (_directory, place, _) = saved();
    for name in names(&place) {
        let path = place.join(&name);
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(!wrong(&place).is_empty(), "{length} bytes of {name}");
        }
        let longer = [&whole[..], b"\n"].concat();
        fs::write(&path, longer).unwrap();
        assert!(!wrong(&place).is_empty(), "a byte more in {name}");
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(wrong(&place), Vec::<String>::new());
}

#[test]
fn missing_and_extra_files_are_named() {
    let (_directory, place, _) = saved();
    fs::write(place.join("shard-00003.rows"), b"").unwrap();
    assert!(wrong(&place)[0].starts_with("shard-00003.rows: "));
    fs::remove_file(place.join("shard-00003.rows")).unwrap();
    for name in names(&place) {
        let path = place.join(&name);
        let whole = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let wrong = wrong(&place);
        assert!(wrong[0].starts_with(&format!("{name}: ")), "{wrong:?}");
        fs::write(&path, whole).unwrap();
    }
}

/// Files that agree with their sums and not with each other: somebody put two snapshots together.
#[test]
fn files_of_another_snapshot_are_found() {
    let (_directory, place, manifest) = saved();
    let (first, second) = (place.join(file_of(1)), place.join(file_of(2)));
    let (one, two) = (fs::read(&first).unwrap(), fs::read(&second).unwrap());
    fs::write(&first, &two).unwrap();
    fs::write(&second, &one).unwrap();
    let found = wrong(&place);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("another shard's"), "{found:?}");
    let mut gap = manifest.clone();
    gap.shards.remove(0);
    assert!(Manifest::decode(gap.encode().as_bytes()).is_err());
    let mut newer = manifest;
    newer.format += 1;
    assert!(Manifest::decode(newer.encode().as_bytes()).is_err());
}

/// A save never writes over anything, but for what a save that broke off left.
#[test]
fn place_must_be_free() {
    let (_directory, place, _) = saved();
    assert!(Draft::begin(&place).is_err());
    let other = place.with_file_name("other");
    let partial = place.with_file_name("other.partial");
    drop(Draft::begin(&other).unwrap());
    fs::write(partial.join("shard-00001.rows"), b"x").unwrap();
    drop(Draft::begin(&other).unwrap());
    assert_eq!(names(&partial), Vec::<String>::new());
    fs::write(partial.join("letters"), b"x").unwrap();
    assert!(Draft::begin(&other).is_err());
    assert_eq!(names(&partial), ["letters"]);
}

/// Golden bytes of a file.
#[test]
fn frames_have_their_frozen_bytes() {
    let row = Row {
        key: b"k".as_slice().into(),
        value: b"vv".as_slice().into(),
    };
    let mut writer = Writer::begin(Vec::new()).unwrap();
    writer.write(&[]).unwrap();
    writer.write(std::slice::from_ref(&row)).unwrap();
    let bytes = writer.into_inner();
    let payload = b"\0\0\0\x01\0\0\0\x02kvv";
    let sum = crc32fast::hash(payload).to_be_bytes();
    assert_eq!(bytes, [b"\x53\0\0\0\x0b", &sum[..], payload].concat());
    let mut reader = Reader::open(&bytes[..]).unwrap();
    assert_eq!(reader.next().unwrap(), Some(vec![row]));
    assert_eq!(reader.next().unwrap(), None);
}

/// A length that lies must not take memory, and what is wrong is told with its place.
#[test]
fn frames_that_lie_are_refused() {
    let next = |bytes: &[u8]| Reader::open(bytes).unwrap().next();
    assert!(matches!(Reader::open(&b""[..]), Err(Error::CutOff(0))));
    assert!(matches!(Reader::open(&b"\x54"[..]), Err(Error::Tag(0x54))));
    let long = b"\x53\xff\xff\xff\xff\0\0\0\0";
    assert!(matches!(next(long), Err(Error::Length(1))));
    let payload = b"\0\0\0\x09\0\0\0\x02kvv";
    let sum = crc32fast::hash(payload).to_be_bytes();
    let lies = [b"\x53\0\0\0\x0b", &sum[..], payload].concat();
    assert!(matches!(next(&lies), Err(Error::Rows(1))));
    assert!(matches!(next(&lies[..15]), Err(Error::CutOff(1))));
}
