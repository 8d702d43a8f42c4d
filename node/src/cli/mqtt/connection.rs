//! An open connection: what is written, what is read, and the keep-alive.
//!
//! One task owns it and calls [`Connection::next`]. What is to be sent is queued by the methods
//! that are not `async` and leaves with the next call that is. Nothing here loses bytes when its
//! future is dropped, so every method may be a branch of `select!`.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use bytestring::ByteString;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout, timeout_at};

use crate::gateway::mqtt::client::{self, Decoder};
use crate::gateway::mqtt::wire::{
    ClientPacket, Connect, ConnectAck, Delivery, Disconnect, Grant, Message, PacketId, Publish,
    Qos, Reason, ServerPacket, Subscribe, SubscribeFilter, Version,
};

use super::Error;
use super::keep_alive::{Due, KeepAlive};
use super::stream::Stream;

/// Largest packet that is taken: a document of 128 KiB with room.
const PACKET_BYTES_MAX: u32 = 1 << 20;
/// Bytes that are read at a time.
const READ_BYTES: usize = 8 << 10;
/// How long an acknowledgement is awaited.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    version: Version,
    decoder: Decoder,
    /// What is to be written.
    out: BytesMut,
    /// What was read and not asked for yet.
    events: VecDeque<Event>,
    /// How it ended, to be told after the events.
    ended: Option<Box<Error>>,
    keep_alive: KeepAlive,
    last_id: u16,
    session_present: bool,
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A message; if it wants an acknowledgement, that is under way.
    Message(Message),
    /// What became of a message that was published with QoS 1.
    Acknowledged {
        /// Which one.
        packet_id: PacketId,
        /// Success, or why not.
        reason: Reason,
    },
    /// What became of subscriptions.
    Subscribed {
        /// Which SUBSCRIBE.
        packet_id: PacketId,
        /// One for each filter.
        grants: Vec<Grant>,
    },
}

impl Connection {
    /// Sends CONNECT and awaits CONNACK. May be dropped midway: then there is no connection.
    pub(super) async fn establish(stream: Stream, connect: Connect) -> Result<Self, Error> {
        let mut connection = Self {
            stream,
            version: connect.version,
            decoder: Decoder::new(connect.version, PACKET_BYTES_MAX),
            out: BytesMut::new(),
            events: VecDeque::new(),
            ended: None,
            // The one that is agreed on starts with the answer.
            keep_alive: KeepAlive::new(0),
            last_id: 0,
            session_present: false,
        };
        let keep_alive_s = connect.keep_alive_s;
        connection.send(&ClientPacket::Connect(Box::new(connect)))?;
        let ack = poll_fn(|cx| connection.poll_connect_ack(cx)).await?;
        if ack.reason != Reason::Success {
            return Err(Error::Refused {
                reason: ack.reason,
                text: ack.reason_string,
            });
        }
        connection.session_present = ack.session_present;
        connection.keep_alive = KeepAlive::new(ack.server_keep_alive_s.unwrap_or(keep_alive_s));
        Ok(connection)
    }

    /// Whether the server continued a session that it had kept.
    pub(crate) fn session_present(&self) -> bool {
        self.session_present
    }

    /// The next thing that the server says. Keeps the connection alive meanwhile. May be dropped
    /// midway.
    ///
    /// # Errors
    /// The connection is over.
    pub(crate) async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.events.pop_front() {
                self.release_events();
                return Ok(event);
            }
            self.exchange().await?;
        }
    }

    /// Queues a message. With QoS 1 the identifier is given that [`Event::Acknowledged`] will name.
    ///
    /// # Errors
    /// The message is too long.
    pub(crate) fn publish(
        &mut self,
        topic: impl Into<ByteString>,
        payload: impl Into<Bytes>,
        qos: Qos,
    ) -> Result<Option<PacketId>, Error> {
        let packet_id = (qos == Qos::AtLeastOnce).then(|| self.next_id());
        self.send(&ClientPacket::Publish(Box::new(Publish {
            message: Message::new(topic, payload),
            delivery: packet_id.map_or(Delivery::AtMostOnce, |packet_id| Delivery::AtLeastOnce {
                packet_id,
                duplicate: false,
            }),
            retain: false,
            topic_alias: None,
            subscription_identifiers: Vec::new(),
        })))?;
        Ok(packet_id)
    }

    /// Subscribes to `filters` with QoS 1 in one packet and awaits the answer. What comes meanwhile
    /// is kept for [`Connection::next`].
    ///
    /// # Errors
    /// The connection is over, or the server refuses one of them.
    pub(crate) async fn subscribe<T: Into<ByteString>>(
        &mut self,
        filters: impl IntoIterator<Item = T>,
    ) -> Result<(), Error> {
        let wanted = self.next_id();
        let filters = filters.into_iter().map(|filter| SubscribeFilter {
            filter: filter.into(),
            qos: Qos::AtLeastOnce,
            no_local: false,
        });
        self.send(&ClientPacket::Subscribe(Subscribe {
            packet_id: wanted,
            identifier: None,
            filters: filters.collect(),
        }))?;
        let refusal = self.answer(|event| match event {
            Event::Subscribed { packet_id, grants } if *packet_id == wanted => {
                Some(grants.iter().find_map(|grant| grant.err()))
            }
            _ => None,
        });
        match refusal.await? {
            None => Ok(()),
            Some(reason) => Err(Error::Refused {
                reason,
                text: Some("the subscriptions".into()),
            }),
        }
    }

    /// Says goodbye and closes. The session ends as was agreed.
    pub(crate) async fn disconnect(mut self) -> Result<(), Error> {
        self.send(&ClientPacket::Disconnect(Disconnect {
            reason: Reason::Success,
            session_expiry_s: None,
            reason_string: None,
        }))?;
        let farewell = async {
            poll_fn(|cx| self.poll_flush(cx)).await?;
            self.stream.shutdown().await.map_err(Error::Lost)
        };
        let said = timeout(FAREWELL, farewell).await;
        said.unwrap_or(Err(Error::TimedOut(FAREWELL)))
    }

    /// Awaits the event that `pick` takes something from, and removes it.
    async fn answer<T>(&mut self, pick: impl Fn(&Event) -> Option<T>) -> Result<T, Error> {
        let until = Instant::now() + PATIENCE;
        let mut seen = 0;
        loop {
            while let Some(event) = self.events.get(seen) {
                if let Some(picked) = pick(event) {
                    self.events.remove(seen);
                    self.release_events();
                    return Ok(picked);
                }
                seen += 1;
            }
            let exchanged = timeout_at(until, self.exchange()).await;
            exchanged.unwrap_or(Err(Error::TimedOut(PATIENCE)))?;
        }
    }

    /// Writes and reads until something was read or a sign of life was due.
    async fn exchange(&mut self) -> Result<(), Error> {
        if let Some(error) = self.ended.take() {
            return Err(*error);
        }
        let Some(deadline) = self.keep_alive.deadline() else {
            return poll_fn(|cx| self.poll_exchange(cx)).await;
        };
        // Not left to the timer: a server that never pauses would hold it up.
        if Instant::now() < deadline {
            let exchanged = timeout_at(deadline, poll_fn(|cx| self.poll_exchange(cx))).await;
            if let Ok(result) = exchanged {
                return result;
            }
        }
        match self.keep_alive.due() {
            Due::Ping => self.send(&ClientPacket::PingRequest),
            Due::Silent => Err(Error::Silent),
        }
    }

    fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let read = self.poll_read(cx)?;
        // What was read may have queued acknowledgements.
        if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
            return Poll::Ready(Err(error));
        }
        read.map(Ok)
    }

    /// Writes everything that is queued.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out));
            match written.map_err(Error::Lost)? {
                0 => return Poll::Ready(Err(Error::Lost(io::ErrorKind::WriteZero.into()))),
                count => self.out.advance(count),
            }
            self.keep_alive.sent();
        }
        self.out = BytesMut::new();
        Pin::new(&mut self.stream)
            .poll_flush(cx)
            .map_err(Error::Lost)
    }

    /// Reads what is there and turns it into events.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // On the stack of this call: a connection that waits owns no buffer.
        let mut space = [0; READ_BYTES];
        let count = ready!(self.poll_read_into(cx, &mut space))?;
        self.take_all(&space[..count]);
        Poll::Ready(Ok(()))
    }

    fn poll_connect_ack(&mut self, cx: &mut Context<'_>) -> Poll<Result<ConnectAck, Error>> {
        if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
            return Poll::Ready(Err(error));
        }
        let mut space = [0; READ_BYTES];
        loop {
            let count = ready!(self.poll_read_into(cx, &mut space))?;
            let mut input = &space[..count];
            let ack = match self.decoder.decode(&mut input)? {
                Some(ServerPacket::ConnectAck(ack)) => ack,
                Some(_) => return Poll::Ready(Err(Error::Unexpected("no CONNACK first"))),
                None => continue,
            };
            // A resumed session may have messages right behind it.
            self.take_all(input);
            return Poll::Ready(Ok(*ack));
        }
    }

    fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        space: &mut [u8],
    ) -> Poll<Result<usize, Error>> {
        let mut buffer = ReadBuf::new(space);
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
        Poll::Ready(match (read, buffer.filled().len()) {
            (Err(error), _) => Err(Error::Lost(error)),
            (Ok(()), 0) => Err(Error::Closed),
            (Ok(()), count) => Ok(count),
        })
    }

    /// Takes every packet of `input`, up to one that ends the connection.
    fn take_all(&mut self, mut input: &[u8]) {
        loop {
            let taken = match self.decoder.decode(&mut input) {
                Ok(Some(packet)) => self.take(packet),
                Ok(None) => return,
                Err(error) => Err(error.into()),
            };
            if let Err(error) = taken {
                self.ended = Some(Box::new(error));
                return;
            }
        }
    }

    fn take(&mut self, packet: ServerPacket) -> Result<(), Error> {
        match packet {
            ServerPacket::Publish(publish) => {
                if let Delivery::AtLeastOnce { packet_id, .. } = publish.delivery {
                    let reason = Reason::Success;
                    self.send(&ClientPacket::PublishAck { packet_id, reason })?;
                }
                self.events.push_back(Event::Message(publish.message));
            }
            ServerPacket::PublishAck { packet_id, reason } => {
                let event = Event::Acknowledged { packet_id, reason };
                self.events.push_back(event);
            }
            ServerPacket::SubscribeAck { packet_id, grants } => {
                self.events
                    .push_back(Event::Subscribed { packet_id, grants });
            }
            ServerPacket::UnsubscribeAck { .. } => {}
            ServerPacket::PingResponse => self.keep_alive.answered(),
            ServerPacket::Disconnect(notice) => {
                return Err(Error::Ended {
                    reason: notice.reason,
                    text: notice.reason_string,
                });
            }
            ServerPacket::ConnectAck(_) => return Err(Error::Unexpected("a second CONNACK")),
        }
        Ok(())
    }

    /// An empty queue takes no memory.
    fn release_events(&mut self) {
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
    }

    fn send(&mut self, packet: &ClientPacket) -> Result<(), Error> {
        client::encode(packet, self.version, &mut self.out)?;
        Ok(())
    }

    fn next_id(&mut self) -> PacketId {
        let next = PacketId::new(self.last_id.wrapping_add(1)).unwrap_or(PacketId::MIN);
        self.last_id = next.get();
        next
    }
}
