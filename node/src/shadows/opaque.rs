//! Opaque strings handed to clients: a format tag, a payload and a checksum in URL-safe text.
//!
//! They are checked when they come back, so that a cut or mistyped one is refused instead of read
//! as something else. They are no secret and no proof: whoever uses one is authorised as usual.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What an opaque string is for. The values are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Tag {
    /// A place in the feeds of shards.
    CursorV1 = 1,
    /// Where the next page of a list begins.
    PageV1 = 2,
}

/// Makes the text form of `payload`.
pub(crate) fn seal(tag: Tag, payload: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(payload.len() + 5);
    bytes.push(tag as u8);
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    encode(&bytes)
}

/// Reads the payload back; `None` when the text was not made by [`seal`] with this tag.
pub(crate) fn open(tag: Tag, text: &str) -> Option<Vec<u8>> {
    let mut bytes = decode(text)?;
    let sum = bytes.split_off(bytes.len().checked_sub(4)?);
    if crc32fast::hash(&bytes).to_be_bytes()[..] != sum || bytes.first() != Some(&(tag as u8)) {
        return None;
    }
    bytes.remove(0);
    Some(bytes)
}

/// Base64 for URLs without padding (RFC 4648 §5).
fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .fold(0u32, |group, byte| group << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for nth in 0..=chunk.len() {
            let six = (group >> (18 - 6 * nth)) & 0x3f;
            text.push(char::from(ALPHABET[six as usize]));
        }
    }
    text
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for chunk in text.as_bytes().chunks(4) {
        let mut group = 0u32;
        for letter in chunk {
            group = group << 6 | value_of(*letter)?;
        }
        match chunk.len() {
            4 => bytes.extend_from_slice(&group.to_be_bytes()[1..]),
            3 if group & 0x3 == 0 => {
                bytes.extend_from_slice(&((group >> 2) as u16).to_be_bytes());
            }
            2 if group & 0xf == 0 => bytes.push((group >> 4) as u8),
            _ => return None,
        }
    }
    Some(bytes)
}

fn value_of(letter: u8) -> Option<u32> {
    let value = match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// RFC 4648 §10, without padding.
    #[test]
    fn text_form_follows_the_standard() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg"),
            (b"fo", "Zm8"),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg"),
            (&[0xfb, 0xff], "-_8"),
        ] {
            assert_eq!(encode(bytes), text);
            assert_eq!(decode(text).unwrap(), bytes);
        }
    }

    #[test]
    fn opening_gives_back_what_was_sealed() {
        for length in 0..20 {
            let payload = vec![0xa5; length];
            let text = seal(Tag::PageV1, &payload);
            assert_eq!(open(Tag::PageV1, &text).unwrap(), payload);
            assert_eq!(open(Tag::CursorV1, &text), None, "another tag");
        }
    }

    /// A client that cuts or mistypes a cursor gets an error, never another position.
    #[test]
    fn damaged_text_is_refused() {
        let text = seal(Tag::CursorV1, b"payload");
        for cut in 0..text.len() {
            assert_eq!(open(Tag::CursorV1, &text[..cut]), None);
        }
        for nth in 0..text.len() {
            let mut letters = text.clone().into_bytes();
            letters[nth] = if letters[nth] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(letters).unwrap();
            assert_eq!(open(Tag::CursorV1, &changed), None);
        }
        for text in ["", "AAAA", "not base64!", "ü"] {
            assert_eq!(open(Tag::CursorV1, text), None);
        }
    }
}
