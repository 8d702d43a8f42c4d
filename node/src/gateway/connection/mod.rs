//! One connection of a client: the task that drives its session.
//!
//! The session decides, without sockets or clocks; this moves bytes, keeps time, carries requests out
//! and hands the outcomes back. A quiet connection owns no buffers: bytes are read into a buffer of
//! the thread, and only what is left of an unfinished packet stays.

mod admission;
mod events;
mod io;
mod job;
mod open;
mod plain;
mod requests;
mod subscribe;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tracing::debug;

use self::admission::{Admission, Refused};
use self::events::milliseconds;
use self::job::{Done, Job, Jobs};
use self::open::Open;
use super::door::{Door, Peer, REQUEST_TIMEOUT};
use super::endings::Ending;
use super::metrics::{self, OpenConnection};
use super::mqtt::session::{CloseCause, Expiry, Input, Intake, Output, Session, SessionEnd};
use super::mqtt::wire::{self, Decoder, Reason};
use super::presence;
use super::records::Expect;
use super::slot::{Note, Slot};
use crate::shadows::Caller;

/// Bytes to the client beyond which nothing more is read from it.
const OUTGOING_PAUSE_BYTES: usize = 64 * 1024;
/// Bytes to the client beyond which it is too slow.
const OUTGOING_BYTES_MAX: usize = 1 << 20;
/// A client that takes nothing for so long is gone.
const STALL_MS: u64 = 30_000;
/// What is left to be sent when a connection is closed may take so long.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// Nothing is due: look again after so long.
const IDLE_MS: u64 = 3_600_000;

/// A connection and its task's state.
pub(super) struct Connection<S> {
    door: Arc<Door>,
    stream: S,
    peer: Peer,
    session: Session,
    decoder: Decoder,
    slot: Arc<Slot>,
    /// What was read while the session took nothing.
    unread: BytesMut,
    /// What is to be written.
    outgoing: BytesMut,
    /// TLS may keep some of what was written.
    needs_flush: bool,
    /// When writing last got on.
    written_ms: u64,
    open: Option<Box<Open>>,
    jobs: Jobs,
    /// News that wait for the answer of a request under way.
    held: Vec<Note>,
    has_ignored: bool,
    /// Name of the dialect, once it is chosen.
    dialect: &'static str,
    end: Option<CloseCause>,
    /// There while the end of the session is written down.
    ending: Option<Box<Ending>>,
    _counted: OpenConnection,
    /// Its place among the connections of the listener.
    _permit: OwnedSemaphorePermit,
}

/// What woke the connection.
enum Event {
    Notes(Vec<Note>),
    Done(Box<Done>),
    /// Bytes were read and taken, or written.
    Moved,
    /// The other side is gone.
    Lost,
    Tick,
}

/// What a connection reads and writes.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl<S: Stream> Connection<S> {
    pub(super) fn new(
        door: Arc<Door>,
        stream: S,
        peer: Peer,
        permit: OwnedSemaphorePermit,
    ) -> Connection<S> {
        let now_ms = door.clocks.now_ms();
        let session = Session::new(Arc::clone(&door.session_limits), now_ms);
        let decoder = Decoder::new(door.session_limits.sizes);
        Connection {
            door,
            stream,
            peer,
            session,
            decoder,
            slot: Arc::new(Slot::default()),
            unread: BytesMut::new(),
            outgoing: BytesMut::new(),
            needs_flush: false,
            written_ms: now_ms,
            open: None,
            jobs: Jobs::default(),
            held: Vec::new(),
            has_ignored: false,
            dialect: "",
            end: None,
            ending: None,
            _counted: OpenConnection::new(),
            _permit: permit,
        }
    }

    /// Serves the client until the connection is over.
    #[allow(
        clippy::manual_async_fn,
        reason = "an async fn has room for the connection twice, as an argument and as a variable"
    )]
    pub(super) fn run(mut self) -> impl Future<Output = ()> + Send {
        async move {
            let mut timer = std::pin::pin!(sleep_until(Instant::now()));
            loop {
                self.take_unread();
                self.start_jobs();
                if self.end.is_some() {
                    break;
                }
                let waiting = self.outgoing.len() + self.session.backlog_bytes();
                self.slot.set_waiting(waiting);
                let deadline = self.door.clocks.at_ms(self.deadline_ms());
                if timer.deadline() != deadline {
                    timer.as_mut().reset(deadline);
                }
                let event = std::future::poll_fn(|context| self.poll(context, timer.as_mut()));
                match event.await {
                    Event::Notes(notes) => self.take_notes(notes),
                    Event::Done(done) => self.done(*done),
                    Event::Moved => {}
                    Event::Lost => self.input(Input::ConnectionLost),
                    Event::Tick => self.tick(),
                }
            }
            // Boxed: the end is long in words and short in time, and a task has room for its largest
            // part.
            Box::pin(self.finish()).await;
        }
    }

    /// Starts the work that is next.
    fn start_jobs(&mut self) {
        while self.end.is_none()
            && let Some(job) = self.jobs.next()
        {
            let job = match job {
                Job::Settle(filters) => match self.storing(filters) {
                    Some(job) => job,
                    None => continue,
                },
                job => job,
            };
            let (door, peer) = (Arc::clone(&self.door), &self.peer);
            let open = &self.open;
            self.jobs
                .start(job, &door, peer, || caller_of(open.as_deref()));
        }
    }

    fn poll(&mut self, context: &mut Context<'_>, timer: Pin<&mut Sleep>) -> Poll<Event> {
        if let Poll::Ready(notes) = self.slot.poll(context) {
            return Poll::Ready(Event::Notes(notes));
        }
        if let Poll::Ready(done) = self.jobs.poll(context) {
            return Poll::Ready(Event::Done(Box::new(done)));
        }
        if !self.outgoing.is_empty()
            && let Poll::Ready(written) = self.poll_write(context)
        {
            return Poll::Ready(match written {
                Ok(()) => Event::Moved,
                Err(_) => Event::Lost,
            });
        }
        if self.needs_flush
            && let Poll::Ready(Err(_)) = self.poll_flush(context)
        {
            return Poll::Ready(Event::Lost);
        }
        if self.takes_bytes()
            && let Poll::Ready(read) = self.poll_read(context)
        {
            return Poll::Ready(match read {
                Ok(true) => Event::Moved,
                Ok(false) | Err(_) => Event::Lost,
            });
        }
        std::task::ready!(timer.poll(context));
        Poll::Ready(Event::Tick)
    }

    /// Whether bytes are to be read now.
    fn takes_bytes(&self) -> bool {
        self.unread.is_empty()
            && self.outgoing.len() < OUTGOING_PAUSE_BYTES
            && self.session.intake(self.door.clocks.now_ms()) == Intake::Open
    }

    /// Decodes what was read before the session took no more.
    fn take_unread(&mut self) {
        if !self.unread.is_empty() {
            let unread = std::mem::take(&mut self.unread);
            self.ingest(&unread);
        }
    }

    /// Takes bytes from the client. What the session does not take now is kept.
    fn ingest(&mut self, mut bytes: &[u8]) {
        while self.end.is_none() {
            let now_ms = self.door.clocks.now_ms();
            if self.session.intake(now_ms) != Intake::Open {
                self.unread.extend_from_slice(bytes);
                return;
            }
            let before = bytes.len();
            let decoded = self.decoder.decode(&mut bytes);
            self.session.count_bytes(before - bytes.len(), now_ms);
            match decoded {
                Ok(Some(packet)) => self.input(Input::Packet(metrics::received_packet(packet))),
                Ok(None) => return,
                Err(error) => {
                    let version = self.decoder.version();
                    self.input(Input::Invalid { error, version });
                }
            }
        }
    }

    /// Tells the session something, and does what it wants done.
    fn input(&mut self, input: Input) {
        let mut outputs = Vec::new();
        let now_ms = self.door.clocks.now_ms();
        self.session.handle(input, now_ms, &mut outputs);
        for output in outputs {
            self.output(output);
        }
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Send(packet) => self.send(&packet),
            Output::Authenticate(connect) => self.jobs.push(Job::Admit(connect)),
            Output::Publish {
                token,
                message,
                qos,
            } => self.publish(token, &message, qos),
            Output::Subscribe {
                token,
                filters,
                identifier,
            } => self.subscribe(token, filters, identifier),
            Output::Unsubscribe { token, filters } => self.unsubscribe(token, filters),
            Output::Acknowledged { token, .. } => {
                if let Some(open) = &mut self.open {
                    open.acknowledged(token);
                }
            }
            Output::Dropped { token, cause } => self.dropped(token, cause),
            Output::Will(outcome) => self.will(outcome),
            Output::Ended(end) => self.ended(*end),
            Output::Close(cause) => self.end = Some(cause),
        }
    }

    fn send(&mut self, packet: &wire::ServerPacket) {
        metrics::packet_sent();
        if self.outgoing.is_empty() {
            self.written_ms = self.door.clocks.now_ms();
        }
        if let Err(error) = wire::encode(packet, self.session.version(), &mut self.outgoing) {
            debug!(%error, "a packet cannot be written");
        }
        if self.outgoing.len() > OUTGOING_BYTES_MAX && self.end.is_none() {
            self.end = Some(CloseCause::Server(
                super::mqtt::session::ServerCause::QuotaExceeded,
            ));
            self.outgoing.clear();
            self.input(Input::ConnectionLost);
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Admitted(admitted) => match *admitted {
                Ok(admission) => self.admitted(admission),
                Err(refused) => self.refuse(refused),
            },
            Done::Recorded(result) => self.recorded_late(result),
            Done::Read(receipt, asked, result) => self.read(receipt, &asked, &result),
            Done::Changed(receipt, asked, result) => self.changed(receipt, asked, result),
            Done::Looked {
                device,
                shadow,
                again,
                result,
            } => self.looked(device, shadow, again, result),
            Done::Listed(device, result) => self.listed(&device, result),
            Done::Stored(record, filters, result) => self.stored(record, filters, result),
            Done::Attached(subscribed) => self.attached(subscribed),
            Done::Checked(result) => self.checked(result),
        }
        self.take_held();
    }

    fn refuse(&mut self, refused: Refused) {
        metrics::refused(refused.cause);
        self.input(Input::Refuse(refused.refusal));
    }

    /// The CONNECT is accepted.
    fn admitted(&mut self, admission: Admission) {
        let Admission {
            acceptance,
            open,
            dialect,
            is_deferred,
        } = admission;
        self.dialect = dialect;
        let client = open.client;
        let session = open.session;
        let grants: Vec<_> = open.subscriptions.grants().cloned().collect();
        if let Some(record) = open.record.as_ref().filter(|_| is_deferred) {
            self.jobs.push_first(Job::Record(record.clone()));
        }
        self.open = Some(open);
        self.input(Input::Accept(Box::new(acceptance)));
        if !self.session.is_connected() {
            return;
        }
        metrics::connected();
        // What it showed has been judged.
        self.peer.visitor.shown = None;
        self.door.registry.enter(client, session, &self.slot);
        self.listen(&[]);
        self.attach(None);
        self.look_at(&grants);
        // The records may have changed while it was decided.
        self.renew();
    }

    fn tick(&mut self) {
        let now_ms = self.door.clocks.now_ms();
        if !self.outgoing.is_empty() && now_ms.saturating_sub(self.written_ms) >= STALL_MS {
            return self.input(Input::ConnectionLost);
        }
        if self.proof_ends_ms().is_some_and(|end_ms| end_ms <= now_ms) {
            self.renew();
        }
        self.look_at_due(now_ms);
        self.input(Input::Tick);
    }

    /// When to look at the clock again.
    fn deadline_ms(&self) -> u64 {
        let now_ms = self.door.clocks.now_ms();
        let intake = io::due_ms(self.session.intake(now_ms), &self.unread, now_ms);
        let stall = (!self.outgoing.is_empty()).then_some(self.written_ms + STALL_MS);
        let due = self.open.as_ref().and_then(|open| open.next_due_ms());
        let proof = self.proof_ends_ms();
        let deadlines = [self.session.next_deadline_ms(), intake, stall, due, proof];
        let first = deadlines.into_iter().flatten().min();
        first.unwrap_or(now_ms + IDLE_MS)
    }

    /// When what proved the client ends.
    fn proof_ends_ms(&self) -> Option<u64> {
        let end = self.open.as_ref()?.principal.expires?;
        let left_ms = end.0.saturating_sub(self.door.clocks.time().0);
        Some(self.door.clocks.now_ms() + left_ms)
    }

    /// The connection was open, and is over.
    fn ended(&mut self, end: SessionEnd) {
        let Some(open) = &mut self.open else {
            return;
        };
        self.ending = Some(Box::new(self.door.endings.begin(open.client)));
        if end.expiry != Expiry::Now {
            // What was pushed is made anew.
            let mut pending = end.state.pending;
            pending.retain(|pending| !open.is_push(pending.token));
            let kept = &self.door.unacknowledged;
            kept.keep(open.client, open.session, pending);
        }
        self.door.registry.leave(open.client, open.session);
        open.seat = None;
        let (tenant, hears) = (open.tenant().clone(), open.hears());
        for hears in &hears {
            self.door.registry.ignore(&tenant, &self.slot, hears);
        }
        if let Some(record) = &mut open.record {
            record.expiry_s = match end.expiry {
                Expiry::Now => 0,
                Expiry::After(seconds) => seconds,
                Expiry::Never => u32::MAX,
            };
        }
    }

    /// Sends what is left, closes the connection and writes down that it is over.
    async fn finish(mut self) {
        let cause = self.end.unwrap_or(CloseCause::ConnectionLost);
        let _ = timeout(FLUSH_TIMEOUT, self.flush()).await;
        let reason = presence::reason_of_close(cause);
        let late = match &self.open {
            Some(_) => {
                metrics::closed(presence::label_of(reason));
                self.jobs.finish_record().await
            }
            None => {
                if !matches!(cause, CloseCause::Refused(_)) {
                    metrics::refused("not_connected");
                }
                // The record may be written already.
                self.open = self.jobs.finish_admission().await;
                None
            }
        };
        let Some(open) = self.open.take() else {
            return;
        };
        let (Some(mut record), Some(epoch)) = (open.record, open.epoch.max(late)) else {
            return;
        };
        let is_taken = matches!(
            cause,
            CloseCause::Server(super::mqtt::session::ServerCause::TakenOver)
                | CloseCause::Refused(Reason::SessionTakenOver)
        );
        if is_taken {
            // The record is another connection's now.
            return;
        }
        let now_ms = milliseconds(self.door.clocks.time());
        record.end(presence::number_of(reason), epoch, now_ms);
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        let written = self
            .door
            .records
            .write(&record, Expect::Epoch(epoch), deadline);
        if let Err(error) = written.await {
            debug!(%error, "the end of a session is not written down");
        }
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        while !self.outgoing.is_empty() {
            let written = self.stream.write(&self.outgoing).await?;
            if written == 0 {
                break;
            }
            self.outgoing.advance(written);
        }
        self.stream.shutdown().await
    }
}

fn caller_of(open: Option<&Open>) -> Caller {
    match open {
        Some(open) => {
            let identity = open.identity();
            let actor = format!("mqtt:{}", identity.client_id);
            Caller::of(actor, Arc::clone(&open.principal))
        }
        None => Caller::anyone("mqtt"),
    }
}

#[cfg(test)]
mod tests;
