//! `antumbra device …`.

mod connect;
mod list;

use clap::Subcommand;

use super::problem::Problem;
use super::{Context, block_on};

/// Look at devices
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    List(list::Args),
    Connect(Box<connect::Args>),
}

impl Verb {
    pub(crate) fn run(&self, context: &Context) -> Result<(), Problem> {
        match self {
            Self::List(args) => block_on(list::run(args, context)),
            Self::Connect(args) => block_on(connect::run(args, context)),
        }
    }
}
