//! `antumbra cluster move SHARD FROM TO`.

use antumbra_proto::cluster::v1::{GetStatusResponse, MoveRequest, ReplicaStanding};
use tonic::Code;

use crate::cli::Context;
use crate::cli::connect::ClientArgs;
use crate::cli::problem::Problem;

use super::waiting::{Goal, Seen, show, wait};

/// Move a replica of a shard from one node to another
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The shard serves meanwhile. The cluster keeps replicas even: a move that makes them uneven is undone, and
--dry-run shows it. Waits until the replica has moved; to stop waiting stops nothing.
Example: antumbra cluster move 3 node-1 node-4 --dry-run")]
pub(crate) struct Args {
    /// Number of the shard
    shard: u32,
    /// Name of the node that has a replica
    from: String,
    /// Name of the node that is to have it
    to: String,
    /// Say what would happen, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not wait until the replica has moved
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let mut client = args.client.connect(context).await?;
    let request = client.request(MoveRequest {
        shard: args.shard,
        from: args.from.clone(),
        to: args.to.clone(),
        dry_run: args.dry_run,
    });
    let answer = client.cluster.r#move(request).await;
    let answer = answer.map_err(|status| {
        let what = format!(
            "cannot move shard {} from {} to {}",
            args.shard, args.from, args.to
        );
        let problem = Problem::from_status(what, &status);
        match status.code() {
            Code::InvalidArgument | Code::Unavailable => {
                problem.try_this("`antumbra cluster shards` to see who has it and what moves")
            }
            _ => problem,
        }
    })?;
    show(&client, &answer.into_inner().steps, args.dry_run);
    if args.dry_run || args.no_wait {
        return Ok(());
    }
    let (shard, from) = (args.shard, args.from.clone());
    let goal = Goal {
        what: format!("shard {shard} moves from {} to {}", args.from, args.to),
        done: format!("shard {shard} has moved from {} to {}", args.from, args.to),
        left: Box::new(move |status| left(status, shard, &from)),
    };
    wait(&mut client, context, goal).await
}

/// A move is over when nothing of it is on its way any more.
fn left(status: &GetStatusResponse, shard: u32, from: &str) -> Seen {
    let found = status.shards.iter().find(|one| one.shard == shard);
    let replicas = found
        .map(|shard| shard.replicas.as_slice())
        .unwrap_or_default();
    let moving = replicas
        .iter()
        .any(|replica| replica.standing() != ReplicaStanding::Voter);
    let stays = replicas.iter().any(|replica| replica.node == from);
    match (moving, stays) {
        (true, _) => Seen::Left(1),
        (false, true) => Seen::NotBegun,
        (false, false) => Seen::Left(0),
    }
}
