//! Processes killed, stopped, and robbed of their data.

use anyhow::Result;

use super::Harm;
use crate::chaos::cluster::Cluster;

/// SIGKILL of some nodes at once, and a start afterwards.
pub(super) struct Kill {
    victims: Vec<usize>,
    killed: usize,
}

impl Kill {
    pub(super) fn new(victims: Vec<usize>) -> Kill {
        Kill { victims, killed: 0 }
    }
}

impl Harm for Kill {
    fn inject(&mut self, cluster: &mut Cluster) -> Result<()> {
        for node in &self.victims {
            self.killed += usize::from(cluster.kill(*node)?);
        }
        Ok(())
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Result<()> {
        for node in &self.victims {
            cluster.start(*node)?;
        }
        Ok(())
    }

    fn hit(&self) -> bool {
        self.killed == self.victims.len()
    }
}

/// SIGTERM of one node, which must end by itself and say that all is well, and a start afterwards.
pub(super) struct Shutdown {
    victim: usize,
    ended_well: bool,
}

impl Shutdown {
    pub(super) fn new(victim: usize) -> Shutdown {
        Shutdown {
            victim,
            ended_well: false,
        }
    }
}

impl Harm for Shutdown {
    fn inject(&mut self, cluster: &mut Cluster) -> Result<()> {
        self.ended_well = cluster.terminate(self.victim)?;
        Ok(())
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Result<()> {
        cluster.start(self.victim)
    }

    fn hit(&self) -> bool {
        self.ended_well
    }
}

/// SIGSTOP of one node, and SIGCONT afterwards.
pub(super) struct Stop {
    victim: usize,
    stood_still: bool,
}

impl Stop {
    pub(super) fn new(victim: usize) -> Stop {
        Stop {
            victim,
            stood_still: false,
        }
    }
}

impl Harm for Stop {
    fn inject(&mut self, cluster: &mut Cluster) -> Result<()> {
        cluster.process(self.victim)?.stop()
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Result<()> {
        let process = cluster.process(self.victim)?;
        self.stood_still = process.stands_still()?;
        process.resume()
    }

    fn hit(&self) -> bool {
        self.stood_still
    }
}

/// SIGKILL of one node, whose data are gone when it starts again.
pub(super) struct Wipe {
    victim: usize,
    killed: bool,
    wiped: bool,
}

impl Wipe {
    pub(super) fn new(victim: usize) -> Wipe {
        Wipe {
            victim,
            killed: false,
            wiped: false,
        }
    }
}

impl Harm for Wipe {
    fn inject(&mut self, cluster: &mut Cluster) -> Result<()> {
        self.killed = cluster.kill(self.victim)?;
        self.wiped = cluster.wipe(self.victim)?;
        Ok(())
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Result<()> {
        cluster.start(self.victim)
    }

    fn hit(&self) -> bool {
        self.killed && self.wiped
    }
}
