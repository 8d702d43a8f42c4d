//! `antumbra cluster snapshot restore DIR`.

use std::path::PathBuf;
use std::time::Duration;

use antumbra_proto::cluster::v1::{RestoreRowsRequest, RestoreRowsResponse, Row};
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::time::sleep;
use tonic::{Code, Status};

use crate::cli::Context;
use crate::cli::connect::{Client, ClientArgs};
use crate::cli::output::{number, object, print_value, string};
use crate::cli::problem::{Exit, Problem};
use crate::snapshot::directory;
use crate::snapshot::frames;
use crate::snapshot::manifest::{Manifest, Shard};

use super::Totals;
use super::progress::Bar;

/// How long one batch may take: a leader may be elected meanwhile.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Files that are read side by side.
const FILES_AT_ONCE: usize = 4;
/// How often a batch is sent whose fate is unknown or that nobody could take. Sending it again does no harm.
const ATTEMPTS: usize = 20;
/// Pause between two of them.
const PAUSE: Duration = Duration::from_millis(500);

/// Write all shadows of a snapshot into an empty cluster of any size
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: antumbra cluster snapshot restore backup-2026-11-29
The snapshot is verified whole before anything is written. A restore that broke off can be repeated; a
device that is in the cluster and is not the same stops it, and nothing is ever overwritten.")]
pub(crate) struct Args {
    /// Directory of the snapshot
    directory: PathBuf,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let bar = Bar::begin("verify", None, context);
    let verified = super::verified(&args.directory, &bar);
    bar.finish();
    let manifest = verified?;
    let client = args.client.connect_for(context, TIMEOUT).await?;
    let bar = Bar::begin("restore", Some(Totals::of(&manifest).rows), context);
    let restoring = Restoring {
        args,
        client: &client,
        bar: &bar,
    };
    let restored = restoring.all(&manifest).await;
    bar.finish();
    let restored = restored?;
    let value = object([
        ("directory", string(args.directory.display().to_string())),
        ("written", number(restored.written)),
        ("present", number(restored.present)),
        ("left", number(restored.left)),
    ]);
    print_value(client.format, &value, || {
        format!(
            "restored {}: {} rows written, {} already there, {} left as they were\n",
            super::line(&manifest),
            restored.written,
            restored.present,
            restored.left
        )
    });
    Ok(())
}

/// What a restore goes by.
struct Restoring<'a> {
    args: &'a Args,
    client: &'a Client,
    bar: &'a Bar,
}

impl Restoring<'_> {
    async fn all(&self, manifest: &Manifest) -> Result<RestoreRowsResponse, Problem> {
        let files = manifest.shards.iter().map(|shard| self.file(shard));
        let files = stream::iter(files.collect::<Vec<_>>()).buffer_unordered(FILES_AT_ONCE);
        let add = |sum, part| async move { Ok(together(sum, part)) };
        files.try_fold(RestoreRowsResponse::default(), add).await
    }

    /// Sends the rows of one file in their order: what a device is begins before the rest of it.
    async fn file(&self, shard: &Shard) -> Result<RestoreRowsResponse, Problem> {
        let damaged = |error: frames::Error| {
            let what = format!("cannot read {}", shard.file);
            Problem::new(Exit::Damaged, what)
                .why(error)
                .try_this("another copy of the snapshot; a repeated restore goes on from here")
        };
        let mut frames = directory::open_rows(&self.args.directory, shard).map_err(damaged)?;
        let mut sum = RestoreRowsResponse::default();
        while let Some(rows) = frames.next().map_err(damaged)? {
            let count = rows.len() as u64;
            let rows = rows.into_iter().map(|row| Row {
                key: row.key.into(),
                value: row.value.into(),
            });
            sum = together(sum, self.send(rows.collect()).await?);
            self.bar.rows(count);
        }
        self.bar.shard_done(shard.shard, shard.rows);
        Ok(sum)
    }

    /// Sends rows until the cluster has them.
    async fn send(&self, rows: Vec<Row>) -> Result<RestoreRowsResponse, Problem> {
        let mut attempt = 1;
        loop {
            let request = self
                .client
                .request(RestoreRowsRequest { rows: rows.clone() });
            match self.client.cluster.clone().restore_rows(request).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) if may_pass(&status) && attempt < ATTEMPTS => {
                    attempt += 1;
                    sleep(PAUSE).await;
                }
                Err(status) => return Err(refused(&status)),
            }
        }
    }
}

/// Whether the same rows may be taken a moment later.
fn may_pass(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::ResourceExhausted
    )
}

fn refused(status: &Status) -> Problem {
    let problem = Problem::from_status("the restore is not finished", status);
    match status.code() {
        Code::FailedPrecondition => {
            problem.try_this("a cluster without devices; nothing is overwritten in this one")
        }
        _ => problem.try_this("the same again: it goes on from here"),
    }
}

fn together(sum: RestoreRowsResponse, part: RestoreRowsResponse) -> RestoreRowsResponse {
    RestoreRowsResponse {
        written: sum.written + part.written,
        present: sum.present + part.present,
        left: sum.left + part.left,
    }
}
