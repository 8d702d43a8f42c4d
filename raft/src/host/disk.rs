//! Whether the disk still answers.

use std::time::Duration;

use super::Host;

impl Host {
    /// How long the disk has taken so far over what is being written to the log; `None` while nothing is,
    /// and on a node without stores. Seconds mean that the disk is slow, a minute that it does not answer
    /// any more: nothing is acknowledged meanwhile.
    pub fn writing_for(&self) -> Option<Duration> {
        self.stores.as_ref()?.log.writing_for()
    }
}
