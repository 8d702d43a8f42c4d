//! `RestoreRows`: rows of a snapshot into the shards of this cluster.

use antumbra_proto::cluster::v1;
use tokio::time::Instant;

use crate::api::Door;
use crate::error::Error;
use crate::snapshot::Row;

use super::soon;

pub(super) async fn restore(
    door: &Door,
    request: v1::RestoreRowsRequest,
    deadline: Instant,
) -> Result<v1::RestoreRowsResponse, Error> {
    let rows = request.rows.into_iter().map(|row| Row {
        key: row.key.into(),
        value: row.value.into(),
    });
    let restored = door.shadows.restore(rows.collect(), soon(deadline)).await?;
    Ok(v1::RestoreRowsResponse {
        written: restored.written,
        present: restored.present,
        left: restored.left,
    })
}
