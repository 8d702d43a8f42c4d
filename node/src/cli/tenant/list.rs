//! `antumbra tenant list`.

use antumbra_proto::admin::v1::{ListTenantsRequest, Tenant};
use antumbra_shadow::json::Value;

use crate::cli::Context;
use crate::cli::connect::ClientArgs;
use crate::cli::output::{object, print_value, table};
use crate::cli::problem::Problem;
use crate::cli::shadow::time_text;

use super::value;

/// List the tenants that were made; the tenant `default` is always there
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let mut client = args.client.connect(context).await?;
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = client.request(ListTenantsRequest {
            page_size: 1_000,
            page_token,
        });
        let page = client.admin.list_tenants(request).await;
        let page = page.map_err(|status| Problem::from_status("cannot list tenants", &status))?;
        let page = page.into_inner();
        all.extend(page.tenants);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let list = Value::Array(all.iter().map(value).collect());
    print_value(client.format, &object([("tenants", list)]), || {
        let row = |tenant: &Tenant| vec![tenant.name.clone(), time_text(tenant.created)];
        table(&["tenant", "created"], all.iter().map(row))
    });
    Ok(())
}
