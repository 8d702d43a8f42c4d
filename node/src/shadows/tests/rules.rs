//! Entries of rules that this version does not have.

use antumbra_raft::Role;
use antumbra_shadow::{DeviceEntry, DeviceId, DeviceKey, Entry, RULES, Tenant};
use tokio::time::timeout;

use super::support::{Cluster, PATIENCE};

/// Invariant 12: a replica that meets an entry of later rules stops. To refuse the entry as a rejection would
/// leave it with other documents than those who know the rules.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_stops_at_an_entry_of_later_rules() {
    let cluster = Cluster::start(1, 0).await;
    let member = cluster.member("a");
    let mut failed = member.failed();
    let shard = member.context.clone().unwrap().shard;
    let Role::Leader { term } = *shard.role().borrow() else {
        panic!("the only replica leads")
    };
    let device = DeviceKey::new(Tenant::default(), DeviceId::parse("pump").unwrap());
    let entry = Entry::Device(DeviceEntry {
        rules: RULES + 1,
        device,
        commands: Vec::new(),
    });
    let before = shard.status().applied_index;
    let proposed = timeout(PATIENCE, shard.propose(term, entry.encode())).await;
    assert!(proposed.unwrap().is_err());
    let failure = timeout(PATIENCE, failed.wait_for(Option::is_some)).await;
    let failure = failure.unwrap().unwrap().clone().unwrap();
    assert_eq!(failure.code(), "RULES_TOO_NEW");
    assert_eq!(shard.status().applied_index, before);
    cluster.stop().await;
}
