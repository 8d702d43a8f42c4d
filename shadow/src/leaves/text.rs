//! Work on the compact JSON text of one leaf, without a tree and without recursion. All functions
//! are total: on bytes that are no JSON they give some answer.

use crate::json::number::numbers_equal;

/// Whether two leaf texts have the same JSON value: numbers by decimal value, all else by bytes
/// (texts are written by us, so strings and key order are canonical).
pub(crate) fn equal(left: &[u8], right: &[u8]) -> bool {
    if left == right {
        return true;
    }
    let (mut left, mut right) = (left, right);
    while let (Some(&a), Some(&b)) = (left.first(), right.first()) {
        let (a_end, b_end) = (token(left), token(right));
        let same = if is_number_start(a) && is_number_start(b) {
            numbers_equal(&left[..a_end], &right[..b_end])
        } else {
            left[..a_end] == right[..b_end]
        };
        if !same {
            return false;
        }
        left = &left[a_end..];
        right = &right[b_end..];
    }
    left.is_empty() && right.is_empty()
}

/// Levels of containers inside this value, not counting the value itself when it is an array: the
/// array is the leaf of its own level.
pub(crate) fn depth(text: &[u8]) -> usize {
    if !matches!(text.first(), Some(b'[' | b'{')) {
        return 0;
    }
    let mut stack: usize = 0;
    let mut deepest: usize = 0;
    let mut rest = text;
    while let Some(&byte) = rest.first() {
        match byte {
            b'[' | b'{' => stack += 1,
            b']' | b'}' => stack = stack.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(stack);
        rest = &rest[token(rest)..];
    }
    deepest.saturating_sub(1)
}

/// Whether the text is an array.
pub(crate) fn is_array(text: &[u8]) -> bool {
    text.first() == Some(&b'[')
}

/// Copies the text with every scalar in it replaced: the shape that metadata has.
pub(crate) fn replace_scalars(text: &[u8], scalar: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(&byte) = rest.first() {
        let end = token(rest);
        let is_key = byte == b'"' && rest.get(end) == Some(&b':');
        if is_key || matches!(byte, b'[' | b']' | b'{' | b'}' | b',' | b':') {
            out.extend_from_slice(&rest[..end]);
        } else {
            out.extend_from_slice(scalar);
        }
        rest = &rest[end..];
    }
}

fn is_number_start(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b'-'
}

/// Length of the token at the front: a string, a number or word, or one mark. At least 1.
fn token(text: &[u8]) -> usize {
    let is_mark = |byte: u8| matches!(byte, b'[' | b']' | b'{' | b'}' | b',' | b':' | b'"');
    match text[0] {
        b'"' => {
            let mut at = 1;
            while at < text.len() {
                match text[at] {
                    b'"' => return at + 1,
                    b'\\' => at += 2,
                    _ => at += 1,
                }
            }
            text.len()
        }
        byte if is_mark(byte) => 1,
        _ => text
            .iter()
            .position(|&byte| is_mark(byte))
            .unwrap_or(text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects delta over arrays: compared whole, numbers by value.
    #[test]
    fn texts_are_compared_by_value() {
        assert!(equal(b"1", b"1.0"));
        assert!(equal(b"[1,{\"a\":2.50}]", b"[1.0,{\"a\":25e-1}]"));
        assert!(!equal(b"[1]", b"[1,1]"));
        assert!(!equal(b"\"1\"", b"\"1.0\""));
        assert!(!equal(b"1", b"\"1\""));
        assert!(!equal(b"1", b"true"));
        assert!(!equal(b"[\"a\\\"1\"]", b"[\"a\\\"1.0\"]"));
        assert!(!equal(b"[1]", b"[1"));
        assert!(!equal(b"[]", b"{}"));
    }

    /// Protects the shape of metadata for arrays.
    #[test]
    fn scalars_of_an_array_are_replaced_one_by_one() {
        let mut out = Vec::new();
        replace_scalars(br#"[1,"a:b",[],{"k":[null,{"x":{}}]}]"#, b"T", &mut out);
        assert_eq!(out, br#"[T,T,[],{"k":[T,{"x":{}}]}]"#);
    }

    /// Protects the depth limit inside arrays.
    #[test]
    fn depth_counts_containers_inside_arrays() {
        assert_eq!(depth(b"1"), 0);
        assert_eq!(depth(b"[1,2]"), 0);
        assert_eq!(depth(b"{}"), 0);
        assert_eq!(depth(b"[[1],[\"[[[\"]]"), 1);
        assert_eq!(depth(b"[{\"a\":{}}]"), 2);
    }
}
