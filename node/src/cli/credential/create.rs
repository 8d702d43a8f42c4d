//! `antumbra credential create`.

use std::time::Duration;

use antumbra_proto::admin::v1::{
    CreateCredentialRequest, CreateCredentialResponse, CredentialKind,
};
use antumbra_raft::Env;
use antumbra_shadow::json::Value;
use clap::ValueEnum;
use prost_types::Timestamp;

use crate::cli::Context;
use crate::cli::connect::ClientArgs;
use crate::cli::input;
use crate::cli::output::{pairs, print_value, string};
use crate::cli::problem::Problem;
use crate::config::parse_duration;

use super::value;

/// What the caller shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A token, or a password with --password
    #[default]
    Secret,
    /// A key that signs HTTP requests as AWS software development kits do
    AccessKey,
    /// A certificate; needs --fingerprint
    Certificate,
}

/// Make a credential and print its secret, which is never shown again
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples: antumbra credential create billing --role reader
          antumbra credential create lamp-1 --device lamp-1
          antumbra credential create --kind access-key --device lamp-1")]
pub(crate) struct Args {
    /// Its name, which is the user name at the MQTT door [default: one is drawn]
    id: Option<String>,
    /// What the caller shows
    #[arg(long, value_enum, default_value_t)]
    kind: Kind,
    /// The device that it is for [default: it is for a backend]
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// Its role [default: `device` with a device, `backend` without]
    #[arg(long)]
    role: Option<String>,
    /// How long it is good [default: until it is revoked]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    expires_in: Option<Duration>,
    /// A password of your own: @FILE, or - for standard input [default: a token is drawn]
    #[arg(long, value_name = "PASSWORD")]
    password: Option<String>,
    /// SHA-256 of the certificate, as `openssl x509 -fingerprint -sha256` prints it
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let password = args.password.as_deref();
    let password = password.map(|text| input::text(text, "--password"));
    let password = password.transpose()?.unwrap_or_default();
    let expires = args.expires_in.map(after);
    let mut client = args.client.connect(context).await?;
    let request = client.request(CreateCredentialRequest {
        tenant: client.tenant(),
        id: args.id.clone().unwrap_or_default(),
        kind: match args.kind {
            Kind::Secret => CredentialKind::Secret,
            Kind::AccessKey => CredentialKind::AccessKey,
            Kind::Certificate => CredentialKind::Certificate,
        }
        .into(),
        device_id: args.device.clone().unwrap_or_default(),
        role: args.role.clone().unwrap_or_default(),
        expires,
        password: password.trim_end_matches(['\r', '\n']).to_owned(),
        fingerprint: args.fingerprint.clone().unwrap_or_default(),
    });
    let answer = client.admin.create_credential(request).await;
    let answer =
        answer.map_err(|status| Problem::from_status("cannot make the credential", &status))?;
    let made = answer.into_inner();
    print_value(client.format, &shown(&made), || text(&made));
    Ok(())
}

/// The time of day after so long.
fn after(left: Duration) -> Timestamp {
    let now = Duration::from_millis(Env::system().clock.now_ms());
    let end = now.saturating_add(left);
    Timestamp {
        seconds: i64::try_from(end.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(end.subsec_nanos()).unwrap_or(0),
    }
}

fn shown(made: &CreateCredentialResponse) -> Value {
    let mut value = value(&made.credential.clone().unwrap_or_default());
    if let Value::Object(members) = &mut value {
        for (name, secret) in [
            ("token", &made.token),
            ("secret_access_key", &made.secret_access_key),
        ] {
            if !secret.is_empty() {
                members.push((name.to_owned(), string(secret.clone())));
            }
        }
    }
    value
}

fn text(made: &CreateCredentialResponse) -> String {
    let credential = made.credential.clone().unwrap_or_default();
    let rows = [
        ("credential", credential.id),
        ("tenant", credential.tenant),
        ("device", credential.device_id),
        ("role", credential.role),
        ("token", made.token.clone()),
        ("access key", credential.access_key_id),
        ("secret key", made.secret_access_key.clone()),
        ("fingerprint", credential.fingerprint),
    ];
    pairs(rows.into_iter().filter(|(_, text)| !text.is_empty()))
}
