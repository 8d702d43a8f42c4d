//! How fast packets and their bytes may come. Over the rate nothing is refused: reading pauses.

use super::Session;

/// Bytes that may come at once: as many as in one second, in microseconds.
const BYTES_ALLOWANCE_US: u64 = 1_000_000;

impl Session {
    /// Counts a packet against the rate.
    pub(super) fn count_packet(&mut self, now_ms: u64) {
        let now_us = now_ms.saturating_mul(1_000);
        let due_us = self.packets_due_us.max(now_us);
        self.packets_due_us = due_us.saturating_add(self.packet_interval_us());
    }

    /// Counts bytes from the client against the rate, also those of a packet whose end has not come.
    pub fn count_bytes(&mut self, bytes: usize, now_ms: u64) {
        let now_us = now_ms.saturating_mul(1_000);
        let taken_us = (bytes as u64).saturating_mul(1_000_000);
        let taken_us = taken_us / u64::from(self.limits.byte_rate_max.get());
        self.bytes_due_us = self.bytes_due_us.max(now_us).saturating_add(taken_us);
    }

    /// Until when reading pauses because what came so far came too fast.
    pub(super) fn pause_ms(&self, now_ms: u64) -> Option<u64> {
        let interval_us = self.packet_interval_us();
        let allowance_us = u64::from(self.limits.packet_burst_max.get()) * interval_us;
        // One more may be read when the burst has room for it behind those that were read.
        let next_due_us = self.packets_due_us.saturating_add(interval_us);
        let packets_us = next_due_us.saturating_sub(allowance_us);
        // How many bytes come next is not known before: they are paid for afterwards.
        let bytes_us = self.bytes_due_us.saturating_sub(BYTES_ALLOWANCE_US);
        let open_at_ms = packets_us.max(bytes_us).div_ceil(1_000);
        (open_at_ms > now_ms).then_some(open_at_ms)
    }

    fn packet_interval_us(&self) -> u64 {
        1_000_000 / u64::from(self.limits.packet_rate_max.get())
    }
}
