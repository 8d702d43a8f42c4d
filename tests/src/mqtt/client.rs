//! One connection of a client.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::Version;
use super::build::{self, Connect, Publish};
use super::packet::{ConnectAck, Message, Packet};
use super::properties::Properties;

/// How long a client waits for what must come.
pub const LIMIT: Duration = Duration::from_secs(20);

/// What one look at the connection gave.
enum Seen {
    Packet(Packet),
    Silence,
    Closed,
}

/// How the server ended a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What came before, PUBLISH packets aside.
    pub packets: Vec<Packet>,
}

impl Ended {
    /// The reason of the last packet, when that is a DISCONNECT or a CONNACK that refuses.
    pub fn reason(&self) -> Option<u8> {
        match self.packets.last()? {
            Packet::Disconnect { reason } => Some(*reason),
            Packet::ConnectAck(ack) if ack.reason != 0 => Some(ack.reason),
            _ => None,
        }
    }
}

/// A connection to a server. Dropping it cuts the line without a DISCONNECT.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    version: Version,
    /// Bytes of a packet whose end has not come.
    partial: Vec<u8>,
    /// Packets that came while another was waited for.
    arrived: VecDeque<Packet>,
    acknowledges: bool,
    next_packet_id: u16,
    /// The server has closed.
    closed: bool,
}

impl Client {
    /// A connection without a CONNECT.
    pub fn open(address: SocketAddr, version: Version) -> Result<Client> {
        let stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(Client {
            stream,
            version,
            partial: Vec::new(),
            arrived: VecDeque::new(),
            acknowledges: true,
            next_packet_id: 1,
            closed: false,
        })
    }

    /// Sends a CONNECT and gives the connection with the CONNACK, also one that refuses.
    pub fn dial(address: SocketAddr, connect: &Connect) -> Result<(Client, ConnectAck)> {
        let mut client = Client::open(address, connect.version)?;
        client.send(&connect.encode())?;
        let ack = client.connect_ack()?;
        Ok((client, ack))
    }

    /// Connects, and fails when that is refused.
    pub fn connect(address: SocketAddr, connect: &Connect) -> Result<Client> {
        let (client, ack) = Client::dial(address, connect)?;
        ensure!(ack.reason == 0, "{} is refused: {ack:?}", connect.client_id);
        Ok(client)
    }

    /// Version of the connection.
    pub fn version(&self) -> Version {
        self.version
    }

    /// From now on messages of QoS 1 are not acknowledged, until [`Client::acknowledge`] does.
    pub fn hold_acknowledgements(&mut self) {
        self.acknowledges = false;
    }

    /// Acknowledges a message that was held.
    pub fn acknowledge(&mut self, message: &Message) -> Result<()> {
        let packet_id = message.packet_id.context("QoS 0 is not acknowledged")?;
        self.send(&build::puback(packet_id))
    }

    /// Writes exactly these bytes. That the server has closed shows when its answer is read.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        match self.stream.write_all(bytes) {
            Err(error) if !is_closed(error.kind()) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The next CONNACK.
    pub fn connect_ack(&mut self) -> Result<ConnectAck> {
        self.take("CONNACK", |packet| match packet {
            Packet::ConnectAck(ack) => Some(ack.clone()),
            _ => None,
        })
    }

    /// Sends a PINGREQ and waits for the answer. What the server sent before has arrived then.
    pub fn ping(&mut self) -> Result<()> {
        self.send(&build::pingreq())?;
        self.take("PINGRESP", |packet| {
            matches!(packet, Packet::PingResponse).then_some(())
        })
    }

    /// Subscribes and gives the reason of each filter.
    pub fn subscribe(&mut self, filters: &[(&str, u8)]) -> Result<Vec<u8>> {
        self.subscribe_with(filters, &Properties::new())
    }

    /// As [`Client::subscribe`], with properties.
    pub fn subscribe_with(
        &mut self,
        filters: &[(&str, u8)],
        properties: &Properties,
    ) -> Result<Vec<u8>> {
        let wanted = self.free_packet_id();
        self.send(&build::subscribe(self.version, wanted, filters, properties))?;
        let reasons = self.take("SUBACK", |packet| match packet {
            Packet::SubscribeAck { packet_id, reasons } if *packet_id == wanted => {
                Some(reasons.clone())
            }
            _ => None,
        })?;
        ensure!(
            reasons.len() == filters.len(),
            "{filters:?}: {reasons:02x?}"
        );
        Ok(reasons)
    }

    /// Subscribes with QoS 1, and fails unless all of it is granted.
    pub fn listen(&mut self, filters: &[&str]) -> Result<()> {
        let wanted: Vec<(&str, u8)> = filters.iter().map(|filter| (*filter, 1)).collect();
        let reasons = self.subscribe(&wanted)?;
        let granted = reasons.iter().all(|reason| *reason == 1);
        ensure!(granted, "{filters:?}: {reasons:02x?}");
        Ok(())
    }

    /// Unsubscribes and gives the reasons, none in 3.1.1.
    pub fn unsubscribe(&mut self, filters: &[&str]) -> Result<Vec<u8>> {
        let wanted = self.free_packet_id();
        self.send(&build::unsubscribe(self.version, wanted, filters))?;
        self.take("UNSUBACK", |packet| match packet {
            Packet::UnsubscribeAck { packet_id, reasons } if *packet_id == wanted => {
                Some(reasons.clone())
            }
            _ => None,
        })
    }

    /// Publishes; with QoS 1 waits for the PUBACK and gives its reason.
    pub fn publish(&mut self, publish: Publish) -> Result<u8> {
        let wanted = self.free_packet_id();
        let publish = Publish {
            packet_id: wanted,
            ..publish
        };
        self.send(&publish.encode(self.version))?;
        if publish.qos == 0 {
            return Ok(0);
        }
        self.take("PUBACK", |packet| match packet {
            Packet::PublishAck { packet_id, reason } if *packet_id == wanted => Some(*reason),
            _ => None,
        })
    }

    /// Publishes with QoS 1, and fails when that is refused.
    pub fn post(&mut self, topic: &str, payload: impl AsRef<[u8]>) -> Result<()> {
        let reason = self.publish(Publish::new(topic, payload, 1))?;
        ensure!(reason < 0x80, "{topic}: {reason:#04x}");
        Ok(())
    }

    /// The next message.
    pub fn message(&mut self) -> Result<Message> {
        self.take("a message", |packet| match packet {
            Packet::Publish(message) => Some(message.clone()),
            _ => None,
        })
    }

    /// The next message under this topic; others stay for later.
    pub fn message_on(&mut self, topic: &str) -> Result<Message> {
        self.take(topic, |packet| match packet {
            Packet::Publish(message) if message.topic == topic => Some(message.clone()),
            _ => None,
        })
    }

    /// Messages up to one under the topic `last`, that one left out.
    pub fn messages_until(&mut self, last: &str) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        loop {
            let message = self.message()?;
            if message.topic == last {
                return Ok(messages);
            }
            messages.push(message);
        }
    }

    /// Waits this long, and fails when a message is there by then.
    pub fn no_message_within(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while let Seen::Packet(packet) = self.look(deadline)? {
            self.arrived.push_back(packet);
        }
        let found = self.arrived.iter();
        let found = found.filter(|packet| matches!(packet, Packet::Publish(_)));
        let found: Vec<&Packet> = found.collect();
        ensure!(found.is_empty(), "unwanted: {found:?}");
        ensure!(!self.closed, "the server closed after {:?}", self.arrived);
        Ok(())
    }

    /// Takes leave orderly, and waits until the server has closed.
    pub fn disconnect(self) -> Result<()> {
        self.leave(&build::disconnect())
    }

    /// Sends this last packet, and waits until the server has closed without a word.
    pub fn leave(mut self, last: &[u8]) -> Result<()> {
        self.send(last)?;
        let ended = self.ended()?;
        ensure!(ended.reason().is_none(), "after DISCONNECT: {ended:?}");
        Ok(())
    }

    /// Waits until the server closes.
    pub fn ended(&mut self) -> Result<Ended> {
        self.ended_within(LIMIT)
    }

    /// Waits this long until the server closes.
    pub fn ended_within(&mut self, limit: Duration) -> Result<Ended> {
        let deadline = Instant::now() + limit;
        loop {
            match self.look(deadline)? {
                Seen::Packet(packet) => self.arrived.push_back(packet),
                Seen::Silence => bail!("still open after {limit:?}: {:?}", self.arrived),
                Seen::Closed => break,
            }
        }
        let packets = self.arrived.drain(..);
        let packets = packets.filter(|packet| !matches!(packet, Packet::Publish(_)));
        Ok(Ended {
            packets: packets.collect(),
        })
    }

    /// The first packet that `pick` wants, of those that came and then of those that come.
    fn take<T>(&mut self, what: &str, mut pick: impl FnMut(&Packet) -> Option<T>) -> Result<T> {
        let mut found = self.arrived.iter().enumerate();
        let found = found.find_map(|(index, packet)| pick(packet).map(|value| (index, value)));
        if let Some((index, value)) = found {
            self.arrived.remove(index);
            return Ok(value);
        }
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.look(deadline)? {
                Seen::Packet(packet) => match pick(&packet) {
                    Some(value) => return Ok(value),
                    None => self.arrived.push_back(packet),
                },
                Seen::Silence => bail!("no {what} within {LIMIT:?} but {:?}", self.arrived),
                Seen::Closed => bail!("closed before {what}, after {:?}", self.arrived),
            }
        }
    }

    /// The next packet until the deadline.
    fn look(&mut self, deadline: Instant) -> Result<Seen> {
        let mut piece = [0; 16 * 1024];
        loop {
            if let Some(packet) = Packet::take(&mut self.partial, self.version)? {
                self.answer(&packet)?;
                return Ok(Seen::Packet(packet));
            }
            if self.closed {
                let cut = self.partial.len();
                ensure!(cut == 0, "closed amid a packet, after {cut} bytes of it");
                return Ok(Seen::Closed);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Seen::Silence);
            }
            // Zero would mean to wait for ever.
            let left = left.max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut piece) {
                Ok(0) => self.closed = true,
                Ok(read) => self.partial.extend_from_slice(&piece[..read]),
                Err(error) if is_closed(error.kind()) => self.closed = true,
                Err(error) if is_early(error.kind()) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn answer(&mut self, packet: &Packet) -> Result<()> {
        match packet {
            Packet::Publish(message) if self.acknowledges && message.packet_id.is_some() => {
                self.acknowledge(message)
            }
            _ => Ok(()),
        }
    }

    fn free_packet_id(&mut self) -> u16 {
        let packet_id = self.next_packet_id;
        self.next_packet_id = packet_id.checked_add(1).unwrap_or(1);
        packet_id
    }
}

fn is_closed(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted
    )
}

fn is_early(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}
