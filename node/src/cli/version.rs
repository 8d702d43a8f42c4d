//! `antumbra version`.

use super::output::{self, Format};
use super::problem::Problem;

/// Print the version of this program
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How it is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(crate) fn run(args: &Args) -> Result<(), Problem> {
    let version = env!("CARGO_PKG_VERSION");
    let value = output::object([("version", output::string(version))]);
    output::print_value(args.output, &value, || format!("antumbra {version}\n"));
    Ok(())
}
