//! `antumbra cluster …`: how a cluster is, and who leads.

mod explain;
mod nodes;
mod render;
mod shards;
mod status;
mod transfer;
mod verify;

use clap::Subcommand;

use super::problem::Problem;
use super::{Context, block_on};

/// Look at a cluster and move leaderships
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Status(status::Args),
    Nodes(nodes::Args),
    Shards(shards::Args),
    Explain(explain::Args),
    Verify(verify::Args),
    Transfer(transfer::Args),
}

impl Verb {
    pub(crate) fn run(&self, context: &Context) -> Result<(), Problem> {
        match self {
            Self::Status(args) => block_on(status::run(args, context)),
            Self::Nodes(args) => block_on(nodes::run(args, context)),
            Self::Shards(args) => block_on(shards::run(args, context)),
            Self::Explain(args) => block_on(explain::run(args, context)),
            Self::Verify(args) => block_on(verify::run(args, context)),
            Self::Transfer(args) => block_on(transfer::run(args, context)),
        }
    }
}
