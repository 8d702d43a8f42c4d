//! What can be heard about one shadow: eight channels, a bit each.

/// What is asked of a shadow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Read the document. A role that may read may also listen to what happens to the shadow.
    Read,
    /// Merge into the document.
    Update,
    /// Delete the shadow.
    Delete,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Verb; 3] = [Verb::Read, Verb::Update, Verb::Delete];
}

/// One kind of news about a shadow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Channel {
    /// The answer to a read.
    ReadAccepted,
    /// A read that failed.
    ReadRefused,
    /// The answer to an update.
    UpdateAccepted,
    /// An update that failed.
    UpdateRefused,
    /// The answer to a delete.
    DeleteAccepted,
    /// A delete that failed.
    DeleteRefused,
    /// What the device should become: a delta, a patch or a document, as the dialect has it.
    Desired,
    /// Every accepted change with the documents before and after.
    Documents,
}

impl Channel {
    /// Every channel, in the order of the bits.
    pub const ALL: [Channel; 8] = [
        Channel::ReadAccepted,
        Channel::ReadRefused,
        Channel::UpdateAccepted,
        Channel::UpdateRefused,
        Channel::DeleteAccepted,
        Channel::DeleteRefused,
        Channel::Desired,
        Channel::Documents,
    ];

    /// Where good answers go.
    pub fn accepted(verb: Verb) -> Channel {
        match verb {
            Verb::Read => Channel::ReadAccepted,
            Verb::Update => Channel::UpdateAccepted,
            Verb::Delete => Channel::DeleteAccepted,
        }
    }

    /// Where bad answers go.
    pub fn refused(verb: Verb) -> Channel {
        match verb {
            Verb::Read => Channel::ReadRefused,
            Verb::Update => Channel::UpdateRefused,
            Verb::Delete => Channel::DeleteRefused,
        }
    }

    fn bit(self) -> u8 {
        1 << (self as u8)
    }
}

/// A set of channels, in one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Channels(u8);

impl Channels {
    /// No channel.
    pub const NONE: Channels = Channels(0);
    /// Every channel.
    pub const ALL: Channels = Channels(u8::MAX);

    /// The set as bits: bit n is the nth of [`Channel::ALL`].
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The set of these bits.
    pub fn from_bits(bits: u8) -> Channels {
        Channels(bits)
    }

    /// Whether the set has no channel.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the channel is in the set.
    pub fn contains(self, channel: Channel) -> bool {
        self.0 & channel.bit() != 0
    }

    /// The set without a channel.
    #[must_use]
    pub fn without(self, channel: Channel) -> Channels {
        Channels(self.0 & !channel.bit())
    }

    /// Both sets together.
    #[must_use]
    pub fn union(self, other: Channels) -> Channels {
        Channels(self.0 | other.0)
    }

    /// The channels of the set, in order.
    pub fn iter(self) -> impl Iterator<Item = Channel> {
        Channel::ALL
            .into_iter()
            .filter(move |&channel| self.contains(channel))
    }
}

impl FromIterator<Channel> for Channels {
    fn from_iter<I: IntoIterator<Item = Channel>>(channels: I) -> Channels {
        let bits = channels
            .into_iter()
            .fold(0, |bits, channel| bits | channel.bit());
        Channels(bits)
    }
}
