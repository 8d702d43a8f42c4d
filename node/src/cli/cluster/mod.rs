//! `antumbra cluster …`: how a cluster is, who leads, and who comes and goes.

mod explain;
mod log_level;
mod maintenance;
mod moves;
mod nodes;
mod render;
mod shards;
mod snapshot;
mod status;
mod transfer;
mod verify;
mod waiting;

use clap::Subcommand;

use super::problem::Problem;
use super::{Context, block_on};

/// Look at a cluster, move leaderships and replicas, drain and decommission nodes
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Status(status::Args),
    Nodes(nodes::Args),
    Shards(shards::Args),
    Explain(explain::Args),
    Verify(verify::Args),
    Transfer(transfer::Args),
    Move(moves::Args),
    Drain(maintenance::DrainArgs),
    Resume(maintenance::ResumeArgs),
    Decommission(maintenance::DecommissionArgs),
    LogLevel(log_level::Args),
    #[command(subcommand)]
    Snapshot(snapshot::Verb),
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
            Self::Move(args) => block_on(moves::run(args, context)),
            Self::Drain(args) => block_on(maintenance::drain(args, context)),
            Self::Resume(args) => block_on(maintenance::resume(args, context)),
            Self::Decommission(args) => block_on(maintenance::decommission(args, context)),
            Self::LogLevel(args) => block_on(log_level::run(args, context)),
            Self::Snapshot(verb) => verb.run(context),
        }
    }
}
