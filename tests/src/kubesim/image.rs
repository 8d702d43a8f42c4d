//! The files of the image, and the root file systems that are made from them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::chaos::command;
use crate::environment;

/// Strips and copies the program.
const LIMIT: Duration = Duration::from_secs(120);
/// Not in the image: it takes all rights away and ties the program to the life of this process,
/// which a container runtime does from outside.
pub(super) const LAUNCHER: &str = "/usr/bin/setpriv";
/// What a container has of devices.
pub(super) const DEVICES: [&str; 5] = ["full", "null", "random", "urandom", "zero"];

/// An image, unpacked.
pub struct Image {
    root: PathBuf,
}

impl Image {
    /// Lays out what the image has in it, by the script that makes the image, in a new `directory`.
    pub fn collect(binary: &Path, directory: &Path) -> Result<Image> {
        let script = environment::repository().join("deploy/image/collect");
        let mut collect = Command::new(&script);
        collect.arg(binary).arg(directory);
        let printed = command::finish(collect, "", LIMIT)?;
        ensure!(
            printed.status.success(),
            "{}: {}",
            script.display(),
            printed.error
        );
        let image = Image {
            root: directory.join("system"),
        };
        let libraries = command::run("ldd", &[LAUNCHER])?;
        let needed = libraries
            .split_whitespace()
            .filter(|word| word.starts_with('/'));
        for file in needed.chain([LAUNCHER]) {
            image.add(Path::new(file))?;
        }
        Ok(image)
    }

    fn add(&self, file: &Path) -> Result<()> {
        let target = inside(&self.root, file);
        if !target.exists() {
            fs::create_dir_all(target.parent().context("a file is in a directory")?)?;
            fs::copy(file, &target).with_context(|| file.display().to_string())?;
        }
        Ok(())
    }

    /// Makes the root file system of a container in a new directory, with the places for mounts.
    pub fn unpack(&self, root: &Path, mounts: &[&Path]) -> Result<()> {
        let (from, to) = (self.root.to_string_lossy(), root.to_string_lossy());
        command::run("cp", &["--recursive", "--link", &from, &to])?;
        let known = ["proc", "dev", "etc"].map(|name| root.join(name));
        let wanted = mounts.iter().map(|mount| inside(root, mount));
        for directory in known.into_iter().chain(wanted) {
            fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        }
        for device in DEVICES {
            fs::write(root.join("dev").join(device), "")?;
        }
        Ok(())
    }
}

/// An absolute path inside another root.
pub(super) fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}
