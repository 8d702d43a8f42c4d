//! `antumbra config …`: check and explain a configuration.

mod check;
mod docs;
mod show;

use std::path::PathBuf;

use clap::Subcommand;

use crate::config::{Loaded, Sources, load};

use super::Context;
use super::problem::Problem;
use super::start;

/// Check and explain a configuration
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Check(check::Args),
    Show(show::Args),
    Docs(docs::Args),
}

impl Verb {
    pub(crate) fn run(&self, context: &Context) -> Result<(), Problem> {
        match self {
            Self::Check(args) => check::run(args, context),
            Self::Show(args) => show::run(args, context),
            Self::Docs(args) => docs::run(args),
        }
    }
}

/// What `serve` would read: the same file, environment and flags.
#[derive(Debug, clap::Args)]
pub(crate) struct SourceArgs {
    /// The configuration file
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    file: Option<PathBuf>,
    /// Sets one option, such as --set api.listen=0.0.0.0:7400; repeatable
    #[arg(long = "set", value_name = "OPTION=VALUE", value_parser = start::parse_set)]
    set: Vec<(String, String)>,
}

impl SourceArgs {
    fn load(&self, context: &Context) -> Result<Loaded, Problem> {
        let text = self.file.as_deref().map(start::read_file).transpose()?;
        let sources = Sources {
            file: self.file.as_deref().zip(text.as_deref()),
            environment: context.environment.clone(),
            flags: start::overrides(&self.set),
            allow_test_switches: false,
        };
        load(&sources).map_err(start::invalid)
    }
}
