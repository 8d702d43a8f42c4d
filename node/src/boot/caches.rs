//! How much memory the caches of the state store get.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::config::{ByteSize, CacheSize};

/// What is given to the caches of a machine or container whose memory is not known or small.
const BYTES_MIN: u64 = 128 << 20;

/// One in so many bytes of the memory is for the caches.
const SHARE: u64 = 8;

/// Blocks get half, up to this, and beyond it one in [`SHARE`] bytes: what an index needs grows with the store, but most is
/// better kept as documents, which stay when files are merged.
const BLOCK_BYTES: u64 = 64 << 20;

/// Bytes for documents, and for blocks read from disk.
pub(super) fn sizes(asked: CacheSize) -> (usize, usize) {
    let bytes = match asked {
        CacheSize::Bytes(bytes) => bytes.0,
        CacheSize::Auto => (memory_bytes(Path::new("/")).unwrap_or(0) / SHARE).max(BYTES_MIN),
    };
    let blocks = (bytes / 2).min(BLOCK_BYTES.max(bytes / SHARE));
    (
        ByteSize(bytes - blocks).as_usize(),
        ByteSize(blocks).as_usize(),
    )
}

/// The memory of the machine, or of the smallest of the control groups that this process is in. `None` where the
/// system does not say it as Linux does.
fn memory_bytes(root: &Path) -> Option<u64> {
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let total = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.split_whitespace().next()?.parse().ok()?;
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().flat_map(|line| limits(root, line));
    Some(limits.fold(kib << 10, u64::min))
}

/// What the control group of one line of `/proc/self/cgroup` and those around it allow.
fn limits(root: &Path, line: &str) -> Vec<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (mount, file) = match parts.next() {
        Some("") => ("sys/fs/cgroup", "memory.max"),
        Some("memory") => ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        _ => return Vec::new(),
    };
    let group: PathBuf = Path::new(parts.next().unwrap_or_default())
        .components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect();
    // In a container the path may be that of the host, which is not there: what is mounted is the container's own.
    let groups = group.ancestors();
    let read = |group: &Path| fs::read_to_string(root.join(mount).join(group).join(file)).ok();
    groups
        .filter_map(|group| read(group)?.trim().parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const GIB: u64 = 1 << 30;

    fn write(root: &Path, files: &[(&str, String)]) {
        for (name, text) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    /// The smallest limit counts, of whichever version and wherever it is set.
    #[test]
    fn memory_is_that_of_the_machine_or_of_a_group() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(memory_bytes(root.path()), None);
        let meminfo = format!("MemTotal:       {} kB\nMemFree: 1 kB\n", 16 << 20);
        write(root.path(), &[("proc/meminfo", meminfo)]);
        assert_eq!(memory_bytes(root.path()), Some(16 * GIB));
        let group = |line: &str, file: &str, text: String| {
            write(
                root.path(),
                &[("proc/self/cgroup", line.into()), (file, text)],
            );
            memory_bytes(root.path()).unwrap()
        };
        let v2 = "0::/pod/one\n";
        let at = "sys/fs/cgroup/pod/one/memory.max";
        assert_eq!(group(v2, at, "max\n".into()), 16 * GIB);
        assert_eq!(group(v2, at, format!("{}\n", 4 * GIB)), 4 * GIB);
        let around = "sys/fs/cgroup/pod/memory.max";
        assert_eq!(group(v2, around, format!("{}\n", 2 * GIB)), 2 * GIB);
        let v1 = "9:memory:/pod\n3:cpu:/pod\n";
        let at = "sys/fs/cgroup/memory/memory.limit_in_bytes";
        assert_eq!(group(v1, at, (1_u64 << 62).to_string()), 16 * GIB);
        assert_eq!(group(v1, at, (3 * GIB).to_string()), 3 * GIB);
        let host = "0::/../../kubepods/other\n";
        let own = "sys/fs/cgroup/memory.max";
        assert_eq!(group(host, own, GIB.to_string()), GIB);
    }

    /// Small caches are parted in half; of large ones most is for documents.
    #[test]
    fn caches_share_what_they_get() {
        let of = |bytes: u64| {
            let (documents, blocks) = sizes(CacheSize::Bytes(ByteSize(bytes)));
            (documents as u64 >> 20, blocks as u64 >> 20)
        };
        assert_eq!(of(32 << 20), (16, 16));
        assert_eq!(of(128 << 20), (64, 64));
        assert_eq!(of(256 << 20), (192, 64));
        assert_eq!(of(4 << 30), (3584, 512));
        let (documents, blocks) = sizes(CacheSize::Auto);
        assert!((documents + blocks) as u64 >= BYTES_MIN);
    }
}
