//! Short texts that clients send: cursors, page tokens, pointers and names.

use antumbra_shadow::{DeviceId, Pointer, RequestId, ShadowName, Tenant};

use crate::guard::Allowance;
use crate::shadows::cursor::{ClusterMark, Cursor};
use crate::shadows::opaque::{self, Tag};

/// A pointer is kept as it is; a cursor as a map of places.
pub const ALLOWANCE: Allowance = Allowance {
    base_bytes: 64 * 1024,
    per_byte: 128,
};

const HOME: ClusterMark = ClusterMark(7);

/// Texts as they come; and the bytes as what a cursor holds, because no fuzzer guesses a checksum.
pub fn fuzz(data: &[u8]) {
    let sealed = opaque::seal(Tag::CursorV1, data);
    assert_eq!(opaque::open(Tag::CursorV1, &sealed).as_deref(), Some(data));
    assert_eq!(opaque::open(Tag::PageV1, &sealed), None, "the tag counts");
    check_cursor(&sealed);
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    check_cursor(text);
    for tag in [Tag::CursorV1, Tag::PageV1] {
        if let Some(payload) = opaque::open(tag, text) {
            assert_eq!(opaque::seal(tag, &payload), text, "one text per payload");
        }
    }
    if let Ok(pointer) = Pointer::parse(text) {
        assert_eq!(pointer.to_string(), text, "a pointer is printed as it came");
    }
    check_name(text, DeviceId::parse(text).ok().map(String::from));
    check_name(text, ShadowName::parse(text).ok().map(String::from));
    check_name(text, Tenant::parse(text).ok().map(String::from));
    check_name(text, RequestId::parse(text).ok().map(String::from));
}

fn check_cursor(text: &str) {
    if let Some(cursor) = Cursor::decode(text, HOME) {
        let again = Cursor::decode(&cursor.encode(HOME), HOME);
        assert_eq!(again, Some(cursor), "a cursor survives its text");
    }
}

fn check_name(text: &str, name: Option<String>) {
    assert!(name.is_none_or(|name| name == text), "a name is its text");
}
