//! Three hosts in one process, connected by memory, with one shard.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::{
    Env, Host, HostConfig, Node, ProposeError, ReplicaId, Role, Shard, ShardId, ShardSpec,
};
use bytes::Bytes;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::host_support::{Counters, PATIENCE, config, dump, range};
use crate::network::Network;

pub(crate) const SHARD: ShardId = ShardId(1);

/// One node of a cluster.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) host: Arc<Host>,
    pub(crate) shard: Shard,
    pub(crate) machine: Arc<Counters>,
}

/// Nodes with their directories.
pub(crate) struct Cluster {
    pub(crate) network: Network,
    pub(crate) members: Vec<Member>,
    directories: BTreeMap<String, TempDir>,
    settings: fn(&mut HostConfig),
}

pub(crate) fn node(name: &str) -> Node {
    Node {
        name: name.to_owned(),
        address: format!("{name}:7401"),
    }
}

/// The first replica of node `n-<number>`.
pub(crate) fn replica(name: &str) -> ReplicaId {
    ReplicaId(name[2..].parse().unwrap())
}

impl Cluster {
    /// Three members, `n-1` to `n-3`, that have a leader.
    pub(crate) async fn start() -> Cluster {
        Cluster::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(settings: fn(&mut HostConfig)) -> Cluster {
        let mut cluster = Cluster {
            network: Network::default(),
            members: Vec::new(),
            directories: BTreeMap::new(),
            settings,
        };
        let names = ["n-1", "n-2", "n-3"];
        let voters: BTreeMap<_, _> = names.map(|name| (replica(name), node(name))).into();
        for name in names {
            cluster.open(name, replica(name), voters.clone()).await;
        }
        cluster.leader().await;
        cluster
    }

    /// Opens a host, in its old directory if it has one, and starts its replica.
    pub(crate) async fn open(
        &mut self,
        name: &str,
        replica: ReplicaId,
        voters: BTreeMap<ReplicaId, Node>,
    ) {
        let directory = self.directories.entry(name.to_owned());
        let directory = directory.or_insert_with(|| TempDir::new().unwrap());
        let mut config = config(directory.path());
        (self.settings)(&mut config);
        let host = Host::open(config, Env::system(), self.network.port(name)).await;
        let host = Arc::new(host.unwrap());
        self.network.add(name, Arc::clone(&host));
        let machine = Arc::new(Counters::default());
        let shard = host.start_shard(spec(replica, voters), Arc::clone(&machine));
        self.members.push(Member {
            name: name.to_owned(),
            shard: shard.await.unwrap(),
            host,
            machine,
        });
    }

    /// Stops a node; its directory stays.
    pub(crate) async fn close(&mut self, name: &str) {
        self.network.remove(name);
        let place = self.members.iter().position(|member| member.name == name);
        let member = self.members.remove(place.unwrap());
        drop(member.shard);
        member.host.shutdown().await.unwrap();
    }

    /// Forgets what a node that was closed has on disk.
    pub(crate) fn wipe(&mut self, name: &str) {
        self.directories.remove(name);
    }

    /// Where a node keeps its data.
    pub(crate) fn directory(&self, name: &str) -> &Path {
        self.directories[name].path()
    }

    /// Gives a node that was closed another directory.
    pub(crate) fn set_back(&mut self, name: &str, directory: TempDir) {
        self.directories.insert(name.to_owned(), directory);
    }

    pub(crate) fn member(&self, name: &str) -> &Member {
        let mut members = self.members.iter();
        members.find(|member| member.name == name).unwrap()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.members.iter().map(|m| m.name.clone()).collect()
    }

    /// Waits for a leader that may serve, and that a quorum of the members knows of.
    pub(crate) async fn leader(&self) -> &Member {
        self.leader_of(&self.names()).await
    }

    /// As [`Cluster::leader`], among some of the members.
    pub(crate) async fn leader_of(&self, names: &[String]) -> &Member {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let known = || self.members.iter().filter(|m| names.contains(&m.name));
            for member in known() {
                let leads = |other: &Member| {
                    let leader = other.shard.leader();
                    leader.is_some_and(|(id, _)| id == member.shard.replica())
                };
                if term(&member.shard).is_some() && known().filter(|m| leads(m)).count() >= 2 {
                    return member;
                }
            }
            assert!(Instant::now() < deadline, "no leader in time");
            sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn followers(&self) -> Vec<&Member> {
        let leader = self.leader().await.name.clone();
        let others = self.members.iter().filter(|m| m.name != leader);
        others.collect()
    }

    /// Adds one to a counter on whoever leads, until it was acknowledged. An attempt without a
    /// certain outcome may count as well.
    pub(crate) async fn add(&self, key: &str) {
        let command = format!("add {key} 1");
        until(async || self.propose(&command).await.is_ok()).await;
    }

    /// Proposes once, to whoever leads.
    pub(crate) async fn propose(&self, command: &str) -> Result<u64, ProposeError> {
        for member in &self.members {
            if let Some(term) = term(&member.shard) {
                let command = Bytes::from(command.to_owned());
                return member.shard.propose(term, command).await.map(|p| p.index);
            }
        }
        Err(ProposeError::NotLeader)
    }

    /// Waits until all members have applied the same, and compares their rows.
    pub(crate) async fn converge(&self) {
        let deadline = Instant::now() + PATIENCE;
        let leader = self.leader().await;
        let index = loop {
            match leader.shard.barrier().await {
                Ok(index) => break index,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        };
        for member in &self.members {
            until(async || member.shard.applied_index() >= index).await;
        }
        let expected = dump(&leader.shard);
        for member in &self.members {
            assert_eq!(dump(&member.shard), expected, "{}", member.name);
        }
    }

    pub(crate) async fn shutdown(mut self) {
        for name in self.names() {
            self.close(&name).await;
        }
    }
}

pub(crate) fn spec(replica: ReplicaId, voters: BTreeMap<ReplicaId, Node>) -> ShardSpec {
    ShardSpec {
        shard: SHARD,
        replica,
        range: range(SHARD),
        create: !voters.is_empty(),
        members: voters,
    }
}

/// The term in which this replica leads and serves.
pub(crate) fn term(shard: &Shard) -> Option<u64> {
    match *shard.role().borrow() {
        Role::Leader { term } => Some(term),
        _ => None,
    }
}

/// Waits for a condition.
pub(crate) async fn until(condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not in time");
        sleep(Duration::from_millis(5)).await;
    }
}
