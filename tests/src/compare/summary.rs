//! Medians, worst values and ratios over the rounds.

use std::collections::BTreeMap;

use super::record::{Operation, Record, System};

/// Which direction is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// The middle and the bad end of some rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) worst: f64,
}

/// The value in the middle; the mean of the two in the middle when their number is even.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let (middle, last) = (values.len() / 2, values.len().checked_sub(1)?);
    Some(f64::midpoint(values[last - middle], values[middle]))
}

fn worst(values: impl IntoIterator<Item = f64>, better: Better) -> Option<f64> {
    values.into_iter().reduce(|one, other| match better {
        Better::Higher => one.min(other),
        Better::Lower => one.max(other),
    })
}

/// All rounds of one shape on one system.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    rounds: BTreeMap<u64, Record>,
}

impl Cell {
    /// The runs in it.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.rounds.values()
    }

    /// Median and worst of a number over the rounds.
    pub(crate) fn spread(&self, number: impl Fn(&Record) -> f64, better: Better) -> Option<Spread> {
        Some(Spread {
            median: median(self.records().map(&number))?,
            worst: worst(self.records().map(&number), better)?,
        })
    }

    /// How many times our number is theirs: of the medians, and in the worst round of those that
    /// both took part in.
    pub(crate) fn ratio(
        &self,
        theirs: &Cell,
        number: impl Fn(&Record) -> f64,
        better: Better,
    ) -> Option<Spread> {
        let both = self.rounds.iter().filter_map(|(round, ours)| {
            let theirs = theirs.rounds.get(round)?;
            Some(number(ours) / number(theirs))
        });
        let ours = self.spread(&number, better)?.median;
        let theirs = theirs.spread(&number, better)?.median;
        Some(Spread {
            median: ours / theirs,
            worst: worst(both, better)?,
        })
    }

    fn rate(&self) -> f64 {
        median(self.records().map(Record::rate)).unwrap_or_default()
    }
}

/// Everything that was measured. Of several versions of etcd, the faster one for each shape.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    cells: BTreeMap<(u64, System, Operation), Cell>,
}

impl Summary {
    /// Sorts records into cells. Of two records of one round and shape the later counts.
    pub(crate) fn new(records: &[Record]) -> Self {
        let mut by_version: BTreeMap<_, BTreeMap<&str, Cell>> = BTreeMap::new();
        for record in records {
            let shape = (record.clients, record.system, record.operation);
            let versions = by_version.entry(shape).or_default();
            let cell = versions.entry(&record.version).or_default();
            cell.rounds.insert(record.round, record.clone());
        }
        let fastest = by_version.into_iter().filter_map(|(shape, versions)| {
            let cells = versions.into_values();
            let fastest = cells.max_by(|one, other| one.rate().total_cmp(&other.rate()));
            Some((shape, fastest?))
        });
        Summary {
            cells: fastest.collect(),
        }
    }

    /// The rounds of one shape, if it was run.
    pub(crate) fn cell(&self, system: System, operation: Operation, clients: u64) -> Option<&Cell> {
        self.cells.get(&(clients, system, operation))
    }

    /// All shapes, by clients, then system, then operation.
    pub(crate) fn cells(&self) -> impl Iterator<Item = ((u64, System, Operation), &Cell)> {
        self.cells.iter().map(|(shape, cell)| (*shape, cell))
    }
}

/// The version that is faster over all shapes: by the geometric mean of the median rates, over the
/// shapes that all versions ran.
pub(crate) fn faster(records: &[Record]) -> Option<String> {
    let mut shapes: BTreeMap<_, BTreeMap<&str, Vec<f64>>> = BTreeMap::new();
    for record in records {
        let versions = shapes
            .entry((record.clients, record.operation))
            .or_default();
        let rates = versions.entry(record.version.as_str()).or_default();
        rates.push(record.rate());
    }
    let versions = shapes.values().map(BTreeMap::len).max()?;
    let mut logarithms: BTreeMap<&str, f64> = BTreeMap::new();
    for shape in shapes.into_values().filter(|shape| shape.len() == versions) {
        for (version, rates) in shape {
            *logarithms.entry(version).or_default() += median(rates)?.max(1.0).ln();
        }
    }
    let fastest = logarithms
        .into_iter()
        .max_by(|one, other| one.1.total_cmp(&other.1));
    fastest.map(|(version, _)| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    /// One lucky or unlucky round must not decide.
    #[test]
    fn medians_and_worst_values() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0]), Some(3.0));
        assert_eq!(median([9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 100.0]), Some(3.0));
        assert_eq!(worst([4.0, 1.0, 2.0], Better::Higher), Some(1.0));
        assert_eq!(worst([4.0, 1.0, 2.0], Better::Lower), Some(4.0));
    }

    /// The ratio is that of the medians; the worst one is taken within a round, where both systems
    /// met the same machine.
    #[test]
    fn ratios_are_of_medians_and_worst_within_a_round() {
        let rates = [(1, 20_000, 8_000), (2, 10_000, 8_000), (3, 30_000, 20_000)];
        let mut records = Vec::new();
        for (round, ours, theirs) in rates {
            records.push(record(Operation::Stream, 512, round, ours));
            records.push(record(Operation::Put, 512, round, theirs));
        }
        // A round that etcd missed counts for our median only.
        records.push(record(Operation::Stream, 512, 4, 20_000));
        let summary = Summary::new(&records);
        let stream = summary
            .cell(System::Antumbra, Operation::Stream, 512)
            .unwrap();
        let put = summary.cell(System::Etcd, Operation::Put, 512).unwrap();
        let ratio = stream.ratio(put, Record::rate, Better::Higher);
        let expected = Spread {
            median: 2.5,
            worst: 1.25,
        };
        assert_eq!(ratio, Some(expected));
        assert!(summary.cell(System::Etcd, Operation::Put, 64).is_none());
    }

    /// etcd is to be shown from its best side.
    #[test]
    fn takes_the_faster_etcd() {
        let other = |mut record: Record| {
            record.version = "9.9.9".to_owned();
            record
        };
        let records = [
            record(Operation::Put, 64, 1, 6_000),
            other(record(Operation::Put, 64, 1, 5_000)),
            record(Operation::Txn, 64, 1, 1_000),
            other(record(Operation::Txn, 64, 1, 2_000)),
            // Not run by both: says nothing.
            record(Operation::Put, 512, 1, 90_000),
        ];
        assert_eq!(faster(&records).as_deref(), Some("9.9.9"));
        let summary = Summary::new(&records);
        let version = |operation| {
            let cell = summary.cell(System::Etcd, operation, 64).unwrap();
            cell.records().next().unwrap().version.clone()
        };
        assert_eq!(version(Operation::Put), "1.2.3");
        assert_eq!(version(Operation::Txn), "9.9.9");
        assert_eq!(faster(&[]), None);
    }
}
