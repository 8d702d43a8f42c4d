//! Sizes, counts and times of the link, in one place because they belong together.

use std::time::Duration;

use antumbra_raft::Lane;

/// Largest frame, control request, control reply and follow item.
pub const FRAME_BYTES_MAX: usize = 8 << 20;
/// A protobuf message with one field of that size: a tag and a length come before it.
pub(super) const MESSAGE_BYTES_MAX: usize = FRAME_BYTES_MAX + 16;

/// How long opening a connection may take: name, TCP, TLS and handshake together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an accepted connection may take for its TLS handshake, and then for its first request.
pub(super) const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long what is still queued may take to leave when this side ends a link.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a node that stops lets control requests finish.
pub(super) const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// A connection without traffic is asked for a sign of life after this time …
pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// … and is given up when none comes for this time.
pub(super) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// After so much silence of the other node a link is over.
pub const SILENCE_MAX: Duration = Duration::from_secs(4);

/// Bytes that a lane may send ahead of its reader: on its stream, and on its connection.
pub(super) const LANE_WINDOW_BYTES: u32 = 4 << 20;
pub(super) const LANE_CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Follow streams that one node may have open at another one.
pub(super) const FOLLOWS_PER_NODE_MAX: usize = 1024;
/// Bytes that the answer of one call may send ahead of its reader. The connection has room for the
/// windows of all streams together: a control reply gets through however many streams are not read.
pub(super) const CALL_WINDOW_BYTES: u32 = 256 << 10;
pub(super) const CALL_CONNECTION_WINDOW_BYTES: u32 = CALL_WINDOW_BYTES * STREAMS_MAX;
/// Streams that one connection may have open: follow streams and control requests.
pub(super) const STREAMS_MAX: u32 = FOLLOWS_PER_NODE_MAX as u32 + 256;
/// Largest HTTP/2 frame: larger than the default, because log and snapshots send much at once.
pub(super) const HTTP_FRAME_BYTES: u32 = 64 << 10;
/// Largest header list.
pub(super) const HEADER_BYTES_MAX: u32 = 16 << 10;

/// Connections that are accepted at one time.
pub(super) const CONNECTIONS_MAX: usize = 1024;
/// Links that are served at one time.
pub(super) const LINKS_MAX: usize = 1024;
/// Control requests that are served at one time.
pub(super) const CONTROLS_MAX: usize = 256;
/// Follow streams that are served at one time.
pub(super) const FOLLOWS_MAX: usize = 16 * 1024;
/// Nodes to which a connection for calls is kept.
pub(super) const CALLEES_MAX: usize = 256;

/// Frames that wait in each direction of a link. Snapshot frames are large.
pub(super) fn queue_frames(lane: Lane) -> usize {
    match lane {
        Lane::Control | Lane::Log | Lane::Forward => 256,
        Lane::Snapshot => 16,
    }
}

/// Bytes of received frames that wait for the reader of a link.
pub(super) const INBOX_BYTES_MAX: usize = 16 << 20;

const _: () = assert!(FRAME_BYTES_MAX <= INBOX_BYTES_MAX);
const _: () = assert!(
    KEEPALIVE_INTERVAL.as_millis() + KEEPALIVE_TIMEOUT.as_millis() <= SILENCE_MAX.as_millis()
);
