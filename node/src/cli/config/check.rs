//! `antumbra config check`.

use crate::cli::Context;
use crate::cli::output::print;
use crate::cli::problem::Problem;

use super::SourceArgs;

/// Say everything that is wrong with a configuration
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    sources: SourceArgs,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let loaded = args.sources.load(context)?;
    for warning in &loaded.warnings {
        print(&format!("warning: {warning}\n"));
    }
    print(&format!(
        "ok: {} options are set, the rest are defaults\n",
        loaded.set_count()
    ));
    Ok(())
}
