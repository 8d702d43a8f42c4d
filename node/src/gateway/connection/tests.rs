//! What a quiet connection costs.

use std::future::Future;
use std::mem::size_of;

use tokio::net::TcpStream;

use super::io::due_ms;
use super::open::Open;
use super::{Connection, Intake, Slot};

fn size_of_future<A, F: Future>(_: impl FnOnce(A) -> F) -> usize {
    size_of::<F>()
}

/// A million quiet devices: what is seldom needed must not be in what each of them has.
#[test]
fn quiet_connection_is_small() {
    let task = size_of_future(Connection::<TcpStream>::run);
    assert!(task <= 800, "{task}");
    assert!(size_of::<Open>() <= 320, "{}", size_of::<Open>());
    assert!(size_of::<Slot>() <= 72, "{}", size_of::<Slot>());
}

/// A client that was paced must not wait for ever for what was read when its pause has just ended.
#[test]
fn paced_bytes_are_due_when_the_pause_ends() {
    assert_eq!(due_ms(Intake::Until(9), b"x", 5), Some(9));
    assert_eq!(due_ms(Intake::Open, b"x", 9), Some(9));
    assert_eq!(due_ms(Intake::Open, b"", 9), None);
    // What blocks it wakes the connection when it is done.
    assert_eq!(due_ms(Intake::Blocked, b"x", 9), None);
}
