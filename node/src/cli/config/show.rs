//! `antumbra config show`.

use crate::cli::Context;
use crate::cli::output::print;
use crate::cli::problem::Problem;
use crate::config::SECTIONS;

use super::SourceArgs;

/// Column at which origins start, when the value leaves room.
const ORIGIN_COLUMN: usize = 40;

/// Print every value in force, as a configuration file
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Say where each value came from
    #[arg(long)]
    origin: bool,
    #[command(flatten)]
    sources: SourceArgs,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let loaded = args.sources.load(context)?;
    let mut out = String::new();
    for (n, section) in SECTIONS.iter().enumerate() {
        out.push_str(if n > 0 { "\n" } else { "" });
        out.push_str(&format!("[{}]\n", section.name));
        for option in section.options {
            let value = loaded
                .config
                .show(section.name, option.name)
                .unwrap_or_default();
            let line = format!("{} = {value}", option.name);
            if args.origin {
                let origin = loaded.origin(section.name, option.name);
                out.push_str(&format!("{line:<ORIGIN_COLUMN$} # {origin}\n"));
            } else {
                out.push_str(&format!("{line}\n"));
            }
        }
    }
    print(&out);
    Ok(())
}
