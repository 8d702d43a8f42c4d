//! Which faults happen when: chosen from the seed alone, so that a run can be repeated. Pure.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// The kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL of one node.
    Kill,
    /// SIGKILL of the leader of the shard that is written most.
    KillLeader,
    /// SIGKILL of two of five nodes.
    KillTwo,
    /// SIGKILL of all nodes.
    KillAll,
    /// SIGTERM of the leader of the shard that is written most: it hands over and ends by itself.
    Shutdown,
    /// SIGSTOP of one node.
    Stop,
    /// Some nodes do not hear others, who hear them.
    PartitionOneWay,
    /// Some nodes and the others do not hear each other.
    PartitionTwoWay,
    /// Two halves that do not hear each other, and one node that hears both.
    PartitionBridge,
    /// The power of one node is cut.
    Power,
    /// The power of all nodes is cut at once.
    PowerAll,
    /// One node loses its data, is repaired, and then another one loses its own.
    Wipe,
    /// The disk of one node takes a tenth of a second and more for every write.
    Slow,
    /// The disk of one node is full.
    Full,
    /// Two nodes come, and go again when they have their share.
    Add,
    /// The leader of the shard that is written most is drained, and resumed.
    Drain,
    /// One node leaves for good while another one comes; it comes back with the directory that has left.
    Decommission,
    /// A replica of the shard that is written most moves to a node that has just come.
    Move,
    /// A node dies and others take its replicas; it comes back.
    Replace,
    /// The leader of the meta shard dies while a move is being asked for.
    CrashAsking,
    /// The leader of the meta shard dies while the new replica gets the data.
    CrashCopying,
    /// The leader of the meta shard dies while the members are changed.
    CrashChanging,
    /// The leader of the meta shard dies when the move is over, but for the data of the former replica.
    CrashMoved,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Fault; 23] = [
        Fault::Kill,
        Fault::KillLeader,
        Fault::KillTwo,
        Fault::KillAll,
        Fault::Shutdown,
        Fault::Stop,
        Fault::PartitionOneWay,
        Fault::PartitionTwoWay,
        Fault::PartitionBridge,
        Fault::Power,
        Fault::PowerAll,
        Fault::Wipe,
        Fault::Slow,
        Fault::Full,
        Fault::Add,
        Fault::Drain,
        Fault::Decommission,
        Fault::Move,
        Fault::Replace,
        Fault::CrashAsking,
        Fault::CrashCopying,
        Fault::CrashChanging,
        Fault::CrashMoved,
    ];

    /// What it is called in arguments and in the score.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::KillLeader => "kill-leader",
            Fault::KillTwo => "kill-two",
            Fault::KillAll => "kill-all",
            Fault::Shutdown => "shutdown",
            Fault::Stop => "stop",
            Fault::PartitionOneWay => "partition-one-way",
            Fault::PartitionTwoWay => "partition-two-way",
            Fault::PartitionBridge => "partition-bridge",
            Fault::Power => "power",
            Fault::PowerAll => "power-all",
            Fault::Wipe => "wipe",
            Fault::Slow => "slow",
            Fault::Full => "full",
            Fault::Add => "add",
            Fault::Drain => "drain",
            Fault::Decommission => "decommission",
            Fault::Move => "move",
            Fault::Replace => "replace",
            Fault::CrashAsking => "crash-asking",
            Fault::CrashCopying => "crash-copying",
            Fault::CrashChanging => "crash-changing",
            Fault::CrashMoved => "crash-moved",
        }
    }

    /// Whether it needs nodes with disks of their own.
    pub fn needs_disks(self) -> bool {
        matches!(
            self,
            Fault::Power | Fault::PowerAll | Fault::Slow | Fault::Full
        )
    }

    /// How many nodes it needs that come later.
    pub fn needs_spares(self) -> usize {
        match self {
            Fault::Add => 2,
            Fault::Decommission | Fault::Move | Fault::Replace => 1,
            Fault::CrashAsking | Fault::CrashCopying => 1,
            Fault::CrashChanging | Fault::CrashMoved => 1,
            _ => 0,
        }
    }

    /// The least number of nodes with which it makes sense.
    pub fn needs_nodes(self) -> usize {
        match self {
            Fault::Kill | Fault::KillAll | Fault::Stop => 1,
            Fault::Power | Fault::PowerAll | Fault::Slow | Fault::Full => 1,
            Fault::KillLeader | Fault::Shutdown | Fault::Wipe => 3,
            Fault::PartitionOneWay | Fault::PartitionTwoWay | Fault::PartitionBridge => 3,
            Fault::Add | Fault::Drain | Fault::Decommission | Fault::Move | Fault::Replace => 3,
            Fault::CrashAsking | Fault::CrashCopying => 3,
            Fault::CrashChanging | Fault::CrashMoved => 3,
            Fault::KillTwo => 5,
        }
    }

    /// Reasons for which a watch may begin anew because of it.
    pub fn resets(self) -> &'static [&'static str] {
        match self {
            // A copied replica need not have the whole feed.
            Fault::Wipe => &["CURSOR_TRIMMED", "CURSOR_UNKNOWN", "READER_TOO_SLOW"],
            // What waited while nobody took it comes all at once.
            Fault::Stop | Fault::Slow | Fault::Full => &["READER_TOO_SLOW"],
            _ => &[],
        }
    }
}

/// A list of faults, each once. Besides their names: `partition` for the three partitions, `crash` for the deaths
/// in every step of a move, `all`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub BTreeSet<Fault>);

impl FromStr for Faults {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Faults> {
        let mut faults = BTreeSet::new();
        for name in text.split(',').map(str::trim) {
            let group = |fault: &Fault| match name {
                "all" => true,
                "partition" => fault.name().starts_with("partition-"),
                "crash" => fault.name().starts_with("crash-"),
                name => fault.name() == name,
            };
            let before = faults.len();
            faults.extend(Fault::ALL.into_iter().filter(group));
            let known = faults.len() > before || Fault::ALL.iter().any(group);
            ensure!(known, "no fault is called {name:?}; there are {}", names());
        }
        Ok(Faults(faults))
    }
}

impl Faults {
    /// Those that make sense with so many nodes. Naming one that does not is an error, unless `all`
    /// were asked for.
    pub fn fitting(&self, nodes: usize) -> Result<Faults> {
        let fits = |fault: &&Fault| fault.needs_nodes() <= nodes;
        let fitting: BTreeSet<Fault> = self.0.iter().filter(fits).copied().collect();
        let everything = self.0.len() == Fault::ALL.len();
        if let (Some(misfit), false) = (self.0.iter().find(|fault| !fits(fault)), everything) {
            let needed = misfit.needs_nodes();
            bail!("{} needs {needed} nodes, there are {nodes}", misfit.name());
        }
        Ok(Faults(fitting))
    }

    /// As they are written in arguments.
    pub fn text(&self) -> String {
        let names: Vec<&str> = self.0.iter().map(|fault| fault.name()).collect();
        names.join(",")
    }
}

/// All names of faults, for people.
pub fn names() -> String {
    Fault::ALL.map(Fault::name).join(", ")
}

/// One fault to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// What happens.
    pub fault: Fault,
    /// The nodes in an order of their own: the first are the victims.
    pub nodes: Vec<usize>,
    /// How many victims, where that can differ.
    pub victims: usize,
    /// How long it lasts.
    pub hold: Duration,
    /// How long nothing happens before it.
    pub pause: Duration,
    /// Decides what is left to decide.
    pub flavour: u64,
}

/// An endless list of faults in which each kind comes about equally often.
pub struct Plan {
    random: SmallRng,
    faults: Vec<Fault>,
    nodes: usize,
    hold_max: Duration,
    /// What is left of the current round, in which each kind comes once.
    round: Vec<Fault>,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64, faults: &Faults, nodes: usize, hold_max: Duration) -> Plan {
        Plan {
            random: SmallRng::seed_from_u64(seed),
            faults: faults.0.iter().copied().collect(),
            nodes,
            hold_max,
            round: Vec::new(),
        }
    }

    /// Between two durations, each order of magnitude equally likely.
    fn duration(&mut self, from_ms: f64, to_ms: f64) -> Duration {
        let to_ms = to_ms.min(self.hold_max.as_millis() as f64).max(from_ms);
        let power = self.random.random_range(from_ms.ln()..=to_ms.ln());
        Duration::from_millis(power.exp() as u64)
    }
}

impl Iterator for Plan {
    type Item = Planned;

    fn next(&mut self) -> Option<Planned> {
        if self.round.is_empty() {
            self.round = self.faults.clone();
            self.round.shuffle(&mut self.random);
        }
        let fault = self.round.pop()?;
        let mut nodes: Vec<usize> = (0..self.nodes).collect();
        nodes.shuffle(&mut self.random);
        let hold = match fault {
            Fault::Stop => self.duration(100.0, 30_000.0),
            Fault::PartitionOneWay | Fault::PartitionTwoWay | Fault::PartitionBridge => {
                self.duration(500.0, 20_000.0)
            }
            Fault::Slow | Fault::Full => self.duration(2_000.0, 15_000.0),
            Fault::Power | Fault::PowerAll => self.duration(100.0, 5_000.0),
            _ => self.duration(100.0, 10_000.0),
        };
        Some(Planned {
            fault,
            nodes,
            victims: self.random.random_range(1..=self.nodes.div_ceil(2)),
            hold,
            pause: Duration::from_millis(self.random.random_range(500..2_000)),
            flavour: self.random.random(),
        })
    }
}
