//! Wills that wait: published after their delay, at once when the session ends before, and not at all
//! when a new connection continues it [MQTT-3.1.3-9].
//!
//! They wait in the memory of the node that the client was connected to; when that node dies, they
//! die with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::plain::{PlainMessage, Router};
use super::records::{ClientKey, Records};
use crate::shadows::{Want, Wanted};

/// How long a record may take to read.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The wills that wait on this node.
pub(crate) struct Wills {
    router: Arc<Router>,
    wanted: Arc<Wanted>,
    records: Records,
    waiting: Mutex<HashMap<ClientKey, Waiting>>,
    stop: CancellationToken,
}

struct Waiting {
    /// The connection whose will it is.
    session: Uuid,
    message: PlainMessage,
    /// So that this node hears of the client's next connection.
    _record: Option<Want>,
}

impl Wills {
    pub(crate) fn new(
        router: Arc<Router>,
        wanted: Arc<Wanted>,
        records: Records,
        stop: CancellationToken,
    ) -> Arc<Wills> {
        Arc::new(Wills {
            router,
            wanted,
            records,
            waiting: Mutex::default(),
            stop,
        })
    }

    /// Publishes the will of a connection after `delay_s` seconds.
    pub(crate) fn publish_later(
        self: &Arc<Self>,
        session: Uuid,
        message: PlainMessage,
        delay_s: u32,
    ) {
        let client = message.publisher;
        let waiting = Waiting {
            session,
            message,
            _record: client.device().map(|record| self.wanted.hold(&record)),
        };
        let before = self.waiting.lock().insert(client, waiting);
        if let Some(before) = before {
            // Its session has ended: there is another one, that has a will of its own.
            self.router.publish(before.message);
        }
        let wills = Arc::clone(self);
        tokio::spawn(async move {
            let waiting = async {
                wills.look(client, session).await;
                sleep(Duration::from_secs(delay_s.into())).await;
            };
            tokio::select! {
                biased;
                () = wills.stop.cancelled() => {}
                () = waiting => wills.is_due(client, session),
            }
        });
    }

    /// The client may have connected again before its will waited here.
    async fn look(&self, client: ClientKey, session: Uuid) {
        let read = self.records.read(client, Instant::now() + READ_TIMEOUT);
        if let Ok(Some((now, _))) = read.await
            && now.connected
            && now.session != session
        {
            self.connected(client, now.session, now.resumed);
        }
    }

    /// A client has connected, and continues its session or has begun another.
    pub(crate) fn connected(&self, client: ClientKey, session: Uuid, is_resumed: bool) {
        let waiting = {
            let mut all = self.waiting.lock();
            let is_older = all
                .get(&client)
                .is_some_and(|waiting| waiting.session != session);
            is_older.then(|| all.remove(&client)).flatten()
        };
        if let Some(waiting) = waiting
            && !is_resumed
        {
            self.router.publish(waiting.message);
        }
    }

    fn is_due(&self, client: ClientKey, session: Uuid) {
        let waiting = {
            let mut all = self.waiting.lock();
            let is_it = all
                .get(&client)
                .is_some_and(|waiting| waiting.session == session);
            is_it.then(|| all.remove(&client)).flatten()
        };
        if let Some(waiting) = waiting {
            self.router.publish(waiting.message);
        }
    }
}
