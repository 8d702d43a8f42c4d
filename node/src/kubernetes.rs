//! What a node asks the API of Kubernetes: the StatefulSet that it is a pod of, and nothing else.
//!
//! One request at a time on a connection of its own, bounded in time and size. The token of the service account is
//! read from its file for every request, because the kubelet replaces it; so is the authority of the API. The role
//! of the service account needs `get` on that one StatefulSet.
//!
//! Nothing here decides anything; [`crate::cluster::scaling`] does.

mod account;
#[cfg(test)]
pub(crate) mod fake;
mod request;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::time::timeout;

use crate::config::Pod;
use crate::inquiry::Answer;
use crate::tls::pem::PemError;

use account::Account;

/// A request with everything that belongs to it takes no longer.
const TIMEOUT: Duration = Duration::from_secs(4);
/// As many characters of what the API says are passed on.
const MESSAGE_CHARS_MAX: usize = 300;

/// Why nothing is known of the StatefulSet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The process is in no pod.
    #[error("{variable} is not set or not what Kubernetes sets it to: this process is in no pod")]
    NotInPod {
        /// Which variable.
        variable: &'static str,
    },
    /// A file of the service account is of no use.
    #[error(
        "{path} of the service account: {what}. The pod needs `automountServiceAccountToken: true`"
    )]
    Account {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The authority of the API is of no use.
    #[error("authority of the API of Kubernetes: {0}")]
    Authority(#[from] PemError),
    /// The API is not reached, or is not what the authority vouches for.
    #[error("the API of Kubernetes at {address} is not reached: {what}")]
    NotReached {
        /// Where it should be.
        address: String,
        /// What happened.
        what: String,
    },
    /// It takes too long.
    #[error("the API of Kubernetes takes longer than {TIMEOUT:?}")]
    Timeout,
    /// It refuses.
    #[error("the API of Kubernetes answers {status}: {message}")]
    Refused {
        /// Status code.
        status: u16,
        /// The beginning of what it says.
        message: String,
    },
    /// The answer is not a StatefulSet.
    #[error("the answer of the API of Kubernetes cannot be read: {0}")]
    Unreadable(String),
}

/// The name of a pod of a StatefulSet: `<statefulset>-<ordinal>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodName {
    /// Name of the StatefulSet.
    pub set: String,
    /// Which of its pods.
    pub ordinal: u32,
}

impl PodName {
    /// Reads the name of a pod; `None` when a StatefulSet would not call a pod so.
    pub fn parse(name: &str) -> Option<PodName> {
        let (set, digits) = name.rsplit_once('-')?;
        let ordinal: u32 = digits.parse().ok()?;
        // Neither `+1` nor `01`.
        let is_pod = !set.is_empty() && ordinal.to_string() == digits;
        is_pod.then(|| PodName {
            set: set.to_owned(),
            ordinal,
        })
    }
}

/// What counts of a StatefulSet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatefulSet {
    /// Drawn when it was created: one that is made anew under the same name is another one.
    pub uid: String,
    /// Pods that it should have.
    pub replicas: u32,
    /// Ordinal of the first one.
    pub start: u32,
    /// Whether it is being deleted.
    pub is_being_deleted: bool,
}

impl StatefulSet {
    /// The first ordinal above those that it should have.
    pub fn end(&self) -> u32 {
        self.start.saturating_add(self.replicas)
    }

    fn read(body: &[u8], name: &str) -> Result<StatefulSet, Error> {
        let object: Object =
            serde_json::from_slice(body).map_err(|error| Error::Unreadable(error.to_string()))?;
        if object.kind != "StatefulSet" || object.metadata.name != name {
            let what = format!("it is the {} {}", object.kind, object.metadata.name);
            return Err(Error::Unreadable(what));
        }
        Ok(StatefulSet {
            uid: object.metadata.uid,
            replicas: object.spec.replicas,
            start: object.spec.ordinals.map_or(0, |ordinals| ordinals.start),
            is_being_deleted: object.metadata.deletion_timestamp.is_some(),
        })
    }
}

/// Asks the API.
#[derive(Debug, Clone)]
pub struct Client {
    host: String,
    port: u16,
    account: PathBuf,
}

impl Client {
    /// A client for the API that Kubernetes has told this container of. Asks nothing yet.
    pub fn new(pod: &Pod) -> Result<Client, Error> {
        let missing = |variable| Error::NotInPod { variable };
        let host = pod.api_host.clone();
        let host = host.ok_or_else(|| missing("KUBERNETES_SERVICE_HOST"))?;
        let port = pod.api_port.as_ref().and_then(|port| port.parse().ok());
        let port = port.filter(|port| *port > 0);
        let port = port.ok_or_else(|| missing("KUBERNETES_SERVICE_PORT"))?;
        Ok(Client {
            host,
            port,
            account: pod.service_account.clone(),
        })
    }

    /// The StatefulSet with this name in the namespace of this pod; `None` when the API says that there is none.
    /// Takes four seconds at most, and may be dropped midway.
    pub async fn stateful_set(&self, name: &str) -> Result<Option<StatefulSet>, Error> {
        let answered = timeout(TIMEOUT, self.ask(name)).await;
        let answer = answered.map_err(|_| Error::Timeout)??;
        match answer.status {
            200 => StatefulSet::read(&answer.body, name).map(Some),
            status => {
                let said: Option<Status> = serde_json::from_slice(&answer.body).ok();
                // Whatever else answers 404 does not know whether it exists.
                if status == 404 && said.as_ref().is_some_and(|said| said.reason == "NotFound") {
                    return Ok(None);
                }
                let message = said.map_or_else(String::new, |said| said.message);
                Err(Error::Refused {
                    status,
                    message: message.chars().take(MESSAGE_CHARS_MAX).collect(),
                })
            }
        }
    }

    async fn ask(&self, name: &str) -> Result<Answer, Error> {
        let directory = self.account.clone();
        let reading = tokio::task::spawn_blocking(move || Account::read(&directory));
        let account = reading.await.map_err(|error| Error::Account {
            path: self.account.clone(),
            what: error.to_string(),
        })??;
        let path = format!(
            "/apis/apps/v1/namespaces/{}/statefulsets/{name}",
            account.namespace
        );
        request::get(&self.host, self.port, account, &path).await
    }
}

#[derive(Deserialize)]
struct Object {
    kind: String,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    uid: String,
    deletion_timestamp: Option<IgnoredAny>,
}

/// The API always says how many replicas there should be; without them nothing can be decided.
#[derive(Deserialize)]
struct Spec {
    replicas: u32,
    ordinals: Option<Ordinals>,
}

#[derive(Deserialize)]
struct Ordinals {
    #[serde(default)]
    start: u32,
}

/// What the API says when it does not give what was asked for.
#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}
