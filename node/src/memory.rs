//! The ceiling on the memory of this process: what is refused near it, and when load has to be shed.
//!
//! One look each second decides how hard memory presses. Every stage ends further down than it begins,
//! so that a node at its ceiling does not waver. To ask for the stage costs next to nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::error::Error;
use crate::metrics;

/// Time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Percent of the ceiling below which nothing is refused any more.
const CALM_PERCENT: u64 = 95;
/// Percent of the ceiling above which load is shed.
const SHED_PERCENT: u64 = 105;

/// What the memory of the process allows. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Memory {
    inner: Arc<Inner>,
}

struct Inner {
    /// The ceiling; 0 for none.
    bytes_max: u64,
    source: Source,
    seen: watch::Sender<Seen>,
}

/// Where it is read how much memory is in use.
enum Source {
    /// What the allocator keeps resident: nearly all of the process, since RocksDB uses it, too.
    Allocator,
    /// A file that a test writes.
    File(PathBuf),
}

/// What the last look showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    pub(crate) pressure: Pressure,
    /// Bytes above the ceiling.
    pub(crate) excess_bytes: u64,
}

/// How hard memory presses. Each stage does what those before it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Pressure {
    /// Not at all.
    #[default]
    Calm,
    /// Nothing new is begun.
    Refusing,
    /// Some of what is there has to go.
    Shedding,
}

impl Pressure {
    /// The stage that follows from what is in use now.
    fn next(self, used: u64, bytes_max: u64) -> Pressure {
        let percent = |percent| bytes_max / 100 * percent;
        match self {
            _ if used > percent(SHED_PERCENT) => Pressure::Shedding,
            Pressure::Shedding if used > bytes_max => Pressure::Shedding,
            Pressure::Calm if used > bytes_max => Pressure::Refusing,
            Pressure::Refusing | Pressure::Shedding if used >= percent(CALM_PERCENT) => {
                Pressure::Refusing
            }
            _ => Pressure::Calm,
        }
    }
}

impl Memory {
    /// A ceiling; 0 for none. A test may say in a file how much is in use.
    pub(crate) fn new(bytes_max: u64, test_file: Option<PathBuf>) -> Memory {
        Memory {
            inner: Arc::new(Inner {
                bytes_max,
                source: test_file.map_or(Source::Allocator, Source::File),
                seen: watch::Sender::default(),
            }),
        }
    }

    /// Whether nothing new is to be begun.
    pub(crate) fn is_full(&self) -> bool {
        self.inner.seen.borrow().pressure >= Pressure::Refusing
    }

    /// Lets a request through that takes memory beyond its answer.
    ///
    /// # Errors
    ///
    /// `Overloaded` when there is none to be had.
    pub(crate) fn admit(&self) -> Result<(), Error> {
        match self.is_full() {
            true => {
                metrics::refused("memory");
                Err(Error::Overloaded)
            }
            false => Ok(()),
        }
    }

    /// Tells of every look.
    pub(crate) fn looks(&self) -> watch::Receiver<Seen> {
        self.inner.seen.subscribe()
    }

    /// Looks each second, until `stop`. Without a ceiling there is nothing to look at.
    pub(crate) async fn watch(self, stop: CancellationToken) {
        if self.inner.bytes_max == 0 {
            return;
        }
        loop {
            self.look();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(LOOK_INTERVAL) => {}
            }
        }
    }

    /// What cannot be read changes nothing.
    fn look(&self) {
        let Some(used) = self.inner.source.used() else {
            return;
        };
        let bytes_max = self.inner.bytes_max;
        let before = self.inner.seen.borrow().pressure;
        let pressure = before.next(used, bytes_max);
        if pressure > before {
            warn!(used, bytes_max, ?pressure, "memory is at its ceiling");
        } else if pressure < before {
            info!(
                used,
                bytes_max,
                ?pressure,
                "memory is further below its ceiling"
            );
        }
        self.inner.seen.send_replace(Seen {
            pressure,
            excess_bytes: used.saturating_sub(bytes_max),
        });
        metrics::memory_pressure(pressure as u8);
    }
}

impl Source {
    /// Bytes in use.
    fn used(&self) -> Option<u64> {
        match self {
            Source::Allocator => metrics::resident_bytes(),
            Source::File(path) => std::fs::read_to_string(path).ok()?.trim().parse().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The stages in the order of what is in use: each begins above its mark, and ends lower down.
    #[test]
    fn pressure_follows_what_is_in_use_and_does_not_waver() {
        use Pressure::{Calm, Refusing, Shedding};
        let steps = [
            (0, Calm),
            (1_000, Calm),
            (1_001, Refusing),
            (951, Refusing),
            (1_050, Refusing),
            (950, Refusing),
            (949, Calm),
            (1_000, Calm),
            (1_051, Shedding),
            (1_001, Shedding),
            (1_000, Refusing),
            (1_051, Shedding),
            (949, Calm),
            (u64::MAX, Shedding),
            (0, Calm),
        ];
        let mut pressure = Calm;
        for (nth, (used, wanted)) in steps.into_iter().enumerate() {
            pressure = pressure.next(used, 1_000);
            assert_eq!(pressure, wanted, "step {nth}: {used}");
        }
    }

    /// A look puts the stage into force, and one that shows nothing leaves it as it is.
    #[test]
    fn look_decides_about_what_comes() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("used");
        let memory = Memory::new(1_000, Some(file.clone()));
        let look = |used: &str| {
            std::fs::write(&file, used).unwrap();
            memory.look();
            (memory.is_full(), memory.looks().borrow().excess_bytes)
        };
        assert_eq!(look("nothing"), (false, 0));
        assert_eq!(look("1200\n"), (true, 200));
        assert_eq!(memory.admit(), Err(Error::Overloaded));
        assert_eq!(look("nothing"), (true, 200));
        assert_eq!(look("100"), (false, 0));
        assert_eq!(memory.admit(), Ok(()));
    }

    /// The allocator says how much it keeps.
    #[test]
    fn allocator_knows_what_is_resident() {
        assert!(Source::Allocator.used().unwrap() > 0);
    }
}
