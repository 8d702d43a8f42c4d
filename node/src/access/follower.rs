//! Follows the records, and puts each change into force on this node.
//!
//! The records are watched like any shadows: first all of them, then every change, on whatever
//! node the shards are. Several changes at about the same time make one new directory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use antumbra_shadow::{DeviceId, Section, Tenant};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::ledger::{RECORDS_TENANT, record_in, record_of};
use super::record::Record;
use super::{Directory, Gate};
use crate::error::Error;
use crate::shadows::{Caller, Shadows, WatchChange, WatchEvent, WatchRequest, WatchSelection};

/// Changes within so long are put into force together.
const GATHER: Duration = Duration::from_millis(50);
/// Pause before a watch that could not begin is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// What keeps a gate up to date.
pub(crate) struct Follower {
    shadows: Shadows,
    gate: Arc<Gate>,
    /// Records of this node's configuration, beside those of the cluster.
    fixed: Vec<Record>,
    records: HashMap<DeviceId, Record>,
    /// All records were read since the watch began.
    is_whole: bool,
    /// When what is known is put into force.
    due: Option<Instant>,
    revision: u64,
}

impl Follower {
    pub(crate) fn new(shadows: Shadows, gate: Arc<Gate>, fixed: Vec<Record>) -> Follower {
        Follower {
            shadows,
            gate,
            fixed,
            records: HashMap::new(),
            is_whole: false,
            due: None,
            revision: 0,
        }
    }

    /// Runs until the node stops.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&mut self) {
        loop {
            if let Err(error) = self.watch().await {
                debug!(%error, "follow the records of access");
            }
            sleep(PAUSE).await;
        }
    }

    async fn watch(&mut self) -> Result<(), Error> {
        let tenant = Tenant::parse(RECORDS_TENANT);
        let request = WatchRequest {
            tenant: tenant.map_err(|_| Error::Internal("the tenant of records has no name"))?,
            selection: WatchSelection::Prefix(String::new()),
            cursor: None,
        };
        let mut stream = self.shadows.watch(&Caller::node("access"), request)?;
        self.begin();
        loop {
            let due = self.due;
            let message = tokio::select! {
                biased;
                () = until(due) => {
                    self.put_into_force();
                    continue;
                }
                message = stream.next() => message,
            };
            match message {
                Some(Ok(message)) => self.take(message.event),
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            }
        }
    }

    /// Everything is told from the beginning; what is in force stays so meanwhile.
    fn begin(&mut self) {
        self.records.clear();
        self.is_whole = false;
        self.due = None;
    }

    fn take(&mut self, event: WatchEvent) {
        match event {
            WatchEvent::Document {
                device, document, ..
            } => {
                let record = record_in(&document);
                self.note(device.device, record);
            }
            WatchEvent::Change(change) => {
                let record = record_after(&change);
                self.note(change.device().device.clone(), record);
            }
            WatchEvent::Synced => {
                self.is_whole = true;
                self.due = Some(Instant::now());
            }
            WatchEvent::Reset(_) => self.begin(),
            WatchEvent::Bookmark => {}
        }
    }

    fn note(&mut self, device: DeviceId, record: Option<Record>) {
        match record {
            Some(record) => {
                self.records.insert(device, record);
            }
            None => {
                self.records.remove(&device);
            }
        }
        if self.is_whole {
            self.due.get_or_insert_with(|| Instant::now() + GATHER);
        }
    }

    fn put_into_force(&mut self) {
        self.due = None;
        self.revision += 1;
        let stored = self.records.values().cloned();
        let records = self.fixed.iter().cloned().chain(stored).collect();
        let (directory, problems) = Directory::new(self.revision, records);
        for problem in problems {
            warn!(%problem, "a record of access is left out");
        }
        self.gate.set_directory(directory);
    }
}

/// The record that a change wrote: a write has all of it. `None` when it is gone, or cannot be read,
/// which lets nobody in.
fn record_after(change: &WatchChange) -> Option<Record> {
    if *change.deleted() {
        return None;
    }
    record_of(&change.patch().section_json(Section::Reported)?)
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
