//! Bytes as lower-case hexadecimal digits, with exactly one spelling.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The digits of some bytes.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let digits = bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 0x0f])
        .map(|digit| char::from(DIGITS[usize::from(digit)]));
    digits.collect()
}

/// The 32 bytes of exactly 64 lower-case digits.
pub(super) fn decode(text: &[u8]) -> Option<[u8; 32]> {
    decode_all(text)?.try_into().ok()
}

/// The bytes of any even number of lower-case digits.
pub(crate) fn decode_all(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let pairs = text.chunks_exact(2);
    pairs
        .map(|pair| Some((digit(pair[0])? << 4) | digit(pair[1])?))
        .collect()
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A secret has one spelling, so that two texts never mean the same.
    #[test]
    fn has_one_spelling() {
        let bytes: [u8; 32] = std::array::from_fn(|index| index as u8 * 8);
        let text = encode(&bytes);
        assert_eq!(decode(text.as_bytes()), Some(bytes));
        for bad in [
            text.to_uppercase(),
            text[1..].to_owned(),
            format!("{text}0"),
            format!("+{}", &text[1..]),
            format!("é{}", &text[2..]),
        ] {
            assert_eq!(decode(bad.as_bytes()), None, "{bad}");
        }
    }
}
