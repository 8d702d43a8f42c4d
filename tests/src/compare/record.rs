//! One run of one shape, and the line of JSON that keeps it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::{Value, json};

/// Whose nodes were under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum System {
    Antumbra,
    Etcd,
}

/// What the clients did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Operation {
    /// Antumbra: updates over `StreamUpdates`.
    Stream,
    /// Antumbra: updates by `UpdateShadow`.
    Unary,
    /// etcd: blind `Put` of the patch.
    Put,
    /// etcd: `Range`, then `Txn` that compares and puts the whole document.
    Txn,
    /// Both: one linearizable read a call.
    Read,
    /// Both: many linearizable reads a call.
    ReadBatch,
}

impl Operation {
    /// What a system can do, in the order of the table.
    pub(crate) fn of(system: System) -> &'static [Operation] {
        match system {
            System::Antumbra => &[
                Operation::Stream,
                Operation::Unary,
                Operation::Read,
                Operation::ReadBatch,
            ],
            System::Etcd => &[
                Operation::Put,
                Operation::Txn,
                Operation::Read,
                Operation::ReadBatch,
            ],
        }
    }
}

/// The name on the command line and in files.
fn name(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

impl fmt::Display for System {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&name(self))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&name(self))
    }
}

/// What was measured in one run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) round: u64,
    pub(crate) system: System,
    pub(crate) version: String,
    pub(crate) operation: Operation,
    pub(crate) clients: u64,
    /// Connections that the clients shared.
    pub(crate) connections: u64,
    /// Server processes.
    pub(crate) servers: u64,
    /// Raft groups that hold the data; 0 when the servers did not say.
    pub(crate) shards: u64,
    /// Length of the measured time.
    pub(crate) seconds: f64,
    /// Updates or reads answered in it.
    pub(crate) operations: u64,
    /// Repeats because of a concurrent change.
    pub(crate) conflicts: u64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) max_us: u64,
    /// Processor time of all servers together.
    pub(crate) server_cpu_seconds: f64,
    /// Processor time of the clients.
    pub(crate) client_cpu_seconds: f64,
    /// Failed calls by reason. A run with any is no measurement.
    pub(crate) errors: BTreeMap<String, u64>,
}

impl Record {
    /// Operations per second.
    pub(crate) fn rate(&self) -> f64 {
        self.operations as f64 / self.seconds
    }

    /// Processor time of all servers per operation in microseconds.
    pub(crate) fn server_cpu(&self) -> f64 {
        self.server_cpu_seconds * 1e6 / self.operations.max(1) as f64
    }

    /// Processor time of the clients per operation in microseconds.
    pub(crate) fn client_cpu(&self) -> f64 {
        self.client_cpu_seconds * 1e6 / self.operations.max(1) as f64
    }

    /// Adds the record to a file of lines.
    pub(crate) fn append_to(&self, path: &Path) -> Result<()> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let mut file = file.with_context(|| format!("open {}", path.display()))?;
        let written = writeln!(file, "{}", self.to_json());
        written.with_context(|| format!("write {}", path.display()))
    }

    /// All records of a file.
    pub(crate) fn read_all(path: &Path) -> Result<Vec<Record>> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let lines = (1..).zip(text.lines());
        lines
            .map(|(number, line)| {
                Record::parse(line).with_context(|| format!("{}:{number}", path.display()))
            })
            .collect()
    }

    fn to_json(&self) -> Value {
        json!({
            "round": self.round,
            "system": self.system.to_string(),
            "version": self.version,
            "operation": self.operation.to_string(),
            "clients": self.clients,
            "connections": self.connections,
            "servers": self.servers,
            "shards": self.shards,
            "seconds": self.seconds,
            "operations": self.operations,
            "conflicts": self.conflicts,
            "p50_us": self.p50_us,
            "p99_us": self.p99_us,
            "max_us": self.max_us,
            "server_cpu_seconds": self.server_cpu_seconds,
            "client_cpu_seconds": self.client_cpu_seconds,
            "errors": self.errors,
        })
    }

    fn parse(line: &str) -> Result<Record> {
        let value: Value = serde_json::from_str(line)?;
        let whole = |field: &str| value[field].as_u64().with_context(|| field.to_owned());
        let decimal = |field: &str| value[field].as_f64().with_context(|| field.to_owned());
        let text = |field: &str| value[field].as_str().with_context(|| field.to_owned());
        let errors = value["errors"].as_object().context("errors")?;
        Ok(Record {
            round: whole("round")?,
            system: parse_name(text("system")?)?,
            version: text("version")?.to_owned(),
            operation: parse_name(text("operation")?)?,
            clients: whole("clients")?,
            connections: whole("connections")?,
            servers: whole("servers")?,
            shards: whole("shards")?,
            seconds: decimal("seconds")?,
            operations: whole("operations")?,
            conflicts: whole("conflicts")?,
            p50_us: whole("p50_us")?,
            p99_us: whole("p99_us")?,
            max_us: whole("max_us")?,
            server_cpu_seconds: decimal("server_cpu_seconds")?,
            client_cpu_seconds: decimal("client_cpu_seconds")?,
            errors: errors
                .iter()
                .map(|(reason, count)| Ok((reason.clone(), count.as_u64().context("errors")?)))
                .collect::<Result<_>>()?,
        })
    }
}

fn parse_name<T: ValueEnum>(text: &str) -> Result<T> {
    T::from_str(text, false).map_err(anyhow::Error::msg)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A record of 5 seconds with this rate; the other numbers follow from it.
    pub(crate) fn record(operation: Operation, clients: u64, round: u64, rate: u64) -> Record {
        let system = match operation {
            Operation::Put | Operation::Txn => System::Etcd,
            _ => System::Antumbra,
        };
        Record {
            round,
            system,
            version: "1.2.3".to_owned(),
            operation,
            clients,
            connections: 3,
            servers: 3,
            shards: 3,
            seconds: 5.0,
            operations: rate * 5,
            conflicts: 0,
            p50_us: clients * 1_000_000 / rate,
            p99_us: 3 * clients * 1_000_000 / rate,
            max_us: 9 * clients * 1_000_000 / rate,
            server_cpu_seconds: 8.0,
            client_cpu_seconds: 2.0,
            errors: BTreeMap::new(),
        }
    }

    /// The table is made from the files, so nothing may be lost on the way.
    #[test]
    fn records_survive_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("runs.jsonl");
        let mut broken = record(Operation::ReadBatch, 512, 4, 20_000);
        broken.errors.insert("OVERLOADED".to_owned(), 3);
        let records = [record(Operation::Stream, 64, 1, 10_000), broken];
        for record in &records {
            record.append_to(&path).unwrap();
        }
        assert_eq!(Record::read_all(&path).unwrap(), records);
        assert_eq!(records[0].rate(), 10_000.0);
        assert_eq!(records[0].server_cpu(), 160.0);
        assert_eq!(records[0].client_cpu(), 40.0);
    }
}
