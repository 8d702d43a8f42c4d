//! What is written and read: the same keys, documents and patches for both systems.

use std::fmt::Write;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Sensors in the reported section of every document.
const SENSORS: u64 = 16;
/// Sensors that one patch changes.
const CHANGED: u64 = 7;
/// First time stamp of a sensor.
const EPOCH: u64 = 1_700_000_000;
/// What the operator wants of every device; patches do not touch it.
const DESIRED: &str = concat!(
    r#"{"mode":"eco","interval_seconds":60,"firmware":{"version":"4.12.7","channel":"stable"},"#,
    r#""site":{"plant":"plant-07","line":3,"cell":"c-118"},"limits":{"high":85.5,"low":-20.25,"#,
    r#""hysteresis":1.5},"alarms":{"enabled":true,"contact":"operations","repeat_seconds":900},"#,
    r#""labels":{"owner":"team-heat","tier":"gold","batch":"2026-03"},"calibration":{"offset":0.125}}"#,
);

/// The id of a device, and the last part of a key in etcd.
pub(crate) fn device(n: u64) -> String {
    format!("bench-{n:06}")
}

/// JSON of a whole document's `desired`: the same for all.
pub(crate) fn desired() -> &'static str {
    DESIRED
}

/// JSON of a whole document's `reported`; `change` makes it differ from the one before.
pub(crate) fn reported(n: u64, change: u64) -> String {
    sensors(n, change, 0, SENSORS)
}

/// JSON of a patch to `reported`: about 300 bytes.
pub(crate) fn patch(n: u64, change: u64) -> String {
    sensors(n, change, mix(n ^ change) % SENSORS, CHANGED)
}

/// A whole document as one value of a key-value store.
pub(crate) fn document(n: u64, change: u64) -> String {
    let reported = reported(n, change);
    format!(r#"{{"desired":{DESIRED},"reported":{reported}}}"#)
}

/// Values have a fixed number of digits, so that every text of a kind is equally long.
fn sensors(n: u64, change: u64, first: u64, count: u64) -> String {
    let mut text = String::with_capacity(64 + 40 * count as usize);
    let sequence = 10_000_000 + change % 90_000_000;
    let _ = write!(text, r#"{{"sequence":{sequence},"sensors":{{"#);
    for place in first..first + count {
        let sensor = place % SENSORS;
        let random = mix(n.wrapping_mul(SENSORS) ^ mix(change ^ sensor));
        let (whole, part) = (10 + random % 90, 100 + (random >> 20) % 900);
        let at = EPOCH + (random >> 40) % 100_000_000;
        let comma = if place == first { "" } else { "," };
        let _ = write!(
            text,
            r#"{comma}"s{sensor:02}":{{"value":{whole}.{part},"at":{at}}}"#
        );
    }
    text.push_str("}}");
    text
}

/// A number that looks random, the same for the same argument (splitmix64).
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// The keys that one client takes, in random order. Clients of one run share no key.
pub(crate) struct Walk {
    client: u64,
    clients: u64,
    keys: u64,
    taken: u64,
    random: SmallRng,
}

impl Walk {
    /// The walk of one of `clients` over `keys`; a client beyond the last key shares one.
    pub(crate) fn new(client: u64, clients: u64, keys: u64) -> Self {
        Walk {
            client: client % keys,
            clients,
            keys,
            taken: 0,
            random: SmallRng::seed_from_u64(client),
        }
    }

    /// The next key of this client, and a number that no other change of the key has.
    pub(crate) fn next(&mut self) -> (u64, u64) {
        let own = (self.keys - self.client).div_ceil(self.clients);
        let key = self.client + self.random.random_range(0..own) * self.clients;
        self.taken += 1;
        (key, self.taken)
    }

    /// `count` different keys in a row, also of other clients: for reads.
    pub(crate) fn next_row(&mut self, count: u64) -> impl Iterator<Item = u64> + use<> {
        let (first, keys) = (self.random.random_range(0..self.keys), self.keys);
        (0..count.min(keys)).map(move |n| (first + n) % keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Both systems must be given what the table says: documents of 1 KiB, patches of 300 bytes.
    #[test]
    fn sizes_are_as_promised_and_constant() {
        for n in [0, 7, 19_999] {
            for change in [0, 1, 123_456_789] {
                assert_eq!(patch(n, change).len(), 306);
                assert_eq!(document(n, change).len(), 1_037);
            }
        }
    }

    /// A patch that changes nothing, or names a field that the document lacks, would be other work.
    #[test]
    fn patches_change_what_documents_have() {
        let before: serde_json::Value = serde_json::from_str(&reported(5, 0)).unwrap();
        let patch: serde_json::Value = serde_json::from_str(&patch(5, 1)).unwrap();
        let changed = patch["sensors"].as_object().unwrap();
        assert_eq!(changed.len(), 7);
        for (name, value) in changed {
            assert_ne!(&before["sensors"][name], value);
            assert!(before["sensors"][name].is_object());
        }
        let whole: serde_json::Value = serde_json::from_str(&document(5, 0)).unwrap();
        assert_eq!(whole["reported"], before);
        assert_eq!(whole["desired"]["limits"]["low"], -20.25);
    }

    /// Conflicts between clients would make the compare-and-put look worse than it is.
    #[test]
    fn clients_share_no_key() {
        let mut owner = BTreeSet::new();
        for client in 0..7 {
            let mut walk = Walk::new(client, 7, 100);
            let own: BTreeSet<u64> = (0..2_000).map(|_| walk.next().0).collect();
            assert!(own.iter().all(|key| *key < 100 && owner.insert(*key)));
        }
        assert_eq!(owner.len(), 100);
        let row: BTreeSet<u64> = Walk::new(3, 7, 100).next_row(60).collect();
        assert_eq!(row.len(), 60);
    }
}
