//! What one entry of a log asks for: a command, or several that became one entry.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// Length in front of each command of a group.
const LENGTH_BYTES: usize = 4;

/// One or more commands of a shard, opaque to this crate, in one entry: they are committed together and
/// applied one after another. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Command {
    #[serde(with = "shared_bytes")]
    bytes: Bytes,
    /// How many commands `bytes` holds, each behind its length. `None`: it is a single one.
    group: Option<u32>,
}

impl Command {
    /// A single command.
    pub fn one(bytes: Bytes) -> Command {
        Command { bytes, group: None }
    }

    /// Makes one of several; a single one stays as it is.
    pub(crate) fn of(commands: impl ExactSizeIterator<Item = Bytes> + Clone) -> Command {
        if commands.len() == 1
            && let Some(only) = commands.clone().next()
        {
            return Command::one(only);
        }
        let count = commands.len();
        let bytes: usize = commands.clone().map(|c| c.len() + LENGTH_BYTES).sum();
        let mut group = BytesMut::with_capacity(bytes);
        for command in commands {
            group.put_u32(command.len() as u32);
            group.put_slice(&command);
        }
        Command {
            bytes: group.freeze(),
            group: Some(count as u32),
        }
    }

    /// Reads back the bytes of a group; `None` when they are none.
    pub(crate) fn group_of(bytes: Bytes) -> Option<Command> {
        let (mut count, mut rest) = (0_u32, &bytes[..]);
        while !rest.is_empty() {
            let length = rest.try_get_u32().ok()? as usize;
            rest = rest.get(length..)?;
            count += 1;
        }
        Some(Command {
            bytes,
            group: Some(count),
        })
    }

    /// How many commands it holds.
    pub fn count(&self) -> usize {
        self.group.map_or(1, |count| count as usize)
    }

    /// The commands, in the order in which they are applied.
    pub fn each(&self) -> Commands<'_> {
        Commands {
            rest: &self.bytes,
            is_single: self.group.is_none(),
        }
    }

    /// Whether it is a group, and the bytes that [`Command::one`] and [`Command::group_of`] take.
    pub(crate) fn parts(&self) -> (bool, &Bytes) {
        (self.group.is_some(), &self.bytes)
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({self})")
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} commands, {} bytes", self.count(), self.bytes.len())
    }
}

/// The commands of one entry, in order.
#[derive(Debug, Clone)]
pub struct Commands<'a> {
    rest: &'a [u8],
    is_single: bool,
}

impl<'a> Commands<'a> {
    /// A single one.
    pub fn one(command: &'a [u8]) -> Commands<'a> {
        Commands {
            rest: command,
            is_single: true,
        }
    }
}

impl<'a> Iterator for Commands<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if std::mem::take(&mut self.is_single) {
            return Some(std::mem::take(&mut self.rest));
        }
        // Checked when the group was made or read.
        let length = self.rest.try_get_u32().ok()? as usize;
        let (command, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(command)
    }
}

/// `Bytes` as a byte string, for serde.
mod shared_bytes {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        Vec::<u8>::deserialize(from).map(Bytes::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(texts: &[&'static str]) -> Vec<Bytes> {
        texts
            .iter()
            .map(|text| Bytes::from_static(text.as_bytes()))
            .collect()
    }

    #[test]
    fn commands_come_back_in_their_order() {
        for texts in [&["a"][..], &[""], &["a", "", "ccc"], &["", ""]] {
            let made = Command::of(bytes(texts).into_iter());
            assert_eq!(made.count(), texts.len());
            let (is_group, stored) = made.parts();
            assert_eq!(is_group, texts.len() > 1);
            let read = match is_group {
                true => Command::group_of(stored.clone()),
                false => Some(Command::one(stored.clone())),
            };
            assert_eq!(read.as_ref(), Some(&made));
            let each: Vec<Bytes> = made.each().map(Bytes::copy_from_slice).collect();
            assert_eq!(each, bytes(texts));
        }
    }

    /// What a follower would read otherwise than its leader wrote it must not be taken.
    #[test]
    fn a_cut_group_is_refused() {
        let made = Command::of(bytes(&["abc", "de"]).into_iter());
        let (_, stored) = made.parts();
        let ends: Vec<usize> = (0..=stored.len())
            .filter(|end| Command::group_of(stored.slice(..*end)).is_some())
            .collect();
        assert_eq!(ends, [0, 7, 13], "only whole commands");
    }
}
