//! Cleans session records: of gateways that died without a word, and of sessions that are over.
//!
//! Gateways ask each other for a sign of life. One that has given none for [`DEAD_AFTER`] is taken to
//! be dead, and a process that begins knows that the one before it is. What they had connected cannot
//! be any more, so its record is written as disconnected: conditionally, so that a client that has come back is
//! left alone. The living gateway with the lowest name does it; two that think so do no harm.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use antumbra_shadow::{DeviceId, DeviceKey, Tenant};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};
use uuid::Uuid;

use super::dialect::event::DisconnectReason;
use super::door::Door;
use super::presence::number_of;
use super::records::{ClientKey, Expect, Record, records_tenant};
use crate::error::Error;
use crate::shadows::{Caller, ListRequest};

/// How often other gateways are asked for a sign of life.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// How long one may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_millis(900);
/// A gateway without a sign of life for so long is dead: its devices are told to be disconnected
/// within ten seconds.
const DEAD_AFTER: Duration = Duration::from_secs(5);
/// How often sessions that are over are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);
/// What is known of a client that is gone is kept for so long.
const KEPT_MS: u64 = 3_600_000;
/// Records on one page of the list.
const PAGE_SIZE: usize = 1_000;
/// Records that are looked at at one time.
const CONCURRENT_MAX: usize = 32;
/// How long one page, and one record, may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// The first byte of a request for a sign of life. Any answer is one.
pub(super) const LIFE_V1: u8 = 0x61;

/// Looks after the records of a cluster.
pub(crate) struct Keeper {
    door: Arc<Door>,
    others: BTreeMap<String, Other>,
    /// Gateways that have left the cluster since the last look.
    left: Vec<String>,
    caller: Caller,
}

/// Another gateway.
struct Other {
    answered: Instant,
    /// Its death has been dealt with.
    is_buried: bool,
}

impl Other {
    /// One that gives a sign of life now.
    fn new(now: Instant) -> Other {
        Other {
            answered: now,
            is_buried: false,
        }
    }

    /// Whether it is found dead now, which is told once for each death.
    fn dies(&mut self, now: Instant) -> bool {
        let is_dead = now.saturating_duration_since(self.answered) >= DEAD_AFTER;
        is_dead && !std::mem::replace(&mut self.is_buried, true)
    }
}

/// Which records to end.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Gone {
    /// Those of every process of this node.
    Node(String),
    /// Those of every process of this node but this one.
    Before(String, Uuid),
    /// None.
    Nobody,
}

impl Gone {
    fn includes(&self, record: &Record) -> bool {
        match self {
            Gone::Node(node) => record.node == *node,
            Gone::Before(node, boot) => record.node == *node && record.boot != *boot,
            Gone::Nobody => false,
        }
    }
}

impl Keeper {
    pub(crate) fn new(door: Arc<Door>) -> Keeper {
        Keeper {
            door,
            others: BTreeMap::new(),
            left: Vec::new(),
            caller: Caller::node("gateway"),
        }
    }

    /// Runs until the node stops.
    pub(crate) async fn run(self, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.keep() => {}
        }
    }

    async fn keep(mut self) {
        // What the process before this one left behind.
        let before = Gone::Before(self.door.node.clone(), self.door.boot);
        let mut waiting = vec![before];
        let mut swept = Instant::now();
        loop {
            self.ask_others().await;
            waiting.extend(self.find_gone());
            if swept.elapsed() >= SWEEP_INTERVAL && self.is_first() {
                swept = Instant::now();
                waiting.push(Gone::Nobody);
            }
            // What fails is tried again: a shard may have no leader just now.
            let mut failed = Vec::new();
            for gone in waiting {
                if let Err(error) = self.sweep(&gone).await {
                    debug!(%error, ?gone, "clean session records");
                    failed.push(gone);
                }
            }
            waiting = failed;
            sleep(ASK_INTERVAL).await;
        }
    }

    async fn ask_others(&mut self) {
        let asked = self.door.shadows.other_nodes().into_iter().map(|node| {
            let shadows = self.door.shadows.clone();
            async move {
                let body = Bytes::from_static(&[LIFE_V1]);
                let answer = shadows.ask_node(&node, body, ASK_TIMEOUT).await;
                (node.name, answer.is_ok())
            }
        });
        let answers = join_all(asked.collect::<Vec<_>>()).await;
        self.forget_all_but(&answers);
        for (name, has_answered) in answers {
            let now = Instant::now();
            let other = self.others.entry(name).or_insert_with(|| Other::new(now));
            if has_answered {
                *other = Other::new(now);
            }
        }
    }

    /// Forgets whoever is not in the cluster any more: a gateway that left in a hurry may not have ended
    /// all its records.
    fn forget_all_but(&mut self, asked: &[(String, bool)]) {
        let known: BTreeSet<&str> = asked.iter().map(|(name, _)| name.as_str()).collect();
        let left = &mut self.left;
        self.others.retain(|name, other| {
            let is_known = known.contains(name.as_str());
            if !is_known && !other.is_buried {
                left.push(name.clone());
            }
            is_known
        });
    }

    /// The gateways that have died since the last look, if it is ours to clean up.
    fn find_gone(&mut self) -> Vec<Gone> {
        if !self.is_first() {
            self.left.clear();
            return Vec::new();
        }
        let mut gone: Vec<Gone> = self.left.drain(..).map(Gone::Node).collect();
        for (name, other) in &mut self.others {
            if other.dies(Instant::now()) {
                info!(
                    node = name,
                    "a gateway gives no sign of life: its clients are gone"
                );
                gone.push(Gone::Node(name.clone()));
            }
        }
        gone
    }

    /// Whether no living gateway has a lower name.
    fn is_first(&self) -> bool {
        let mut living = self
            .others
            .iter()
            .filter(|(_, other)| other.answered.elapsed() < DEAD_AFTER);
        living.all(|(name, _)| *name > self.door.node)
    }

    /// Looks at every record: ends those of the gateways that are gone, forgets what is over.
    async fn sweep(&self, gone: &Gone) -> Result<(), Error> {
        let tenant = records_tenant();
        let mut token = String::new();
        loop {
            let page = ListRequest {
                page_size: PAGE_SIZE,
                page_token: &token,
            };
            let deadline = Instant::now() + STEP_TIMEOUT;
            let listed = self
                .door
                .shadows
                .list_devices(&self.caller, &tenant, "", page, deadline)
                .await?;
            let looked = listed.devices.into_iter();
            let looked = looked.map(|device| self.look(&tenant, device, gone));
            let mut looked = futures::stream::iter(looked).buffer_unordered(CONCURRENT_MAX);
            while let Some(result) = looked.next().await {
                result?;
            }
            if listed.next_page_token.is_empty() {
                return Ok(());
            }
            token = listed.next_page_token;
        }
    }

    async fn look(&self, tenant: &Tenant, device: DeviceId, gone: &Gone) -> Result<(), Error> {
        let device = DeviceKey::new(tenant.clone(), device);
        let Some(client) = ClientKey::of_record(&device) else {
            return Ok(());
        };
        let deadline = Instant::now() + STEP_TIMEOUT;
        let Some((mut record, epoch)) = self.door.records.read(client, deadline).await? else {
            return Ok(());
        };
        let now_ms = self.door.clocks.time().milliseconds();
        let written = if record.connected && gone.includes(&record) {
            let reason = number_of(DisconnectReason::ConnectionLost);
            record.end(reason, epoch, now_ms);
            let expect = Expect::Epoch(epoch);
            let written = self.door.records.write(&record, expect, deadline).await;
            written.map(|_| ())
        } else if record.is_over(now_ms) && now_ms.saturating_sub(record.since_ms) >= KEPT_MS {
            self.door.records.forget(client, epoch, deadline).await
        } else {
            Ok(())
        };
        match written {
            // The client has come back.
            Err(Error::VersionConflict { .. } | Error::NotFound) => Ok(()),
            written => written,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gateway that was cut off and came back may die later: its clients must not stay connected.
    #[tokio::test]
    async fn gateway_can_die_again_and_each_death_is_told_once() {
        let begin = Instant::now();
        let mut other = Other::new(begin);
        assert!(!other.dies(begin + DEAD_AFTER / 2));
        assert!(other.dies(begin + DEAD_AFTER));
        assert!(!other.dies(begin + DEAD_AFTER * 2));
        let back = begin + DEAD_AFTER * 3;
        other = Other::new(back);
        assert!(!other.dies(back));
        assert!(other.dies(back + DEAD_AFTER));
    }
}
