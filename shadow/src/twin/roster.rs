//! Who lives: the twins of one shard, found or started under one short lock that is never held
//! across an await. It bounds their number and the bytes they cache, stops those that are idle,
//! and stops all of them when the role of the replica changes.

mod life;
mod room;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};
use ractor::{ActorRef, ActorRuntime, MessagingErr};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::change::Change;
use crate::command::Draft;
use crate::document::Document;
use crate::id::{DeviceKey, ShadowName};
use crate::port::{Failure, ShardPort};
use crate::twin::cache::{Budget, Cache};
use crate::twin::metrics::Metrics;
use crate::twin::ticket::{Admission, Claim, Permit, Waiter};
use crate::twin::vitals::Vitals;
use crate::twin::{Message, State, TWIN_STOPPED, Twin, precheck};
use crate::twins::TwinsConfig;

pub(crate) use self::life::Life;

/// The twins of one shard.
pub(crate) struct Roster<P> {
    port: Arc<P>,
    config: TwinsConfig,
    metrics: Metrics,
    admission: Arc<Admission>,
    budget: Arc<Budget>,
    /// Grows whenever all twins are stopped; a twin of an older fence proposes nothing more.
    fence: AtomicU64,
    /// Fires when the fence grows, for those who have an entry in flight without a twin.
    stopped: Notify,
    /// Actors that run, those included that were told to stop and have not yet.
    live: AtomicUsize,
    /// Fires when `live` comes to zero.
    emptied: Notify,
    seats: Mutex<Seats>,
}

/// What the replica is to its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Follower,
    Leader {
        term: u64,
    },
    /// Shut down for good.
    Closed,
}

struct Seats {
    role: Role,
    by_device: LruCache<DeviceKey, Seat>,
    last_number: u64,
    is_sweeping: bool,
}

/// The place of one live twin.
struct Seat {
    number: u64,
    twin: ActorRef<Message>,
    vitals: Arc<Vitals>,
    used: Instant,
}

impl<P: ShardPort> Roster<P> {
    pub(crate) fn new(port: Arc<P>, config: TwinsConfig) -> Arc<Self> {
        let seats = Seats {
            role: Role::Follower,
            by_device: LruCache::unbounded(),
            last_number: 0,
            is_sweeping: false,
        };
        Arc::new(Self {
            port,
            metrics: Metrics::new(),
            admission: Admission::new(config.permits, config.permit_bytes_max),
            budget: Budget::new(config.live_bytes_max),
            fence: AtomicU64::new(0),
            stopped: Notify::new(),
            live: AtomicUsize::new(0),
            emptied: Notify::new(),
            seats: Mutex::new(seats),
            config,
        })
    }

    pub(crate) fn port(&self) -> &Arc<P> {
        &self.port
    }

    pub(crate) fn config(&self) -> &TwinsConfig {
        &self.config
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Acquire)
    }

    pub(crate) fn has(&self, device: &DeviceKey) -> bool {
        self.seats.lock().by_device.contains(device)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.admission.commands()
    }

    pub(crate) fn cached_bytes(&self) -> usize {
        self.budget.used()
    }

    /// Starts to lead in a term. A term that is not newer than the one led changes nothing.
    pub(crate) fn lead(&self, term: u64) {
        let seats = self.seats.lock();
        match seats.role {
            Role::Closed => {}
            Role::Leader { term: led } if term <= led => {}
            Role::Leader { .. } | Role::Follower => self.stop_all(seats, Role::Leader { term }),
        }
    }

    pub(crate) fn step_down(&self) {
        let seats = self.seats.lock();
        if seats.role != Role::Closed {
            self.stop_all(seats, Role::Follower);
        }
    }

    /// Drops everything that is known without a change of role.
    pub(crate) fn reset(&self) {
        let seats = self.seats.lock();
        let role = seats.role;
        self.stop_all(seats, role);
    }

    /// Stops all twins for good and waits until they are gone. May be dropped midway and repeated.
    pub(crate) async fn close(&self) {
        self.stop_all(self.seats.lock(), Role::Closed);
        loop {
            let mut emptied = std::pin::pin!(self.emptied.notified());
            emptied.as_mut().enable();
            if self.live() == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn stop_all(&self, mut seats: MutexGuard<'_, Seats>, role: Role) {
        self.fence.fetch_add(1, Ordering::AcqRel);
        seats.role = role;
        // Under the lock: who is admitted after it belongs to the new role.
        self.stopped.notify_waiters();
        let stopped = std::mem::replace(&mut seats.by_device, LruCache::unbounded());
        drop(seats);
        for (_, seat) in &stopped {
            seat.twin.stop(None);
        }
    }

    /// Takes the permits, finds or starts the twin of the device, and queues the command there.
    pub(crate) fn enqueue(
        self: &Arc<Self>,
        device: &DeviceKey,
        draft: Draft,
    ) -> Result<Claim, Failure> {
        let Some(mut permit) = self.admission.admit(precheck::weight(&draft)) else {
            return Err(self.overloaded());
        };
        let mut seats = self.seats.lock();
        let Role::Leader { term } = seats.role else {
            return Err(Failure::NotLeader);
        };
        let seats = &mut *seats;
        let vitals = match seats.by_device.get(device) {
            Some(seat) => seat.vitals.clone(),
            None => self.start(seats, device, term)?,
        };
        if !permit.count_at(&vitals, self.config.permits_per_device) {
            return Err(self.overloaded());
        }
        let (waiter, claim) = Waiter::new(draft, permit);
        self.deliver(seats, device, term, waiter)?;
        self.make_room_for_documents(seats);
        Ok(claim)
    }

    /// Takes the permit of a command that goes without a twin; `None` when the device has one that is busy.
    pub(crate) fn admit(
        &self,
        device: &DeviceKey,
        draft: &Draft,
    ) -> Result<Option<Passage<'_>>, Failure> {
        let (term, stopped) = {
            let seats = self.seats.lock();
            let Role::Leader { term } = seats.role else {
                return Err(Failure::NotLeader);
            };
            let seat = seats.by_device.peek(device);
            if seat.is_some_and(|seat| seat.vitals.is_busy()) {
                return Ok(None);
            }
            (term, self.stopped.notified())
        };
        let permit = self.admission.admit(precheck::weight(draft));
        Ok(Some(Passage {
            term,
            stopped,
            permit: permit.ok_or_else(|| self.overloaded())?,
        }))
    }

    /// Sends a command to a twin that is seated. A twin that died meanwhile is replaced, once.
    fn deliver(
        self: &Arc<Self>,
        seats: &mut Seats,
        device: &DeviceKey,
        term: u64,
        waiter: Waiter,
    ) -> Result<(), Failure> {
        let Some(seat) = seats.by_device.get_mut(device) else {
            return Err(Failure::Unavailable(TWIN_STOPPED));
        };
        seat.used = Instant::now();
        let Err(refused) = seat.twin.send_message(Message::Submit(waiter)) else {
            return Ok(());
        };
        let MessagingErr::SendErr(Message::Submit(waiter)) = refused else {
            return Err(Failure::Unavailable(TWIN_STOPPED));
        };
        let mut waiter = waiter;
        seats.by_device.pop(device);
        let vitals = self.start(seats, device, term)?;
        if !waiter.move_to(&vitals, self.config.permits_per_device) {
            return Err(self.overloaded());
        }
        let fresh = seats.by_device.peek(device);
        let sent =
            fresh.is_some_and(|seat| seat.twin.send_message(Message::Submit(waiter)).is_ok());
        if sent {
            Ok(())
        } else {
            Err(Failure::Unavailable(TWIN_STOPPED))
        }
    }

    fn overloaded(&self) -> Failure {
        self.metrics.overloaded.increment(1);
        Failure::Overloaded
    }

    fn start(
        self: &Arc<Self>,
        seats: &mut Seats,
        device: &DeviceKey,
        term: u64,
    ) -> Result<Arc<Vitals>, Failure> {
        if !self.make_room(seats) {
            return Err(self.overloaded());
        }
        seats.last_number += 1;
        let number = seats.last_number;
        let vitals = Arc::new(Vitals::default());
        let cache = Cache::new(self.budget.clone(), vitals.clone());
        let life = Life::new(self.clone(), device.clone(), number, term);
        let state = State::new(life, cache);
        // Nothing of the start is awaited: the mailbox takes messages from now on.
        let Ok((twin, _start)) = ActorRuntime::spawn_instant(None, Twin::<P>::new(), state) else {
            return Err(Failure::Unavailable(TWIN_STOPPED));
        };
        let seat = Seat {
            number,
            twin,
            vitals: vitals.clone(),
            used: Instant::now(),
        };
        seats.by_device.put(device.clone(), seat);
        self.metrics.starts.increment(1);
        if !seats.is_sweeping {
            seats.is_sweeping = true;
            tokio::spawn(room::sweep(Arc::downgrade(self), self.config.idle_stop));
        }
        Ok(vitals)
    }

    /// Why a command that never left the queue came back without an answer.
    pub(crate) fn why_unsent(&self) -> Failure {
        match self.seats.lock().role {
            Role::Leader { .. } => Failure::Unavailable(TWIN_STOPPED),
            Role::Follower | Role::Closed => Failure::NotLeader,
        }
    }

    /// Asks a live twin for a document; none when there is no twin or it is swamped with reads.
    pub(crate) fn ask(&self, device: &DeviceKey, shadow: &ShadowName) -> Option<Question> {
        let mut seats = self.seats.lock();
        let seat = seats.by_device.get_mut(device)?;
        seat.used = Instant::now();
        let slot = seat.vitals.read_slot()?;
        let (reply, answer) = oneshot::channel();
        let shadow = shadow.clone();
        seat.twin
            .send_message(Message::Read {
                shadow,
                reply,
                slot,
            })
            .ok()?;
        Some(Question {
            twin: seat.twin.clone(),
            answer,
        })
    }

    /// Tells the live twins among them of changes, in the order given.
    pub(crate) fn applied(&self, changes: &[Arc<Change>]) {
        if self.live() == 0 || changes.is_empty() {
            return;
        }
        let seats = self.seats.lock();
        for run in changes.chunk_by(|one, next| one.device == next.device) {
            if let Some(seat) = seats.by_device.peek(&run[0].device) {
                // A dead twin caches nothing.
                let _ = seat.twin.send_message(Message::Applied(run.to_vec()));
            }
        }
    }
}

/// What a command needs that goes without a twin.
pub(crate) struct Passage<'a> {
    /// The term that it is bound to.
    pub(crate) term: u64,
    /// Resolves once the role or the state is another one than at the admission.
    pub(crate) stopped: Notified<'a>,
    /// To be kept until the outcome is there.
    pub(crate) permit: Permit,
}

/// A question to a twin that is under way.
pub(crate) struct Question {
    twin: ActorRef<Message>,
    answer: oneshot::Receiver<Option<Document>>,
}

impl Question {
    /// The cached document; none when the twin has none or has stopped.
    pub(crate) async fn answer(&mut self) -> Option<Document> {
        (&mut self.answer).await.ok().flatten()
    }

    /// Hands the twin what it did not have.
    pub(crate) fn teach(self, shadow: ShadowName, index: u64, document: Document) {
        // A twin that has stopped needs no documents.
        let _ = self.twin.send_message(Message::Loaded {
            shadow,
            index,
            document,
        });
    }
}
