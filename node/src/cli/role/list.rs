//! `antumbra role list`.

use antumbra_proto::admin::v1::{ListRolesRequest, Role};
use antumbra_shadow::json::Value;

use crate::cli::Context;
use crate::cli::connect::ClientArgs;
use crate::cli::output::{object, print_value, table};
use crate::cli::problem::Problem;

use super::{built_in_or, value};

/// List the roles of a tenant, and those that are built in
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let mut client = args.client.connect(context).await?;
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = client.request(ListRolesRequest {
            tenant: client.tenant(),
            page_size: 1_000,
            page_token,
        });
        let page = client.admin.list_roles(request).await;
        let page = page.map_err(|status| Problem::from_status("cannot list roles", &status))?;
        let page = page.into_inner();
        all.extend(page.roles);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let list = Value::Array(all.iter().map(value).collect());
    print_value(client.format, &object([("roles", list)]), || {
        let row = |role: &Role| {
            vec![
                role.name.clone(),
                built_in_or(&role.tenant),
                role.document_json.clone(),
            ]
        };
        table(&["role", "tenant", "document"], all.iter().map(row))
    });
    Ok(())
}
