//! `Verify`: has the leader of a shard pin its state at one index, then asks every replica for the
//! checksum of that state.
//!
//! A pin is a command in the shard's log, so every replica keeps the state at exactly the same index
//! without standing still. One that is behind gets there a little later; one that jumped over it with a
//! snapshot has no such pin, and everybody gets another one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use antumbra_proto::cluster::v1;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::api::Door;
use crate::cluster::control::ChecksumReport;
use crate::cluster::office::Office;
use crate::cluster::state::ShardRecord;
use crate::cluster::{Answer, NodeId, Request};
use crate::error::Error;

use super::survey::{Heard, Survey, cause};
use super::transfer::no_shard;
use super::{remaining, soon};

/// Shards that are compared at one time: each reads all its data.
const SHARDS_AT_ONCE: usize = 4;
/// How long the leader may take to write the pin.
const PIN_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a leader is asked for a pin that it does not write.
const PIN_ATTEMPTS: usize = 20;
/// Pins of one shard in one call. A node keeps only a few at a time.
const PINS_MAX: usize = 2;
/// How long a replica may take until it has applied the pin.
const APPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before a node is asked again.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn verify(
    door: &Door,
    request: v1::VerifyRequest,
    deadline: Instant,
) -> Result<v1::VerifyResponse, Error> {
    let until = soon(deadline);
    let survey = Arc::new(Survey::take(&door.cluster, until).await?);
    let all = || survey.state.shards.keys().copied();
    let mut wanted: BTreeSet<u32> = request.shards.iter().copied().collect();
    if let Some(unknown) = wanted.iter().find(|id| !all().any(|shard| shard == **id)) {
        return Err(Error::invalid("shards", no_shard(&survey, *unknown)));
    }
    if wanted.is_empty() {
        wanted = all().collect();
    }
    let comparison = |shard| Comparison {
        office: Arc::clone(&door.cluster),
        shard,
        until,
    };
    let comparisons: Vec<Comparison> = wanted.into_iter().map(comparison).collect();
    let compared = stream::iter(comparisons).map(|comparison| {
        let survey = Arc::clone(&survey);
        async move { comparison.run(survey).await }
    });
    Ok(v1::VerifyResponse {
        shards: compared.buffered(SHARDS_AT_ONCE).collect().await,
    })
}

/// What one replica answered.
struct Checksum {
    replica: u64,
    node: String,
    found: Result<ChecksumReport, Missing>,
}

/// Why there is no checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Missing {
    /// Its node does not answer: another pin would not help.
    Silent(String),
    /// It has no such pin, or not yet.
    NoPin(String),
}

/// The comparison of one shard.
struct Comparison {
    office: Arc<Office>,
    shard: u32,
    until: Instant,
}

impl Comparison {
    /// Compares the replicas; once more when one of them has missed the pin.
    async fn run(&self, mut survey: Arc<Survey>) -> v1::ShardVerification {
        for left in (0..PINS_MAX).rev() {
            let (pin, seen) = match self.pin(survey).await {
                Ok(pinned) => pinned,
                Err(reason) => return self.failed(reason),
            };
            let checksums = self.checksums(&seen, pin).await;
            let missed = checksums
                .iter()
                .any(|checksum| matches!(checksum.found, Err(Missing::NoPin(_))));
            if !missed || left == 0 || remaining(self.until) < APPLY_TIMEOUT {
                return judge(self.shard, checksums);
            }
            survey = seen;
        }
        self.failed("it was not compared".to_owned())
    }

    fn failed(&self, reason: String) -> v1::ShardVerification {
        v1::ShardVerification {
            shard: self.shard,
            reason,
            ..v1::ShardVerification::default()
        }
    }

    /// Has whoever leads the shard write a pin, and says what the nodes said at that time. Every
    /// attempt has a number of its own, because one whose answer was lost may have been written.
    async fn pin(&self, mut survey: Arc<Survey>) -> Result<(u64, Arc<Survey>), String> {
        let (office, shard) = (&self.office, self.shard);
        let mut why = "nobody leads it".to_owned();
        for _ in 0..PIN_ATTEMPTS {
            if let Some(leader) = survey.leader(shard).map(|leader| leader.node) {
                let (pin, _) = Uuid::new_v4().as_u64_pair();
                let limit = remaining(self.until).min(PIN_TIMEOUT);
                let request = Request::Pin { shard, pin };
                let asked = office.ask_node(leader, &request, limit);
                why = match timeout(limit, asked).await {
                    Ok(Ok(Answer::Done)) => return Ok((pin, survey)),
                    Ok(Ok(Answer::NotLeader(_))) => "its leader changes".to_owned(),
                    Ok(Ok(Answer::Refused(why))) => why,
                    Ok(Ok(_)) => "its leader answered another question".to_owned(),
                    Ok(Err(error)) => cause(error),
                    Err(_) => "its leader did not answer in time".to_owned(),
                };
            }
            if remaining(self.until) <= PAUSE {
                break;
            }
            sleep(PAUSE).await;
            let again = Survey::take(office, self.until).await;
            survey = Arc::new(again.map_err(|error| error.to_string())?);
        }
        Err(why)
    }

    /// The checksums of all replicas that should stay.
    async fn checksums(&self, survey: &Survey, pin: u64) -> Vec<Checksum> {
        let record = survey.state.shards.get(&self.shard);
        let voters = record.map(ShardRecord::voters).unwrap_or_default();
        let asked = voters.into_iter().map(|(replica, node)| async move {
            let found = match survey.heard(node) {
                Heard::Silence(why) => {
                    let why = format!("its node does not answer: {why}");
                    Err(Missing::Silent(why))
                }
                Heard::Replicas(_) | Heard::NotServing(_) => self.checksum(node, pin).await,
            };
            Checksum {
                replica: replica.0,
                node: survey.name(node),
                found,
            }
        });
        join_all(asked).await
    }

    /// The checksum of one replica. It takes as long as it takes to read the shard; a replica that
    /// has not applied the pin yet gets [`APPLY_TIMEOUT`] for that.
    async fn checksum(&self, node: NodeId, pin: u64) -> Result<ChecksumReport, Missing> {
        let patience = self.until.min(Instant::now() + APPLY_TIMEOUT);
        let shard = self.shard;
        loop {
            let limit = remaining(self.until);
            let request = Request::Checksum { shard, pin };
            let asked = self.office.ask_node(node, &request, limit);
            let why = match timeout(limit, asked).await {
                Ok(Ok(Answer::Checksum(Some(report)))) => return Ok(report),
                Ok(Ok(Answer::Checksum(None))) => {
                    Missing::NoPin("it did not apply the pin in time".to_owned())
                }
                Ok(Ok(Answer::Refused(why))) => Missing::NoPin(why),
                Ok(Ok(_)) => Missing::Silent("its node answered another question".to_owned()),
                Ok(Err(error)) => Missing::Silent(cause(error)),
                Err(_) => Missing::Silent("it did not finish in time".to_owned()),
            };
            if Instant::now() + PAUSE >= patience {
                return Err(why);
            }
            sleep(PAUSE).await;
        }
    }
}

/// What the checksums say. Pure.
fn judge(shard: u32, checksums: Vec<Checksum>) -> v1::ShardVerification {
    let found: Vec<&ChecksumReport> = checksums
        .iter()
        .filter_map(|checksum| checksum.found.as_ref().ok())
        .collect();
    let differ = found.windows(2).any(|pair| pair[0] != pair[1]);
    let complete = !found.is_empty() && found.len() == checksums.len();
    v1::ShardVerification {
        shard,
        index: found.iter().map(|report| report.index).max().unwrap_or(0),
        equal: match (differ, complete) {
            (true, _) => Some(false),
            (false, true) => Some(true),
            (false, false) => None,
        },
        replicas: checksums.into_iter().map(message).collect(),
        reason: String::new(),
    }
}

fn message(checksum: Checksum) -> v1::ReplicaChecksum {
    let empty = v1::ReplicaChecksum {
        replica: checksum.replica,
        node: checksum.node,
        ..v1::ReplicaChecksum::default()
    };
    match checksum.found {
        Ok(report) => v1::ReplicaChecksum {
            index: report.index,
            rows: report.rows,
            checksum: report.sum,
            ..empty
        },
        Err(Missing::Silent(reason) | Missing::NoPin(reason)) => {
            v1::ReplicaChecksum { reason, ..empty }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checksum(replica: u64, found: Result<u64, &str>) -> Checksum {
        Checksum {
            replica,
            node: format!("node-{replica}"),
            found: found
                .map_err(|why| Missing::Silent(why.to_owned()))
                .map(|sum| ChecksumReport {
                    index: 7,
                    rows: 3,
                    sum,
                }),
        }
    }

    /// A replica that could not be asked must count neither as equal nor as different.
    #[test]
    fn equal_is_said_only_when_all_were_compared() {
        let equal = |checksums: Vec<Checksum>| judge(1, checksums).equal;
        let (same, other) = (Ok(5), Ok(6));
        let all = |founds: [Result<u64, &str>; 3]| {
            (1..).zip(founds).map(|(n, f)| checksum(n, f)).collect()
        };
        assert_eq!(equal(all([same, same, same])), Some(true));
        assert_eq!(equal(all([same, other, same])), Some(false));
        assert_eq!(equal(all([same, same, Err("down")])), None);
        assert_eq!(equal(all([same, other, Err("down")])), Some(false));
        assert_eq!(equal(all([Err("down"); 3])), None);
        assert_eq!(equal(Vec::new()), None);
    }

    #[test]
    fn every_replica_says_what_it_found() {
        let verification = judge(4, vec![checksum(1, Ok(5)), checksum(2, Err("down"))]);
        assert_eq!((verification.shard, verification.index), (4, 7));
        let [first, second] = &verification.replicas[..] else {
            panic!("two replicas: {verification:?}");
        };
        assert_eq!(
            (first.checksum, first.rows, first.reason.as_str()),
            (5, 3, "")
        );
        assert_eq!((second.checksum, second.reason.as_str()), (0, "down"));
    }

    /// Also when only the index differs: a replica that pinned elsewhere is wrong.
    #[test]
    fn another_index_is_another_state() {
        let mut second = checksum(2, Ok(5));
        if let Ok(report) = &mut second.found {
            report.index = 8;
        }
        assert_eq!(
            judge(1, vec![checksum(1, Ok(5)), second]).equal,
            Some(false)
        );
    }
}
