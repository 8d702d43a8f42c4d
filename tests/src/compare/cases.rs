//! One system through all shapes: wait until it serves, fill it, then one run after the other.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream as futures_stream};
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tonic::transport::Channel;
use tonic::{Code, Status};

use antumbra_proto::v1::shadows_client::ShadowsClient;

use super::leaders::{Leaders, Way};
use super::load::{self, reason};
use super::record::{Operation, Record, System};
use super::tally::Tally;
use super::workload::{self, Walk};
use super::{antumbra, etcd, process, stream};
use crate::waiting;

/// How long a cluster may take until it serves.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Documents on their way while the system is filled.
const FILL_IN_FLIGHT: usize = 128;
/// How often one document is tried: right after a start a leader may move.
const FILL_TRIES: u32 = 20;
/// Wait between two tries.
const FILL_PAUSE: Duration = Duration::from_millis(100);
/// Devices that are looked for before a cluster counts as ready: enough to meet every shard.
const PROBES: u64 = 64;

/// What to run.
pub(crate) struct Cases {
    pub(crate) system: System,
    /// gRPC endpoints of all nodes, as `http://address:port`.
    pub(crate) endpoints: Vec<String>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) clients: Vec<u64>,
    pub(crate) keys: u64,
    /// Reads in one batch.
    pub(crate) batch: u64,
    /// More clients than this do not read in batches.
    pub(crate) batch_clients_max: u64,
    /// Connections of the clients together; one to each node when absent.
    pub(crate) connections: Option<usize>,
    pub(crate) warm_up: Duration,
    pub(crate) length: Duration,
    pub(crate) round: u64,
    /// Whether the system is filled first.
    pub(crate) fill: bool,
    /// Whether clients use all nodes in turn, and do not ask leaders.
    pub(crate) spread: bool,
    /// File that records are added to.
    pub(crate) out: Option<PathBuf>,
}

/// Where the load goes, and what is known of it.
struct Target {
    endpoints: Vec<String>,
    version: String,
}

impl Cases {
    /// Runs everything. Fails after the last run if any run had errors.
    pub(crate) async fn run(&self) -> Result<()> {
        let target = self.target().await?;
        if self.fill {
            self.fill(&target).await?;
        }
        let mut broken = 0;
        for clients in &self.clients {
            for operation in &self.operations {
                let batch = *operation == Operation::ReadBatch;
                if batch && *clients > self.batch_clients_max {
                    continue;
                }
                let record = self.one(&target, *operation, *clients).await;
                let record = record.with_context(|| format!("{operation}, {clients} clients"))?;
                eprintln!("{}", progress(&record));
                broken += u32::from(!record.errors.is_empty());
                if let Some(path) = &self.out {
                    record.append_to(path)?;
                }
            }
        }
        match broken {
            0 => Ok(()),
            _ => bail!("{broken} runs of {} had errors", self.system),
        }
    }

    /// Waits until every node serves.
    async fn target(&self) -> Result<Target> {
        let channels = waiting::until_async("all nodes accept", READY_LIMIT, || async {
            let count = self.endpoints.len();
            load::connect(&self.endpoints, count).await.ok()
        });
        let channels = channels.await?;
        match self.system {
            System::Antumbra => {
                let mut nodes: Vec<_> = channels.into_iter().map(ShadowsClient::new).collect();
                for node in &mut nodes {
                    serves_all_shards(node).await?;
                }
                let endpoint = self.endpoints.first().context("no endpoint")?.clone();
                let about = tokio::task::spawn_blocking(move || antumbra::about(&endpoint));
                Ok(Target {
                    endpoints: self.endpoints.clone(),
                    version: about.await??.version,
                })
            }
            System::Etcd => {
                let members: Vec<_> = channels.into_iter().map(etcd::Etcd::new).collect();
                let about = waiting::until_async("etcd has a leader", READY_LIMIT, || async {
                    etcd::about(&mut members.clone()).await.ok()
                });
                let about = about.await?;
                let endpoints = match self.spread {
                    true => self.endpoints.clone(),
                    false => vec![self.endpoints[about.leader].clone()],
                };
                Ok(Target {
                    endpoints,
                    version: about.version,
                })
            }
        }
    }

    /// Writes all keys once.
    async fn fill(&self, target: &Target) -> Result<()> {
        let channels = load::connect(&target.endpoints, target.endpoints.len()).await?;
        let written = futures_stream::iter(0..self.keys).map(|n| {
            let channel = channels[n as usize % channels.len()].clone();
            async move {
                match self.system {
                    System::Antumbra => fill_antumbra(ShadowsClient::new(channel), n).await,
                    System::Etcd => fill_etcd(&etcd::Etcd::new(channel), n).await,
                }
            }
        });
        let written = written.buffer_unordered(FILL_IN_FLIGHT);
        written.try_collect::<()>().await.context("fill the system")
    }

    async fn one(&self, target: &Target, operation: Operation, clients: u64) -> Result<Record> {
        let servers = process::servers(&self.endpoints)?;
        let leaders = self.leaders(target).await?;
        let nodes = target.endpoints.len();
        let usual = match leaders {
            Some(_) => nodes,
            None => load::connections(clients as usize, nodes),
        };
        let connections = self.connections.unwrap_or(usual);
        let whole = leaders.is_none() || connections.is_multiple_of(nodes);
        ensure!(whole, "{connections} connections to {nodes} nodes");
        let channels = load::connect(&target.endpoints, connections).await?;
        let tally = Arc::new(Tally::start(self.warm_up, self.length)?);
        let tasks = self.start(operation, clients, &ways(channels, leaders, nodes), &tally)?;
        let own = [std::process::id()].into();
        let cpu = || anyhow::Ok((process::cpu_seconds(&servers)?, process::cpu_seconds(&own)?));
        sleep_until(tally.from).await;
        let before = cpu()?;
        sleep_until(tally.until).await;
        let after = cpu()?;
        load::finish(tasks, &tally).await?;
        let counted = tally.counted();
        if counted.operations == 0 && counted.errors.is_empty() {
            bail!("nothing was answered within {:?}", self.length);
        }
        Ok(Record {
            round: self.round,
            system: self.system,
            version: target.version.clone(),
            operation,
            clients,
            connections: connections as u64,
            servers: servers.len() as u64,
            shards: self.shards().await?,
            seconds: self.length.as_secs_f64(),
            operations: counted.operations,
            conflicts: counted.conflicts,
            p50_us: counted.latency.value_at_quantile(0.5),
            p99_us: counted.latency.value_at_quantile(0.99),
            max_us: counted.latency.max(),
            server_cpu_seconds: after.0 - before.0,
            client_cpu_seconds: after.1 - before.1,
            errors: counted.errors,
        })
    }

    /// Starts all clients of one run.
    fn start(
        &self,
        operation: Operation,
        clients: u64,
        ways: &Ways,
        tally: &Arc<Tally>,
    ) -> Result<JoinSet<()>> {
        let mut tasks = JoinSet::new();
        let walk = |client| Walk::new(client, clients, self.keys);
        if operation == Operation::Stream {
            for (first, way) in (0..).zip(&ways.groups) {
                let own = (first..clients).step_by(ways.groups.len());
                stream::start(&mut tasks, tally, way.clone(), own.map(walk).collect());
            }
            return Ok(tasks);
        }
        for client in 0..clients {
            let channel = ways.channels[client as usize % ways.channels.len()].clone();
            let way = ways.groups[client as usize % ways.groups.len()].clone();
            let (walk, size) = (walk(client), self.batch);
            let (shadows, etcd) = (
                ShadowsClient::new(channel.clone()),
                etcd::Etcd::new(channel),
            );
            match (self.system, operation) {
                (System::Antumbra, Operation::Unary) => {
                    load::start(&mut tasks, tally, antumbra::Update { way, walk });
                }
                (System::Antumbra, Operation::Read) => {
                    load::start(&mut tasks, tally, antumbra::Read { way, walk });
                }
                (System::Antumbra, Operation::ReadBatch) => {
                    let caller = antumbra::ReadBatch {
                        shadows,
                        walk,
                        size,
                    };
                    load::start(&mut tasks, tally, caller);
                }
                (System::Etcd, Operation::Put) => {
                    load::start(&mut tasks, tally, etcd::Put { etcd, walk });
                }
                (System::Etcd, Operation::Txn) => {
                    load::start(&mut tasks, tally, etcd::ReadCompareWrite { etcd, walk });
                }
                (System::Etcd, Operation::Read) => {
                    load::start(&mut tasks, tally, etcd::Read { etcd, walk });
                }
                (System::Etcd, Operation::ReadBatch) => {
                    load::start(&mut tasks, tally, etcd::ReadBatch { etcd, walk, size });
                }
                (system, operation) => bail!("{system} has no {operation}"),
            }
        }
        Ok(tasks)
    }

    /// Who leads, where clients are to know. A leader may just be moving: then a little later.
    async fn leaders(&self, target: &Target) -> Result<Option<Arc<Leaders>>> {
        if self.system == System::Etcd || self.spread {
            return Ok(None);
        }
        let leaders = waiting::until_async("all shards have leaders", READY_LIMIT, || async {
            let channels = load::connect(&target.endpoints, 1).await.ok()?;
            let channel = channels.into_iter().next()?;
            Leaders::learn(channel, &target.endpoints).await.ok()
        });
        Ok(Some(Arc::new(leaders.await?)))
    }

    /// Raft groups that hold the data: as many as all nodes name, and one in etcd.
    async fn shards(&self) -> Result<u64> {
        if self.system == System::Etcd {
            return Ok(1);
        }
        let endpoints = self.endpoints.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let mut shards = BTreeSet::new();
            for endpoint in &endpoints {
                shards.append(&mut antumbra::about(endpoint)?.shards);
            }
            anyhow::Ok(shards.len() as u64)
        });
        asked.await?
    }
}

/// Connections, and which of them clients use for a key. Clients are spread over the groups.
struct Ways {
    channels: Vec<Channel>,
    groups: Vec<Way>,
}

fn ways(channels: Vec<Channel>, leaders: Option<Arc<Leaders>>, nodes: usize) -> Ways {
    let clients = |channels: &[Channel]| channels.iter().cloned().map(ShadowsClient::new).collect();
    let groups = match leaders {
        Some(leaders) => {
            let group = |channels| Way::Leader(clients(channels), Arc::clone(&leaders));
            channels.chunks(nodes).map(group).collect()
        }
        None => {
            let one = |channel: &Channel| Way::One(ShadowsClient::new(channel.clone()));
            channels.iter().map(one).collect()
        }
    };
    Ways { channels, groups }
}

/// Waits until linearizable reads through this node work for many devices. They need not exist.
async fn serves_all_shards(node: &mut ShadowsClient<Channel>) -> Result<()> {
    for n in 0..PROBES {
        waiting::until_async("the node serves all shards", READY_LIMIT, || {
            let mut node = node.clone();
            async move {
                match node.get_shadow(antumbra::read(n)).await {
                    Err(status) if status.code() != Code::NotFound => None,
                    _ => Some(()),
                }
            }
        })
        .await?;
    }
    Ok(())
}

async fn fill_antumbra(node: ShadowsClient<Channel>, n: u64) -> Result<()> {
    repeat(|| {
        let mut node = node.clone();
        async move { node.update_shadow(antumbra::document(n)).await }
    })
    .await
}

async fn fill_etcd(member: &etcd::Etcd, n: u64) -> Result<()> {
    let values = [
        (etcd::document_key(n), workload::document(n, 0)),
        (etcd::patch_key(n), workload::patch(n, 0)),
    ];
    for (key, value) in values {
        let value = Bytes::from(value);
        repeat(|| {
            let (mut member, key, value) = (member.clone(), key.clone(), value.clone());
            async move { member.put(key, value).await }
        })
        .await?;
    }
    Ok(())
}

/// Repeats a call until it succeeds, a few times.
async fn repeat<T, F>(mut call: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = Result<T, Status>>,
{
    let mut last = String::new();
    for _ in 0..FILL_TRIES {
        match call().await {
            Ok(_) => return Ok(()),
            Err(status) => last = reason(&status),
        }
        tokio::time::sleep(FILL_PAUSE).await;
    }
    Err(anyhow!("{last}, {FILL_TRIES} times"))
}

fn progress(record: &Record) -> String {
    let mut line = format!(
        "round {}: {} {}, clients {}, {}: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms, {:.1} us of CPU each",
        record.round,
        record.system,
        record.version,
        record.clients,
        record.operation,
        record.rate(),
        record.p50_us as f64 / 1e3,
        record.p99_us as f64 / 1e3,
        record.server_cpu(),
    );
    for (reason, count) in &record.errors {
        line.push_str(&format!(", {count} × {reason}"));
    }
    line
}
