//! Lifecycle events (AWS IoT Core developer guide, "Lifecycle events"). Their times are milliseconds,
//! unlike those of shadow messages.

use super::topic;
use crate::dialect::Object;
use crate::gateway::dialect::event::{
    DisconnectReason, Presence, PresenceKind, PresenceState, Publish, Route,
};
use crate::gateway::dialect::topic::check_name;

/// The message about a client that came or went. None for a client id that cannot stand in a topic, one
/// with a wildcard among them.
pub(super) fn message(presence: &Presence) -> Option<Publish> {
    let topic = topic::of_presence(presence.kind(), &presence.client_id);
    check_name(&topic).ok()?;
    Some(Publish::new(topic, body(presence), Route::Presence))
}

fn body(presence: &Presence) -> String {
    let mut object = Object::new();
    object.string("clientId", &presence.client_id);
    object.number("timestamp", presence.time.milliseconds());
    let event_type = match presence.kind() {
        PresenceKind::Connected => "connected",
        PresenceKind::Disconnected => "disconnected",
    };
    object.string("eventType", event_type);
    if let PresenceState::Disconnected(reason) = presence.state {
        let by_client = reason == DisconnectReason::ByClient;
        object.raw("clientInitiatedDisconnect", bool_json(by_client));
    }
    object.string("sessionIdentifier", &presence.session_identifier);
    object.string("principalIdentifier", &presence.principal);
    match presence.state {
        PresenceState::Connected { address } => {
            if let Some(address) = address {
                object.string("ipAddress", &address.to_string());
            }
        }
        PresenceState::Disconnected(reason) => {
            object.string("disconnectReason", reason_text(reason));
        }
    }
    if let Some(device) = &presence.device {
        object.string("thingName", device.as_str());
    }
    object.number("versionNumber", presence.version);
    object.finish()
}

fn bool_json(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

/// The word for a reason in lifecycle events and connections.
pub(crate) fn reason_text(reason: DisconnectReason) -> &'static str {
    match reason {
        DisconnectReason::Unauthenticated => "AUTH_ERROR",
        DisconnectReason::ByClient => "CLIENT_INITIATED_DISCONNECT",
        DisconnectReason::ClientError => "CLIENT_ERROR",
        DisconnectReason::ConnectionLost => "CONNECTION_LOST",
        DisconnectReason::TakenOver => "DUPLICATE_CLIENTID",
        DisconnectReason::Forbidden => "FORBIDDEN_ACCESS",
        DisconnectReason::KeepAliveTimeout => "MQTT_KEEP_ALIVE_TIMEOUT",
        DisconnectReason::ServerError => "SERVER_ERROR",
        DisconnectReason::ByServer => "SERVER_INITIATED_DISCONNECT",
        DisconnectReason::ByOperator => "API_INITIATED_DISCONNECT",
        DisconnectReason::Throttled => "THROTTLED",
    }
}
