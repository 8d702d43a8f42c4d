//! `antumbra shadow get DEVICE`.

use antumbra_proto::v1::{Consistency, GetShadowRequest, Include};

use crate::cli::connect::ClientArgs;
use crate::cli::output::print_value;
use crate::cli::problem::{Exit, Problem};
use crate::cli::{Context, shadow};

use super::render;

/// Print one shadow
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Device id
    device: String,
    /// Named shadow; without it the classic one
    #[arg(long)]
    name: Option<String>,
    /// Only what is at this JSON Pointer below desired and reported, such as /light; repeatable
    #[arg(long = "path", value_name = "POINTER")]
    paths: Vec<String>,
    /// Print the time of every leaf too
    #[arg(long)]
    metadata: bool,
    /// Read what this node has applied, which may miss the newest changes
    #[arg(long)]
    local: bool,
    /// Wait, within the timeout, until the shadow has at least this version
    #[arg(long, value_name = "VERSION", default_value_t = 0)]
    min_version: u64,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let mut client = args.client.connect(context).await?;
    let consistency = match args.local {
        true => Consistency::Local,
        false => Consistency::Linearizable,
    };
    let request = client.request(GetShadowRequest {
        key: client.key(&args.device, args.name.as_deref()),
        paths: args.paths.clone(),
        include: Some(Include {
            state: true,
            delta: true,
            metadata: args.metadata,
        }),
        consistency: consistency.into(),
        min_version: args.min_version,
    });
    let what = || {
        format!(
            "cannot read the {}",
            shadow::title(&args.device, args.name.as_deref())
        )
    };
    let answer = client.shadows.get_shadow(request).await;
    let answer = answer
        .map_err(|status| Problem::from_status(what(), &status))?
        .into_inner();
    let found = answer.shadow.ok_or_else(|| {
        Problem::new(Exit::Failure, what()).why("the answer of the server has no shadow")
    })?;
    let value = render::shadow_value(&found, &answer.cursor);
    print_value(client.format, &value, || render::shadow_text(&found));
    Ok(())
}
