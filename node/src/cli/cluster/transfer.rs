//! `antumbra cluster transfer SHARD NODE`.

use antumbra_proto::cluster::v1::TransferLeadershipRequest;
use tonic::Code;

use crate::cli::Context;
use crate::cli::connect::ClientArgs;
use crate::cli::output::{number, object, print_value, string};
use crate::cli::problem::Problem;

/// Hand the leadership of a shard to another node
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: antumbra cluster transfer 1 node-2
Requests that arrive meanwhile wait for the new leader. After a quiet time the shard goes back to the
node that should lead it (`preferred` in `antumbra cluster shards -o json`).")]
pub(crate) struct Args {
    /// Number of the shard
    shard: u32,
    /// Name of the node that is to lead
    node: String,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let mut client = args.client.connect(context).await?;
    let request = client.request(TransferLeadershipRequest {
        shard: args.shard,
        node: args.node.clone(),
    });
    let answer = client.cluster.transfer_leadership(request).await;
    let answer = answer.map_err(|status| {
        let what = format!("cannot hand shard {} to {}", args.shard, args.node);
        let problem = Problem::from_status(what, &status);
        match status.code() {
            Code::InvalidArgument => {
                problem.try_this("`antumbra cluster shards` to see who has it")
            }
            _ => problem.try_this("`antumbra cluster shards` to see who leads now"),
        }
    })?;
    let answer = answer.into_inner();
    let value = object([
        ("shard", number(answer.shard.into())),
        ("leader", string(answer.leader.clone())),
    ]);
    print_value(client.format, &value, || {
        format!("{} leads shard {}\n", answer.leader, answer.shard)
    });
    Ok(())
}
