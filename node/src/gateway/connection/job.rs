//! Work that a connection waits for, one piece at a time, in the order in which it came.
//!
//! One at a time keeps the order of a session's commands: while one is being repeated because its
//! outcome is unknown, the later ones wait (design §7).

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use antumbra_shadow::{
    DeviceId, DeviceKey, Document, Draft, Kind, Outcome, RequestId, ShadowName, Tenant,
};
use tokio::time::Instant;
use uuid::Uuid;

use super::admission::{Admission, Refused, admit, record_late};
use super::open::{Asked, Open};
use super::subscribe::Filters;
use crate::error::Error;
use crate::gateway::dialect::Acknowledge;
use crate::gateway::door::{Door, Peer, REQUEST_TIMEOUT};
use crate::gateway::mqtt::session::{PublishToken, RequestToken};
use crate::gateway::mqtt::wire::{Connect, Grant};
use crate::gateway::records::{Expect, Record};
use crate::shadows::{Caller, ListRequest, ReadOptions};

/// Shadows of a device that are looked at when it hears of all its named shadows.
const SHADOWS_MAX: usize = 100;

/// One piece of work.
pub(super) enum Job {
    /// Decide about a CONNECT.
    Admit(Box<Connect>),
    /// Write the record of a session that did not wait for it.
    Record(Box<Record>),
    /// Read a shadow, for a request.
    Read(Receipt, Asked),
    /// Change a shadow, for a request.
    Change(Receipt, Asked, Box<Kind>),
    /// Read a shadow, to tell the device what is left to do.
    Look {
        device: DeviceKey,
        shadow: ShadowName,
        /// Also when nothing has changed since it was told last.
        again: bool,
    },
    /// Find the named shadows of a device, to look at each.
    List(DeviceKey),
    /// Put a decided request about subscriptions into force, when those before it are.
    Settle(Filters),
    /// Store what a session that outlives its connection is subscribed to, before it is told so.
    Store(Box<Record>, u64, Filters),
    /// Wait until all is told that the session hears of, then answer the request to subscribe, if one
    /// waits.
    Attach(Option<Subscribed>),
    /// Read the own record: another connection may have taken over unseen.
    Check(Box<Record>),
}

/// The message that a piece of work belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Receipt {
    /// The publish that is to be acknowledged afterwards; `None` when that is done already, or when
    /// more work for it follows.
    pub(super) token: Option<PublishToken>,
    pub(super) acknowledge: Acknowledge,
}

/// What came of it.
pub(super) enum Done {
    Admitted(Box<Result<Admission, Refused>>),
    Recorded(Result<u64, Error>),
    Read(Receipt, Asked, Result<Document, Error>),
    Changed(Receipt, Asked, Result<Outcome, Error>),
    Looked {
        device: DeviceKey,
        shadow: ShadowName,
        again: bool,
        result: Result<Document, Error>,
    },
    Listed(DeviceKey, Result<Vec<ShadowName>, Error>),
    Stored(Box<Record>, Filters, Result<u64, Error>),
    Attached(Option<Subscribed>),
    Checked(Result<Option<(Record, u64)>, Error>),
}

/// The answer to a request to subscribe.
pub(super) struct Subscribed {
    pub(super) token: RequestToken,
    pub(super) grants: Vec<Grant>,
}

/// The work of one connection.
#[derive(Default)]
pub(super) struct Jobs {
    waiting: VecDeque<Job>,
    running: Option<Running>,
}

struct Running {
    work: Pin<Box<dyn Future<Output = Done> + Send>>,
    /// What it changes, when its answer must come before anything else about it.
    holds: Option<(DeviceKey, ShadowName)>,
    is_request: bool,
    /// It may write the record of the session, so it is not to be dropped midway.
    writes_record: bool,
}

impl Jobs {
    pub(super) fn push(&mut self, job: Job) {
        self.waiting.push_back(job);
    }

    /// Before everything that waits.
    pub(super) fn push_first(&mut self, job: Job) {
        self.waiting.push_front(job);
    }

    /// Looks at a shadow, unless that waits already.
    pub(super) fn look(&mut self, device: DeviceKey, shadow: ShadowName, again: bool) {
        let waits = self.waiting.iter_mut().find_map(|job| match job {
            Job::Look {
                device: other,
                shadow: name,
                again,
            } if *other == device && *name == shadow => Some(again),
            _ => None,
        });
        match waits {
            Some(waiting) => *waiting |= again,
            None => self.push(Job::Look {
                device,
                shadow,
                again,
            }),
        }
    }

    /// Requests about shadows that wait or are under way.
    pub(super) fn requests(&self) -> usize {
        let waiting = self.waiting.iter().filter(|job| job.is_request()).count();
        waiting
            + usize::from(
                self.running
                    .as_ref()
                    .is_some_and(|running| running.is_request),
            )
    }

    /// Whether news of this shadow have to wait for the work under way.
    pub(super) fn holds(&self, device: &DeviceKey, shadow: &ShadowName) -> bool {
        let held = self
            .running
            .as_ref()
            .and_then(|running| running.holds.as_ref());
        held.is_some_and(|(held, name)| held == device && name == shadow)
    }

    /// What is to be started next; nothing while something is under way.
    pub(super) fn next(&mut self) -> Option<Job> {
        if self.running.is_some() {
            return None;
        }
        let next = self.waiting.pop_front();
        if self.waiting.is_empty() && self.waiting.capacity() > 0 {
            self.waiting = VecDeque::new();
        }
        next
    }

    /// Starts it.
    pub(super) fn start(
        &mut self,
        job: Job,
        door: &Arc<Door>,
        peer: &Peer,
        caller: impl Fn() -> Caller,
    ) {
        self.running = job.start(door, peer, caller);
    }

    /// What came of the work under way; pending as long as there is none.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Done> {
        let Some(running) = &mut self.running else {
            return Poll::Pending;
        };
        let done = std::task::ready!(running.work.as_mut().poll(context));
        self.running = None;
        Poll::Ready(done)
    }

    /// Waits for the record that is being written, if one is, and gives its epoch.
    pub(super) async fn finish_record(&mut self) -> Option<u64> {
        let running = self
            .running
            .take()
            .filter(|running| running.writes_record)?;
        match running.work.await {
            Done::Recorded(Ok(epoch)) | Done::Stored(_, _, Ok(epoch)) => Some(epoch),
            _ => None,
        }
    }

    /// Waits for the decision about a CONNECT, if one is under way, and gives what was accepted.
    pub(super) async fn finish_admission(&mut self) -> Option<Box<Open>> {
        let running = self
            .running
            .take()
            .filter(|running| running.writes_record)?;
        match running.work.await {
            Done::Admitted(admitted) => Some((*admitted).ok()?.open),
            _ => None,
        }
    }
}

impl Job {
    fn is_request(&self) -> bool {
        matches!(self, Job::Read(..) | Job::Change(..))
    }

    /// `None` for what needs no waiting, which the connection does itself.
    fn start(self, door: &Arc<Door>, peer: &Peer, caller: impl Fn() -> Caller) -> Option<Running> {
        let is_request = self.is_request();
        let writes_record = matches!(self, Job::Admit(_) | Job::Record(_) | Job::Store(..));
        let holds = match &self {
            // Only an answer of a shape of its own has to be told from those of others.
            Job::Change(_, asked, _) if asked.reply != Default::default() => {
                Some((asked.device.clone(), asked.shadow.clone()))
            }
            _ => None,
        };
        let door = Arc::clone(door);
        let work: Pin<Box<dyn Future<Output = Done> + Send>> = match self {
            Job::Admit(connect) => {
                let peer = peer.clone();
                Box::pin(async move { Done::Admitted(Box::new(admit(door, peer, connect).await)) })
            }
            Job::Record(record) => {
                Box::pin(async move { Done::Recorded(record_late(door, *record).await) })
            }
            Job::Read(receipt, asked) => {
                let caller = caller();
                Box::pin(async move {
                    let read = read(&door, &caller, &asked.device, &asked.shadow).await;
                    Done::Read(receipt, asked, read)
                })
            }
            Job::Change(receipt, asked, kind) => {
                let draft = draft(&door, &caller(), &asked, *kind);
                let caller = caller();
                Box::pin(async move {
                    let changed = door.change(&caller, &asked.device, draft).await;
                    Done::Changed(receipt, asked, changed)
                })
            }
            Job::Look {
                device,
                shadow,
                again,
            } => {
                let caller = caller();
                Box::pin(async move {
                    let result = read(&door, &caller, &device, &shadow).await;
                    Done::Looked {
                        device,
                        shadow,
                        again,
                        result,
                    }
                })
            }
            Job::List(device) => {
                let caller = caller();
                Box::pin(async move {
                    let listed = list(&door, &caller, &device).await;
                    Done::Listed(device, listed)
                })
            }
            Job::Settle(_) => return None,
            Job::Store(record, epoch, filters) => Box::pin(async move {
                let deadline = Instant::now() + REQUEST_TIMEOUT;
                let written = door.records.write(&record, Expect::Epoch(epoch), deadline);
                let written = written.await;
                Done::Stored(record, filters, written)
            }),
            Job::Attach(subscribed) => Box::pin(async move {
                door.wanted.settled().await;
                Done::Attached(subscribed)
            }),
            Job::Check(record) => Box::pin(async move {
                let deadline = Instant::now() + REQUEST_TIMEOUT;
                Done::Checked(door.records.read(record.key(), deadline).await)
            }),
        };
        Some(Running {
            work,
            holds,
            is_request,
            writes_record,
        })
    }
}

impl Filters {
    /// Names the request that they belong to.
    pub(super) fn token(&self) -> RequestToken {
        match self {
            Filters::Subscribe { token, .. } | Filters::Unsubscribe { token, .. } => *token,
        }
    }
}

fn draft(door: &Door, caller: &Caller, asked: &Asked, kind: Kind) -> Draft {
    let mut draft = Draft::new(caller.actor.clone(), kind);
    draft.request_id = RequestId::parse(&Uuid::new_v4().to_string()).ok();
    draft.client_token.clone_from(&asked.client_token);
    draft.limits = door.limits_of(&asked.device.tenant);
    draft
}

async fn read(
    door: &Door,
    caller: &Caller,
    device: &DeviceKey,
    shadow: &ShadowName,
) -> Result<Document, Error> {
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    let options = ReadOptions::default();
    let read = door.shadows.get(caller, device, shadow, options, deadline);
    Ok(read.await?.document)
}

async fn list(door: &Door, caller: &Caller, device: &DeviceKey) -> Result<Vec<ShadowName>, Error> {
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    let page = ListRequest {
        page_size: SHADOWS_MAX,
        page_token: "",
    };
    let listed = door.shadows.list_shadows(caller, device, page, deadline);
    let shadows = listed.await?.shadows.into_iter();
    Ok(shadows.map(|shadow| shadow.name).collect())
}

/// A device of a tenant.
pub(super) fn key(tenant: &Tenant, device: &DeviceId) -> DeviceKey {
    DeviceKey::new(tenant.clone(), device.clone())
}
