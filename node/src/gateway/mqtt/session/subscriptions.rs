//! The subscriptions of one session, in one block of memory.
//!
//! An entry is the length of the filter (two bytes, big endian), a byte of flags, the subscription
//! identifier (four bytes, big endian) if there is one, and the filter. A session has few of them,
//! so going through all is faster than any index, and nothing is smaller.

use std::num::NonZeroU32;

use crate::gateway::mqtt::topics;
use crate::gateway::mqtt::wire::Qos;

const QOS_1: u8 = 0b0001;
const NO_LOCAL: u8 = 0b0010;
const HAS_IDENTIFIER: u8 = 0b0100;
const FLAGS_KNOWN: u8 = QOS_1 | NO_LOCAL | HAS_IDENTIFIER;

/// Largest subscription identifier (section 3.8.2.1.2).
const IDENTIFIER_MAX: u32 = 268_435_455;

/// Bytes of length and flags.
const HEAD_BYTES: usize = 3;

/// Subscriptions by filter, in the order in which they were first made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subscriptions {
    entries: Box<[u8]>,
}

/// One subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// Topic filter, well formed and not shared.
    pub filter: &'a str,
    /// QoS that was granted.
    pub qos: Qos,
    /// The client does not want its own messages back.
    pub no_local: bool,
    /// Number that messages shall carry.
    pub identifier: Option<NonZeroU32>,
}

/// Who published a message that is routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The session that it is routed to.
    Same,
    /// Anybody else.
    Other,
}

/// How a message goes to a session: once, whatever the number of subscriptions it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Highest QoS of the subscriptions that match [MQTT-3.3.4-2].
    pub qos: Qos,
    /// Identifiers of the subscriptions that match [MQTT-3.3.4-4].
    pub identifiers: Vec<NonZeroU32>,
}

/// Bytes that are not subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("subscriptions are damaged")]
pub struct Damaged;

impl Subscriptions {
    /// Reads what [`Subscriptions::as_bytes`] gave.
    ///
    /// # Errors
    /// When the bytes are anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (entry, behind) = split_entry(rest).ok_or(Damaged)?;
            topics::check_filter(entry.filter).map_err(|_| Damaged)?;
            rest = behind;
        }
        Ok(Self {
            entries: bytes.into(),
        })
    }

    /// The subscriptions as bytes, without a format tag: whoever stores them adds one.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.entries
    }

    /// All subscriptions.
    pub fn iter(&self) -> impl Iterator<Item = Subscription<'_>> {
        let mut rest = &*self.entries;
        std::iter::from_fn(move || {
            let (entry, behind) = split_entry(rest)?;
            rest = behind;
            Some(entry)
        })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The subscription with exactly this filter.
    #[must_use]
    pub fn get(&self, filter: &str) -> Option<Subscription<'_>> {
        self.iter().find(|entry| entry.filter == filter)
    }

    /// Adds a subscription, or puts it in the place of the one with the same filter
    /// [MQTT-3.8.4-3].
    pub fn insert(&mut self, subscription: Subscription<'_>) {
        let mut entries =
            Vec::with_capacity(self.entries.len() + HEAD_BYTES + 4 + subscription.filter.len());
        let mut placed = false;
        for entry in self.iter() {
            if entry.filter == subscription.filter {
                append(&mut entries, subscription);
                placed = true;
            } else {
                append(&mut entries, entry);
            }
        }
        if !placed {
            append(&mut entries, subscription);
        }
        self.entries = entries.into_boxed_slice();
    }

    /// Takes away the subscription with exactly this filter; says whether there was one.
    pub fn remove(&mut self, filter: &str) -> bool {
        if self.get(filter).is_none() {
            return false;
        }
        let mut entries = Vec::with_capacity(self.entries.len());
        for entry in self.iter().filter(|entry| entry.filter != filter) {
            append(&mut entries, entry);
        }
        self.entries = entries.into_boxed_slice();
        true
    }

    /// How a message under `topic` goes to this session; `None` when it does not.
    #[must_use]
    pub fn route(&self, topic: &str, origin: Origin) -> Option<Route> {
        let mut route: Option<Route> = None;
        for entry in self.iter() {
            // [MQTT-3.8.3-3]
            let returns = entry.no_local && origin == Origin::Same;
            if returns || !topics::matches(entry.filter, topic) {
                continue;
            }
            let found = route.get_or_insert_with(|| Route {
                qos: Qos::AtMostOnce,
                identifiers: Vec::new(),
            });
            found.qos = found.qos.max(entry.qos);
            found.identifiers.extend(entry.identifier);
        }
        route
    }
}

/// The first entry and what is behind it; `None` at the end or when it is damaged.
fn split_entry(bytes: &[u8]) -> Option<(Subscription<'_>, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let flags = head[2];
    if flags & !FLAGS_KNOWN != 0 {
        return None;
    }
    let (identifier, rest) = if flags & HAS_IDENTIFIER == 0 {
        (None, rest)
    } else {
        let (identifier, rest) = rest.split_first_chunk::<4>()?;
        let identifier = NonZeroU32::new(u32::from_be_bytes(*identifier))?;
        if identifier.get() > IDENTIFIER_MAX {
            return None;
        }
        (Some(identifier), rest)
    };
    let length = u16::from_be_bytes([head[0], head[1]]);
    let (filter, rest) = rest.split_at_checked(usize::from(length))?;
    let subscription = Subscription {
        filter: std::str::from_utf8(filter).ok()?,
        qos: if flags & QOS_1 == 0 {
            Qos::AtMostOnce
        } else {
            Qos::AtLeastOnce
        },
        no_local: flags & NO_LOCAL != 0,
        identifier,
    };
    Some((subscription, rest))
}

fn append(entries: &mut Vec<u8>, subscription: Subscription<'_>) {
    // An MQTT string is never longer; a longer filter could not have been received.
    let Ok(length) = u16::try_from(subscription.filter.len()) else {
        return;
    };
    let mut flags = 0;
    if subscription.qos == Qos::AtLeastOnce {
        flags |= QOS_1;
    }
    if subscription.no_local {
        flags |= NO_LOCAL;
    }
    if subscription.identifier.is_some() {
        flags |= HAS_IDENTIFIER;
    }
    entries.extend_from_slice(&length.to_be_bytes());
    entries.push(flags);
    if let Some(identifier) = subscription.identifier {
        entries.extend_from_slice(&identifier.get().to_be_bytes());
    }
    entries.extend_from_slice(subscription.filter.as_bytes());
}
