//! `antumbra shadow …`: read, change and follow shadows.

mod delete;
mod get;
mod list;
mod render;
mod update;
mod watch;

pub(crate) use render::{time_text, time_value};

use clap::Subcommand;

use super::problem::Problem;
use super::{Context, block_on};

/// Read, change and watch shadows
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Get(get::Args),
    Update(update::Args),
    Delete(delete::Args),
    List(list::Args),
    Watch(watch::Args),
}

impl Verb {
    pub(crate) fn run(&self, context: &Context) -> Result<(), Problem> {
        match self {
            Self::Get(args) => block_on(get::run(args, context)),
            Self::Update(args) => block_on(update::run(args, context)),
            Self::Delete(args) => block_on(delete::run(args, context)),
            Self::List(args) => block_on(list::run(args, context)),
            Self::Watch(args) => block_on(watch::run(args, context)),
        }
    }
}

/// What a shadow is called in messages.
fn title(device: &str, name: Option<&str>) -> String {
    match name {
        Some(name) if !name.is_empty() => format!("shadow `{name}` of `{device}`"),
        _ => format!("shadow of `{device}`"),
    }
}
