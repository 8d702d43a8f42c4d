//! The StatefulSet that a node is a pod of, as the node reads it.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::info;

use crate::config::Config;
use crate::kubernetes::{Client, Error, PodName};

use super::decision::Why;
use super::reads::Found;

/// All callers of the door together have the API asked no more often.
const RECENT: Duration = Duration::from_secs(2);
/// Pause before a node that is not needed looks again.
const PAUSE: Duration = Duration::from_secs(2);

/// Reads the StatefulSet of this node, and keeps what the leader says of it.
#[derive(Debug)]
pub(crate) struct Governor {
    client: Client,
    pod: PodName,
    /// When the last question for a caller was begun, and what came of it.
    last: tokio::sync::Mutex<Option<(Instant, Found)>>,
    note: Mutex<Option<String>>,
}

impl Governor {
    /// Reads nothing yet. `None` for a node that is not called like a pod of a StatefulSet.
    pub(super) fn new(config: &Config) -> Result<Option<Governor>, Error> {
        let Some(pod) = PodName::parse(&config.node.name) else {
            return Ok(None);
        };
        Ok(Some(Governor {
            client: Client::new(&config.pod)?,
            pod,
            last: tokio::sync::Mutex::default(),
            note: Mutex::default(),
        }))
    }

    /// The StatefulSet.
    pub(super) fn set_name(&self) -> &str {
        &self.pod.set
    }

    /// Which of its pods this node is.
    pub(super) fn ordinal(&self) -> u32 {
        self.pod.ordinal
    }

    /// Whether a node is one of its pods.
    pub(super) fn governs(&self, node: &str) -> bool {
        PodName::parse(node).is_some_and(|pod| pod.set == self.pod.set)
    }

    /// Asks the API. May be dropped midway.
    pub(super) async fn read(&self) -> Found {
        match self.client.stateful_set(&self.pod.set).await {
            Ok(Some(set)) => Found::Set(set),
            Ok(None) => Found::Missing,
            Err(error) => Found::Unknown(error.to_string()),
        }
    }

    /// What the API says when it is asked after the call began: what was read before may not know yet why the pod
    /// is stopped. Callers share a question; there is one every two seconds at most, for which they wait. May be
    /// dropped midway.
    pub(super) async fn fresh(&self) -> Found {
        let came = Instant::now();
        let mut last = self.last.lock().await;
        if let Some((begun, found)) = &*last {
            if *begun >= came {
                return found.clone();
            }
            sleep_until(*begun + RECENT).await;
        }
        let begun = Instant::now();
        let found = self.read().await;
        *last = Some((begun, found.clone()));
        found
    }

    /// Resolves once the StatefulSet has a pod with the ordinal of this node. One that has left and is started again
    /// must not join anew as long as it is not needed. May be dropped midway.
    pub(crate) async fn needed(&self) {
        let mut told = None;
        loop {
            let why = match self.read().await {
                Found::Set(set) if set.is_being_deleted => Why::BeingDeleted.to_string(),
                Found::Set(set) if self.pod.ordinal < set.end() => return,
                Found::Set(set) => format!(
                    "the StatefulSet has no pod {}: its last one is {}",
                    self.pod.ordinal,
                    set.end().saturating_sub(1)
                ),
                Found::Missing => Why::Missing.to_string(),
                Found::Unknown(why) => Why::Unknown(why).to_string(),
            };
            if told.as_ref() != Some(&why) {
                info!(
                    why,
                    "this node is blank, and joins the cluster once it is needed"
                );
                told = Some(why);
            }
            sleep(PAUSE).await;
        }
    }

    /// What the leader of the meta shard waits for; said once, also in the log.
    pub(super) fn tell(&self, why: Option<Why>) {
        let why = why.map(|why| why.to_string());
        let mut note = self.note.lock();
        if *note == why {
            return;
        }
        if let Some(why) = &why {
            info!(why, "no node is sent away");
        }
        *note = why;
    }

    /// What is waited for, where this node leads the meta shard.
    pub(super) fn note(&self) -> Option<String> {
        self.note.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tempfile::TempDir;
    use tokio::time::timeout;

    use super::*;
    use crate::kubernetes::fake::{Authority, Reply, Server, account, pod, set};

    /// A pod of the StatefulSet `antumbra`, and the API, which says that it has five.
    async fn governor(node: &str) -> (Governor, Server, TempDir) {
        let authority = Authority::new();
        let server = Server::start(authority.acceptor("127.0.0.1"), set("", "")).await;
        let account = account(&authority);
        let mut config = Config::default();
        config.node.name = node.into();
        config.pod = pod(&server, &account);
        (Governor::new(&config).unwrap().unwrap(), server, account)
    }

    /// Whoever reaches the door of a node must not make it ask the API again and again, and a pod that stops must
    /// not be misled by what was read before the StatefulSet was scaled.
    #[tokio::test]
    async fn doors_share_questions_that_are_asked_after_they_came() {
        let (governor, server, _account) = governor("antumbra-4").await;
        let five = |found: Found| matches!(found, Found::Set(set) if set.replicas == 5);
        let all = futures::future::join_all((0..20).map(|_| governor.fresh()));
        assert!(all.await.into_iter().all(five));
        // Those who came while the first question was under way share the next one.
        let asked = server.asked.lock().len();
        assert!(asked <= 2, "{asked} questions");
        // Whoever comes now hears of what happens now, if a moment later.
        let Reply::Answer(code, text) = set("", "") else {
            panic!("no answer");
        };
        let scaled = text.replace(r#""replicas":5"#, r#""replicas":3"#);
        *server.reply.lock() = Reply::Answer(code, scaled);
        let begun = Instant::now();
        let found = governor.fresh().await;
        assert!(matches!(found, Found::Set(set) if set.replicas == 3));
        assert!(begun.elapsed() >= RECENT / 2, "asked again at once");
        assert_eq!(server.asked.lock().len(), asked + 1);
        *server.reply.lock() = Reply::Answer(500, String::new());
        assert!(matches!(governor.fresh().await, Found::Unknown(_)));
        assert_eq!(server.asked.lock().len(), asked + 2);
    }

    /// A blank pod that is not needed does not join, and neither does one that cannot know.
    #[tokio::test]
    async fn a_blank_pod_waits_until_it_is_needed() {
        let (governor, server, _account) = governor("antumbra-5").await;
        let waits = || timeout(PAUSE / 4, governor.needed());
        assert!(waits().await.is_err(), "there is no sixth pod");
        *server.reply.lock() = Reply::Answer(503, String::new());
        assert!(waits().await.is_err(), "nobody knows");
        *server.reply.lock() = set(r#","deletionTimestamp":"2026-11-29T21:00:00Z""#, "");
        assert!(waits().await.is_err(), "it is being deleted");
        *server.reply.lock() = set("", r#","ordinals":{"start":1}"#);
        let needed = timeout(PAUSE * 10, governor.needed()).await;
        assert!(needed.is_ok(), "it is the last one of five");
    }

    /// What is waited for is kept until it is over.
    #[tokio::test]
    async fn what_is_waited_for_is_told() {
        let (governor, _server, _account) = governor("antumbra-0").await;
        assert_eq!(governor.note(), None);
        governor.tell(Some(Why::Missing));
        assert_eq!(governor.note(), Some(Why::Missing.to_string()));
        governor.tell(None);
        assert_eq!(governor.note(), None);
        assert!(governor.governs("antumbra-12") && !governor.governs("antumbra"));
    }
}
