//! What a quiet connection costs.

use std::future::Future;
use std::mem::size_of;

use tokio::net::TcpStream;

use super::open::Open;
use super::{Connection, Slot};

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
