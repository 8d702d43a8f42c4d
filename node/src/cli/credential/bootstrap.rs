//! `antumbra credential bootstrap --out FILE`.

use std::path::PathBuf;

use crate::access::CredentialId;
use crate::access::token::Token;
use crate::cli::cert::write_secret;
use crate::cli::output;
use crate::cli::problem::{Exit, Problem};

/// Draw a token for `access.bootstrap_token_file`: whoever has it is an operator
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: antumbra credential bootstrap --out bootstrap.token
         antumbra serve --config node.toml --set access.bootstrap_token_file=bootstrap.token
         ANTUMBRA_TOKEN=$(cat bootstrap.token) antumbra credential create admin --role admin
Every node of a cluster may have the same file. Leave the option out again afterwards.")]
pub(crate) struct Args {
    /// Where to write it, for its owner only
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<(), Problem> {
    let failed = |why: String| Problem::new(Exit::Failure, "cannot draw a token").why(why);
    let id = CredentialId::parse("bootstrap").map_err(|error| failed(error.to_string()))?;
    let token = Token::draw(id).map_err(|error| failed(error.to_string()))?;
    write_secret(&args.out, &format!("{}\n", token.reveal()))?;
    output::print(&format!("{}\n", args.out.display()));
    Ok(())
}
