//! `antumbra shadow delete DEVICE`.

use antumbra_proto::v1::{Conditions, DeleteShadowRequest};

use crate::cli::connect::ClientArgs;
use crate::cli::output::{number, object, pairs, print_value, string};
use crate::cli::problem::Problem;
use crate::cli::{Context, shadow};

use super::render;

/// Delete one shadow; its versions keep counting
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Device id
    device: String,
    /// Named shadow; without it the classic one
    #[arg(long)]
    name: Option<String>,
    /// Only if the shadow is at this version
    #[arg(long)]
    version: Option<u64>,
    /// Names this change, so that sending it again does not apply it twice
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let mut client = args.client.connect(context).await?;
    let conditions = args.version.map(|version| Conditions {
        expected_version: Some(version),
        ..<_>::default()
    });
    let request = client.request(DeleteShadowRequest {
        key: client.key(&args.device, args.name.as_deref()),
        conditions,
        request_id: args.request_id.clone().unwrap_or_default(),
        client_token: String::new(),
        // Only whoever sent it first knows when, and that may have been another run.
        issued: None,
    });
    let what = format!(
        "cannot delete the {}",
        shadow::title(&args.device, args.name.as_deref())
    );
    let answer = client.shadows.delete_shadow(request).await;
    let answer = answer
        .map_err(|status| Problem::from_status(what, &status))?
        .into_inner();
    let value = object([
        ("version", number(answer.version)),
        ("time", render::time_value(answer.time)),
        ("cursor", string(answer.cursor.clone())),
    ]);
    print_value(client.format, &value, || {
        pairs([
            ("deleted", shadow::title(&args.device, args.name.as_deref())),
            ("version", answer.version.to_string()),
            ("time", render::time_text(answer.time)),
        ])
    });
    Ok(())
}
