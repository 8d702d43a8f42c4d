//! Disks that are slow, and disks that are full.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Harm;
use crate::chaos::cluster::Cluster;
use crate::chaos::command::run;

/// Limits the writes of a block device for the whole system, the journal of its file system
/// included. Version 1 of control groups has it.
const THROTTLE: &str = "/sys/fs/cgroup/blkio/blkio.throttle.write_iops_device";
/// A synced write that takes this long proves that the disk is slow.
const SLOW: Duration = Duration::from_millis(50);
/// How long writes stand still at a time where there is no throttle.
const FREEZE: Duration = Duration::from_millis(200);

/// The disk of one node takes a tenth of a second and more for every synced write: by the throttle of
/// the kernel, or where there is none by freezing its file system again and again.
pub(super) struct Slow {
    victim: usize,
    writes_per_second: u64,
    /// The file system, while it may have to be thawed.
    frozen: Option<PathBuf>,
    /// Numbers of the device, while it is throttled.
    throttled: Option<String>,
    /// The slowest synced write before and during it.
    before: Duration,
    during: Duration,
}

impl Slow {
    pub(super) fn new(victim: usize, flavour: u64) -> Slow {
        Slow {
            victim,
            writes_per_second: 5 + flavour % 16,
            frozen: None,
            throttled: None,
            before: Duration::ZERO,
            during: Duration::ZERO,
        }
    }

    fn throttle(&mut self, mount: &Path) -> Result<()> {
        let mount = mount.to_string_lossy();
        let device = run("findmnt", &["-n", "-o", "SOURCE", &mount])?;
        let device = device.trim().rsplit('/').next().unwrap_or_default();
        let numbers = fs::read_to_string(format!("/sys/block/{device}/dev"))?;
        let numbers = numbers.trim().to_owned();
        let limit = format!("{numbers} {}", self.writes_per_second);
        fs::write(THROTTLE, limit).context(THROTTLE)?;
        self.throttled = Some(numbers);
        Ok(())
    }

    fn release(&mut self) -> Result<()> {
        if let Some(mount) = self.frozen.take() {
            run("fsfreeze", &["--unfreeze", &mount.to_string_lossy()])?;
        }
        if let Some(numbers) = self.throttled.take() {
            fs::write(THROTTLE, format!("{numbers} 0")).context(THROTTLE)?;
        }
        Ok(())
    }
}

impl Harm for Slow {
    fn inject(&mut self, cluster: &mut Cluster) -> Result<()> {
        let mount = cluster.disk(self.victim)?.path().to_owned();
        self.before = synced_write(&mount)?.min(synced_write(&mount)?);
        if Path::new(THROTTLE).exists() {
            self.throttle(&mount)?;
        }
        Ok(())
    }

    fn hold(&mut self, cluster: &mut Cluster) -> Result<()> {
        let mount = cluster.disk(self.victim)?.path().to_owned();
        let took = if self.throttled.is_some() {
            synced_write(&mount)?
        } else {
            self.frozen = Some(mount.clone());
            run("fsfreeze", &["--freeze", &mount.to_string_lossy()])?;
            let probe = thread::spawn(move || synced_write(&mount));
            thread::sleep(FREEZE);
            self.release()?;
            probe.join().unwrap_or(Ok(Duration::ZERO))?
        };
        self.during = self.during.max(took);
        Ok(())
    }

    fn heal(&mut self, _cluster: &mut Cluster) -> Result<()> {
        self.release()
    }

    fn hit(&self) -> bool {
        self.during > SLOW && self.during > 2 * self.before
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        // A throttle outlives the file system: the next one on the device would be slow too.
        self.release().ok();
    }
}

/// How long a small write takes to reach the disk.
fn synced_write(mount: &Path) -> Result<Duration> {
    let mut file = File::create(mount.join("probe"))?;
    let started = Instant::now();
    file.write_all(b"probe")?;
    file.sync_data()?;
    Ok(started.elapsed())
}

/// The disk of one node has no room left.
pub(super) struct Full {
    victim: [usize; 1],
    /// Times that a write was refused for want of room.
    refused: u64,
}

impl Full {
    pub(super) fn new(victim: usize) -> Full {
        Full {
            victim: [victim],
            refused: 0,
        }
    }

    fn fill(&mut self, mount: &Path) -> Result<()> {
        // In blocks: what is free, the reserve of the superuser included, and their size.
        let text = run("stat", &["-f", "-c", "%f %S", &mount.to_string_lossy()])?;
        let mut numbers = text.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(free)), Some(Ok(size))) = (numbers.next(), numbers.next()) else {
            anyhow::bail!("free blocks of {}: {text:?}", mount.display());
        };
        let count = fs::read_dir(fill_directory(mount)?)?.count();
        let file = fill_directory(mount)?.join(count.to_string());
        let path = file.to_string_lossy();
        // Takes what there is and complains that it was not enough.
        run(
            "fallocate",
            &["-l", &(free * size).max(size).to_string(), &path],
        )
        .ok();
        let mut file = OpenOptions::new().create(true).append(true).open(&file);
        let block = [0; 4096];
        for _ in 0..1024 {
            let written = match &mut file {
                Ok(file) => file.write(&block).map(drop),
                Err(error) => Err(std::io::Error::from(error.kind())),
            };
            if let Err(error) = written {
                self.refused += u64::from(error.kind() == ErrorKind::StorageFull);
                break;
            }
        }
        Ok(())
    }
}

impl Harm for Full {
    fn inject(&mut self, cluster: &mut Cluster) -> Result<()> {
        let mount = cluster.disk(self.victim[0])?.path().to_owned();
        self.fill(&mount)
    }

    /// What the node gave back meanwhile is taken again.
    fn hold(&mut self, cluster: &mut Cluster) -> Result<()> {
        let mount = cluster.disk(self.victim[0])?.path().to_owned();
        self.fill(&mount)
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Result<()> {
        let mount = cluster.disk(self.victim[0])?.path().to_owned();
        fs::remove_dir_all(fill_directory(&mount)?)?;
        // A node that cannot write stops and is started again by whoever watches over it.
        let node = self.victim[0];
        if !cluster.is_running(node) {
            cluster.start(node)?;
        }
        Ok(())
    }

    fn hit(&self) -> bool {
        self.refused > 0
    }

    fn may_end(&self) -> &[usize] {
        &self.victim
    }
}

fn fill_directory(mount: &Path) -> Result<PathBuf> {
    let directory = mount.join("fill");
    fs::create_dir_all(&directory)?;
    Ok(directory)
}
