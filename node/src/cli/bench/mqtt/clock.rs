//! The clock that sender and receivers of an update share. They are different processes, so it is
//! the clock of the machine; while that is set, latencies are wrong.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970.
#[allow(clippy::disallowed_methods)] // Processes share no other clock.
pub(super) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}

/// The member of an update's state that holds the time of sending.
const MEMBER: &str = "\"sent\":";

/// A desired state that says when it was sent.
pub(super) fn stamp(now_us: u64) -> String {
    format!("{{{MEMBER}{now_us}}}")
}

/// When the update in this payload was sent. Not by parsing: the load must not cost more than what
/// it measures.
pub(super) fn stamped(payload: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(payload).ok()?;
    // The metadata have a member of the same name, whose value is an object.
    text.split(MEMBER).skip(1).find_map(|rest| {
        let rest = rest.trim_start();
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        rest[..end].parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_sending_is_found_in_a_delta() {
        let delta = r#"{"version":2,"metadata":{"sent":{"timestamp":1}},"state":{"sent":17}}"#;
        assert_eq!(stamped(delta.as_bytes()), Some(17));
        let spaced = r#"{"state": {"sent": 18}}"#;
        assert_eq!(stamped(spaced.as_bytes()), Some(18));
        let update = format!("{{\"state\":{}}}", stamp(19));
        assert_eq!(stamped(update.as_bytes()), Some(19));
        assert_eq!(stamped(br#"{"state":{"on":true}}"#), None);
    }
}
