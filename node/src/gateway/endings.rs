//! Connections of this node whose end is being written down. A client that comes back at once must find
//! its session as it left it, not as it was a moment before.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::records::ClientKey;

/// A shard without a leader must not keep a client out for long.
const WAIT_MAX: Duration = Duration::from_secs(3);

/// The clients whose last connection is ending.
#[derive(Default)]
pub(crate) struct Endings {
    ending: Mutex<HashMap<ClientKey, usize>>,
    ended: Notify,
}

impl Endings {
    /// A connection ends; it has ended when the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>, client: ClientKey) -> Ending {
        *self.ending.lock().entry(client).or_default() += 1;
        Ending {
            endings: Arc::clone(self),
            client,
        }
    }

    /// Waits until no connection of the client is ending here, or for a moment.
    pub(crate) async fn wait(&self, client: ClientKey) {
        let ended = async {
            loop {
                let mut next = std::pin::pin!(self.ended.notified());
                next.as_mut().enable();
                if !self.ending.lock().contains_key(&client) {
                    return;
                }
                next.await;
            }
        };
        let _ = timeout(WAIT_MAX, ended).await;
    }
}

/// One connection that is ending.
pub(crate) struct Ending {
    endings: Arc<Endings>,
    client: ClientKey,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let mut ending = self.endings.ending.lock();
        if let Some(count) = ending.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                ending.remove(&self.client);
            }
        }
        drop(ending);
        self.endings.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use antumbra_shadow::Tenant;
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn client_waits_for_all_its_endings_and_for_no_others() {
        let endings = Arc::new(Endings::default());
        let (one, two) = (
            ClientKey::new(&Tenant::default(), "one"),
            ClientKey::new(&Tenant::default(), "two"),
        );
        let (first, second) = (endings.begin(one), endings.begin(one));
        assert!(endings.wait(two).now_or_never().is_some());
        let mut waiting = Box::pin(endings.wait(one));
        assert!((&mut waiting).now_or_never().is_none());
        drop(first);
        assert!((&mut waiting).now_or_never().is_none());
        drop(second);
        waiting.await;
        assert!(endings.ending.lock().is_empty());
    }
}
