//! What the cluster says of itself: leaders, replicas, and whether they are equal.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::cluster::{Cluster, name};
use super::hashes;

const LIMIT: Duration = Duration::from_secs(20);
/// Entries that a replica may be behind and still count as repaired.
const LAG_MAX: u64 = 1_000;

/// The shard of a device, as `cluster explain` says.
pub fn shard_of(cluster: &Cluster, node: usize, device: &str) -> Result<u64> {
    let printed = cluster.ask(node, &["cluster", "explain", device], LIMIT)?;
    let value: Value = serde_json::from_str(&printed.output)
        .with_context(|| format!("cluster explain: {}", printed.error.trim()))?;
    let shard = &value["shard"]["shard"];
    shard
        .as_u64()
        .with_context(|| format!("no shard in {value}"))
}

/// The node that leads a shard, as `cluster shards` says.
pub fn leader_of(cluster: &Cluster, node: usize, shard: u64) -> Result<usize> {
    let shards = shards(cluster, node)?;
    let found = shards.iter().find(|one| one["shard"] == shard);
    let leader = found.and_then(|one| one["leader"].as_str());
    let leader = leader.with_context(|| format!("shard {shard} has no leader"))?;
    let numbers = 0..cluster.nodes();
    numbers
        .into_iter()
        .find(|number| name(*number) == leader)
        .with_context(|| format!("no node is called {leader}"))
}

/// All nodes, as `cluster nodes` says.
pub fn nodes(cluster: &Cluster, node: usize) -> Result<Vec<Value>> {
    let printed = cluster.ask(node, &["cluster", "nodes"], LIMIT)?;
    let value: Value = serde_json::from_str(&printed.output)
        .with_context(|| format!("cluster nodes: {}", printed.error.trim()))?;
    let nodes = value["nodes"].as_array().cloned();
    nodes.with_context(|| format!("no nodes in {value}"))
}

/// All shards, as `cluster shards` says.
pub fn shards(cluster: &Cluster, node: usize) -> Result<Vec<Value>> {
    let printed = cluster.ask(node, &["cluster", "shards"], LIMIT)?;
    let value: Value = serde_json::from_str(&printed.output)
        .with_context(|| format!("cluster shards: {}", printed.error.trim()))?;
    let shards = value["shards"].as_array().cloned();
    shards.with_context(|| format!("no shards in {value}"))
}

/// Whether these are so many nodes, with replicas and leads as even as they can be.
pub fn are_even(nodes: &[Value], count: usize) -> bool {
    let even = |what: &str| {
        let counts = || nodes.iter().filter_map(|node| node[what].as_u64());
        let ends = counts().min().zip(counts().max());
        ends.is_some_and(|(least, most)| most - least <= 1)
    };
    nodes.len() == count && even("replicas") && even("leaderships")
}

/// Fails, saying why, unless every shard has all its replicas, all of them follow their leader, and
/// they are equal.
pub fn check_repaired(cluster: &Cluster, node: usize) -> Result<()> {
    let shards = shards(cluster, node)?;
    judge_repaired(&shards, &verify(cluster, node)?, cluster.nodes().min(3))
}

/// As [`check_repaired`], of what `cluster shards` and `cluster verify` said and so many replicas.
pub fn judge_repaired(shards: &[Value], verified: &str, replicas: usize) -> Result<()> {
    for shard in shards {
        judge_shard(shard, replicas)?;
    }
    let report = hashes::judge(verified);
    ensure!(report.violations.is_empty(), "{:?}", report.violations);
    Ok(())
}

/// Whether one shard, as `cluster shards` prints it, has so many replicas, all of them well.
fn judge_shard(shard: &Value, wanted: usize) -> Result<()> {
    let replicas = shard["replicas"].as_array();
    let replicas = replicas.with_context(|| format!("no replicas in {shard}"))?;
    let well = |replica: &&Value| {
        let role = replica["role"].as_str().unwrap_or_default();
        let lag = replica["lag"].as_u64();
        replica["standing"] == "voter"
            && ["leader", "follower"].contains(&role)
            && lag.is_some_and(|lag| lag <= LAG_MAX)
    };
    let good = replicas.iter().filter(well).count();
    ensure!(
        good == wanted && replicas.len() == wanted,
        "{good} of {wanted} replicas are well: {shard}"
    );
    Ok(())
}

/// What `cluster verify` prints, whatever it finds.
pub fn verify(cluster: &Cluster, node: usize) -> Result<String> {
    let printed = cluster.ask(node, &["cluster", "verify"], LIMIT * 4)?;
    ensure!(
        !printed.output.trim().is_empty(),
        "cluster verify: {}",
        printed.error.trim()
    );
    Ok(printed.output)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn judges_evenness() {
        let node = |replicas: u64, leads: u64| json!({"replicas": replicas, "leaderships": leads});
        assert!(are_even(&[node(3, 1), node(2, 0)], 2));
        assert!(!are_even(&[node(3, 1), node(2, 0)], 3));
        assert!(!are_even(&[node(4, 1), node(2, 1)], 2));
        assert!(!are_even(&[node(3, 2), node(3, 0)], 2));
        assert!(!are_even(&[], 0), "nobody said anything");
    }

    /// A shard is repaired when all replicas that it should have vote and follow closely.
    #[test]
    fn judges_replicas() {
        let replica = |role: &str, standing: &str, lag: Option<u64>| json!({"role": role, "standing": standing, "lag": lag});
        let judge = |replicas: Vec<Value>| judge_shard(&json!({"replicas": replicas}), 3).is_ok();
        let leader = || replica("leader", "voter", Some(0));
        let follower = || replica("follower", "voter", Some(5));
        assert!(judge(vec![leader(), follower(), follower()]));
        assert!(!judge(vec![leader(), follower()]));
        assert!(!judge(vec![
            leader(),
            follower(),
            replica("absent", "voter", Some(5))
        ]));
        assert!(!judge(vec![
            leader(),
            follower(),
            replica("follower", "voter", None)
        ]));
        assert!(!judge(vec![
            leader(),
            follower(),
            replica("follower", "voter", Some(9_999))
        ]));
        let retiring = replica("unreachable", "retiring", Some(5));
        assert!(!judge(vec![leader(), follower(), follower(), retiring]));
    }
}
