//! The way of one command through a twin: admitted, queued, then either sent or cancelled, never
//! both. Whatever happens to the twin, the caller can tell from the ticket which of the two it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use tokio::sync::oneshot;

use crate::command::Draft;
use crate::outcome::Outcome;
use crate::port::Failure;
use crate::twin::vitals::Vitals;

const QUEUED: u8 = 0;
const SENT: u8 = 1;
const CANCELLED: u8 = 2;

/// What a submitted command comes back with.
pub(crate) type Reply = Result<Outcome, Failure>;

/// Decides, once, whether a command is sent or cancelled. Shared by the caller and the twin.
#[derive(Debug, Default)]
struct Ticket(AtomicU8);

impl Ticket {
    fn leave_queue(&self, to: u8) -> bool {
        self.0
            .compare_exchange(QUEUED, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

/// The caller's end of a command. Dropping it cancels a command that was not sent.
pub(crate) struct Claim {
    ticket: Arc<Ticket>,
    pub(crate) reply: oneshot::Receiver<Reply>,
}

impl Claim {
    /// Takes the command out of the queue. False when it was sent already; when true, it is
    /// certain that it never will be.
    pub(crate) fn cancel(&self) -> bool {
        self.ticket.leave_queue(CANCELLED) || self.ticket.0.load(Ordering::Acquire) == CANCELLED
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// The twin's end of a command that was not sent yet. Dropping it without an answer is honest: the
/// caller finds the ticket unsent.
pub(crate) struct Waiter {
    draft: Draft,
    bytes: usize,
    ticket: Arc<Ticket>,
    pending: Pending,
}

impl Waiter {
    /// Makes both ends. `permit` stays taken until the command is answered or dropped.
    pub(crate) fn new(draft: Draft, permit: Permit) -> (Waiter, Claim) {
        let ticket = Arc::new(Ticket::default());
        let (sender, reply) = oneshot::channel();
        let waiter = Waiter {
            draft,
            bytes: permit.bytes,
            ticket: ticket.clone(),
            pending: Pending {
                permit,
                reply: sender,
            },
        };
        (waiter, Claim { ticket, reply })
    }

    /// The weight of the command, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts the command at another twin of its device. False when that one is full.
    pub(crate) fn move_to(&mut self, vitals: &Arc<Vitals>, commands_max: usize) -> bool {
        self.pending.permit.count_at(vitals, commands_max)
    }

    /// Marks the command as sent and splits it; none when its caller has cancelled it.
    pub(crate) fn send(self) -> Option<(Draft, Pending)> {
        self.ticket
            .leave_queue(SENT)
            .then_some((self.draft, self.pending))
    }

    /// Answers a command that was not sent.
    pub(crate) fn refuse(self, failure: Failure) {
        self.pending.answer(Err(failure));
    }
}

/// The twin's end of a command that was sent. Dropping it without an answer is honest: the caller
/// finds the ticket sent and reports "unknown".
pub(crate) struct Pending {
    permit: Permit,
    reply: oneshot::Sender<Reply>,
}

impl Pending {
    /// Gives the permit back, then answers, so that a caller with an answer can come again.
    pub(crate) fn answer(self, reply: Reply) {
        drop(self.permit);
        // The caller may have gone; nobody else wants the outcome.
        let _ = self.reply.send(reply);
    }
}

/// How many commands, and how many bytes of them, may wait or be in flight in one shard.
#[derive(Debug)]
pub(crate) struct Admission {
    commands: AtomicUsize,
    bytes: AtomicUsize,
    commands_max: usize,
    bytes_max: usize,
}

impl Admission {
    pub(crate) fn new(commands_max: usize, bytes_max: usize) -> Arc<Self> {
        let (commands, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self {
            commands,
            bytes,
            commands_max,
            bytes_max,
        })
    }

    /// Commands that wait or are in flight.
    pub(crate) fn commands(&self) -> usize {
        self.commands.load(Ordering::Acquire)
    }

    /// Takes a permit for one command, or none when the shard is full. Never waits. A command that
    /// alone weighs more than the bound is admitted when nothing else waits.
    pub(crate) fn admit(self: &Arc<Self>, bytes: usize) -> Option<Permit> {
        let bytes = bytes.min(self.bytes_max);
        if !take(&self.commands, 1, self.commands_max) {
            return None;
        }
        if !take(&self.bytes, bytes, self.bytes_max) {
            self.commands.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(Permit {
            admission: self.clone(),
            vitals: None,
            bytes,
        })
    }
}

/// The right of one command to wait or be in flight. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    vitals: Option<Arc<Vitals>>,
    bytes: usize,
}

impl Permit {
    /// Counts the command at its device too, and no longer where it was counted before. False when
    /// the device is full.
    pub(crate) fn count_at(&mut self, vitals: &Arc<Vitals>, commands_max: usize) -> bool {
        let admitted = take(&vitals.commands, 1, commands_max);
        if admitted {
            self.uncount();
            self.vitals = Some(vitals.clone());
        }
        admitted
    }

    fn uncount(&mut self) {
        if let Some(vitals) = self.vitals.take() {
            vitals.commands.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.uncount();
        self.admission.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.admission.commands.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Adds to a counter unless that would pass the bound.
pub(crate) fn take(counter: &AtomicUsize, amount: usize, max: usize) -> bool {
    let grown = |used: usize| used.checked_add(amount).filter(|sum| *sum <= max);
    counter
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, grown)
        .is_ok()
}
