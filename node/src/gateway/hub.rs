//! Follows all shards and tells the connections of this node what concerns them.
//!
//! One stream of changes per node serves all its sessions: from the replicas here where there are
//! any, else from other nodes. So every session sees the changes of a shadow in the order of their
//! versions, whoever made them, and a change of leaders is nothing to it (invariant 8). When the
//! stream breaks or falls behind, sessions are told to look at their shadows again.

use std::sync::Arc;
use std::time::Duration;

use antumbra_shadow::{Change, FeedRecord};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::dialect::event::DisconnectReason;
use super::metrics;
use super::mqtt::session::ServerCause;
use super::presence;
use super::records::{ClientKey, Record, Records};
use super::registry::Registry;
use super::slot::Note;
use super::wills::Wills;
use crate::shadows::{Shadows, Source, Wanted, WatchEvent, WatchStream};

/// Pause before a stream that could not begin is tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a record may take to read.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Tells connections of changes.
#[derive(Clone)]
pub(crate) struct Hub {
    pub(crate) shadows: Shadows,
    pub(crate) registry: Arc<Registry>,
    pub(crate) records: Records,
    pub(crate) wills: Arc<Wills>,
    pub(crate) wanted: Arc<Wanted>,
    /// Set once changes are told.
    pub(crate) synced: watch::Sender<bool>,
}

impl Hub {
    /// Runs until the node stops.
    pub(crate) async fn run(self, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&self) {
        loop {
            match self.shadows.follow_wanted(&self.wanted) {
                Ok(stream) => self.tell(stream).await,
                Err(error) => debug!(%error, "follow the shards"),
            }
            sleep(PAUSE).await;
        }
    }

    async fn tell(&self, mut stream: WatchStream) {
        while let Some(message) = stream.next().await {
            match message.map(|message| message.event) {
                Ok(WatchEvent::Change(change)) => {
                    metrics::change();
                    match change.source {
                        Source::Live(change) => self.changed(change),
                        Source::Stored(record) => self.recorded(record),
                    }
                }
                // What came before may have been missed.
                Ok(WatchEvent::Synced) => {
                    self.synced.send_replace(true);
                    self.registry.tell_all(&Note::Resync);
                }
                Ok(_) => {}
                Err(error) => {
                    debug!(%error, "the stream of all changes ended");
                    return;
                }
            }
        }
    }

    fn changed(&self, change: Arc<Change>) {
        match ClientKey::of_record(&change.device) {
            None => {
                let note = Note::Change(Arc::clone(&change));
                self.registry.tell_of_device(&change.device, &note);
            }
            Some(client) => {
                let Some(now) = Record::read(&change.current) else {
                    return;
                };
                self.tell_client(client, &now, change.version);
                let before = change.previous.as_ref().and_then(Record::read);
                for news in presence::news(before.as_ref(), &now, change.version) {
                    let note = Note::Presence(Arc::new(news));
                    self.registry.tell_of_presence(&now.tenant, &note);
                }
            }
        }
    }

    /// A change of which only the record in the feed is at hand.
    fn recorded(&self, record: Arc<FeedRecord>) {
        match ClientKey::of_record(&record.device) {
            None => {
                let note = Note::Record(Arc::clone(&record));
                self.registry.tell_of_device(&record.device, &note);
            }
            Some(client) => {
                let hub = self.clone();
                tokio::spawn(async move {
                    let deadline = Instant::now() + READ_TIMEOUT;
                    if let Ok(Some((now, epoch))) = hub.records.read(client, deadline).await {
                        hub.tell_client(client, &now, epoch);
                    }
                });
            }
        }
    }

    fn tell_client(&self, client: ClientKey, now: &Record, epoch: u64) {
        let (session, connected) = (now.session, now.connected);
        if connected {
            self.wills.connected(client, session, now.resumed);
        }
        let by_operator = presence::reason_of(now.reason) == DisconnectReason::ByOperator;
        self.registry.tell_client(client, |own| Note::Recorded {
            epoch,
            holds: own == session && connected,
            cause: match own == session {
                _ if by_operator && !connected => ServerCause::Administrative,
                // Others have given this node up. A client that heard of a take-over would stay away.
                true => ServerCause::UseAnotherServer,
                false => ServerCause::TakenOver,
            },
        });
    }
}
