//! Power cuts: what was not synced is gone, on one node or on all at the same moment.

use std::fs;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result};

use super::Harm;
use crate::chaos::cluster::Cluster;

/// Written and never synced: it must be gone afterwards.
const UNSYNCED: &str = "never synced";

/// The power of some nodes is cut at once and comes back later.
///
/// First nobody hears of them any more; then the disks lose what was not synced, under running
/// processes, whatever these are doing at that moment; then the processes end.
pub(super) struct Power {
    victims: Vec<usize>,
    /// What must be lost.
    unsynced: Vec<PathBuf>,
    cut: bool,
    lost: usize,
}

impl Power {
    pub(super) fn new(victims: Vec<usize>) -> Power {
        Power {
            victims,
            unsynced: Vec::new(),
            cut: false,
            lost: 0,
        }
    }
}

impl Harm for Power {
    fn inject(&mut self, cluster: &mut Cluster) -> Result<()> {
        for node in &self.victims {
            let file = cluster.disk(*node)?.path().join("unsynced");
            fs::write(&file, UNSYNCED).with_context(|| file.display().to_string())?;
            self.unsynced.push(file);
        }
        for node in &self.victims {
            cluster.network().silence(*node)?;
        }
        let disks = self.victims.iter().map(|node| cluster.disk(*node));
        let disks = disks.collect::<Result<Vec<_>>>()?;
        thread::scope(|scope| {
            let cuts: Vec<_> = disks
                .iter()
                .map(|disk| scope.spawn(|| disk.cut(|| ())))
                .collect();
            cuts.into_iter()
                .try_for_each(|cut| cut.join().unwrap_or_else(|_| anyhow::bail!("cut panicked")))
        })?;
        self.cut = true;
        for node in &self.victims {
            // It may have ended by itself, for want of a disk.
            cluster.kill(*node)?;
        }
        Ok(())
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Result<()> {
        for (node, file) in self.victims.iter().zip(&self.unsynced) {
            cluster.disk(*node)?.power_on()?;
            let found = fs::read_to_string(file).unwrap_or_default();
            self.lost += usize::from(found != UNSYNCED);
            fs::remove_file(file).ok();
            cluster.start(*node)?;
        }
        cluster.network().heal()
    }

    fn hit(&self) -> bool {
        self.cut && self.lost == self.victims.len()
    }

    fn may_end(&self) -> &[usize] {
        &self.victims
    }
}
