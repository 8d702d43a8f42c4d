//! `antumbra cluster status`.

use antumbra_proto::cluster::v1::GetStatusRequest;

use crate::cli::Context;
use crate::cli::connect::ClientArgs;
use crate::cli::output::print_value;
use crate::cli::problem::{Exit, Problem};

use super::render;

/// Say whether the cluster serves, and what is not as it should be
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Ends with 0 when every shard has a leader and a quorum, and with 5 otherwise.")]
pub(crate) struct Args {
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let mut client = args.client.connect(context).await?;
    let request = client.request(GetStatusRequest {});
    let answer = client.cluster.get_status(request).await;
    let what = "cannot read the status of the cluster";
    let status = answer.map_err(|status| Problem::from_status(what, &status))?;
    let status = status.into_inner();
    let value = render::status_value(&status);
    print_value(client.format, &value, || render::status_text(&status));
    match status.serving {
        true => Ok(()),
        false => Err(
            Problem::new(Exit::Unavailable, "the cluster does not serve all devices")
                .why(status.concerns.join("\n"))
                .try_this("the logs of the nodes that do not answer, or start them again"),
        ),
    }
}
