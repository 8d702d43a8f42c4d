//! `antumbra credential list`.

use antumbra_proto::admin::v1::{Credential, ListCredentialsRequest};
use antumbra_shadow::json::Value;

use crate::cli::Context;
use crate::cli::connect::ClientArgs;
use crate::cli::output::{object, print_value, table};
use crate::cli::problem::Problem;
use crate::cli::shadow::time_text;

use super::{kind, value};

/// List the credentials of a tenant, never with secrets
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let mut client = args.client.connect(context).await?;
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = client.request(ListCredentialsRequest {
            tenant: client.tenant(),
            page_size: 1_000,
            page_token,
        });
        let page = client.admin.list_credentials(request).await;
        let page =
            page.map_err(|status| Problem::from_status("cannot list credentials", &status))?;
        let page = page.into_inner();
        all.extend(page.credentials);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    all.sort_by(|a, b| a.id.cmp(&b.id));
    let list = Value::Array(all.iter().map(value).collect());
    print_value(client.format, &object([("credentials", list)]), || {
        let row = |credential: &Credential| {
            vec![
                credential.id.clone(),
                kind(credential).to_owned(),
                credential.device_id.clone(),
                credential.role.clone(),
                time_text(credential.expires),
                time_text(credential.revoked),
            ]
        };
        table(
            &["credential", "kind", "device", "role", "expires", "revoked"],
            all.iter().map(row),
        )
    });
    Ok(())
}
