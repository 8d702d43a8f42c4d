//! Calls to nodes of Antumbra.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use tonic::transport::Channel;

use antumbra_proto::v1;
use v1::shadows_client::ShadowsClient;

use super::leaders::Way;
use super::load::{Caller, reason};
use super::tally::Done;
use super::workload::{self, Walk};
use crate::http;

/// Offset of the HTTP door from the gRPC door.
const HTTP_OFFSET: u16 = 80;
/// The shard that holds the cluster's own state and no shadows.
const META_SHARD: &str = "0";

fn key(n: u64) -> Option<v1::ShadowKey> {
    Some(v1::ShadowKey {
        device_id: workload::device(n),
        ..<_>::default()
    })
}

/// The update that all runs measure.
pub(crate) fn patch(n: u64, change: u64) -> v1::UpdateShadowRequest {
    v1::UpdateShadowRequest {
        key: key(n),
        reported_json: Some(workload::patch(n, change)),
        ..<_>::default()
    }
}

/// The update that makes a whole document.
pub(crate) fn document(n: u64) -> v1::UpdateShadowRequest {
    v1::UpdateShadowRequest {
        key: key(n),
        desired_json: Some(workload::desired().to_owned()),
        reported_json: Some(workload::reported(n, 0)),
        ..<_>::default()
    }
}

/// A linearizable read of a whole document.
pub(crate) fn read(n: u64) -> v1::GetShadowRequest {
    v1::GetShadowRequest {
        key: key(n),
        consistency: v1::Consistency::Linearizable.into(),
        ..<_>::default()
    }
}

fn is_whole(answer: &v1::GetShadowResponse) -> bool {
    let shadow = answer.shadow.as_ref();
    shadow.is_some_and(|shadow| !shadow.reported_json.is_empty() && !shadow.desired_json.is_empty())
}

/// `UpdateShadow` with a patch.
pub(crate) struct Update {
    pub(crate) way: Way,
    pub(crate) walk: Walk,
}

impl Caller for Update {
    async fn call(&mut self) -> Result<Done, String> {
        let (key, change) = self.walk.next();
        let node = self.way.to(key);
        let answer = node.update_shadow(patch(key, change)).await;
        answer.map(|_| Done::ONE).map_err(|status| reason(&status))
    }
}

/// `GetShadow`, linearizable.
pub(crate) struct Read {
    pub(crate) way: Way,
    pub(crate) walk: Walk,
}

impl Caller for Read {
    async fn call(&mut self) -> Result<Done, String> {
        let (key, _) = self.walk.next();
        let answer = self.way.to(key).get_shadow(read(key)).await;
        let answer = answer.map_err(|status| reason(&status))?;
        match is_whole(answer.get_ref()) {
            true => Ok(Done::ONE),
            false => Err("INCOMPLETE".to_owned()),
        }
    }
}

/// `BatchGetShadows`, linearizable.
pub(crate) struct ReadBatch {
    pub(crate) shadows: ShadowsClient<Channel>,
    pub(crate) walk: Walk,
    pub(crate) size: u64,
}

impl Caller for ReadBatch {
    async fn call(&mut self) -> Result<Done, String> {
        let requests: Vec<_> = self.walk.next_row(self.size).map(read).collect();
        let asked = requests.len();
        let request = v1::BatchGetShadowsRequest { requests };
        let answer = self.shadows.batch_get_shadows(request).await;
        let results = answer
            .map_err(|status| reason(&status))?
            .into_inner()
            .results;
        if let Some(failed) = results.iter().find(|result| result.code != 0) {
            return Err(failed.reason.clone());
        }
        let whole = |result: &&v1::BatchGetResult| result.response.as_ref().is_some_and(is_whole);
        if results.iter().filter(whole).count() != asked {
            return Err("INCOMPLETE".to_owned());
        }
        Ok(Done {
            operations: asked as u64,
            conflicts: 0,
        })
    }
}

/// What a node says of itself.
pub(crate) struct About {
    /// Version of the program.
    pub(crate) version: String,
    /// Shards that hold shadows.
    pub(crate) shards: BTreeSet<String>,
}

/// Asks the node with this gRPC endpoint; its HTTP door is 80 ports further. Blocks.
pub(crate) fn about(endpoint: &str) -> Result<About> {
    let address = endpoint.trim_start_matches("http://").trim_end_matches('/');
    let mut address: SocketAddr = address
        .parse()
        .with_context(|| format!("{endpoint} is not http://address:port"))?;
    address.set_port(address.port() + HTTP_OFFSET);
    let answer = http::get(address, "/metrics")?;
    ensure!(answer.status == 200, "/metrics answers {}", answer.status);
    Ok(read_metrics(&answer.text()))
}

fn read_metrics(text: &str) -> About {
    let label = |line: &str, name: &str| -> Option<String> {
        let (_, rest) = line.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let series = || text.lines().filter(|line| !line.starts_with('#'));
    let version = series()
        .find(|line| line.starts_with("antumbra_build_info{"))
        .and_then(|line| label(line, "version"));
    let shards =
        series().filter_map(|line| label(line, "{shard").or_else(|| label(line, ",shard")));
    About {
        version: version.unwrap_or_else(|| "unknown".to_owned()),
        shards: shards.filter(|shard| shard != META_SHARD).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of shards is printed beside every figure: it decides what a commit round costs.
    #[test]
    fn counts_shards_in_metrics() {
        let about = read_metrics(
            "# HELP antumbra_feed_bytes Size {shard=\"9\"}\n\
             antumbra_build_info{version=\"0.1.0\"} 1\n\
             antumbra_feed_bytes{shard=\"0\"} 10\n\
             antumbra_feed_bytes{shard=\"1\"} 10\n\
             antumbra_feed_trimmed_index{node=\"a\",shard=\"1\"} 10\n\
             antumbra_feed_trimmed_index{node=\"a\",shard=\"12\"} 10\n",
        );
        assert_eq!(about.version, "0.1.0");
        assert_eq!(about.shards, ["1", "12"].map(str::to_owned).into());
    }
}
