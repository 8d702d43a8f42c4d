//! `antumbra shadow update DEVICE`.

use antumbra_proto::v1::{Conditions, UpdateShadowRequest};

use crate::cli::connect::ClientArgs;
use crate::cli::output::{number, object, pairs, print_value, string};
use crate::cli::problem::Problem;
use crate::cli::{Context, input, shadow};

use super::render;

/// Merge into one shadow, creating it when it does not exist
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A value is JSON, @FILE, or - for standard input. Null leaves delete; the text null clears a section.
Example: antumbra shadow update lamp-1 --desired '{\"on\":true}'")]
#[group(id = "sections", required = true, multiple = true, args = ["desired", "reported"])]
pub(crate) struct Args {
    /// Device id
    device: String,
    /// Named shadow; without it the classic one
    #[arg(long)]
    name: Option<String>,
    /// What the device should be
    #[arg(long, value_name = "JSON")]
    desired: Option<String>,
    /// What the device says it is
    #[arg(long, value_name = "JSON")]
    reported: Option<String>,
    /// Only if the shadow is at this version; 0 means it must not exist
    #[arg(long)]
    version: Option<u64>,
    /// Names this change, so that sending it again does not apply it twice
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Echoed to whoever watches
    #[arg(long, value_name = "TOKEN")]
    client_token: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let read = |value: &Option<String>, flag| {
        value
            .as_deref()
            .map(|value| input::text(value, flag))
            .transpose()
    };
    let desired_json = read(&args.desired, "--desired")?;
    let reported_json = read(&args.reported, "--reported")?;
    let mut client = args.client.connect(context).await?;
    let conditions = args.version.map(|version| Conditions {
        expected_version: Some(version),
        ..<_>::default()
    });
    let request = client.request(UpdateShadowRequest {
        key: client.key(&args.device, args.name.as_deref()),
        desired_json,
        reported_json,
        conditions,
        request_id: args.request_id.clone().unwrap_or_default(),
        client_token: args.client_token.clone().unwrap_or_default(),
        // Only whoever sent it first knows when, and that may have been another run.
        issued: None,
    });
    let what = format!(
        "cannot update the {}",
        shadow::title(&args.device, args.name.as_deref())
    );
    let answer = client.shadows.update_shadow(request).await;
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
            ("version", answer.version.to_string()),
            ("time", render::time_text(answer.time)),
            ("cursor", answer.cursor.clone()),
        ])
    });
    Ok(())
}
