//! `antumbra cluster nodes`.

use antumbra_proto::cluster::v1::ListNodesRequest;

use crate::cli::Context;
use crate::cli::connect::ClientArgs;
use crate::cli::output::{object, print_value};
use crate::cli::problem::Problem;

use super::render;

/// List the nodes, and whether they answer
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let mut client = args.client.connect(context).await?;
    let request = client.request(ListNodesRequest {});
    let answer = client.cluster.list_nodes(request).await;
    let answer = answer.map_err(|status| Problem::from_status("cannot list nodes", &status))?;
    let nodes = answer.into_inner().nodes;
    let value = object([("nodes", render::nodes_value(&nodes))]);
    print_value(client.format, &value, || render::nodes_text(&nodes));
    Ok(())
}
