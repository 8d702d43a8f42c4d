//! A snapshot on disk: written beside its place and moved there when it is whole; read back and checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use antumbra_raft::HashRange;
use antumbra_shadow::RowKey;
use aws_lc_rs::digest::{Context as Digest, SHA256};

use crate::shadows::row_key;

use super::frames::{Reader, Writer};
use super::manifest::{Manifest, Shard};
use super::row::Tally;

const MANIFEST: &str = "manifest.json";
const SUMS: &str = "SHA256SUMS";
const BUFFER_BYTES: usize = 1 << 18;

/// A snapshot that is being written. It stays under another name until [`Draft::finish`].
pub(crate) struct Draft {
    place: PathBuf,
    partial: PathBuf,
}

impl Draft {
    /// Makes `DIR.partial`. What a save that broke off left there is replaced; `DIR` itself is not.
    pub(crate) fn begin(place: &Path) -> io::Result<Draft> {
        if fs::symlink_metadata(place).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "it is there already, and a snapshot is never written over",
            ));
        }
        let name = place.file_name();
        let name = name.ok_or_else(|| io::Error::other("the path does not end in a name"))?;
        let mut partial = name.to_owned();
        partial.push(".partial");
        let partial = place.with_file_name(partial);
        if is_ours(&partial)? {
            fs::remove_dir_all(&partial)?;
        }
        if let Some(parent) = parent(&partial) {
            fs::create_dir_all(parent)?;
        }
        fs::create_dir(&partial)?;
        Ok(Draft {
            place: place.to_owned(),
            partial,
        })
    }

    /// Begins a file, anew if it was begun before.
    pub(crate) fn create(&self, file: &str) -> io::Result<Writer<BufWriter<File>>> {
        let file = File::create(self.partial.join(file))?;
        Writer::begin(BufWriter::with_capacity(BUFFER_BYTES, file))
    }

    /// Makes a file durable.
    pub(crate) fn close(writer: Writer<BufWriter<File>>) -> io::Result<()> {
        let file = writer.into_inner().into_inner();
        file.map_err(io::IntoInnerError::into_error)?.sync_all()
    }

    /// Writes what the snapshot is and the sums of all files, makes all of it durable, and moves it to its
    /// place.
    pub(crate) fn finish(self, manifest: &Manifest) -> io::Result<()> {
        write_durably(&self.partial.join(MANIFEST), manifest.encode().as_bytes())?;
        let mut sums = BTreeMap::new();
        let rows = manifest.shards.iter().map(|shard| shard.file.clone());
        for name in rows.chain([MANIFEST.to_owned()]) {
            let sum = sum_of(&self.partial.join(&name))?;
            sums.insert(name, sum);
        }
        write_durably(&self.partial.join(SUMS), sums_text(&sums).as_bytes())?;
        File::open(&self.partial)?.sync_all()?;
        fs::rename(&self.partial, &self.place)?;
        match parent(&self.place) {
            Some(parent) => File::open(parent)?.sync_all(),
            None => File::open(".")?.sync_all(),
        }
    }
}

/// Whether a directory holds nothing but files of a save that broke off.
fn is_ours(directory: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let name = entry?.file_name();
        let is_ours = Path::new(&name).extension() == Some("rows".as_ref());
        if !is_ours && name != SUMS && name != MANIFEST {
            return Err(io::Error::other(format!(
                "{} holds something else",
                directory.display()
            )));
        }
    }
    Ok(true)
}

fn parent(path: &Path) -> Option<&Path> {
    path.parent().filter(|parent| *parent != Path::new(""))
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The rows of one file of a snapshot.
pub(crate) fn open_rows(
    directory: &Path,
    shard: &Shard,
) -> Result<Reader<BufReader<File>>, super::frames::Error> {
    let file = File::open(directory.join(&shard.file))?;
    Reader::open(BufReader::with_capacity(BUFFER_BYTES, file))
}

/// Reads a whole snapshot and checks every byte of it; `checked` is told of each shard that is whole. What is wrong
/// comes back, a sentence each.
pub(crate) fn verify(
    directory: &Path,
    mut checked: impl FnMut(&Shard),
) -> Result<Manifest, Vec<String>> {
    let text = fs::read(directory.join(MANIFEST));
    let text = text.map_err(|error| vec![format!("{MANIFEST}: {error}")])?;
    let manifest = Manifest::decode(&text).map_err(|error| vec![format!("{MANIFEST}: {error}")])?;
    let mut wrong = Vec::new();
    let mut sums = BTreeMap::from([(MANIFEST.to_owned(), hex(&text))]);
    for shard in &manifest.shards {
        match check_file(directory, shard) {
            Ok(sum) => {
                sums.insert(shard.file.clone(), sum);
                checked(shard);
            }
            Err(why) => wrong.push(format!("{}: {why}", shard.file)),
        }
    }
    wrong.extend(strangers(directory, &manifest));
    // Where a file cannot be read its sum says nothing more.
    if wrong.is_empty() {
        wrong.extend(check_sums(directory, &sums));
    }
    match wrong.is_empty() {
        true => Ok(manifest),
        false => Err(wrong),
    }
}

/// Files that do not belong there.
fn strangers(directory: &Path, manifest: &Manifest) -> Vec<String> {
    let shards = manifest.shards.iter().map(|shard| shard.file.as_str());
    let known: BTreeSet<&str> = shards.chain([MANIFEST, SUMS]).collect();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return vec![error.to_string()],
    };
    let names = entries.map(|entry| match entry {
        Ok(entry) => entry.file_name().to_string_lossy().into_owned(),
        Err(error) => error.to_string(),
    });
    names
        .filter(|name| !known.contains(name.as_str()))
        .map(|name| format!("{name}: it does not belong to the snapshot"))
        .collect()
}

fn check_sums(directory: &Path, sums: &BTreeMap<String, String>) -> Vec<String> {
    let text = match fs::read(directory.join(SUMS)) {
        Ok(text) => text,
        Err(error) => return vec![format!("{SUMS}: {error}")],
    };
    let expected = sums_text(sums);
    if text == expected.as_bytes() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let said: BTreeSet<&str> = text.lines().collect();
    let differing = sums.iter().filter(|(name, sum)| {
        let line = sum_line(name, sum);
        !said.contains(line.as_str())
    });
    let mut wrong: Vec<String> = differing
        .map(|(name, sum)| format!("{name}: its SHA-256 is {sum}, and {SUMS} says otherwise"))
        .collect();
    if wrong.is_empty() {
        wrong.push(format!("{SUMS}: it is not as it was written"));
    }
    wrong
}

/// Reads the rows of a shard, compares them with what the manifest says, and gives the sum of the file.
fn check_file(directory: &Path, shard: &Shard) -> Result<String, String> {
    let file = File::open(directory.join(&shard.file)).map_err(|error| error.to_string())?;
    let mut input = Summing {
        input: BufReader::with_capacity(BUFFER_BYTES, file),
        digest: Digest::new(&SHA256),
    };
    let range = HashRange {
        start: shard.first_hash,
        end: shard.last_hash,
    };
    let mut tally = Tally::default();
    let mut frames = Reader::open(&mut input).map_err(|error| error.to_string())?;
    while let Some(rows) = frames.next().map_err(|error| error.to_string())? {
        for row in &rows {
            let key = row_key(&row.key).ok_or("it has a row that is none of a device")?;
            let (device, is_document) = match &key {
                RowKey::Document(device, _) => (device, true),
                RowKey::Device(device)
                | RowKey::Request(device, _)
                | RowKey::RequestOrder(device, _) => (device, false),
            };
            if !range.contains(device.hash()) {
                return Err(format!("device {} is another shard's", device.device));
            }
            tally.add(row, is_document);
        }
    }
    let counts = tally.counts();
    match shard.says(&counts) {
        true => Ok(hex_of(input.digest.finish().as_ref())),
        false => Err(format!(
            "it has {} rows, {} documents, {} bytes, checksum {:016x}; the manifest says otherwise",
            counts.rows, counts.documents, counts.bytes, counts.checksum
        )),
    }
}

/// Takes the sum of what is read.
struct Summing<R> {
    input: R,
    digest: Digest,
}

impl<R: Read> Read for Summing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.digest.update(&buffer[..read]);
        Ok(read)
    }
}

fn sum_of(path: &Path) -> io::Result<String> {
    let mut input = Summing {
        input: File::open(path)?,
        digest: Digest::new(&SHA256),
    };
    let mut buffer = vec![0; BUFFER_BYTES];
    while input.read(&mut buffer)? > 0 {}
    Ok(hex_of(input.digest.finish().as_ref()))
}

/// As `sha256sum` writes and reads it.
fn sums_text(sums: &BTreeMap<String, String>) -> String {
    let lines = sums.iter().map(|(name, sum)| sum_line(name, sum) + "\n");
    lines.collect()
}

fn sum_line(name: &str, sum: &str) -> String {
    format!("{sum}  {name}")
}

fn hex(bytes: &[u8]) -> String {
    hex_of(aws_lc_rs::digest::digest(&SHA256, bytes).as_ref())
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
