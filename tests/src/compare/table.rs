//! The table of all shapes and the table of goals, as text.

use super::goals::GOALS;
use super::record::{Operation, Record, System};
use super::summary::{Better, Cell, Spread, Summary};

/// Which of etcd's shapes the ratio columns are held against.
const AGAINST: [Operation; 4] = [
    Operation::Put,
    Operation::Txn,
    Operation::Read,
    Operation::ReadBatch,
];

/// Both tables.
pub(crate) fn tables(summary: &Summary) -> String {
    let mut text = align(&shapes(summary));
    text.push('\n');
    text.push_str(&align(&goals(summary)));
    for line in errors(summary) {
        text.push_str(&line);
    }
    text
}

fn shapes(summary: &Summary) -> Vec<Vec<String>> {
    let mut head: Vec<String> = [
        "clients",
        "system",
        "operation",
        "shards",
        "per second (worst)",
        "p50 ms (worst)",
        "p99 ms (worst)",
        "server CPU µs each (worst)",
        "client CPU µs each",
    ]
    .map(str::to_owned)
    .into();
    head.extend(AGAINST.map(|theirs| format!("× etcd {theirs} (worst)")));
    let mut rows = vec![head];
    for ((clients, system, operation), cell) in summary.cells() {
        let Some(first) = cell.records().next() else {
            continue;
        };
        let millis = |number: fn(&Record) -> u64| {
            let spread = cell.spread(move |record| number(record) as f64 / 1e3, Better::Lower);
            show(spread, decimal)
        };
        let mut row = vec![
            clients.to_string(),
            format!("{system} {}", first.version),
            operation.to_string(),
            most_shards(cell),
            show(cell.spread(Record::rate, Better::Higher), grouped),
            millis(|record| record.p50_us),
            millis(|record| record.p99_us),
            show(cell.spread(Record::server_cpu, Better::Lower), |n| {
                format!("{n:.1}")
            }),
            cell.spread(Record::client_cpu, Better::Lower)
                .map_or_else(String::new, |spread| format!("{:.1}", spread.median)),
        ];
        for theirs in AGAINST {
            let ratio = (system == System::Antumbra && comparable(operation, theirs))
                .then(|| summary.cell(System::Etcd, theirs, clients))
                .flatten()
                .and_then(|theirs| cell.ratio(theirs, Record::rate, Better::Higher));
            row.push(show(ratio, decimal));
        }
        rows.push(row);
    }
    rows
}

/// Updates are held against writes and reads against reads.
fn comparable(ours: Operation, theirs: Operation) -> bool {
    let reads = |operation| matches!(operation, Operation::Read | Operation::ReadBatch);
    reads(ours) == reads(theirs)
}

/// The number of shards can only be told once all nodes speak of all of them.
fn most_shards(cell: &Cell) -> String {
    match cell.records().map(|record| record.shards).max() {
        None | Some(0) => "unknown".to_owned(),
        Some(shards) => shards.to_string(),
    }
}

fn goals(summary: &Summary) -> Vec<Vec<String>> {
    let head = ["goal", "floor", "aim", "median", "worst round", "verdict"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for goal in GOALS {
        let measured = goal.measured(summary);
        let number = |value: Option<f64>| value.map_or_else(String::new, decimal);
        rows.push(vec![
            goal.name(),
            number(goal.floor),
            decimal(goal.aim),
            number(measured.map(|spread| spread.median)),
            number(measured.map(|spread| spread.worst)),
            measured
                .map_or("not measured", |spread| goal.verdict(spread.median))
                .to_owned(),
        ]);
    }
    rows
}

/// Runs that are no measurement.
fn errors(summary: &Summary) -> Vec<String> {
    let mut lines = Vec::new();
    for (_, cell) in summary.cells() {
        for record in cell.records().filter(|record| !record.errors.is_empty()) {
            lines.push(format!(
                "\nFAILED: {} {} {} clients, round {}: {:?}\n",
                record.system, record.operation, record.clients, record.round, record.errors
            ));
        }
    }
    lines
}

/// Median, and the worst round in parentheses.
fn show(spread: Option<Spread>, number: impl Fn(f64) -> String) -> String {
    spread.map_or_else(String::new, |spread| {
        format!("{} ({})", number(spread.median), number(spread.worst))
    })
}

/// Two digits that matter after the point for small numbers, fewer for large ones.
fn decimal(value: f64) -> String {
    match value {
        v if v < 10.0 => format!("{v:.2}"),
        v if v < 100.0 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

/// A whole number with commas.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A Markdown table whose columns line up.
fn align(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str("| ");
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width + 1 - cell.chars().count()));
        }
        text.push_str("|\n");
        if number == 0 {
            for width in &widths {
                text.push('|');
                text.extend(std::iter::repeat_n('-', width + 2));
            }
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    /// What people read: ratios beside our rows only, errors in plain sight.
    #[test]
    fn prints_ratios_and_errors() {
        let mut failed = record(Operation::Unary, 512, 1, 9_000);
        failed.errors.insert("OVERLOADED".to_owned(), 2);
        let summary = Summary::new(&[
            record(Operation::Stream, 512, 1, 20_000),
            record(Operation::Put, 512, 1, 8_000),
            failed,
        ]);
        let text = tables(&summary);
        let line = |start: &str| {
            let line = text.lines().find(|line| line.contains(start));
            line.unwrap_or_else(|| panic!("{start} is not in\n{text}"))
        };
        let stream = line("stream");
        assert!(stream.contains("20,000 (20,000)"), "{stream}");
        assert!(stream.contains("2.50 (2.50)"), "{stream}");
        assert!(line("| put").trim_end_matches([' ', '|']).ends_with("50.0"));
        assert!(line("FAILED").contains("\"OVERLOADED\": 2"));
        assert!(line("512 clients: rate of stream / etcd put").contains("above the floor"));
        assert!(line("64 clients: rate of stream / etcd put").contains("not measured"));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(grouped(1_234_567.4), "1,234,567");
        assert_eq!(grouped(999.0), "999");
        assert_eq!(
            [decimal(1.234), decimal(12.34), decimal(123.4)],
            ["1.23", "12.3", "123"]
        );
    }
}
