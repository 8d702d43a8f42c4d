//! The command line of `compare`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::runtime::Builder;

use super::cases::Cases;
use super::record::{Operation, Record, System};
use super::summary::{Summary, faster};
use super::table;

/// Load for three nodes of Antumbra or of etcd, and the table of both
#[derive(Debug, Parser)]
#[command(name = "compare", version)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Fill one system and run all shapes on it, one after the other
    Cases(CasesArgs),
    /// Print the tables made of records
    Table(Files),
    /// Print the version that is faster over all shapes in the records
    Faster(Files),
}

#[derive(Debug, Args)]
struct Files {
    /// Files of records
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct CasesArgs {
    /// Whose nodes these are
    #[arg(long, value_enum)]
    system: System,
    /// gRPC endpoints of all nodes, such as http://127.0.0.1:7400
    #[arg(long, value_delimiter = ',', required = true)]
    endpoints: Vec<String>,
    /// Clients, each with one call in flight
    #[arg(long, value_delimiter = ',', default_value = "1,64,512")]
    clients: Vec<u64>,
    /// What they do [default: all that the system can]
    #[arg(long, value_enum, value_delimiter = ',')]
    operations: Vec<Operation>,
    /// Devices, and keys of etcd
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// Reads in one batch
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100))]
    batch: u64,
    /// More clients than this do not read in batches: too many reads would be in flight
    #[arg(long, value_name = "CLIENTS", default_value_t = 64)]
    batch_clients_max: u64,
    /// Connections of the clients together [default: one to each node they talk to]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    connections: Option<u16>,
    /// Seconds before measuring
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,
    /// Seconds of measuring
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Number of the round, for the record
    #[arg(long, default_value_t = 1)]
    round: u64,
    /// Run on what an earlier call has filled
    #[arg(long)]
    filled: bool,
    /// Which nodes clients talk to
    #[arg(long, value_enum, default_value_t = Members::Leader)]
    members: Members,
    /// Threads of the clients
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// File that records are added to, one line of JSON each
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Members {
    /// Those that lead: no request is forwarded
    Leader,
    /// All in turn
    All,
}

/// Does what the command line says.
pub fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.verb {
        Verb::Cases(args) => cases(args),
        Verb::Table(files) => {
            print!("{}", table::tables(&Summary::new(&files.read()?)));
            Ok(())
        }
        Verb::Faster(files) => {
            println!("{}", faster(&files.read()?).context("no records")?);
            Ok(())
        }
    }
}

impl Files {
    fn read(&self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for file in &self.files {
            records.append(&mut Record::read_all(file)?);
        }
        Ok(records)
    }
}

fn cases(args: &CasesArgs) -> Result<()> {
    let largest = args.clients.iter().max().copied().unwrap_or(0);
    ensure!(!args.clients.contains(&0), "0 clients do nothing");
    ensure!(
        largest <= args.keys,
        "{largest} clients cannot have keys of their own: there are {}",
        args.keys
    );
    let cases = Cases {
        system: args.system,
        endpoints: args.endpoints.clone(),
        operations: match args.operations.as_slice() {
            [] => Operation::of(args.system).to_vec(),
            some => some.to_vec(),
        },
        clients: args.clients.clone(),
        keys: args.keys,
        batch: args.batch,
        batch_clients_max: args.batch_clients_max,
        connections: args.connections.map(usize::from),
        warm_up: Duration::try_from_secs_f64(args.warm_up).context("--warm-up")?,
        length: Duration::try_from_secs_f64(args.seconds).context("--seconds")?,
        round: args.round,
        fill: !args.filled,
        spread: args.members == Members::All,
        out: args.out.clone(),
    };
    let runtime = match args.threads {
        1 => Builder::new_current_thread().enable_all().build(),
        threads => Builder::new_multi_thread()
            .worker_threads(threads.into())
            .enable_all()
            .build(),
    };
    runtime.context("start the runtime")?.block_on(cases.run())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// A clash of options would only be seen when the bench is run.
    #[test]
    fn command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
