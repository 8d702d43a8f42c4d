//! Resident memory of processes.

use std::fs;

/// Bytes by process; `None` where a process is gone or not ours to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) resident: Vec<(u32, Option<u64>)>,
}

impl Memory {
    /// How much these processes have now.
    pub(super) fn of(pids: &[u32]) -> Self {
        Self {
            resident: pids.iter().map(|pid| (*pid, resident(*pid))).collect(),
        }
    }

    /// All of them together; `None` when there are none or one cannot be seen.
    pub(super) fn total(&self) -> Option<u64> {
        let total = self
            .resident
            .iter()
            .try_fold(0, |sum, (_, bytes)| Some(sum + (*bytes)?));
        total.filter(|_| !self.resident.is_empty())
    }
}

fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::Memory;

    #[test]
    fn own_memory_is_seen_and_a_missing_process_is_not() {
        let own = std::process::id();
        assert!(Memory::of(&[own, own]).total() > Some(1 << 20));
        assert_eq!(Memory::of(&[own, u32::MAX]).total(), None);
        assert_eq!(Memory::of(&[]).total(), None);
    }
}
