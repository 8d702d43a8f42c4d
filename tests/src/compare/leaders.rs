//! Which node leads which device, so that a client asks the node that answers by itself.
//!
//! What any client can do: `GetStatus` names the shards with the hashes that they own, their leaders
//! and the leaders' addresses; `cluster.proto` says how a device is hashed. Whoever asks another node is
//! answered too, one hop later.

use anyhow::{Context, Result, ensure};
use tonic::transport::Channel;
use xxhash_rust::xxh3::xxh3_64;

use antumbra_proto::cluster::v1;
use antumbra_proto::v1::shadows_client::ShadowsClient;
use v1::cluster_client::ClusterClient;

use super::workload;

/// Tenant of the devices: that of a caller without credentials.
const TENANT: &str = "default";
/// The shard that holds the cluster's own state and no shadows.
const META_SHARD: u32 = 0;

/// Who leads what, as of one moment.
pub(crate) struct Leaders {
    /// The last hash of each shard, ascending, and the number of its leader's endpoint.
    shards: Vec<(u32, usize)>,
}

impl Leaders {
    /// Asks the node behind `channel`. Fails while a shard has no leader.
    pub(crate) async fn learn(channel: Channel, endpoints: &[String]) -> Result<Leaders> {
        let request = v1::GetStatusRequest::default();
        let answer = ClusterClient::new(channel).get_status(request).await?;
        Leaders::read(&answer.into_inner(), endpoints)
    }

    fn read(status: &v1::GetStatusResponse, endpoints: &[String]) -> Result<Leaders> {
        let mut shards = Vec::new();
        for shard in status.shards.iter().filter(|s| s.shard != META_SHARD) {
            let leader = status.nodes.iter().find(|node| node.name == shard.leader);
            let leader = leader.with_context(|| format!("shard {} has no leader", shard.shard))?;
            let endpoint = endpoints.iter().position(|endpoint| {
                endpoint.trim_start_matches("http://").trim_end_matches('/') == leader.grpc_address
            });
            let endpoint = endpoint
                .with_context(|| format!("no endpoint is {} of the leader", leader.grpc_address))?;
            shards.push((shard.last_hash, endpoint));
        }
        shards.sort_unstable();
        let all = shards.last().is_some_and(|(last, _)| *last == u32::MAX);
        ensure!(all, "the shards do not own all hashes");
        Ok(Leaders { shards })
    }

    /// The number of the endpoint whose node leads the device.
    pub(crate) fn of(&self, n: u64) -> usize {
        let key = format!("{TENANT}\0{}", workload::device(n));
        let hash = xxh3_64(key.as_bytes()) as u32;
        let shard = self.shards.partition_point(|(last, _)| *last < hash);
        self.shards[shard].1
    }
}

/// Clients of all nodes, and which of them to ask.
#[derive(Clone)]
pub(crate) enum Way {
    /// Always the same.
    One(ShadowsClient<Channel>),
    /// The leader's; one for each endpoint.
    Leader(Vec<ShadowsClient<Channel>>, std::sync::Arc<Leaders>),
}

impl Way {
    /// How many clients there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Way::One(_) => 1,
            Way::Leader(clients, _) => clients.len(),
        }
    }

    /// The number of the one to ask for a device.
    pub(crate) fn number(&self, n: u64) -> usize {
        match self {
            Way::One(_) => 0,
            Way::Leader(_, leaders) => leaders.of(n),
        }
    }

    /// The one with this number.
    pub(crate) fn client(&mut self, number: usize) -> &mut ShadowsClient<Channel> {
        match self {
            Way::One(client) => client,
            Way::Leader(clients, _) => &mut clients[number],
        }
    }

    /// The one to ask for a device.
    pub(crate) fn to(&mut self, n: u64) -> &mut ShadowsClient<Channel> {
        let number = self.number(n);
        self.client(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, port: u16) -> v1::Node {
        v1::Node {
            name: name.to_owned(),
            grpc_address: format!("127.0.0.1:{port}"),
            ..<_>::default()
        }
    }

    fn shard(shard: u32, last_hash: u32, leader: &str) -> v1::Shard {
        v1::Shard {
            shard,
            last_hash,
            leader: leader.to_owned(),
            ..<_>::default()
        }
    }

    /// A wrong hash would only be slower, and nobody would notice: the example is the one in
    /// `cluster.proto`.
    #[test]
    fn devices_are_hashed_as_documented() {
        assert_eq!(xxh3_64(b"default\0pump-1") as u32, 3_533_795_391);
    }

    #[test]
    fn a_device_goes_to_the_leader_of_its_hash() {
        let endpoints = [1, 2].map(|port| format!("http://127.0.0.1:{port}/"));
        let half = u32::MAX / 2;
        let mut status = v1::GetStatusResponse {
            nodes: vec![node("b", 2), node("a", 1)],
            shards: vec![
                shard(0, 0, "a"),
                shard(2, u32::MAX, "a"),
                shard(1, half, "b"),
            ],
            ..<_>::default()
        };
        let leaders = Leaders::read(&status, &endpoints).unwrap();
        for n in 0..100 {
            let key = format!("default\0{}", workload::device(n));
            let low = (xxh3_64(key.as_bytes()) as u32) <= half;
            assert_eq!(leaders.of(n), usize::from(low));
        }
        status.shards[1].leader.clear();
        assert!(Leaders::read(&status, &endpoints).is_err());
    }
}
