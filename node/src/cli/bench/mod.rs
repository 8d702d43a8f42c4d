//! `antumbra bench …`: load on a running node, measured from outside.

mod load;
mod mqtt;
mod report;
mod server;
mod shadow;
mod tally;

use clap::Subcommand;

use super::Context;
use super::problem::Problem;

/// Measure a running node
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Shadow(Box<shadow::Args>),
    Mqtt(Box<mqtt::Args>),
}

impl Verb {
    pub(crate) fn run(&self, context: &Context) -> Result<(), Problem> {
        match self {
            Self::Shadow(args) => shadow::run(args, context),
            Self::Mqtt(args) => mqtt::run(args, context),
        }
    }
}
