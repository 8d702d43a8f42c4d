//! What a watch begins with.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::Role;
use antumbra_shadow::{
    DeviceEntry, DeviceId, DeviceKey, Draft, Entry, Kind, RULES, ShadowName, Tenant, Time,
};
use futures::future::try_join_all;

use super::{draft, start};
use crate::shadows::ShardContext;
use crate::shadows::relay::Interest;
use crate::shadows::scan::{self, Opening};

/// More than two steps of counters have.
const DEVICES: usize = 2_500;

fn device(tenant: &str, nth: usize) -> DeviceKey {
    let kind = if nth.is_multiple_of(3) {
        "pump"
    } else {
        "valve"
    };
    let id = DeviceId::parse(&format!("{kind}-{nth}")).unwrap();
    DeviceKey::new(Tenant::parse(tenant).unwrap(), id)
}

fn draft_of(shadow: &str) -> Draft {
    let mut draft = draft(r#"{"a":1}"#);
    if let Kind::Update(update) = &mut draft.kind {
        update.shadow = ShadowName::parse(shadow).unwrap();
    }
    draft
}

async fn opened(context: &ShardContext, interest: Interest) -> Vec<(DeviceKey, String)> {
    let mut steps = scan::open(context.clone(), interest, Duration::from_secs(30));
    let mut found = Vec::new();
    loop {
        match steps.recv().await.expect("a scan says that it is done") {
            Ok(Opening::Documents(documents)) => {
                let named = |d: scan::OpeningDocument| (d.device, d.shadow.as_str().to_owned());
                found.extend(documents.into_iter().map(named));
            }
            Ok(Opening::Done { .. }) => return found,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Devices of two tenants lie among each other. A watch of one, or of a part of its devices, begins with all
/// shadows of all of these, each once, and with nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn watches_begin_with_what_they_are_about_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path()).await;
    let context = node.shadows().contexts().remove(0);
    let Role::Leader { term } = *context.shard.role().borrow() else {
        panic!("the only replica leads");
    };
    let devices = (0..DEVICES).map(|nth| (nth, device(["ours", "theirs"][nth % 2], nth)));
    let devices: Vec<_> = devices.collect();
    let entries = devices.iter().map(|(nth, device)| {
        let shadows: &[&str] = if nth % 5 == 0 { &["", "b"] } else { &[""] };
        let commands = shadows.iter().map(|name| draft_of(name).stamp(Time(1_000)));
        let entry = Entry::Device(DeviceEntry {
            rules: RULES,
            device: device.clone(),
            commands: commands.collect(),
        });
        context.shard.propose(term, entry.encode())
    });
    try_join_all(entries).await.unwrap();

    for (tenant, prefix) in [
        ("ours", ""),
        ("theirs", "valve-1"),
        ("ours", "pump"),
        ("our", ""),
    ] {
        let interest = Interest::Prefix {
            tenant: Tenant::parse(tenant).unwrap(),
            prefix: Arc::from(prefix),
        };
        let wanted = devices.iter().filter(|(_, device)| {
            device.tenant.as_str() == tenant && device.device.as_str().starts_with(prefix)
        });
        let expected: BTreeSet<(DeviceKey, String)> = wanted
            .flat_map(|(nth, device)| {
                let named = nth
                    .is_multiple_of(5)
                    .then(|| (device.clone(), "b".to_owned()));
                named.into_iter().chain([(device.clone(), String::new())])
            })
            .collect();
        let found = opened(&context, interest).await;
        assert_eq!(found.len(), expected.len(), "{tenant}/{prefix}");
        assert_eq!(BTreeSet::from_iter(found), expected, "{tenant}/{prefix}");
    }
    drop(context);
    node.shutdown().await.unwrap();
}
