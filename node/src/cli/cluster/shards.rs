//! `antumbra cluster shards`.

use antumbra_proto::cluster::v1::ListShardsRequest;

use crate::cli::Context;
use crate::cli::connect::ClientArgs;
use crate::cli::output::{object, print_value};
use crate::cli::problem::Problem;

use super::render;

/// List the shards and what each replica is doing
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Shard 0 holds the cluster's own state, the others hold devices. LAG are entries that the leader has
and the replica has not applied.")]
pub(crate) struct Args {
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let mut client = args.client.connect(context).await?;
    let request = client.request(ListShardsRequest {});
    let answer = client.cluster.list_shards(request).await;
    let answer = answer.map_err(|status| Problem::from_status("cannot list shards", &status))?;
    let shards = answer.into_inner().shards;
    let value = object([("shards", render::shards_value(&shards))]);
    print_value(client.format, &value, || render::shards_text(&shards));
    Ok(())
}
