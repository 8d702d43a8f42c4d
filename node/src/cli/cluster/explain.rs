//! `antumbra cluster explain DEVICE`.

use antumbra_proto::cluster::v1::ExplainRequest;

use crate::cli::Context;
use crate::cli::connect::ClientArgs;
use crate::cli::output::print_value;
use crate::cli::problem::{Exit, Problem};

use super::render;

/// Say where a device is and how its shard is doing
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: antumbra cluster explain lamp-1")]
pub(crate) struct Args {
    /// Device id
    device: String,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let mut client = args.client.connect(context).await?;
    let request = client.request(ExplainRequest {
        tenant: client.tenant(),
        device_id: args.device.clone(),
    });
    let what = || format!("cannot explain `{}`", args.device);
    let answer = client.cluster.explain(request).await;
    let answer = answer.map_err(|status| Problem::from_status(what(), &status))?;
    let answer = answer.into_inner();
    let value = render::explain_value(&answer);
    print_value(client.format, &value, || render::explain_text(&answer));
    match answer.device {
        Some(_) => Ok(()),
        None => Err(Problem::new(
            Exit::Unavailable,
            "the leader of the device could not be asked",
        )
        .why(answer.reason)
        .try_this("`antumbra cluster status` to see what is wrong")),
    }
}
