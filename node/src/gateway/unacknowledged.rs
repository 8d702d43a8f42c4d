//! Messages of QoS 1 that a client did not acknowledge before its connection ended. When it continues its
//! session at this node, they are sent again [MQTT-4.4.0-1].
//!
//! They are in the memory of the node that the client was connected to: at another node, and after a
//! restart of this one, they are lost. Deltas are never kept: they are made anew from the shadow.

use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::mqtt::session::PendingDelivery;
use super::records::ClientKey;
use super::registry::Registry;

/// Bytes of all messages; over it those of the client that left first are forgotten.
const BYTES_MAX: usize = 64 << 20;
/// What a message weighs beside topic and payload.
const MESSAGE_BYTES: usize = 256;
/// How long a connection that is still open may take to give up what it has.
const HAND_OVER_TIMEOUT: Duration = Duration::from_millis(500);
/// How often it is looked at meanwhile.
const HAND_OVER_PAUSE: Duration = Duration::from_millis(2);

/// What clients that are away have not acknowledged.
pub(crate) struct Unacknowledged {
    kept: Mutex<Kept>,
}

struct Kept {
    clients: LruCache<ClientKey, Left>,
    bytes: usize,
}

struct Left {
    /// The connection that left it.
    session: Uuid,
    pending: Vec<PendingDelivery>,
    bytes: usize,
}

impl Default for Unacknowledged {
    fn default() -> Unacknowledged {
        Unacknowledged {
            kept: Mutex::new(Kept {
                clients: LruCache::unbounded(),
                bytes: 0,
            }),
        }
    }
}

impl Unacknowledged {
    /// A connection whose session lives on has ended.
    pub(crate) fn keep(&self, client: ClientKey, session: Uuid, pending: Vec<PendingDelivery>) {
        let weights = pending.iter().map(weight);
        let bytes = weights.sum();
        let mut kept = self.kept.lock();
        kept.forget(client);
        if pending.is_empty() || bytes > BYTES_MAX {
            return;
        }
        kept.bytes += bytes;
        let left = Left {
            session,
            pending,
            bytes,
        };
        kept.clients.put(client, left);
        while kept.bytes > BYTES_MAX
            && let Some((_, oldest)) = kept.clients.pop_lru()
        {
            kept.bytes -= oldest.bytes;
        }
    }

    /// What a connection left behind, for the one that continues its session. A connection that is still
    /// open at this node is closed, and given a moment to leave it. What others left is forgotten.
    pub(crate) async fn take(
        &self,
        client: ClientKey,
        session: Option<Uuid>,
        registry: &Registry,
    ) -> Vec<PendingDelivery> {
        let deadline = Instant::now() + HAND_OVER_TIMEOUT;
        if let Some(session) = session
            && registry.close(client, session)
        {
            while registry.holds(client, session) && Instant::now() < deadline {
                sleep(HAND_OVER_PAUSE).await;
            }
        }
        let left = self.kept.lock().forget(client);
        let left = left.filter(|left| Some(left.session) == session);
        left.map(|left| left.pending).unwrap_or_default()
    }
}

impl Kept {
    fn forget(&mut self, client: ClientKey) -> Option<Left> {
        let left = self.clients.pop(&client)?;
        self.bytes -= left.bytes;
        Some(left)
    }
}

fn weight(pending: &PendingDelivery) -> usize {
    MESSAGE_BYTES + pending.message.topic.len() + pending.message.payload.len()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use antumbra_shadow::Tenant;

    use super::super::mqtt::session::DeliveryToken;
    use super::super::mqtt::wire::Message;
    use super::*;

    fn message(bytes: usize) -> PendingDelivery {
        PendingDelivery {
            token: DeliveryToken(1),
            packet_id: None,
            message: Message::new("t", vec![0; bytes]),
            subscription_identifiers: Vec::new(),
        }
    }

    fn client(nth: usize) -> ClientKey {
        ClientKey::new(&Tenant::default(), &nth.to_string())
    }

    /// A session that another connection has had meanwhile must not get what is older.
    #[tokio::test]
    async fn only_the_connection_that_follows_gets_what_was_left() {
        let (kept, registry) = (Unacknowledged::default(), Registry::new(Arc::default()));
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        kept.keep(client(1), one, vec![message(10)]);
        assert!(kept.take(client(1), Some(two), &registry).await.is_empty());
        assert!(kept.take(client(1), Some(one), &registry).await.is_empty());
        kept.keep(client(1), one, vec![message(10)]);
        assert!(kept.take(client(1), None, &registry).await.is_empty());
        kept.keep(client(1), one, vec![message(10)]);
        assert_eq!(kept.take(client(1), Some(one), &registry).await.len(), 1);
        assert!(kept.take(client(1), Some(one), &registry).await.is_empty());
        assert_eq!(kept.kept.lock().bytes, 0);
    }

    /// Clients that never come back must not fill the memory.
    #[tokio::test]
    async fn memory_is_bounded_and_the_oldest_goes_first() {
        let (kept, registry) = (Unacknowledged::default(), Registry::new(Arc::default()));
        let session = Uuid::from_u128(1);
        for nth in 0..100 {
            kept.keep(client(nth), session, vec![message(1 << 20)]);
            assert!(kept.kept.lock().bytes <= BYTES_MAX);
        }
        assert!(
            kept.take(client(0), Some(session), &registry)
                .await
                .is_empty()
        );
        assert_eq!(
            kept.take(client(99), Some(session), &registry).await.len(),
            1
        );
        kept.keep(client(99), session, vec![message(BYTES_MAX)]);
        assert!(
            kept.take(client(99), Some(session), &registry)
                .await
                .is_empty()
        );
    }
}
