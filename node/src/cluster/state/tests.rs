#![allow(clippy::unwrap_used)]

mod life;
mod moves;

use super::*;

fn node(number: u64) -> NodeInfo {
    NodeInfo {
        name: format!("node-{number}"),
        incarnation: Uuid::from_u128(number.into()),
        peer: format!("127.0.0.1:{}", 7301 + 100 * number),
        grpc: format!("127.0.0.1:{}", 7300 + 100 * number),
        http: format!("127.0.0.1:{}", 7380 + 100 * number),
        storage: true,
        zone: String::new(),
        capacity: std::num::NonZeroU16::MIN,
        rules: 1,
    }
}

fn founded(nodes: u64, shards: u32) -> ClusterState {
    let founding = Founding {
        cluster_id: Uuid::from_u128(7),
        replication_factor: 3,
        shards,
        members: (1..=nodes).map(node).collect(),
    };
    let (state, reply) = ClusterState::apply(None, MetaCommand::Create(founding));
    assert_eq!(reply, MetaReply::Done { version: 1 });
    state.unwrap()
}

fn apply(state: &ClusterState, command: MetaCommand) -> (ClusterState, MetaReply) {
    let (state, reply) = ClusterState::apply(Some(state.clone()), command);
    (state.unwrap(), reply)
}

fn ids(state: &ClusterState) -> Vec<u64> {
    let shards = state.shards.values();
    shards.flat_map(|s| s.replicas.keys().copied()).collect()
}

#[test]
fn founding_spreads_replicas_and_leaders_evenly() {
    for (nodes, copies) in [(1, 1), (2, 2), (3, 3), (5, 3)] {
        let state = founded(nodes, 5 * nodes as u32);
        let (mut on, mut led) = (BTreeMap::new(), BTreeMap::new());
        for (shard, record) in &state.shards {
            assert_eq!(record.replicas.len(), copies, "shard {shard}");
            let distinct: BTreeSet<_> = record.replicas.values().collect();
            assert_eq!(distinct.len(), copies, "one node has it twice");
            for node in record.replicas.values() {
                *on.entry(*node).or_insert(0) += 1;
            }
            if *shard != META_SHARD.0 {
                *led.entry(record.preferred).or_insert(0) += 1;
            }
        }
        let spread = |counts: &BTreeMap<NodeId, u32>| {
            counts.values().max().unwrap() - counts.values().min().unwrap()
        };
        assert!(spread(&on) <= 1, "{on:?}");
        assert_eq!(spread(&led), 0, "{led:?}");
        let all = ids(&state);
        let distinct: BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len(), "a replica id was used twice");
    }
}

#[test]
fn returning_node_keeps_everything_and_may_move() {
    let state = founded(3, 3);
    let moved = NodeInfo {
        peer: "10.0.0.9:7401".into(),
        ..node(2)
    };
    let (after, reply) = apply(&state, MetaCommand::Join(moved));
    assert_eq!(
        reply,
        MetaReply::Joined {
            node: NodeId(2),
            version: 2
        }
    );
    assert_eq!(ids(&after), ids(&state));
    assert_eq!(after.nodes[&NodeId(2)].peer, "10.0.0.9:7401");
    let (again, _) = apply(&after, MetaCommand::Join(after.nodes[&NodeId(2)].clone()));
    assert_eq!(again.version, after.version, "nothing changed");
}

/// Gateways come and go, and nothing of what is kept may go with them.
#[test]
fn gateway_leaves_and_a_node_with_replicas_does_not() {
    let state = founded(3, 3);
    let gateway = NodeInfo {
        name: "gateway-1".into(),
        storage: false,
        ..node(9)
    };
    let (joined, reply) = apply(&state, MetaCommand::Join(gateway.clone()));
    let number = NodeId(4);
    assert_eq!(
        reply,
        MetaReply::Joined {
            node: number,
            version: 2
        }
    );
    assert_eq!(ids(&joined), ids(&state));
    let leave = |name: &str, incarnation| MetaCommand::Left {
        name: name.into(),
        incarnation,
    };
    let refused = [
        leave("gateway-1", Uuid::from_u128(1)),
        leave("node-2", node(2).incarnation),
        MetaCommand::Join(NodeInfo {
            storage: false,
            ..node(2)
        }),
    ];
    for command in refused {
        let (unchanged, reply) = apply(&joined, command);
        assert!(matches!(reply, MetaReply::Refused(_)), "{reply:?}");
        assert_eq!(unchanged, joined);
    }
    let (left, reply) = apply(&joined, leave("gateway-1", gateway.incarnation));
    assert_eq!(reply, MetaReply::Done { version: 3 });
    assert_eq!(left.nodes, state.nodes);
    let (again, _) = apply(&left, leave("gateway-1", gateway.incarnation));
    assert_eq!(again, left, "it is gone already");
    let (back, _) = apply(&left, MetaCommand::Join(gateway));
    assert!(!back.nodes.contains_key(&number), "numbers are not reused");
    let read = ClusterState::decode(&back.encode()).unwrap();
    assert_eq!(read, back);
}

/// An old directory that comes back must not take its name from the one that replaced it.
#[test]
fn only_the_present_incarnation_can_move() {
    let state = founded(3, 3);
    let moved = NodeInfo {
        peer: "10.0.0.9:7401".into(),
        ..node(2)
    };
    let (after, reply) = apply(&state, MetaCommand::Moved(moved.clone()));
    assert_eq!(reply, MetaReply::Done { version: 2 });
    assert_eq!(after.nodes[&NodeId(2)].peer, "10.0.0.9:7401");
    let old = NodeInfo {
        incarnation: Uuid::from_u128(99),
        ..moved
    };
    for stranger in [old, node(9)] {
        let (unchanged, reply) = apply(&after, MetaCommand::Moved(stranger));
        assert!(matches!(reply, MetaReply::Refused(_)));
        assert_eq!(unchanged, after);
    }
}

/// A founding comes over the network; what makes no sense must neither be promised nor applied.
#[test]
fn founding_that_makes_no_sense_is_refused() {
    let good = Founding {
        cluster_id: Uuid::from_u128(7),
        replication_factor: 3,
        shards: 3,
        members: vec![node(1), node(2)],
    };
    assert!(good.is_valid());
    let bad = [
        Founding {
            shards: 0,
            ..good.clone()
        },
        Founding {
            shards: 1025,
            ..good.clone()
        },
        Founding {
            members: Vec::new(),
            ..good.clone()
        },
        Founding {
            members: vec![node(1), node(1)],
            ..good.clone()
        },
        Founding {
            members: vec![NodeInfo {
                storage: false,
                ..node(1)
            }],
            ..good.clone()
        },
        Founding {
            replication_factor: 0,
            ..good
        },
    ];
    for founding in bad {
        assert!(!founding.is_valid(), "{founding:?}");
        let (none, reply) = ClusterState::apply(None, MetaCommand::Create(founding));
        assert!(none.is_none() && matches!(reply, MetaReply::Refused(_)));
    }
}

/// Its replicas get new ids, which were never used; the old ones leave once the group says so.
#[test]
fn wiped_node_gets_new_replica_ids() {
    let state = founded(3, 3);
    let wiped = NodeInfo {
        incarnation: Uuid::from_u128(99),
        ..node(2)
    };
    let (after, _) = apply(&state, MetaCommand::Join(wiped));
    for (shard, record) in &after.shards {
        assert_eq!(record.retiring.len(), 1, "shard {shard}");
        assert_eq!(record.voters().len(), 3);
        let new = record.replica_on(NodeId(2)).unwrap();
        assert!(!ids(&state).contains(&new.0), "{new} was used before");
    }
    let voters: BTreeSet<u64> = after.shards[&1].voters().keys().map(|id| id.0).collect();
    let stale = MetaCommand::Settled {
        shard: 1,
        replicas: state.shards[&1].replicas.keys().copied().collect(),
    };
    let (unchanged, _) = apply(&after, stale);
    assert_eq!(unchanged, after, "a stale report settles nothing");
    let (settled, _) = apply(
        &after,
        MetaCommand::Settled {
            shard: 1,
            replicas: voters.clone(),
        },
    );
    let record = &settled.shards[&1];
    assert!(record.retiring.is_empty());
    assert_eq!(
        record.replicas.keys().copied().collect::<BTreeSet<_>>(),
        voters
    );
    assert_eq!(record.phase, ShardPhase::Active);
}

#[test]
fn newcomer_gets_a_new_number_and_no_replica() {
    let state = founded(3, 3);
    let (after, reply) = apply(&state, MetaCommand::Join(node(4)));
    assert!(matches!(
        reply,
        MetaReply::Joined {
            node: NodeId(4),
            ..
        }
    ));
    assert_eq!(ids(&after), ids(&state));
}

#[test]
fn nothing_happens_before_the_creation_and_no_second_one() {
    let (none, reply) = ClusterState::apply(None, MetaCommand::Join(node(1)));
    assert!(none.is_none() && matches!(reply, MetaReply::Refused(_)));
    let state = founded(3, 3);
    let other = Founding {
        cluster_id: Uuid::from_u128(8),
        replication_factor: 3,
        shards: 1,
        members: vec![node(1)],
    };
    let (after, reply) = apply(&state, MetaCommand::Create(other));
    assert!(matches!(reply, MetaReply::Refused(_)));
    assert_eq!(after, state);
}

/// A state and a node from before nodes had lives, zones and capacities are read as they were meant.
#[test]
fn state_of_an_older_version_is_read_and_written_as_it_was() {
    let state = founded(1, 1);
    let text = String::from_utf8(state.encode()[1..].to_vec()).unwrap();
    for field in [
        "lives",
        "maintenance",
        "left",
        "arriving",
        "zone",
        "capacity",
    ] {
        assert!(!text.contains(field), "{field} in {text}");
    }
    let read = ClusterState::decode(&state.encode()).unwrap();
    assert_eq!(read.life(NodeId(1)), Life::Active);
    assert_eq!(read.nodes[&NodeId(1)].capacity.get(), 1);
}

/// Stored bytes are readable for ever, and foreign bytes are refused.
#[test]
fn encodings_are_frozen() {
    let state = founded(1, 1);
    let bytes = state.encode();
    assert_eq!(ClusterState::decode(&bytes), Some(state));
    assert!(bytes.starts_with(b"\x70{\"version\":1,\"cluster_id\":\"00000000-0000"));
    let command = MetaCommand::Settled {
        shard: 3,
        replicas: [4, 5].into(),
    };
    let golden = b"\x71{\"Settled\":{\"shard\":3,\"replicas\":[4,5]}}";
    assert_eq!(command.encode(), golden);
    assert_eq!(MetaCommand::decode(golden), Some(command));
    let command = MetaCommand::Place {
        shard: 3,
        seen: [4, 5].into(),
        change: Change::Move {
            from: NodeId(1),
            to: NodeId(4),
        },
    };
    let place =
        b"\x71{\"Place\":{\"shard\":3,\"seen\":[4,5],\"change\":{\"Move\":{\"from\":1,\"to\":4}}}}";
    assert_eq!(command.encode(), place);
    assert_eq!(MetaCommand::decode(place), Some(command));
    let drain = MetaCommand::Drain(Who {
        name: "node-1".into(),
        incarnation: Uuid::nil(),
    });
    let bytes = drain.encode();
    let golden_drain = b"\x71{\"Drain\":{\"name\":\"node-1\",\"incarnation\":\"00000000-0000-0000-0000-000000000000\"}}";
    assert_eq!(bytes, golden_drain);
    assert_eq!(MetaCommand::decode(&bytes), Some(drain));
    assert_eq!(ClusterState::decode(golden), None);
    assert_eq!(MetaCommand::decode(b""), None);
}
