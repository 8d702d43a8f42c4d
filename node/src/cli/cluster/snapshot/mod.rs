//! `antumbra cluster snapshot …`: a copy of all shadows in a directory, and back.

mod progress;
mod restore;
mod save;
mod verify;

use std::path::Path;

use clap::Subcommand;

use crate::cli::output::{number, object, string};
use crate::cli::problem::{Exit, Problem};
use crate::cli::{Context, block_on};
use crate::snapshot::manifest::Manifest;
use antumbra_shadow::json::Value;

/// Copy all shadows of a cluster into a directory, and back
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Save(save::Args),
    Verify(verify::Args),
    Restore(restore::Args),
}

impl Verb {
    pub(crate) fn run(&self, context: &Context) -> Result<(), Problem> {
        match self {
            Self::Save(args) => block_on(save::run(args, context)),
            Self::Verify(args) => verify::run(args, context),
            Self::Restore(args) => block_on(restore::run(args, context)),
        }
    }
}

/// What a directory that was checked holds; all that is wrong otherwise.
fn verified(directory: &Path, bar: &progress::Bar) -> Result<Manifest, Problem> {
    let checked = crate::snapshot::directory::verify(directory, |shard| {
        bar.shard_done(shard.shard, shard.rows);
    });
    checked.map_err(|wrong| {
        let what = format!("the snapshot in {} is not whole", directory.display());
        Problem::new(Exit::Damaged, what)
            .why(wrong.join("\n"))
            .try_this("another copy of it; no part of this one was used")
    })
}

/// A snapshot as a JSON value.
fn value(directory: &Path, manifest: &Manifest) -> Value {
    let shards = manifest.shards.iter().map(|shard| {
        object([
            ("shard", number(shard.shard.into())),
            ("file", string(shard.file.clone())),
            ("index", number(shard.index)),
            ("time_ms", number(shard.time_ms)),
            ("rows", number(shard.rows)),
            ("documents", number(shard.documents)),
            ("bytes", number(shard.bytes)),
            ("checksum", string(shard.checksum.clone())),
        ])
    });
    let totals = Totals::of(manifest);
    object([
        ("directory", string(directory.display().to_string())),
        ("cluster_id", string(manifest.cluster_id.clone())),
        ("cluster_name", string(manifest.cluster_name.clone())),
        ("time_ms", number(manifest.time_ms)),
        ("rows", number(totals.rows)),
        ("documents", number(totals.documents)),
        ("bytes", number(totals.bytes)),
        ("shards", Value::Array(shards.collect())),
    ])
}

/// All shards together.
struct Totals {
    rows: u64,
    documents: u64,
    bytes: u64,
}

impl Totals {
    fn of(manifest: &Manifest) -> Totals {
        let sum = |field: fn(&crate::snapshot::manifest::Shard) -> u64| {
            manifest.shards.iter().map(field).sum()
        };
        Totals {
            rows: sum(|shard| shard.rows),
            documents: sum(|shard| shard.documents),
            bytes: sum(|shard| shard.bytes),
        }
    }
}

/// A snapshot in one line.
fn line(manifest: &Manifest) -> String {
    let totals = Totals::of(manifest);
    format!(
        "{} shards of {} with {} documents in {} rows, {} bytes",
        manifest.shards.len(),
        manifest.cluster_name,
        totals.documents,
        totals.rows,
        totals.bytes
    )
}
