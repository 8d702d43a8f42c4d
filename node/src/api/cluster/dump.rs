//! `DumpShard`: all rows of a shard from the replica on this node.

use antumbra_proto::cluster::v1;
use antumbra_proto::cluster::v1::dump_shard_response::Part;
use antumbra_raft::ShardId;
use futures::{Stream, stream};
use tokio::time::timeout_at;
use tonic::Status;

use crate::api::Door;
use crate::api::deadline::Deadline;
use crate::cluster::META_SHARD;
use crate::error::Error;
use crate::gateway::records_tenant;
use crate::shadows::Dump;
use crate::snapshot::Row;

/// The stream. Who is connected where is left out: it means nothing to another cluster. It ends at the
/// deadline if the caller set one.
pub(super) async fn dump(
    door: &Door,
    request: v1::DumpShardRequest,
    deadline: Deadline,
) -> Result<impl Stream<Item = Result<v1::DumpShardResponse, Status>> + use<>, Error> {
    let begin = begin(door, request.shard)?;
    let shard = ShardId(request.shard);
    let dumping = door.shadows.dump(shard, records_tenant());
    let parts = timeout_at(deadline.at, dumping).await;
    let parts = parts.unwrap_or(Err(Error::Deadline))?;
    let end = deadline.asked.then_some(deadline.at);
    let state = Some((parts, false));
    Ok(stream::unfold(state, move |state| {
        let begin = begin.clone();
        async move {
            let (mut parts, is_done) = state?;
            let part = match end {
                None => parts.recv().await,
                Some(at) => match timeout_at(at, parts.recv()).await {
                    Ok(part) => part,
                    Err(_) => return Some((Err(Error::Deadline.into()), None)),
                },
            };
            match part {
                Some(Ok(part)) => {
                    let is_done = matches!(part, Dump::Done(_));
                    let part = Some(message(part, begin));
                    Some((Ok(v1::DumpShardResponse { part }), Some((parts, is_done))))
                }
                Some(Err(error)) => Some((Err(error.into()), None)),
                None if is_done => None,
                // The reader took nothing for so long that the scan was given up.
                None => Some((
                    Err(Error::Unavailable("the reader was too slow").into()),
                    None,
                )),
            }
        }
    }))
}

/// What is known of the shard before it is read.
fn begin(door: &Door, shard: u32) -> Result<v1::DumpBegin, Error> {
    let state = door.cluster.state().borrow().clone();
    let state = state.ok_or(Error::Unavailable("this node belongs to no cluster yet"))?;
    if shard == META_SHARD.0 {
        let why = "shard 0 holds the cluster's own state; a snapshot has none of it";
        return Err(Error::invalid("shard", why));
    }
    let record = state.shards.get(&shard);
    let record = record.ok_or_else(|| Error::invalid("shard", "there is no such shard"))?;
    Ok(v1::DumpBegin {
        cluster_id: state.cluster_id.to_string(),
        shard,
        first_hash: record.first_hash,
        last_hash: record.last_hash,
        ..v1::DumpBegin::default()
    })
}

fn message(part: Dump, begin: v1::DumpBegin) -> Part {
    match part {
        Dump::Begin { index, time_ms } => Part::Begin(v1::DumpBegin {
            index,
            time_ms,
            ..begin
        }),
        Dump::Rows(rows) => Part::Rows(v1::DumpRows {
            rows: rows.into_iter().map(row).collect(),
        }),
        Dump::Done(counts) => Part::End(v1::DumpEnd {
            rows: counts.rows,
            documents: counts.documents,
            bytes: counts.bytes,
            checksum: counts.checksum,
        }),
    }
}

fn row(row: Row) -> v1::Row {
    v1::Row {
        key: row.key.into(),
        value: row.value.into(),
    }
}
