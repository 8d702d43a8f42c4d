//! Topic aliases of what the client sends (section 3.3.2.3.4). They end with the connection.

use std::num::NonZeroU16;

use bytestring::ByteString;

use super::Session;
use super::connect::own_text;
use crate::gateway::mqtt::topics;
use crate::gateway::mqtt::wire::{Publish, Reason};

/// Topics by alias, from 1.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    topics: Vec<ByteString>,
}

impl Aliases {
    pub(super) fn heap_bytes(&self) -> usize {
        let texts: usize = self.topics.iter().map(|topic| topic.len()).sum();
        size_of::<Self>() + self.topics.capacity() * size_of::<ByteString>() + texts
    }
}

impl Session {
    /// Puts the topic that an alias stands for into `publish`, or remembers what it stands for.
    pub(super) fn resolve_alias(&mut self, publish: &mut Publish) -> Result<(), Reason> {
        let Some(alias) = publish.topic_alias.map(NonZeroU16::get) else {
            return Ok(());
        };
        if alias > self.limits.topic_alias_max {
            return Err(Reason::TopicAliasInvalid); // [MQTT-3.3.2-9]
        }
        let index = usize::from(alias) - 1;
        let topic = &mut publish.message.topic;
        if topic.is_empty() {
            let known = self
                .aliases
                .as_ref()
                .and_then(|aliases| aliases.topics.get(index));
            *topic = known
                .filter(|topic| !topic.is_empty())
                .cloned()
                .ok_or(Reason::ProtocolError)?;
            return Ok(());
        }
        if topics::check_limits(topic, &self.limits.topics).is_err() {
            // The message is refused; what a long topic would take is not kept for it.
            return Ok(());
        }
        let aliases = self.aliases.get_or_insert_default();
        if aliases.topics.len() <= index {
            aliases.topics.resize(index + 1, ByteString::new());
        }
        if aliases.topics[index] != *topic {
            aliases.topics[index] = own_text(topic);
        }
        Ok(())
    }
}
