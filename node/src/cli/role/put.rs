//! `antumbra role put NAME`.

use antumbra_proto::admin::v1::PutRoleRequest;

use crate::cli::Context;
use crate::cli::connect::ClientArgs;
use crate::cli::input;
use crate::cli::output::print_value;
use crate::cli::problem::Problem;

use super::value;

/// Make a role, or replace it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: antumbra role put pump-writer --document \\
    '{\"shadows\":[{\"verbs\":[\"read\",\"update\"],\"devices\":{\"prefix\":\"pump-\"}}]}'
docs/access.md describes the document.")]
pub(crate) struct Args {
    /// Its name: 1-64 characters of a-z A-Z 0-9 : _ -
    name: String,
    /// What it allows: a JSON object, @FILE, or - for standard input
    #[arg(long, value_name = "JSON")]
    document: String,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let document_json = input::text(&args.document, "--document")?;
    let mut client = args.client.connect(context).await?;
    let request = client.request(PutRoleRequest {
        tenant: client.tenant(),
        name: args.name.clone(),
        document_json,
    });
    let answer = client.admin.put_role(request).await;
    let answer = answer.map_err(|status| {
        Problem::from_status(format!("cannot put the role `{}`", args.name), &status)
    })?;
    let role = answer.into_inner().role.unwrap_or_default();
    print_value(client.format, &value(&role), || {
        format!("role {} of tenant {} is put\n", role.name, role.tenant)
    });
    Ok(())
}
