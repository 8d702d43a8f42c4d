//! `antumbra credential …`: what callers show to come in.

mod bootstrap;
mod create;
mod list;
mod revoke;

use antumbra_proto::admin::v1::{Credential, CredentialKind};
use antumbra_shadow::json::Value;
use clap::Subcommand;

use super::output::{object, string};
use super::problem::Problem;
use super::shadow::time_value;
use super::{Context, block_on};

/// Make and revoke credentials
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Create(Box<create::Args>),
    List(list::Args),
    Revoke(revoke::Args),
    Bootstrap(bootstrap::Args),
}

impl Verb {
    pub(crate) fn run(&self, context: &Context) -> Result<(), Problem> {
        match self {
            Self::Create(args) => block_on(create::run(args, context)),
            Self::List(args) => block_on(list::run(args, context)),
            Self::Revoke(args) => block_on(revoke::run(args, context)),
            Self::Bootstrap(args) => bootstrap::run(args),
        }
    }
}

fn value(credential: &Credential) -> Value {
    let optional = |text: &str| match text.is_empty() {
        true => Value::Null,
        false => string(text),
    };
    object([
        ("id", string(credential.id.clone())),
        ("tenant", string(credential.tenant.clone())),
        ("kind", string(kind(credential))),
        ("device", optional(&credential.device_id)),
        ("role", string(credential.role.clone())),
        ("created", time_value(credential.created)),
        ("expires", time_value(credential.expires)),
        ("revoked", time_value(credential.revoked)),
        ("access_key_id", optional(&credential.access_key_id)),
        ("fingerprint", optional(&credential.fingerprint)),
    ])
}

fn kind(credential: &Credential) -> &'static str {
    match credential.kind() {
        CredentialKind::AccessKey => "access-key",
        CredentialKind::Certificate => "certificate",
        CredentialKind::Secret | CredentialKind::Unspecified => "secret",
    }
}
