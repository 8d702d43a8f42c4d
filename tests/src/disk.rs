//! A disk whose power can be cut: an ext4 file system in a file, mounted through a loop device.
//!
//! The cut is the kernel's own: the ext4 shutdown ioctl without a log flush drops everything that
//! was not synced, as a real power cut does, and fails every later write with an I/O error. Unlike a
//! real one it leaves the processes running, and a sync that is under way at that moment may report
//! success and keep nothing: what a process says from then on must not be believed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::waiting;

const UNMOUNT_LIMIT: Duration = Duration::from_secs(30);

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`, once a line is read. In Python, because
/// an ioctl from Rust would need unsafe code.
const CUT: &str = "import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
flags = struct.pack('I', 2)
print('ready', flush=True)
sys.stdin.readline()
fcntl.ioctl(fd, 0x8004587D, flags)
";

/// A mounted file system. Unmounted when dropped. Needs root.
pub struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    /// Makes and mounts a file system of `bytes` inside `directory`.
    pub fn create(directory: &Path, bytes: u64) -> Result<Disk> {
        let disk = Disk {
            image: directory.join("image"),
            mount: directory.join("mount"),
        };
        File::create(&disk.image)?.set_len(bytes)?;
        fs::create_dir_all(&disk.mount)?;
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F"])
            .arg(&disk.image))?;
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    fn mount(&self) -> Result<()> {
        // A long commit interval: the kernel must not save what the node failed to sync.
        let options = "loop,commit=300";
        run(Command::new("mount")
            .args(["-o", options])
            .arg(&self.image)
            .arg(&self.mount))
    }

    /// Cuts the power. Whatever was not synced is gone; every write fails from now on. `begin` is
    /// called at the last moment before.
    pub fn cut(&self, begin: impl FnOnce()) -> Result<()> {
        let mut command = Command::new("python3");
        command
            .args(["-c", CUT])
            .arg(&self.mount)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut cutter = command
            .spawn()
            .with_context(|| format!("run {command:?}"))?;
        let (go, ready) = (cutter.stdin.take(), cutter.stdout.take());
        let mut go = go.context("stdin is piped")?;
        let ready = ready.context("stdout is piped")?;
        BufReader::new(ready).read_line(&mut String::new())?;
        begin();
        // When it could not get ready, its end says why.
        writeln!(go).ok();
        drop(go);
        succeeded(&command, &cutter.wait_with_output()?)
    }

    /// Power comes back: unmounts, and mounts with journal replay. Nobody may use the disk.
    pub fn power_on(&self) -> Result<()> {
        waiting::until("unmount", UNMOUNT_LIMIT, || {
            run(Command::new("umount").arg(&self.mount)).ok()
        })?;
        self.mount()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(&self.mount)).ok();
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("run {command:?}"))?;
    succeeded(command, &output)
}

fn succeeded(command: &Command, output: &Output) -> Result<()> {
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?}: {}: {error}",
        output.status
    );
    Ok(())
}
