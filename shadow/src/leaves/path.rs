//! Paths of leaves as order-preserving bytes.

use std::borrow::Cow;

/// What ends a key.
pub(crate) const END: u8 = 0x00;
const ESCAPE: u8 = 0x01;

/// Appends one key to a path.
pub(crate) fn push(path: &mut Vec<u8>, key: &str) {
    for &byte in key.as_bytes() {
        match byte {
            END => path.extend_from_slice(&[ESCAPE, b'0']),
            ESCAPE => path.extend_from_slice(&[ESCAPE, b'1']),
            _ => path.push(byte),
        }
    }
    path.push(END);
}

/// The keys of a path, from the root.
pub(crate) fn keys(path: &[u8]) -> impl Iterator<Item = Cow<'_, [u8]>> {
    path.split_inclusive(|&byte| byte == END).map(|component| {
        let component = component.strip_suffix(&[END]).unwrap_or(component);
        if !component.contains(&ESCAPE) {
            return Cow::Borrowed(component);
        }
        let mut key = Vec::with_capacity(component.len());
        let mut bytes = component.iter();
        while let Some(&byte) = bytes.next() {
            if byte == ESCAPE {
                key.push(if bytes.next() == Some(&b'0') {
                    END
                } else {
                    ESCAPE
                });
            } else {
                key.push(byte);
            }
        }
        Cow::Owned(key)
    })
}

/// Number of keys in a path.
pub(crate) fn count(path: &[u8]) -> usize {
    path.iter().filter(|&&byte| byte == END).count()
}

/// What a part of a path holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Keys {
    /// Number of keys.
    pub(crate) count: usize,
    /// Bytes of the longest key, escapes not counted.
    pub(crate) longest: usize,
}

/// Counts and measures keys. `None` unless the bytes are whole components with sound escapes; whether
/// keys are UTF-8 is not looked at.
pub(crate) fn measure(path: &[u8]) -> Option<Keys> {
    if path.last().is_some_and(|&byte| byte != END) {
        return None;
    }
    let mut keys = Keys::default();
    // Where the current key would start if none of its bytes were escaped.
    let mut start = 0;
    let mut bytes = path.iter().enumerate();
    while let Some((at, &byte)) = bytes.next() {
        if byte == END {
            keys.count += 1;
            keys.longest = keys.longest.max(at - start);
            start = at + 1;
        } else if byte == ESCAPE {
            start += 1;
            if !matches!(bytes.next(), Some((_, b'0' | b'1'))) {
                return None;
            }
        }
    }
    Some(keys)
}

/// Bytes that two paths share in whole components.
pub(crate) fn shared(left: &[u8], right: &[u8]) -> usize {
    let same = common_prefix(left, right);
    left[..same]
        .iter()
        .rposition(|&byte| byte == END)
        .map_or(0, |end| end + 1)
}

/// Bytes that two slices have in common at the front, eight at a time.
pub(crate) fn common_prefix(left: &[u8], right: &[u8]) -> usize {
    let (left_words, _) = left.as_chunks::<8>();
    let (right_words, _) = right.as_chunks::<8>();
    let mut same = 0;
    for (left, right) in left_words.iter().zip(right_words) {
        let differing = u64::from_le_bytes(*left) ^ u64::from_le_bytes(*right);
        if differing != 0 {
            return same + differing.trailing_zeros() as usize / 8;
        }
        same += 8;
    }
    let rest = left[same..].iter().zip(&right[same..]);
    same + rest.take_while(|(left, right)| left == right).count()
}

/// The path without its last key; `None` for a path of one key or none.
pub(crate) fn parent(path: &[u8]) -> Option<&[u8]> {
    let body = path.strip_suffix(&[END])?;
    let end = body.iter().rposition(|&byte| byte == END)?;
    Some(&path[..=end])
}

/// The path cut after the first component that starts at or behind `from`.
pub(crate) fn through_next(path: &[u8], from: usize) -> &[u8] {
    match path[from..].iter().position(|&byte| byte == END) {
        Some(end) => &path[..=from + end],
        None => path,
    }
}

/// Whether the bytes are whole components with sound escapes and UTF-8 keys.
pub(crate) fn is_whole(path: &[u8]) -> bool {
    measure(path).is_some() && std::str::from_utf8(path).is_ok()
}

/// Bytes that the keys of a suffix add to compact JSON: quotes, colons, escapes, and the braces of
/// the objects between them.
pub(crate) fn json_bytes(suffix: &[u8]) -> usize {
    let sum: usize = suffix
        .iter()
        .map(|&byte| usize::from(WIDTHS[usize::from(byte)]))
        .sum();
    sum.saturating_sub(2)
}

/// Width of each stored byte in JSON. The end of a key counts `"":` and the braces of the object
/// that follows; the escape byte counts so that the pair gives the six of `\u0000`.
const WIDTHS: [u8; 256] = {
    let mut widths = [1_u8; 256];
    let mut byte = 0;
    while byte < 0x20 {
        widths[byte] = 6;
        byte += 1;
    }
    widths[b'\n' as usize] = 2;
    widths[b'\r' as usize] = 2;
    widths[b'\t' as usize] = 2;
    widths[0x08] = 2;
    widths[0x0c] = 2;
    widths[b'"' as usize] = 2;
    widths[b'\\' as usize] = 2;
    widths[ESCAPE as usize] = 5;
    widths[END as usize] = 5;
    widths
};

#[cfg(test)]
mod tests {
    use super::*;

    fn path(keys: &[&str]) -> Vec<u8> {
        let mut path = Vec::new();
        for key in keys {
            push(&mut path, key);
        }
        path
    }

    /// Protects the merge: byte order must be tree order, prefixes must be ancestors.
    #[test]
    fn byte_order_is_tree_order() {
        let odd = [
            "", "\0", "\0\0", "\0a", "\u{1}", "\u{1}0", "\u{2}", " ", "a", "a\0", "ab", "ü",
        ];
        for left in odd {
            for right in odd {
                assert_eq!(
                    path(&[left]).cmp(&path(&[right])),
                    left.cmp(right),
                    "{left:?} {right:?}"
                );
                let nested = path(&[left, right]);
                assert!(nested.starts_with(&path(&[left])));
                assert_eq!(nested.starts_with(&path(&[right])), left == right);
                assert!(is_whole(&nested));
                let back: Vec<_> = keys(&nested).map(|key| key.into_owned()).collect();
                assert_eq!(back, [left.as_bytes(), right.as_bytes()]);
            }
        }
    }

    /// Protects the helpers that the merge leans on.
    #[test]
    fn paths_are_cut_at_whole_keys() {
        let deep = path(&["a", "bc", "d"]);
        assert_eq!(parent(&deep), Some(path(&["a", "bc"]).as_slice()));
        assert_eq!(parent(&path(&["a"])), None);
        assert_eq!(parent(&[]), None);
        assert_eq!(shared(&deep, &path(&["a", "bd"])), 2);
        assert_eq!(shared(&deep, &deep), deep.len());
        assert_eq!(through_next(&deep, 2), path(&["a", "bc"]));
        assert_eq!(count(&deep), 3);
        let keys = |count, longest| Some(Keys { count, longest });
        assert_eq!(measure(&deep), keys(3, 2));
        assert_eq!(measure(&path(&["\0\u{1}", "\0a\0"])), keys(2, 3));
        assert_eq!(measure(&[]), keys(0, 0));
        assert!(!is_whole(b"a"));
        assert!(!is_whole(b"a\x01\x05\x00"));
        assert!(!is_whole(b"\xff\x00"));
    }
}
