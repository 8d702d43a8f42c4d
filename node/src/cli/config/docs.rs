//! `antumbra config docs DIR`: writes the generated documentation of the configuration.

use std::fs;
use std::path::PathBuf;

use crate::cli::problem::{EXIT_CODES, Exit, Problem};
use crate::config::document;

/// Write configuration.md and antumbra.toml into a directory
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(crate) struct Args {
    /// The directory
    directory: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<(), Problem> {
    let files = [
        ("configuration.md", document::markdown(EXIT_CODES)),
        ("antumbra.toml", document::toml()),
    ];
    for (name, text) in files {
        let path = args.directory.join(name);
        fs::write(&path, text).map_err(|error| {
            Problem::new(Exit::Failure, format!("cannot write {}", path.display())).why(error)
        })?;
    }
    Ok(())
}
