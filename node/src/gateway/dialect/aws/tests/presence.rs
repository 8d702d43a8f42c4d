use antumbra_shadow::{DeviceId, Time};
use serde_json::{Value, json};

use crate::gateway::dialect::aws::Aws;
use crate::gateway::dialect::event::DisconnectReason;
use crate::gateway::dialect::harness::{World, backend};
use crate::gateway::dialect::{Presence, PresenceState};

fn presence(client_id: &str, state: PresenceState) -> Presence {
    Presence {
        client_id: client_id.into(),
        device: DeviceId::parse("pump").ok(),
        session_identifier: "session-1".into(),
        principal: "fingerprint".into(),
        version: 7,
        time: Time(1_700_000_000_123),
        state,
    }
}

fn connected() -> PresenceState {
    PresenceState::Connected {
        address: Some([192, 0, 2, 1].into()),
    }
}

fn told(filter: &str, presence: &Presence) -> Vec<(String, Value)> {
    let mut world = World::default();
    let cloud = world.join(&Aws, backend());
    world.subscribe(cloud, filter).unwrap();
    world.presence(presence);
    world.take(cloud)
}

/// The shapes of the developer guide, with milliseconds.
#[test]
fn lifecycle_events_have_the_shape_of_the_service() {
    assert_eq!(
        told(
            "$aws/events/presence/connected/+",
            &presence("client", connected())
        ),
        [(
            "$aws/events/presence/connected/client".to_owned(),
            json!({"clientId": "client", "timestamp": 1_700_000_000_123_u64, "eventType": "connected",
                "sessionIdentifier": "session-1", "principalIdentifier": "fingerprint",
                "ipAddress": "192.0.2.1", "thingName": "pump", "versionNumber": 7})
        )]
    );
    let gone = PresenceState::Disconnected(DisconnectReason::KeepAliveTimeout);
    assert_eq!(
        told("$aws/events/#", &presence("client", gone)),
        [(
            "$aws/events/presence/disconnected/client".to_owned(),
            json!({"clientId": "client", "timestamp": 1_700_000_000_123_u64, "eventType": "disconnected",
                "clientInitiatedDisconnect": false, "sessionIdentifier": "session-1",
                "principalIdentifier": "fingerprint", "disconnectReason": "MQTT_KEEP_ALIVE_TIMEOUT",
                "thingName": "pump", "versionNumber": 7})
        )]
    );
    let bye = PresenceState::Disconnected(DisconnectReason::ByClient);
    let seen = told(
        "$aws/events/presence/disconnected/client",
        &presence("client", bye),
    );
    assert_eq!(seen[0].1["clientInitiatedDisconnect"], true);
    assert_eq!(seen[0].1["disconnectReason"], "CLIENT_INITIATED_DISCONNECT");
}

/// No events about client ids that cannot stand in a topic, and none that were not asked for.
#[test]
fn only_events_that_match_are_told() {
    for client in ["a+b", "#", "a/#", "a\0"] {
        assert_eq!(
            told("$aws/events/presence/#", &presence(client, connected())),
            []
        );
    }
    let nested = presence("site/client", connected());
    assert_eq!(told("$aws/events/presence/connected/+", &nested), []);
    assert_eq!(
        told("$aws/events/presence/connected/site/+", &nested).len(),
        1
    );
    assert_eq!(told("$aws/events/presence/disconnected/#", &nested), []);
    assert_eq!(told("$aws/events/presence/connected", &nested), []);
}
