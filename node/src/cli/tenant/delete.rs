//! `antumbra tenant delete NAME`.

use antumbra_proto::admin::v1::DeleteTenantRequest;

use crate::cli::Context;
use crate::cli::connect::ClientArgs;
use crate::cli::output::{object, print_value, string};
use crate::cli::problem::Problem;

/// End a tenant with all its credentials and roles; it must have no shadows
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its name
    name: String,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let mut client = args.client.connect(context).await?;
    let request = client.request(DeleteTenantRequest {
        name: args.name.clone(),
    });
    let answer = client.admin.delete_tenant(request).await;
    answer.map_err(|status| {
        Problem::from_status(format!("cannot delete the tenant `{}`", args.name), &status)
    })?;
    let value = object([("deleted", string(args.name.clone()))]);
    print_value(client.format, &value, || {
        format!("tenant {} is deleted\n", args.name)
    });
    Ok(())
}
