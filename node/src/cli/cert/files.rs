//! Certificates and keys as files: nothing is replaced unasked, nothing is ever half there, and keys
//! are for their owner only.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::cli::problem::{Exit, Problem};

const CERTIFICATE_MODE: u32 = 0o644;
const KEY_MODE: u32 = 0o600;

/// A certificate and its key.
pub(super) struct Pair {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Pair {
    /// `NAME.pem` and `NAME.key`.
    pub(super) fn in_directory(directory: &Path, name: &str) -> Pair {
        Pair {
            certificate: directory.join(format!("{name}.pem")),
            key: directory.join(format!("{name}.key")),
        }
    }

    /// Refuses when a file is there, unless it may be replaced.
    pub(super) fn check_free(&self, force: bool) -> Result<(), Problem> {
        let taken = [&self.certificate, &self.key];
        let taken = taken
            .into_iter()
            .find(|path| path.symlink_metadata().is_ok());
        match taken {
            Some(path) if !force => Err(exists(path)),
            _ => Ok(()),
        }
    }

    /// Writes both, the key first: a certificate without its key would be a puzzle.
    pub(super) fn write(&self, certificate: &str, key: &str, force: bool) -> Result<(), Problem> {
        if let Some(directory) = self.key.parent() {
            fs::create_dir_all(directory).map_err(|error| cannot_write(directory, &error))?;
        }
        write(&self.key, key, KEY_MODE, force)?;
        write(&self.certificate, certificate, CERTIFICATE_MODE, force)
    }
}

/// Writes a secret for its owner only; never over another.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<(), Problem> {
    write(path, text, KEY_MODE, false)
}

/// Writes a file beside its place and then moves it there, so that whoever reads the place finds
/// the old file or the new one.
fn write(path: &Path, text: &str, mode: u32, force: bool) -> Result<(), Problem> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let put = || {
        // A draft that was left behind could have other permissions.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        match force {
            true => fs::rename(&draft, path),
            // Unlike a rename, a link does not replace what came in between.
            false => fs::hard_link(&draft, path),
        }
    };
    let result = put();
    let _ = fs::remove_file(&draft);
    result.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        _ => cannot_write(path, &error),
    })
}

fn exists(path: &Path) -> Problem {
    Problem::new(Exit::Usage, format!("{} exists already", path.display()))
        .why("a key that is replaced cannot be had back")
        .try_this("another --out, or --force to replace it")
}

fn cannot_write(path: &Path, error: &io::Error) -> Problem {
    Problem::new(Exit::Failure, format!("cannot write {}", path.display())).why(error)
}
