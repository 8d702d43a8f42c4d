//! What the ratios should be: the floor that must hold and the aim.

use super::record::{Operation, Record, System};
use super::summary::{Better, Spread, Summary};

/// One goal.
pub(crate) struct Goal {
    clients: u64,
    ours: Operation,
    against: Against,
    /// Must hold, if given.
    pub(crate) floor: Option<f64>,
    /// Should hold.
    pub(crate) aim: f64,
}

/// What our number is held against.
enum Against {
    /// Rate: how many times that of etcd.
    Rate(Operation),
    /// Median latency: how many times that of etcd.
    Latency(Operation),
    /// Processor time of all nodes per operation, in microseconds; no ratio.
    Processor,
}

const fn rate(clients: u64, ours: Operation, theirs: Operation, floor: f64, aim: f64) -> Goal {
    Goal {
        clients,
        ours,
        against: Against::Rate(theirs),
        floor: if floor > 0.0 { Some(floor) } else { None },
        aim,
    }
}

const fn other(clients: u64, ours: Operation, against: Against, aim: f64) -> Goal {
    Goal {
        clients,
        ours,
        against,
        floor: None,
        aim,
    }
}

/// All goals, in the order of the table.
pub(crate) const GOALS: &[Goal] = &[
    rate(512, Operation::Stream, Operation::Put, 1.6, 3.0),
    rate(512, Operation::Stream, Operation::Txn, 8.0, 10.0),
    rate(64, Operation::Stream, Operation::Put, 1.0, 1.5),
    rate(64, Operation::Stream, Operation::Txn, 3.5, 5.0),
    other(1, Operation::Stream, Against::Latency(Operation::Put), 1.0),
    other(1, Operation::Unary, Against::Latency(Operation::Put), 1.0),
    other(512, Operation::Stream, Against::Processor, 80.0),
    rate(64, Operation::Read, Operation::Read, 0.0, 1.5),
    rate(512, Operation::Read, Operation::Read, 0.0, 1.5),
    rate(64, Operation::ReadBatch, Operation::Read, 0.0, 5.0),
];

impl Goal {
    /// In words.
    pub(crate) fn name(&self) -> String {
        let (clients, ours) = (self.clients, self.ours);
        let of = if clients == 1 { "client" } else { "clients" };
        match self.against {
            Against::Rate(theirs) => {
                format!("{clients} {of}: rate of {ours} / etcd {theirs}")
            }
            Against::Latency(theirs) => {
                format!("{clients} {of}: p50 of {ours} / etcd {theirs}")
            }
            Against::Processor => {
                format!("{clients} {of}: CPU of all nodes, µs per update by {ours}")
            }
        }
    }

    /// Which direction is good.
    pub(crate) fn better(&self) -> Better {
        match self.against {
            Against::Rate(_) => Better::Higher,
            Against::Latency(_) | Against::Processor => Better::Lower,
        }
    }

    /// What was measured; `None` when one of the shapes was not run.
    pub(crate) fn measured(&self, summary: &Summary) -> Option<Spread> {
        let ours = summary.cell(System::Antumbra, self.ours, self.clients)?;
        let theirs = |operation| summary.cell(System::Etcd, operation, self.clients);
        let better = self.better();
        match self.against {
            Against::Rate(other) => ours.ratio(theirs(other)?, Record::rate, better),
            Against::Latency(other) => {
                ours.ratio(theirs(other)?, |record| record.p50_us as f64, better)
            }
            Against::Processor => ours.spread(Record::server_cpu, better),
        }
    }

    /// The verdict on a median.
    pub(crate) fn verdict(&self, measured: f64) -> &'static str {
        let reaches = |goal: f64| match self.better() {
            Better::Higher => measured >= goal,
            Better::Lower => measured <= goal,
        };
        match self.floor {
            _ if reaches(self.aim) => "aim reached",
            Some(floor) if reaches(floor) => "above the floor",
            Some(_) => "BELOW THE FLOOR",
            None => "aim missed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    /// A verdict that is too kind would hide a regression.
    #[test]
    fn verdicts_are_strict() {
        let [update, .., read] = GOALS else {
            panic!("no goals")
        };
        assert_eq!(update.verdict(3.0), "aim reached");
        assert_eq!(update.verdict(2.99), "above the floor");
        assert_eq!(update.verdict(1.6), "above the floor");
        assert_eq!(update.verdict(1.59), "BELOW THE FLOOR");
        assert_eq!(read.verdict(4.9), "aim missed");
        let latency = &GOALS[4];
        assert_eq!(
            (latency.verdict(1.0), latency.verdict(1.01)),
            ("aim reached", "aim missed")
        );
    }

    /// Each goal compares the shapes that it names.
    #[test]
    fn goals_measure_what_they_name() {
        let mut reads = record(Operation::Read, 64, 1, 10_000);
        reads.system = System::Etcd;
        let summary = Summary::new(&[
            record(Operation::Stream, 512, 1, 20_000),
            record(Operation::Put, 512, 1, 8_000),
            record(Operation::ReadBatch, 64, 1, 70_000),
            reads,
        ]);
        let medians: Vec<Option<f64>> = GOALS
            .iter()
            .map(|goal| goal.measured(&summary).map(|spread| spread.median))
            .collect();
        let mut expected = vec![None; GOALS.len()];
        expected[0] = Some(2.5);
        expected[6] = Some(80.0);
        expected[9] = Some(7.0);
        assert_eq!(medians, expected);
        assert_eq!(GOALS[0].name(), "512 clients: rate of stream / etcd put");
    }
}
