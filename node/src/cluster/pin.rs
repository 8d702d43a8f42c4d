//! The command that asks every replica of a shard to keep its state at one index, so that the states
//! can be compared while the shard goes on.

use bytes::Bytes;

/// First byte of the command; part of the log's format, no other command of a shard starts with it.
const TAG_PIN_V1: u8 = 0x75;

/// The command for a pin with this number.
pub(crate) fn command(pin: u64) -> Bytes {
    let mut bytes = vec![TAG_PIN_V1];
    bytes.extend_from_slice(&pin.to_be_bytes());
    bytes.into()
}

/// The number, if this is such a command.
pub(crate) fn parse(command: &[u8]) -> Option<u64> {
    let (tag, number) = command.split_first()?;
    let number = number.try_into().ok()?;
    (*tag == TAG_PIN_V1).then(|| u64::from_be_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_is_read_back_and_nothing_else_is() {
        assert_eq!(parse(&command(7)), Some(7));
        assert_eq!(&command(1)[..], b"\x75\0\0\0\0\0\0\0\x01");
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"\x75\0"), None);
        assert_eq!(parse(b"\x01\0\0\0\0\0\0\0\x01"), None);
    }
}
