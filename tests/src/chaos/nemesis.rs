//! Faults on real processes, networks and disks. Each knows how to begin, how to go on, how to end,
//! and whether it is proven to have hit.

use anyhow::Result;

use super::cluster::Cluster;
use super::plan::{Fault, Planned};

mod disks;
mod members;
mod moves;
mod partitions;
mod power;
mod processes;

pub use partitions::cuts;

/// A fault under way.
pub trait Harm {
    /// Lets it begin.
    fn inject(&mut self, cluster: &mut Cluster) -> Result<()>;

    /// Called again and again while it lasts.
    fn hold(&mut self, _cluster: &mut Cluster) -> Result<()> {
        Ok(())
    }

    /// Ends it: afterwards every node that it stopped has been started and nothing else hinders it.
    fn heal(&mut self, cluster: &mut Cluster) -> Result<()>;

    /// Whether it is proven to have hit. Final after [`Harm::heal`].
    fn hit(&self) -> bool;

    /// Nodes whose process may end by itself while this lasts.
    fn may_end(&self) -> &[usize] {
        &[]
    }
}

/// What a plan asks for. `leader` is the node that leads the shard that is written most, as far as
/// it is known; without one a random node takes its place.
pub fn harm(planned: &Planned, leader: Option<usize>) -> Box<dyn Harm> {
    let nodes = &planned.nodes;
    let one = || nodes[..1].to_vec();
    let crash = |step| -> Box<dyn Harm> { Box::new(moves::Crash::new(step, planned.flavour)) };
    match planned.fault {
        Fault::Kill => Box::new(processes::Kill::new(one())),
        Fault::KillLeader => {
            let victim = leader.unwrap_or(nodes[0]);
            Box::new(processes::Kill::new(vec![victim]))
        }
        Fault::KillTwo => Box::new(processes::Kill::new(nodes[..2].to_vec())),
        Fault::KillAll => Box::new(processes::Kill::new(nodes.clone())),
        Fault::Shutdown => Box::new(processes::Shutdown::new(leader.unwrap_or(nodes[0]))),
        Fault::Stop => {
            // Often the leader: that is the node whose pause can hurt.
            let leader = leader.filter(|_| planned.flavour.is_multiple_of(2));
            Box::new(processes::Stop::new(leader.unwrap_or(nodes[0])))
        }
        Fault::PartitionOneWay | Fault::PartitionTwoWay | Fault::PartitionBridge => {
            Box::new(partitions::Partition::new(cuts(planned)))
        }
        Fault::Power => Box::new(power::Power::new(one())),
        Fault::PowerAll => Box::new(power::Power::new(nodes.clone())),
        Fault::Wipe => Box::new(processes::Wipe::new(nodes[0])),
        Fault::Slow => Box::new(disks::Slow::new(nodes[0], planned.flavour)),
        Fault::Full => Box::new(disks::Full::new(nodes[0])),
        Fault::Add => Box::new(members::Add::default()),
        Fault::Drain => Box::new(members::Drain::new(leader.unwrap_or(nodes[0]))),
        Fault::Decommission => Box::new(members::Decommission::new(nodes[0])),
        Fault::Move => Box::new(moves::Move::new(leader.unwrap_or(nodes[0]))),
        Fault::Replace => Box::new(members::Replace::new(nodes[0])),
        Fault::CrashAsking => crash(moves::Step::Asking),
        Fault::CrashCopying => crash(moves::Step::Copying),
        Fault::CrashChanging => crash(moves::Step::Changing),
        Fault::CrashMoved => crash(moves::Step::Moved),
    }
}
