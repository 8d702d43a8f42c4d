//! Secrets that were verified lately, so that a storm of reconnecting devices pays for argon2 once
//! each.

use std::fmt;
use std::num::NonZeroUsize;

use aws_lc_rs::hmac;
use lru::LruCache;
use parking_lot::Mutex;

use super::hash::PasswordHash;
use crate::access::record::CredentialId;

/// A bounded memory of (record, stored hash, secret) that fit together.
///
/// For correctness: an entry says that a secret fits a stored hash, which stays true for ever. A
/// record with a new hash finds no entry; whether a record is revoked or has ended is asked each
/// time, not remembered. Entries are keyed digests under a key of this process: who reads its
/// memory cannot guess passwords from them in another.
pub struct Verified {
    key: hmac::Key,
    entries: Mutex<LruCache<[u8; 32], ()>>,
}

impl Verified {
    /// An empty memory of at most so many entries, about 100 bytes each, under a random key.
    pub fn new(capacity: NonZeroUsize, key: [u8; 32]) -> Verified {
        Verified {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            entries: Mutex::new(LruCache::new(capacity)),
        }
    }

    /// Whether the secret fits the hash: remembered, or found out, which takes a hash. What
    /// does not fit is not remembered.
    pub fn verify(&self, record: &CredentialId, hash: &PasswordHash, secret: &[u8]) -> bool {
        if self.remembers(record, hash, secret) {
            return true;
        }
        let good = hash.verify(secret);
        if good {
            let entry = self.entry(record, hash, secret);
            self.entries.lock().put(entry, ());
        }
        good
    }

    /// Whether [`verify`](Verified::verify) would answer yes at once: to choose the thread.
    pub fn remembers(&self, record: &CredentialId, hash: &PasswordHash, secret: &[u8]) -> bool {
        let entry = self.entry(record, hash, secret);
        self.entries.lock().get(&entry).is_some()
    }

    fn entry(&self, record: &CredentialId, hash: &PasswordHash, secret: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        // Neither a record nor a stored hash has a zero byte, so the parts cannot run together.
        context.update(record.as_str().as_bytes());
        context.update(&[0]);
        context.update(hash.to_string().as_bytes());
        context.update(&[0]);
        context.update(secret);
        let mut entry = [0; 32];
        entry.copy_from_slice(context.sign().as_ref());
        entry
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.entries.lock().len();
        f.debug_struct("Verified")
            .field("entries", &entries)
            .finish()
    }
}
