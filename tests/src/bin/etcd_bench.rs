//! `compare`: puts load on three nodes of Antumbra or of etcd, and prints the table of both.

use std::process::ExitCode;

use antumbra_tests::compare;
use clap::Parser;

fn main() -> ExitCode {
    match compare::run(&compare::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
