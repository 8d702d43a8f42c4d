//! `antumbra role delete NAME`.

use antumbra_proto::admin::v1::DeleteRoleRequest;

use crate::cli::Context;
use crate::cli::connect::ClientArgs;
use crate::cli::output::{object, print_value, string};
use crate::cli::problem::Problem;

/// Forget a role; callers who have it are let in no more
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its name
    name: String,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let mut client = args.client.connect(context).await?;
    let request = client.request(DeleteRoleRequest {
        tenant: client.tenant(),
        name: args.name.clone(),
    });
    let answer = client.admin.delete_role(request).await;
    answer.map_err(|status| {
        Problem::from_status(format!("cannot delete the role `{}`", args.name), &status)
    })?;
    let value = object([("deleted", string(args.name.clone()))]);
    print_value(client.format, &value, || {
        format!("role {} is deleted\n", args.name)
    });
    Ok(())
}
