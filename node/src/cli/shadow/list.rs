//! `antumbra shadow list DEVICE`.

use antumbra_proto::v1::{ListShadowsRequest, ShadowSummary};
use antumbra_shadow::json::Value;

use crate::cli::Context;
use crate::cli::connect::ClientArgs;
use crate::cli::output::{number, object, print_value, string, table};
use crate::cli::problem::Problem;

use super::render;

/// List the shadows of a device
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Device id
    device: String,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let mut client = args.client.connect(context).await?;
    let mut shadows = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = client.request(ListShadowsRequest {
            tenant: client.tenant(),
            device_id: args.device.clone(),
            page_size: 1_000,
            page_token,
        });
        let page = client
            .shadows
            .list_shadows(request)
            .await
            .map_err(|status| {
                Problem::from_status(
                    format!("cannot list the shadows of `{}`", args.device),
                    &status,
                )
            })?;
        let page = page.into_inner();
        shadows.extend(page.shadows);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let value = object([(
        "shadows",
        Value::Array(shadows.iter().map(summary).collect()),
    )]);
    print_value(client.format, &value, || {
        let row = |shadow: &ShadowSummary| {
            vec![
                render::shadow_name(&shadow.shadow_name),
                shadow.version.to_string(),
                render::time_text(shadow.updated),
            ]
        };
        table(&["shadow", "version", "updated"], shadows.iter().map(row))
    });
    Ok(())
}

fn summary(shadow: &ShadowSummary) -> Value {
    object([
        ("shadow", string(shadow.shadow_name.clone())),
        ("version", number(shadow.version)),
        ("updated", render::time_value(shadow.updated)),
    ])
}
