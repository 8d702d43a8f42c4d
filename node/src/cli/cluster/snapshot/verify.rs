//! `antumbra cluster snapshot verify DIR`.

use std::path::PathBuf;

use crate::cli::Context;
use crate::cli::output::{Format, print_value};
use crate::cli::problem::Problem;

use super::progress::Bar;

/// Read a snapshot and check every byte of it; needs no cluster
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Ends with 0 when it is as it was written, with 8 when anything is damaged, missing or too much, and says what.")]
pub(crate) struct Args {
    /// Directory of the snapshot
    directory: PathBuf,
    /// How results are printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let bar = Bar::begin("verify", None, context);
    let verified = super::verified(&args.directory, &bar);
    bar.finish();
    let manifest = verified?;
    print_value(
        args.output,
        &super::value(&args.directory, &manifest),
        || format!("whole: {}\n", super::line(&manifest)),
    );
    Ok(())
}
