//! The input from which the planted bug must be found, and inputs at each of which another one must stop
//! the fuzzer: see [`crate::targets::planted`].

use super::Seed;

pub(super) fn seeds() -> Vec<Seed> {
    vec![
        Seed::new("known", "keep", "keep-what-was-taken-for-good"),
        Seed::new("known", "take", "take-more-than-is-allowed-for-it"),
        Seed::new("known", "wait", "wait-until-nobody-is-interested"),
        Seed::new("planted", "name", "a-harmless:name"),
    ]
}
