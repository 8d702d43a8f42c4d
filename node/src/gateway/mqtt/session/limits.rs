//! What one session may use.

use std::num::{NonZeroU16, NonZeroU32};

use crate::gateway::mqtt::topics::TopicLimits;
use crate::gateway::mqtt::wire::SizeLimits;

/// Limits of a session. One value serves all sessions of a listener.
///
/// The defaults are those of AWS IoT where it has one, so that firmware that lives with its limits
/// lives with ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionLimits {
    /// Time from the start of the connection to the CONNECT, in milliseconds. Default 5,000.
    pub connect_timeout_ms: u32,
    /// Time to decide about a CONNECT, in milliseconds; then it is refused with 0x88. Default
    /// 10,000.
    pub authentication_timeout_ms: u32,
    /// Longest keep-alive, in seconds, also for clients that ask for none. MQTT 5 clients are told
    /// as Server Keep Alive, older ones cannot be. 0 lets clients ask for what they want. Default
    /// 1,200.
    pub keep_alive_max_s: u16,
    /// Longest time that a session outlives its connection, in seconds. A session of 3.1 or 3.1.1
    /// that is not clean lives this long. Default seven days.
    pub session_expiry_max_s: u32,
    /// QoS 1 messages from the client that wait for their outcome. Announced as Receive Maximum.
    /// Default 100.
    pub receive_max: NonZeroU16,
    /// QoS 0 messages from the client that wait for their outcome; more are dropped. Default 100.
    pub at_most_once_max: u16,
    /// QoS 1 messages to the client that wait for its PUBACK, together with the client's own
    /// Receive Maximum. Default 100.
    pub unacknowledged_max: NonZeroU16,
    /// QoS 1 messages that wait until one more may be sent; over it they are dropped. Default 100.
    pub waiting_messages_max: u16,
    /// Bytes of topics and payloads of the messages that wait. Default 256 KiB.
    pub waiting_bytes_max: u32,
    /// Subscriptions of a session. Default 50.
    pub subscriptions_max: u16,
    /// Filters of one SUBSCRIBE that are granted. Default 8.
    pub filters_per_subscribe_max: u16,
    /// SUBSCRIBE and UNSUBSCRIBE packets that wait for their outcome. Default 8.
    pub requests_max: u16,
    /// Topic aliases that a client may use. Default 8.
    pub topic_alias_max: u16,
    /// Packets from the client per second, PUBACK not counted. Over it, reading pauses. Default
    /// 100.
    pub packet_rate_max: NonZeroU32,
    /// Packets from the client that may come at once before the rate counts. Default 100.
    pub packet_burst_max: NonZeroU32,
    /// Bytes from the client per second, of packets of any kind; as many may come at once. Over it,
    /// reading pauses. Default 512 KiB.
    pub byte_rate_max: NonZeroU32,
    /// Length and depth of topic names and filters.
    pub topics: TopicLimits,
    /// Sizes of packets from the client. The decoder enforces them, the session announces them.
    pub sizes: SizeLimits,
}

const HUNDRED: NonZeroU32 = NonZeroU32::new(100).expect("is not zero");
const HALF_MEBIBYTE: NonZeroU32 = NonZeroU32::new(512 * 1024).expect("is not zero");
const HUNDRED_SHORT: NonZeroU16 = NonZeroU16::new(100).expect("is not zero");

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            connect_timeout_ms: 5_000,
            authentication_timeout_ms: 10_000,
            keep_alive_max_s: 1_200,
            session_expiry_max_s: 7 * 24 * 3_600,
            receive_max: HUNDRED_SHORT,
            at_most_once_max: 100,
            unacknowledged_max: HUNDRED_SHORT,
            waiting_messages_max: 100,
            waiting_bytes_max: 256 * 1024,
            subscriptions_max: 50,
            filters_per_subscribe_max: 8,
            requests_max: 8,
            topic_alias_max: 8,
            packet_rate_max: HUNDRED,
            packet_burst_max: HUNDRED,
            byte_rate_max: HALF_MEBIBYTE,
            topics: TopicLimits::default(),
            sizes: SizeLimits::default(),
        }
    }
}
