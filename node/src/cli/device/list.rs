//! `antumbra device list`.

use antumbra_proto::v1::ListDevicesRequest;
use antumbra_shadow::json::Value;

use crate::cli::Context;
use crate::cli::connect::ClientArgs;
use crate::cli::output::{Format, object, print, print_value, string};
use crate::cli::problem::Problem;

const PAGE: usize = 1_000;

/// List the devices that have a shadow, in the order of their hash
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only devices whose id starts with this
    #[arg(long)]
    prefix: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let mut client = args.client.connect(context).await?;
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut kept = Vec::new();
    let mut page_token = String::new();
    while left > 0 {
        let request = client.request(ListDevicesRequest {
            tenant: client.tenant(),
            page_size: i32::try_from(left.min(PAGE)).unwrap_or(i32::MAX),
            page_token,
            device_id_prefix: args.prefix.clone().unwrap_or_default(),
        });
        let page = client.shadows.list_devices(request).await;
        let page = page.map_err(|status| Problem::from_status("cannot list devices", &status))?;
        let page = page.into_inner();
        left = left.saturating_sub(page.device_ids.len());
        match client.format {
            // A fleet may be large: print each page as it comes.
            Format::Table => print(&lines(&page.device_ids)),
            Format::Json | Format::Yaml => kept.extend(page.device_ids.into_iter().map(string)),
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if client.format != Format::Table {
        print_value(
            client.format,
            &object([("devices", Value::Array(kept))]),
            String::new,
        );
    }
    Ok(())
}

fn lines(devices: &[String]) -> String {
    devices
        .iter()
        .fold(String::new(), |out, device| out + device + "\n")
}
