//! Judges what clients were told. Pure: histories in, a verdict out.
//!
//! A history is what *one* writer did to one shadow, one attempt after another, each with a value of
//! its own. Of an attempt the writer knows that it was acknowledged with a version, that it was
//! certainly not applied, or nothing. From that follows what the node may show afterwards, and
//! anything else is a violation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How an attempt to write ended for its writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The node said: accepted, at this version.
    Acknowledged(u64),
    /// The node said: certainly not applied.
    Refused,
    /// Nobody said anything that binds.
    Unknown,
}

/// One attempt to write a value. Retries with the same request id are the same attempt.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// Unique in the history.
    pub value: u64,
    /// What became of it.
    pub ending: Ending,
}

/// What a reader finds: version and value of a shadow, both 0 when it does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Version of the document.
    pub version: u64,
    /// The value in it.
    pub value: u64,
}

/// Something that must never be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// An acknowledged version is not there.
    Lost {
        /// Last acknowledged version.
        acknowledged: u64,
        /// What is there instead.
        found: u64,
    },
    /// A version was acknowledged although earlier ones were never given to anybody.
    Skipped {
        /// Highest version that can have been given before.
        possible: u64,
        /// The version acknowledged.
        acknowledged: u64,
    },
    /// A version was given twice.
    Repeated {
        /// The version.
        version: u64,
    },
    /// There are more changes than attempts that can have made them.
    Phantom {
        /// Highest possible version.
        possible: u64,
        /// The version found.
        found: u64,
    },
    /// The version is right and the value is not.
    WrongValue {
        /// The version.
        version: u64,
        /// The value found at it.
        found: u64,
    },
    /// The feed of a shadow jumps.
    Gap {
        /// The version that had to come.
        expected: u64,
        /// The version that came.
        found: u64,
    },
    /// One attempt changed the shadow twice.
    AppliedTwice {
        /// The value of the attempt.
        value: u64,
    },
    /// An attempt that was refused for certain changed the shadow.
    RefusedButApplied {
        /// The value of the attempt.
        value: u64,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Violation {}

/// How much of a history bound the node to something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged attempts.
    pub acknowledged: u64,
    /// Attempts of unknown ending.
    pub unknown: u64,
}

impl std::ops::AddAssign for Verdict {
    fn add_assign(&mut self, other: Verdict) {
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
    }
}

/// Whether a shadow that ends as `found` can have had this history, starting from nothing.
pub fn check_history(attempts: &[Attempt], found: State) -> Result<Verdict, Violation> {
    let mut verdict = Verdict::default();
    let (mut low, mut high) = (0, 0);
    let mut value = 0;
    let mut unknown = BTreeSet::new();
    for attempt in attempts {
        match attempt.ending {
            Ending::Refused => {}
            Ending::Unknown => {
                verdict.unknown += 1;
                high += 1;
                unknown.insert(attempt.value);
            }
            Ending::Acknowledged(version) if version <= low => {
                return Err(Violation::Repeated { version });
            }
            Ending::Acknowledged(version) if version > high + 1 => {
                return Err(Violation::Skipped {
                    possible: high + 1,
                    acknowledged: version,
                });
            }
            Ending::Acknowledged(version) => {
                verdict.acknowledged += 1;
                (low, high) = (version, version);
                value = attempt.value;
                unknown.clear();
            }
        }
    }
    if found.version < low {
        return Err(Violation::Lost {
            acknowledged: low,
            found: found.version,
        });
    }
    if found.version > high {
        return Err(Violation::Phantom {
            possible: high,
            found: found.version,
        });
    }
    let right = if found.version == low {
        found.value == value
    } else {
        unknown.contains(&found.value)
    };
    if !right {
        return Err(Violation::WrongValue {
            version: found.version,
            found: found.value,
        });
    }
    Ok(verdict)
}

/// Whether the feed of one shadow from its creation has every version once, in order, with the
/// value that was acknowledged at it, and nothing that was refused.
pub fn check_feed(attempts: &[Attempt], feed: &[State]) -> Result<(), Violation> {
    let mut applied = BTreeMap::new();
    for (expected, change) in (1..).zip(feed) {
        if change.version != expected {
            return Err(Violation::Gap {
                expected,
                found: change.version,
            });
        }
        if applied.insert(change.value, change.version).is_some() {
            return Err(Violation::AppliedTwice {
                value: change.value,
            });
        }
    }
    for attempt in attempts {
        let at = applied.remove(&attempt.value);
        match (attempt.ending, at) {
            (Ending::Refused, Some(_)) => {
                return Err(Violation::RefusedButApplied {
                    value: attempt.value,
                });
            }
            (Ending::Acknowledged(version), None) => {
                return Err(Violation::Lost {
                    acknowledged: version,
                    found: feed.len() as u64,
                });
            }
            (Ending::Acknowledged(version), Some(at)) if version != at => {
                return Err(Violation::WrongValue {
                    version,
                    found: attempt.value,
                });
            }
            _ => {}
        }
    }
    match applied.into_iter().next() {
        Some((value, version)) => Err(Violation::WrongValue {
            version,
            found: value,
        }),
        None => Ok(()),
    }
}

/// Whether these versions, given to many writers at once, are exactly 1 to their number.
pub fn check_versions(versions: &[u64]) -> Result<(), Violation> {
    let mut sorted = versions.to_vec();
    sorted.sort_unstable();
    for (expected, version) in (1..).zip(sorted) {
        if version < expected {
            return Err(Violation::Repeated { version });
        }
        if version > expected {
            return Err(Violation::Skipped {
                possible: expected,
                acknowledged: version,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Ending::{Acknowledged, Refused, Unknown};
    use super::*;

    fn history(endings: &[Ending]) -> Vec<Attempt> {
        (1..)
            .zip(endings)
            .map(|(value, ending)| Attempt {
                value,
                ending: *ending,
            })
            .collect()
    }

    fn judge(endings: &[Ending], version: u64, value: u64) -> Result<Verdict, Violation> {
        check_history(&history(endings), State { version, value })
    }

    fn judge_feed(endings: &[Ending], feed: &[(u64, u64)]) -> Result<(), Violation> {
        let feed: Vec<_> = feed
            .iter()
            .map(|(version, value)| State {
                version: *version,
                value: *value,
            })
            .collect();
        check_feed(&history(endings), &feed)
    }

    /// What an honest node may show passes.
    #[test]
    fn accepts_every_possible_outcome() {
        let counts = |acknowledged, unknown| {
            Ok(Verdict {
                acknowledged,
                unknown,
            })
        };
        assert_eq!(judge(&[], 0, 0), counts(0, 0));
        assert_eq!(
            judge(&[Acknowledged(1), Acknowledged(2)], 2, 2),
            counts(2, 0)
        );
        assert_eq!(
            judge(&[Acknowledged(1), Refused, Acknowledged(2)], 2, 3),
            counts(2, 0)
        );
        for (version, value) in [(1, 1), (2, 2), (2, 3), (3, 3)] {
            assert_eq!(
                judge(&[Acknowledged(1), Unknown, Unknown], version, value),
                counts(1, 2)
            );
        }
        assert_eq!(judge(&[Unknown, Acknowledged(1)], 1, 2), counts(1, 1));
        assert_eq!(judge(&[Unknown, Acknowledged(2)], 2, 2), counts(1, 1));
    }

    /// A lost acknowledgement is found, whatever came before it.
    #[test]
    fn finds_lost_updates() {
        let lost = |acknowledged, found| {
            Err(Violation::Lost {
                acknowledged,
                found,
            })
        };
        assert_eq!(judge(&[Acknowledged(1)], 0, 0), lost(1, 0));
        assert_eq!(judge(&[Acknowledged(1), Acknowledged(2)], 1, 1), lost(2, 1));
        assert_eq!(
            judge(&[Unknown, Acknowledged(2), Unknown], 1, 1),
            lost(2, 1)
        );
    }

    /// A version that was never given, or given twice, is found.
    #[test]
    fn finds_skipped_and_repeated_versions() {
        let skipped = judge(&[Acknowledged(1), Acknowledged(3)], 3, 2);
        assert_eq!(
            skipped,
            Err(Violation::Skipped {
                possible: 2,
                acknowledged: 3
            })
        );
        let skipped = judge(&[Acknowledged(1), Refused, Acknowledged(3)], 3, 3);
        assert_eq!(
            skipped,
            Err(Violation::Skipped {
                possible: 2,
                acknowledged: 3
            })
        );
        let repeated = judge(&[Acknowledged(1), Acknowledged(1)], 1, 2);
        assert_eq!(repeated, Err(Violation::Repeated { version: 1 }));
    }

    /// Changes that nobody made, and values that belong elsewhere, are found.
    #[test]
    fn finds_phantoms_and_wrong_values() {
        let phantom = judge(&[Acknowledged(1)], 2, 1);
        assert_eq!(
            phantom,
            Err(Violation::Phantom {
                possible: 1,
                found: 2
            })
        );
        let wrong = judge(&[Acknowledged(1), Acknowledged(2)], 2, 1);
        assert_eq!(
            wrong,
            Err(Violation::WrongValue {
                version: 2,
                found: 1
            })
        );
        let wrong = judge(&[Acknowledged(1), Unknown], 1, 2);
        assert_eq!(
            wrong,
            Err(Violation::WrongValue {
                version: 1,
                found: 2
            })
        );
        let wrong = judge(&[Acknowledged(1), Unknown], 2, 1);
        assert_eq!(
            wrong,
            Err(Violation::WrongValue {
                version: 2,
                found: 1
            })
        );
    }

    /// The feed checker passes a right feed and finds each kind of wrong one.
    #[test]
    fn judges_feeds() {
        let endings = [Acknowledged(1), Unknown, Acknowledged(2), Refused];
        assert_eq!(judge_feed(&endings, &[(1, 1), (2, 3)]), Ok(()));
        assert_eq!(judge_feed(&endings, &[(1, 1), (2, 3), (3, 2)]), Ok(()));
        let gap = judge_feed(&endings, &[(1, 1), (3, 3)]);
        assert_eq!(
            gap,
            Err(Violation::Gap {
                expected: 2,
                found: 3
            })
        );
        let repeat = judge_feed(&endings, &[(1, 1), (1, 1)]);
        assert_eq!(
            repeat,
            Err(Violation::Gap {
                expected: 2,
                found: 1
            })
        );
        let twice = judge_feed(&endings, &[(1, 1), (2, 3), (3, 3)]);
        assert_eq!(twice, Err(Violation::AppliedTwice { value: 3 }));
        let lost = judge_feed(&endings, &[(1, 1)]);
        assert_eq!(
            lost,
            Err(Violation::Lost {
                acknowledged: 2,
                found: 1
            })
        );
        let refused = judge_feed(&endings, &[(1, 1), (2, 3), (3, 4)]);
        assert_eq!(refused, Err(Violation::RefusedButApplied { value: 4 }));
        let foreign = judge_feed(&endings, &[(1, 1), (2, 3), (3, 99)]);
        assert_eq!(
            foreign,
            Err(Violation::WrongValue {
                version: 3,
                found: 99
            })
        );
        let moved = judge_feed(&[Acknowledged(1), Acknowledged(2)], &[(1, 2), (2, 1)]);
        assert_eq!(
            moved,
            Err(Violation::WrongValue {
                version: 1,
                found: 1
            })
        );
    }

    /// Versions given to concurrent writers must be 1 to their number, each once.
    #[test]
    fn judges_concurrent_versions() {
        assert_eq!(check_versions(&[3, 1, 2]), Ok(()));
        assert_eq!(
            check_versions(&[1, 1, 2]),
            Err(Violation::Repeated { version: 1 })
        );
        let skipped = Violation::Skipped {
            possible: 2,
            acknowledged: 3,
        };
        assert_eq!(check_versions(&[1, 3]), Err(skipped));
    }
}
