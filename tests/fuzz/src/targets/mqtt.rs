//! Packets and a connection: the decoder, the session and the encoder of the gateway.

use crate::gateway::mqtt;
use crate::guard::Allowance;

/// What a session may hold for its client, and the answers to it.
pub const ALLOWANCE: Allowance = Allowance {
    base_bytes: 256 * 1024,
    per_byte: 64,
};

/// See [`mqtt::fuzz`].
pub fn fuzz(data: &[u8]) {
    mqtt::fuzz(data);
}
