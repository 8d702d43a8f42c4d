//! `antumbra tenant create NAME`.

use antumbra_proto::admin::v1::{CreateTenantRequest, TenantLimits};

use crate::cli::Context;
use crate::cli::connect::ClientArgs;
use crate::cli::output::print_value;
use crate::cli::problem::Problem;

use super::value;

/// Make a tenant
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its name: 1-64 characters of a-z A-Z 0-9 : _ -
    name: String,
    /// Largest document of its shadows, in bytes [default: as for the cluster]
    #[arg(long, value_name = "BYTES")]
    document_bytes_max: Option<u32>,
    /// Deepest nesting of its documents [default: as for the cluster]
    #[arg(long, value_name = "N")]
    depth_max: Option<u32>,
    /// Shadows of one of its devices [default: as for the cluster]
    #[arg(long, value_name = "N")]
    shadows_per_device_max: Option<u32>,
    /// MQTT sessions of its clients at one time, on each node [default: no limit]
    #[arg(long, value_name = "N")]
    sessions_max: Option<u32>,
    /// Changes of its shadows each second, on each node [default: no limit]
    #[arg(long, value_name = "N")]
    updates_per_second_max: Option<u32>,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let mut client = args.client.connect(context).await?;
    let request = client.request(CreateTenantRequest {
        name: args.name.clone(),
        limits: Some(TenantLimits {
            document_bytes_max: args.document_bytes_max,
            depth_max: args.depth_max,
            shadows_per_device_max: args.shadows_per_device_max,
            sessions_max: args.sessions_max,
            updates_per_second_max: args.updates_per_second_max,
        }),
    });
    let answer = client.admin.create_tenant(request).await;
    let answer = answer.map_err(|status| {
        Problem::from_status(format!("cannot make the tenant `{}`", args.name), &status)
    })?;
    let tenant = answer.into_inner().tenant.unwrap_or_default();
    print_value(client.format, &value(&tenant), || {
        format!("tenant {} is made\n", tenant.name)
    });
    Ok(())
}
