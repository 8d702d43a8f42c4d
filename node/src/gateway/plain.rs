//! Messages between clients: routed to whoever subscribes, on this node and on others, best effort.
//!
//! Nothing is stored: a client that is away misses them, and so does a node that cannot be reached or
//! is too slow. Messages of one publisher to one subscriber keep their order, because every pair of
//! nodes has one queue and one message under way.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::Node;
use antumbra_shadow::Tenant;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::metrics;
use super::mqtt::wire::{Message, MessageProperties, Qos};
use super::records::ClientKey;
use super::registry::Registry;
use super::slot::Note;
use crate::shadows::{Reader, Shadows, Writer};

/// Messages that wait for one other node.
const QUEUE_MAX: usize = 4_096;
/// Bytes of messages that travel together, beyond the first.
const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Messages that travel together.
const BATCH_MESSAGES_MAX: usize = 1_024;
/// How long another node may take to accept a batch.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);

/// The first byte of a batch. Beside the tags of `shadows::forward::wire`; never used again for
/// something else.
const BATCH_V1: u8 = 0x60;

/// A message that a client published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlainMessage {
    /// Whose clients it is for.
    pub(crate) tenant: Tenant,
    /// Who published it.
    pub(crate) publisher: ClientKey,
    /// How it was published.
    pub(crate) qos: Qos,
    /// The message.
    pub(crate) message: Message,
}

impl PlainMessage {
    /// Bytes of topic and payload.
    pub(crate) fn bytes(&self) -> usize {
        self.message.topic.len() + self.message.payload.len()
    }

    fn write(&self, writer: &mut Writer) {
        writer.text(self.tenant.as_str());
        writer.bytes(&self.publisher.to_bytes());
        writer.u8(match self.qos {
            Qos::AtMostOnce => 0,
            Qos::AtLeastOnce => 1,
        });
        writer.text(&self.message.topic);
        writer.bytes(&self.message.payload);
        writer.option(self.message.properties.as_deref(), write_properties);
    }

    fn read(reader: &mut Reader) -> Option<PlainMessage> {
        Some(PlainMessage {
            tenant: reader.tenant()?,
            publisher: ClientKey::from_bytes(&reader.bytes()?)?,
            qos: match reader.u8()? {
                0 => Qos::AtMostOnce,
                1 => Qos::AtLeastOnce,
                _ => return None,
            },
            message: Message {
                topic: reader.text(|topic| Some(topic.into()))?,
                payload: reader.bytes()?,
                properties: reader.option(read_properties)?.map(Box::new),
            },
        })
    }
}

fn write_properties(writer: &mut Writer, properties: &MessageProperties) {
    writer.u8(u8::from(properties.payload_is_utf8));
    writer.option(properties.expiry_s, Writer::u32);
    writer.option(properties.content_type.as_deref(), Writer::text);
    writer.option(properties.response_topic.as_deref(), Writer::text);
    writer.option(properties.correlation_data.as_deref(), Writer::bytes);
    writer.u32(properties.user_properties.len() as u32);
    for (name, value) in &properties.user_properties {
        writer.text(name);
        writer.text(value);
    }
}

fn read_properties(reader: &mut Reader) -> Option<MessageProperties> {
    let text = |reader: &mut Reader| reader.text(|text| Some(text.into()));
    Some(MessageProperties {
        payload_is_utf8: reader.u8()? != 0,
        expiry_s: reader.option(Reader::u32)?,
        content_type: reader.option(text)?,
        response_topic: reader.option(text)?,
        correlation_data: reader.option(Reader::bytes)?,
        user_properties: reader.list(USER_PROPERTIES_MAX, |reader| {
            Some((text(reader)?, text(reader)?))
        })?,
    })
}

/// More than a packet can hold.
const USER_PROPERTIES_MAX: usize = 1 << 16;

/// Takes messages to their subscribers.
pub(crate) struct Router {
    registry: Arc<Registry>,
    shadows: Shadows,
    queues: Mutex<HashMap<String, mpsc::Sender<Arc<PlainMessage>>>>,
    stop: CancellationToken,
}

impl Router {
    pub(crate) fn new(
        registry: Arc<Registry>,
        shadows: Shadows,
        stop: CancellationToken,
    ) -> Router {
        Router {
            registry,
            shadows,
            queues: Mutex::default(),
            stop,
        }
    }

    /// Takes a message to the subscribers on this node and towards those on others. Does not wait.
    pub(crate) fn publish(&self, message: PlainMessage) {
        let message = Arc::new(message);
        self.deliver(&message);
        let mut queues = self.queues.lock();
        for node in self.shadows.other_nodes() {
            let queue = queues.entry(node.name.clone()).or_insert_with(|| {
                let (sender, receiver) = mpsc::channel(QUEUE_MAX);
                let (shadows, stop) = (self.shadows.clone(), self.stop.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => {}
                        () = send_all(&shadows, &node.name, receiver) => {}
                    }
                });
                sender
            });
            if queue.try_send(Arc::clone(&message)).is_err() {
                metrics::plain_lost(1);
            }
        }
    }

    /// Takes a batch of another node; `false` when it is none.
    pub(crate) fn receive(&self, body: Bytes) -> bool {
        let Some((BATCH_V1, mut reader)) = Reader::open(body) else {
            return false;
        };
        let Some(messages) = reader.list(BATCH_MESSAGES_MAX, PlainMessage::read) else {
            return false;
        };
        for message in messages {
            self.deliver(&Arc::new(message));
        }
        true
    }

    /// Whether a request of another node is a batch.
    pub(crate) fn is_batch(body: &Bytes) -> bool {
        body.first() == Some(&BATCH_V1)
    }

    fn deliver(&self, message: &Arc<PlainMessage>) {
        let note = Note::Message(Arc::clone(message));
        let topic = &message.message.topic;
        self.registry.tell_of_topic(&message.tenant, topic, &note);
    }
}

async fn send_all(shadows: &Shadows, name: &str, mut queue: mpsc::Receiver<Arc<PlainMessage>>) {
    let mut first = None;
    loop {
        let next = match first.take() {
            Some(next) => next,
            None => match queue.recv().await {
                Some(next) => next,
                None => return,
            },
        };
        let mut batch = vec![next];
        let mut bytes = batch[0].bytes();
        while batch.len() < BATCH_MESSAGES_MAX
            && let Ok(next) = queue.try_recv()
        {
            bytes += next.bytes();
            if bytes > BATCH_BYTES_MAX {
                first = Some(next);
                break;
            }
            batch.push(next);
        }
        let count = batch.len();
        let node = shadows
            .other_nodes()
            .into_iter()
            .find(|node| node.name == name);
        let sent = match node {
            Some(node) => send(shadows, &node, &batch).await,
            None => false,
        };
        if !sent {
            metrics::plain_lost(count);
        }
    }
}

async fn send(shadows: &Shadows, node: &Node, batch: &[Arc<PlainMessage>]) -> bool {
    let sent = shadows.tell_node(node, encode(batch), SEND_TIMEOUT).await;
    if let Err(error) = &sent {
        debug!(node = node.name, %error, "messages between clients are lost");
    }
    sent.is_ok()
}

fn encode(batch: &[Arc<PlainMessage>]) -> Bytes {
    let bytes: usize = batch.iter().map(|message| message.bytes() + 64).sum();
    let mut writer = Writer::new(BATCH_V1, bytes);
    writer.u32(batch.len() as u32);
    for message in batch {
        message.write(&mut writer);
    }
    writer.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn message(properties: Option<MessageProperties>) -> PlainMessage {
        PlainMessage {
            tenant: Tenant::default(),
            publisher: ClientKey::new(&Tenant::default(), "me"),
            qos: Qos::AtLeastOnce,
            message: Message {
                topic: "a/b".into(),
                payload: Bytes::from_static(b"\0\xff"),
                properties: properties.map(Box::new),
            },
        }
    }

    /// What other nodes are sent arrives whole.
    #[test]
    fn messages_survive_their_form_between_nodes() {
        let rich = MessageProperties {
            payload_is_utf8: true,
            expiry_s: Some(7),
            content_type: Some("text".into()),
            response_topic: Some("r".into()),
            correlation_data: Some(Bytes::from_static(b"c")),
            user_properties: vec![("n".into(), "v".into())],
        };
        let batch = [message(None), message(Some(rich))].map(Arc::new);
        let (tag, mut reader) = Reader::open(encode(&batch)).unwrap();
        assert_eq!(tag, BATCH_V1);
        let read = reader.list(BATCH_MESSAGES_MAX, PlainMessage::read).unwrap();
        let read: Vec<_> = read.into_iter().map(Arc::new).collect();
        assert_eq!(read, batch);
    }

    /// Bytes of other nodes are read totally.
    #[test]
    fn damaged_batch_is_no_batch() {
        let whole = encode(&[Arc::new(message(None))]);
        for end in 1..whole.len() {
            let (_, mut reader) = Reader::open(whole.slice(..end)).unwrap();
            let read = reader.list(BATCH_MESSAGES_MAX, PlainMessage::read);
            assert!(read.is_none(), "{end}");
        }
    }
}
