//! `antumbra credential revoke ID`.

use antumbra_proto::admin::v1::RevokeCredentialRequest;

use crate::cli::Context;
use crate::cli::connect::ClientArgs;
use crate::cli::output::print_value;
use crate::cli::problem::Problem;

use super::value;

/// Take a credential back, for ever; its sessions and streams are closed
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its name
    id: String,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let mut client = args.client.connect(context).await?;
    let request = client.request(RevokeCredentialRequest {
        id: args.id.clone(),
    });
    let answer = client.admin.revoke_credential(request).await;
    let answer = answer
        .map_err(|status| Problem::from_status(format!("cannot revoke `{}`", args.id), &status))?;
    let credential = answer.into_inner().credential.unwrap_or_default();
    print_value(client.format, &value(&credential), || {
        format!("credential {} is revoked\n", credential.id)
    });
    Ok(())
}
