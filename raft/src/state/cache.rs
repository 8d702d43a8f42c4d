//! A byte-bounded cache of encoded values in front of the state store.
//!
//! It guarantees that a value that an apply has written is never replaced by an older one: a reader
//! that missed takes a ticket before it reads the store, and its value is kept only if no apply
//! wrote to that segment meanwhile. Between two hand-overs of a shard, a value that is here is the one
//! that RocksDB has.

use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;

/// Readers and the applies of several shards contend on a segment, not on the cache.
const SEGMENTS: usize = 16;

/// What an entry costs beside its bytes: list and map nodes.
const ENTRY_OVERHEAD_BYTES: usize = 128;

pub(crate) struct Cache {
    segments: Vec<Mutex<Segment>>,
}

/// What the cache knows about a key.
pub(crate) enum Lookup {
    /// The value, or that there is none.
    Hit(Option<Bytes>),
    /// Read the store and give the value back with this ticket.
    Miss(Ticket),
}

/// Proof of when a reader missed.
pub(crate) struct Ticket(u64);

struct Segment {
    entries: LruCache<Bytes, Option<Bytes>>,
    bytes: usize,
    bytes_max: usize,
    writes: u64,
}

impl Cache {
    pub(crate) fn new(bytes_max: usize) -> Cache {
        let segment = || {
            Mutex::new(Segment {
                entries: LruCache::unbounded(),
                bytes: 0,
                bytes_max: bytes_max / SEGMENTS,
                writes: 0,
            })
        };
        Cache {
            segments: (0..SEGMENTS).map(|_| segment()).collect(),
        }
    }

    pub(crate) fn lookup(&self, key: &[u8]) -> Lookup {
        let mut segment = self.segment(key).lock();
        match segment.entries.get(key) {
            Some(value) => Lookup::Hit(value.clone()),
            None => Lookup::Miss(Ticket(segment.writes)),
        }
    }

    /// The row that RocksDB has, if the cache knows it. It stays as long, or as short, as it would have.
    pub(crate) fn peek(&self, key: &[u8]) -> Option<Bytes> {
        self.segment(key).lock().entries.peek(key)?.clone()
    }

    /// Keeps what a reader found in the store, unless an apply wrote meanwhile.
    pub(crate) fn fill(&self, key: &Bytes, value: Option<Bytes>, ticket: Ticket) {
        let mut segment = self.segment(key).lock();
        if segment.writes == ticket.0 {
            segment.put(key.clone(), value);
        }
    }

    /// Notes what an apply has written to the store.
    pub(crate) fn written(&self, key: Bytes, value: Option<Bytes>) {
        let mut segment = self.segment(&key).lock();
        segment.writes += 1;
        segment.put(key, value);
    }

    /// Forgets everything: a snapshot was installed underneath.
    pub(crate) fn clear(&self) {
        for segment in &self.segments {
            let mut segment = segment.lock();
            segment.writes += 1;
            segment.entries.clear();
            segment.bytes = 0;
        }
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.segments.iter().map(|s| s.lock().bytes).sum()
    }

    fn segment(&self, key: &[u8]) -> &Mutex<Segment> {
        &self.segments[crc32fast::hash(key) as usize % SEGMENTS]
    }
}

impl Segment {
    fn put(&mut self, key: Bytes, value: Option<Bytes>) {
        let bytes = cost(&key, &value);
        if bytes > self.bytes_max / 4 {
            if let Some((key, old)) = self.entries.pop_entry(&key) {
                self.bytes -= cost(&key, &old);
            }
            return;
        }
        self.bytes += bytes;
        if let Some((key, old)) = self.entries.push(key, value) {
            self.bytes -= cost(&key, &old);
        }
        while self.bytes > self.bytes_max {
            let Some((key, value)) = self.entries.pop_lru() else {
                break;
            };
            self.bytes -= cost(&key, &value);
        }
    }
}

fn cost(key: &Bytes, value: &Option<Bytes>) -> usize {
    key.len() + value.as_ref().map_or(0, Bytes::len) + ENTRY_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn hit(cache: &Cache, key: &[u8]) -> Option<Option<Bytes>> {
        match cache.lookup(key) {
            Lookup::Hit(value) => Some(value),
            Lookup::Miss(_) => None,
        }
    }

    /// A slow reader must not bring back what an apply has replaced.
    #[test]
    fn an_old_read_never_replaces_a_write() {
        let cache = Cache::new(1 << 20);
        let key = Bytes::from_static(b"k");
        let Lookup::Miss(ticket) = cache.lookup(&key) else {
            panic!("empty cache hit");
        };
        cache.written(key.clone(), Some(Bytes::from_static(b"new")));
        cache.fill(&key, Some(Bytes::from_static(b"old")), ticket);
        assert_eq!(hit(&cache, &key), Some(Some(Bytes::from_static(b"new"))));
    }

    #[test]
    fn a_read_is_kept_and_absence_too() {
        let cache = Cache::new(1 << 20);
        let key = Bytes::from_static(b"k");
        let Lookup::Miss(ticket) = cache.lookup(&key) else {
            panic!("empty cache hit");
        };
        cache.fill(&key, None, ticket);
        assert_eq!(hit(&cache, &key), Some(None));
        cache.clear();
        assert_eq!(hit(&cache, &key), None);
        assert_eq!(cache.bytes(), 0);
    }

    /// The cache has a limit in bytes, whatever is written.
    #[test]
    fn bytes_stay_bounded() {
        let bytes_max = 256 * 1024;
        let cache = Cache::new(bytes_max);
        for n in 0..10_000_u32 {
            let key = Bytes::copy_from_slice(&n.to_be_bytes());
            cache.written(key.clone(), Some(vec![0; (n % 3000) as usize].into()));
            cache.written(key, Some(vec![1; (n % 500) as usize].into()));
        }
        assert!(cache.bytes() <= bytes_max);
        let huge = Bytes::from_static(b"huge");
        cache.written(huge.clone(), Some(Bytes::from_static(b"small first")));
        cache.written(huge.clone(), Some(vec![0; bytes_max].into()));
        assert_eq!(hit(&cache, &huge), None);
    }
}
