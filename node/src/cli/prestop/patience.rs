//! How long whoever stops a node waits for it. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::scaling::outlook::{Fate, Outlook};

/// A node that has said nothing of use for so long is not waited for.
const DOUBT_MAX: Duration = Duration::from_secs(10);

/// What came from the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// What becomes of it.
    Outlook(Outlook),
    /// It does not know the question: it is older than this program.
    NotUnderstood,
    /// Nothing, and why.
    Silence(String),
}

/// What to do, and a line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Wait(String),
    Stop(String),
}

/// Since when nothing of use has come.
#[derive(Debug, Default)]
pub(super) struct Patience {
    doubt_since: Option<Instant>,
}

impl Patience {
    pub(super) fn next(&mut self, now: Instant, heard: Heard) -> Step {
        let doubt = match heard {
            Heard::NotUnderstood => {
                return Step::Stop("the node does not say what becomes of it".to_owned());
            }
            Heard::Outlook(Outlook {
                node,
                fate,
                replicas,
            }) => match fate {
                Fate::Stays => return Step::Stop(format!("{node} stays in the cluster")),
                Fate::Left => return Step::Stop(format!("{node} has left the cluster")),
                Fate::Leaves => {
                    self.doubt_since = None;
                    let text = format!("{node} leaves the cluster: {replicas} replicas are left");
                    return Step::Wait(text);
                }
                Fate::Unknown => format!("{node} does not know what becomes of it"),
            },
            Heard::Silence(why) => format!("the node does not answer: {why}"),
        };
        let since = *self.doubt_since.get_or_insert(now);
        match now.duration_since(since) < DOUBT_MAX {
            true => Step::Wait(doubt),
            false => Step::Stop(format!("{doubt}; it is not waited for")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlook(fate: Fate) -> Heard {
        Heard::Outlook(Outlook {
            node: "antumbra-4".into(),
            fate,
            replicas: 3,
        })
    }

    fn silence() -> Heard {
        Heard::Silence("connection refused".into())
    }

    fn stops(patience: &mut Patience, now: Instant, heard: Heard) -> bool {
        matches!(patience.next(now, heard), Step::Stop(_))
    }

    /// The only node that is waited for is one that leaves.
    #[test]
    fn only_a_node_that_leaves_is_waited_for() {
        let now = Instant::now();
        for heard in [
            outlook(Fate::Stays),
            outlook(Fate::Left),
            Heard::NotUnderstood,
        ] {
            assert!(stops(&mut Patience::default(), now, heard));
        }
        let mut patience = Patience::default();
        for seconds in 0..3_600 {
            let now = now + Duration::from_secs(seconds);
            assert!(!stops(&mut patience, now, outlook(Fate::Leaves)));
        }
        assert!(stops(&mut patience, now, outlook(Fate::Left)));
    }

    /// A node that is gone, or knows nothing, costs ten seconds, counted from when it last said something of use.
    #[test]
    fn doubt_ends_after_ten_seconds() {
        for doubt in [silence(), outlook(Fate::Unknown)] {
            let (begun, mut patience) = (Instant::now(), Patience::default());
            let at = |seconds| begun + Duration::from_secs(seconds);
            assert!(!stops(&mut patience, at(0), doubt.clone()));
            assert!(!stops(&mut patience, at(9), doubt.clone()));
            assert!(!stops(&mut patience, at(9), outlook(Fate::Leaves)));
            assert!(!stops(&mut patience, at(12), doubt.clone()));
            assert!(!stops(&mut patience, at(21), silence()));
            assert!(stops(&mut patience, at(22), doubt.clone()));
        }
    }
}
