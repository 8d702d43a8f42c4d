//! `antumbra completions SHELL`.

use clap::CommandFactory;
use clap_complete::Shell;

use super::problem::Problem;
use super::{Cli, output};

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: antumbra completions bash > /etc/bash_completion.d/antumbra")]
pub(crate) struct Args {
    /// The shell to complete in
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> Result<(), Problem> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "antumbra", &mut script);
    output::print(&String::from_utf8_lossy(&script));
    Ok(())
}
