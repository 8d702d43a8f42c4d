//! `antumbra cluster snapshot save DIR`.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use antumbra_proto::cluster::v1::dump_shard_response::Part;
use antumbra_proto::cluster::v1::{
    DumpBegin, DumpEnd, DumpShardRequest, GetStatusRequest, GetStatusResponse, Replica,
    ReplicaRole, Shard,
};
use antumbra_raft::{Env, HashRange};
use antumbra_shadow::RowKey;
use tokio::time::{sleep, timeout};
use tonic::Status;

use crate::cli::Context;
use crate::cli::connect::{Client, ClientArgs};
use crate::cli::output::print_value;
use crate::cli::problem::{Exit, Problem};
use crate::shadows::row_key;
use crate::snapshot::directory::Draft;
use crate::snapshot::manifest::{self, FORMAT, Manifest};
use crate::snapshot::{Counts, Row, Tally};

use super::progress::Bar;

/// How often the nodes with a replica of a shard are asked, one after another.
const ROUNDS: usize = 5;
/// Pause between two rounds: an election takes about so long.
const PAUSE: Duration = Duration::from_secs(1);
/// A node that sends nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(60);

/// Copy all shadows into a new directory while the cluster goes on
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: antumbra cluster snapshot save backup-2026-11-29
Each shard is read at one moment of its own; everything acknowledged before the command began is in it.
The directory holds hashes of passwords and tokens: keep it as safe as the cluster.")]
pub(crate) struct Args {
    /// Directory to make; it must not be there
    directory: PathBuf,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let client = args.client.connect(context).await?;
    let request = client.request(GetStatusRequest {});
    let status = client.cluster.clone().get_status(request).await;
    let status = status
        .map_err(|status| Problem::from_status("cannot ask what shards there are", &status))?
        .into_inner();
    let disk = |error| written_not(args, &error);
    let draft = Draft::begin(&args.directory).map_err(disk)?;
    let bar = Bar::begin("save", None, context);
    let saving = Saving {
        args,
        context,
        client,
        status: &status,
        draft: &draft,
        bar: &bar,
    };
    let mut shards = Vec::new();
    for shard in status.shards.iter().filter(|shard| shard.shard != 0) {
        let saved = saving.shard(shard).await.inspect_err(|_| bar.finish())?;
        bar.shard_done(saved.shard, saved.rows);
        shards.push(saved);
    }
    bar.finish();
    shards.sort_by_key(|shard| shard.first_hash);
    let manifest = Manifest {
        format: FORMAT,
        antumbra: env!("CARGO_PKG_VERSION").to_owned(),
        cluster_id: status.cluster_id.clone(),
        cluster_name: status.cluster_name.clone(),
        time_ms: Env::system().clock.now_ms(),
        replication_factor: replication_factor(&status),
        shards,
    };
    Manifest::decode(manifest.encode().as_bytes()).map_err(|why| {
        Problem::new(
            Exit::Failure,
            "the shards do not own every hash exactly once",
        )
        .why(why)
    })?;
    draft.finish(&manifest).map_err(disk)?;
    let value = super::value(&args.directory, &manifest);
    print_value(args.client.format(), &value, || {
        format!(
            "saved {} in {}\n",
            super::line(&manifest),
            args.directory.display()
        )
    });
    Ok(())
}

fn written_not(args: &Args, error: &io::Error) -> Problem {
    let what = format!("cannot write {}", args.directory.display());
    let exit = match error.kind() {
        io::ErrorKind::AlreadyExists => Exit::Usage,
        _ => Exit::Failure,
    };
    Problem::new(exit, what).why(error)
}

fn replication_factor(status: &GetStatusResponse) -> u32 {
    let shards = status.shards.iter().filter(|shard| shard.shard != 0);
    let replicas = shards.map(|shard| shard.replicas.len()).max();
    replicas.map_or(0, |replicas| replicas as u32)
}

/// What a save goes by.
struct Saving<'a> {
    args: &'a Args,
    context: &'a Context,
    client: Client,
    status: &'a GetStatusResponse,
    draft: &'a Draft,
    bar: &'a Bar,
}

/// Why an attempt gave no whole shard.
enum Failed {
    /// Another node may do better.
    Node(Status),
    /// No node can.
    Final(Problem),
}

impl Saving<'_> {
    /// Saves one shard from the first node that has all of it.
    async fn shard(&self, shard: &Shard) -> Result<manifest::Shard, Problem> {
        let mut why = Status::unavailable("no node has a replica of it");
        for round in 0..ROUNDS {
            if round > 0 {
                sleep(PAUSE).await;
            }
            match self.attempt(&self.client, shard).await {
                Ok(saved) => return Ok(saved),
                Err(Failed::Final(problem)) => return Err(problem),
                Err(Failed::Node(status)) => why = status,
            }
            for address in self.addresses(shard) {
                let client = self.args.client.at(address, self.context)?;
                let Ok(client) = client.connect(self.context).await else {
                    continue;
                };
                match self.attempt(&client, shard).await {
                    Ok(saved) => return Ok(saved),
                    Err(Failed::Final(problem)) => return Err(problem),
                    Err(Failed::Node(status)) => why = status,
                }
            }
        }
        let what = format!("cannot read shard {}", shard.shard);
        Err(Problem::from_status(what, &why).try_this(
            "`antumbra cluster status`, and whether the gRPC doors that `antumbra cluster nodes` lists \
             can be reached from here",
        ))
    }

    /// Where nodes with a replica of the shard answer.
    fn addresses(&self, shard: &Shard) -> impl Iterator<Item = &str> {
        let is_up = |replica: &&Replica| {
            matches!(replica.role(), ReplicaRole::Leader | ReplicaRole::Follower)
        };
        let names: Vec<&str> = shard
            .replicas
            .iter()
            .filter(is_up)
            .map(|replica| replica.node.as_str())
            .collect();
        let nodes = self.status.nodes.iter();
        let with_replica = nodes.filter(move |node| names.contains(&node.name.as_str()));
        with_replica.map(|node| node.grpc_address.as_str())
    }

    /// Saves the shard from one node, anew.
    async fn attempt(&self, client: &Client, shard: &Shard) -> Result<manifest::Shard, Failed> {
        let request = client.stream(DumpShardRequest { shard: shard.shard });
        let opened = timeout(SILENCE, client.cluster.clone().dump_shard(request)).await;
        let opened = opened.unwrap_or_else(|_| Err(silent()));
        let mut parts = opened.map_err(Failed::Node)?.into_inner();
        let disk = |error: io::Error| Failed::Final(written_not(self.args, &error));
        let file = manifest::file_of(shard.shard);
        let mut writer = self.draft.create(&file).map_err(disk)?;
        let mut taken = Taken::default();
        let failure = loop {
            let part = timeout(SILENCE, parts.message()).await;
            match part.unwrap_or_else(|_| Err(silent())) {
                Ok(Some(part)) => match part.part {
                    Some(Part::Begin(begin)) => taken.begin = Some(begin),
                    Some(Part::Rows(rows)) => {
                        let rows: Vec<Row> = rows.rows.into_iter().map(row).collect();
                        writer.write(&rows).map_err(disk)?;
                        taken.rows(&rows);
                        self.bar.rows(rows.len() as u64);
                    }
                    Some(Part::End(end)) => taken.end = Some(end),
                    None => {}
                },
                Ok(None) => match taken.finish(file, &self.status.cluster_id, shard) {
                    Ok(saved) => {
                        Draft::close(writer).map_err(disk)?;
                        return Ok(saved);
                    }
                    Err(why) => break Status::data_loss(why),
                },
                Err(status) => break status,
            }
        };
        self.bar.take_back(taken.tally.counts().rows);
        Err(Failed::Node(failure))
    }
}

fn silent() -> Status {
    Status::unavailable(format!("nothing came for {} s", SILENCE.as_secs()))
}

fn row(row: antumbra_proto::cluster::v1::Row) -> Row {
    Row {
        key: row.key.into(),
        value: row.value.into(),
    }
}

/// What came of a shard.
#[derive(Default)]
struct Taken {
    begin: Option<DumpBegin>,
    tally: Tally,
    end: Option<DumpEnd>,
    /// A row that is none of the shard's.
    has_stranger: bool,
}

impl Taken {
    fn rows(&mut self, rows: &[Row]) {
        let begin = self.begin.clone().unwrap_or_default();
        let range = HashRange {
            start: begin.first_hash,
            end: begin.last_hash,
        };
        for row in rows {
            let key = row_key(&row.key);
            let hash = row.key.get(1..5).and_then(|hash| hash.try_into().ok());
            let is_own = hash.is_some_and(|hash| range.contains(u32::from_be_bytes(hash)));
            self.has_stranger |= key.is_none() || !is_own;
            self.tally
                .add(row, matches!(key, Some(RowKey::Document(..))));
        }
    }

    /// Whether all of it came, and as it was sent.
    fn finish(
        &self,
        file: String,
        cluster_id: &str,
        shard: &Shard,
    ) -> Result<manifest::Shard, String> {
        let (Some(begin), Some(end)) = (&self.begin, &self.end) else {
            return Err("the dump broke off".to_owned());
        };
        let counts = self.tally.counts();
        let sent = Counts {
            rows: end.rows,
            documents: end.documents,
            bytes: end.bytes,
            checksum: end.checksum,
        };
        if counts != sent {
            return Err("what came is not what was sent".to_owned());
        }
        if begin.cluster_id != cluster_id || begin.shard != shard.shard || self.has_stranger {
            return Err("another shard came than was asked for".to_owned());
        }
        Ok(manifest::Shard {
            shard: begin.shard,
            file,
            first_hash: begin.first_hash,
            last_hash: begin.last_hash,
            index: begin.index,
            time_ms: begin.time_ms,
            rows: counts.rows,
            documents: counts.documents,
            bytes: counts.bytes,
            checksum: manifest::checksum_text(&counts),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn whole() -> (Taken, Shard) {
        let begin = DumpBegin {
            cluster_id: "c".to_owned(),
            shard: 2,
            first_hash: 0,
            last_hash: u32::MAX,
            index: 9,
            time_ms: 4,
        };
        let mut taken = Taken {
            begin: Some(begin),
            ..Taken::default()
        };
        taken.rows(&[crate::snapshot::row::device_row("pump")]);
        let counts = taken.tally.counts();
        taken.end = Some(DumpEnd {
            rows: counts.rows,
            documents: counts.documents,
            bytes: counts.bytes,
            checksum: counts.checksum,
        });
        let shard = Shard {
            shard: 2,
            ..Shard::default()
        };
        (taken, shard)
    }

    /// A stream that ends early, or a byte that changed on its way, must not become a snapshot.
    #[test]
    fn only_a_whole_shard_is_saved() {
        let finish = |taken: &Taken, shard: &Shard| taken.finish("f".to_owned(), "c", shard);
        let (taken, shard) = whole();
        let saved = finish(&taken, &shard).unwrap();
        assert_eq!((saved.shard, saved.index, saved.rows), (2, 9, 1));

        let (mut cut, _) = whole();
        cut.end = None;
        assert!(finish(&cut, &shard).is_err());
        let (mut changed, _) = whole();
        changed.end.as_mut().unwrap().checksum ^= 1;
        assert!(finish(&changed, &shard).is_err());
        let (mut foreign, _) = whole();
        foreign.begin.as_mut().unwrap().cluster_id = "d".to_owned();
        assert!(finish(&foreign, &shard).is_err());
        let (mut stranger, _) = whole();
        stranger.begin.as_mut().unwrap().last_hash = 0;
        let row = crate::snapshot::row::device_row("pump");
        stranger.rows(&[row]);
        let counts = stranger.tally.counts();
        stranger.end = Some(DumpEnd {
            rows: counts.rows,
            documents: counts.documents,
            bytes: counts.bytes,
            checksum: counts.checksum,
        });
        assert!(finish(&stranger, &shard).is_err());
    }
}
