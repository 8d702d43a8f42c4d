//! JSON Pointers (RFC 6901) below a section.

use std::fmt;

use crate::leaves::path;

/// The longest pointer text, in bytes.
pub const POINTER_BYTES_MAX: usize = 32 * 1024;

/// A place below `desired` or `reported`. The empty pointer is the whole section. Arrays are opaque
/// leaves, so a pointer into one finds nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Pointer {
    path: Vec<u8>,
}

/// Why a text is not a JSON Pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PointerError {
    /// A pointer that is not empty starts with a slash.
    #[error("a JSON Pointer is empty or starts with '/'")]
    NoSlash,
    /// A tilde is followed by `0` or `1`.
    #[error("in a JSON Pointer '~' is followed by 0 or 1")]
    BadEscape,
    /// Longer than [`POINTER_BYTES_MAX`].
    #[error("the JSON Pointer is too long")]
    TooLong,
}

impl Pointer {
    /// Reads a pointer such as `/wifi/networks~1home`.
    pub fn parse(text: &str) -> Result<Self, PointerError> {
        if text.len() > POINTER_BYTES_MAX {
            return Err(PointerError::TooLong);
        }
        let mut path = Vec::with_capacity(text.len());
        if text.is_empty() {
            return Ok(Self { path });
        }
        let body = text.strip_prefix('/').ok_or(PointerError::NoSlash)?;
        for token in body.split('/') {
            path::push(&mut path, &unescape(token)?);
        }
        Ok(Self { path })
    }

    /// The pointer to the member reached by these keys.
    pub fn of_keys<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        let mut path = Vec::new();
        for key in keys {
            path::push(&mut path, key);
        }
        Self { path }
    }

    /// Whether this is the whole section.
    pub fn is_root(&self) -> bool {
        self.path.is_empty()
    }

    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    pub(crate) fn from_path(path: &[u8]) -> Option<Self> {
        path::is_whole(path).then(|| Self {
            path: path.to_vec(),
        })
    }

    /// Whether a leaf is at or below any of the pointers; no pointers cover everything.
    pub(crate) fn any_covers(pointers: &[Pointer], path: &[u8]) -> bool {
        pointers.is_empty()
            || pointers
                .iter()
                .any(|pointer| path.starts_with(&pointer.path))
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for key in path::keys(&self.path) {
            let key = String::from_utf8_lossy(&key)
                .replace('~', "~0")
                .replace('/', "~1");
            write!(f, "/{key}")?;
        }
        Ok(())
    }
}

fn unescape(token: &str) -> Result<String, PointerError> {
    let mut key = String::with_capacity(token.len());
    let mut characters = token.chars();
    while let Some(character) = characters.next() {
        key.push(match character {
            '~' => match characters.next() {
                Some('0') => '~',
                Some('1') => '/',
                _ => return Err(PointerError::BadEscape),
            },
            other => other,
        });
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects partial reads and path conditions: escapes as in RFC 6901, section 5.
    #[test]
    fn pointers_are_read_and_printed_as_in_the_rfc() {
        for text in [
            "",
            "/",
            "/a~1b",
            "/m~0n",
            "/foo/0",
            "/ ",
            "/k\"l",
            "//a",
            "/\u{0}\u{1}",
        ] {
            assert_eq!(Pointer::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Pointer::parse("/a~1b").unwrap(), Pointer::of_keys(["a/b"]));
        assert_eq!(Pointer::parse("a"), Err(PointerError::NoSlash));
        assert_eq!(Pointer::parse("/a~2"), Err(PointerError::BadEscape));
        assert_eq!(Pointer::parse("/a~"), Err(PointerError::BadEscape));
        let long = format!("/{}", "x".repeat(POINTER_BYTES_MAX));
        assert_eq!(Pointer::parse(&long), Err(PointerError::TooLong));
    }
}
