//! Why clients go, as session records keep it, and the news that the change of a record is.

use antumbra_shadow::Time;

use super::dialect::event::DisconnectReason;
use super::dialect::{Presence, PresenceState};
use super::mqtt::session::{CloseCause, ServerCause};
use super::mqtt::wire::Reason;
use super::records::Record;

/// The numbers of the reasons in session records; never used again for something else.
const NUMBERS: [(u8, DisconnectReason); 11] = [
    (1, DisconnectReason::Unauthenticated),
    (2, DisconnectReason::ByClient),
    (3, DisconnectReason::ClientError),
    (4, DisconnectReason::ConnectionLost),
    (5, DisconnectReason::TakenOver),
    (6, DisconnectReason::Forbidden),
    (7, DisconnectReason::KeepAliveTimeout),
    (8, DisconnectReason::ServerError),
    (9, DisconnectReason::ByServer),
    (10, DisconnectReason::ByOperator),
    (11, DisconnectReason::Throttled),
];

/// The number of a reason.
pub(crate) fn number_of(reason: DisconnectReason) -> u8 {
    let mut numbers = NUMBERS.iter();
    let found = numbers.find(|(_, known)| *known == reason);
    found.map_or(0, |(number, _)| *number)
}

/// The reason with a number; an unknown number is that of a lost connection.
pub(crate) fn reason_of(number: Option<u8>) -> DisconnectReason {
    let mut numbers = NUMBERS.iter();
    let found = numbers.find(|(known, _)| Some(*known) == number);
    found.map_or(DisconnectReason::ConnectionLost, |(_, reason)| *reason)
}

/// The word of AWS for a reason.
pub(crate) fn aws_reason(reason: DisconnectReason) -> &'static str {
    super::dialect::aws::reason_text(reason)
}

/// The label under which the end of a connection is counted.
pub(crate) fn label_of(reason: DisconnectReason) -> &'static str {
    match reason {
        DisconnectReason::Unauthenticated => "unauthenticated",
        DisconnectReason::ByClient => "by_client",
        DisconnectReason::ClientError => "client_error",
        DisconnectReason::ConnectionLost => "connection_lost",
        DisconnectReason::TakenOver => "taken_over",
        DisconnectReason::Forbidden => "forbidden",
        DisconnectReason::KeepAliveTimeout => "keep_alive_timeout",
        DisconnectReason::ServerError => "server_error",
        DisconnectReason::ByServer => "by_server",
        DisconnectReason::ByOperator => "by_operator",
        DisconnectReason::Throttled => "throttled",
    }
}

/// What the end of a connection means for who watches clients.
pub(crate) fn reason_of_close(cause: CloseCause) -> DisconnectReason {
    match cause {
        CloseCause::ClientDisconnected(_) => DisconnectReason::ByClient,
        CloseCause::ConnectionLost => DisconnectReason::ConnectionLost,
        CloseCause::KeepAliveTimeout => DisconnectReason::KeepAliveTimeout,
        CloseCause::ConnectTimeout | CloseCause::Invalid(_) => DisconnectReason::ClientError,
        CloseCause::Refused(_) => DisconnectReason::Unauthenticated,
        CloseCause::Violation(Reason::NotAuthorized)
        | CloseCause::PublishRefused(Reason::NotAuthorized) => DisconnectReason::Forbidden,
        CloseCause::Violation(_) | CloseCause::PublishRefused(_) => DisconnectReason::ClientError,
        CloseCause::OutcomeUnknown => DisconnectReason::ServerError,
        CloseCause::Server(cause) => match cause {
            ServerCause::TakenOver => DisconnectReason::TakenOver,
            ServerCause::ShuttingDown | ServerCause::UseAnotherServer => DisconnectReason::ByServer,
            ServerCause::Administrative => DisconnectReason::ByOperator,
            ServerCause::NotAuthorized => DisconnectReason::Unauthenticated,
            ServerCause::QuotaExceeded
            | ServerCause::MessageRateTooHigh
            | ServerCause::Overloaded => DisconnectReason::Throttled,
        },
    }
}

/// The news in the change of a record: the end of the connection before, the beginning of another.
pub(crate) fn news(before: Option<&Record>, now: &Record, version: u64) -> Vec<Presence> {
    let mut news = Vec::new();
    let before = before.filter(|before| before.connected);
    let is_same = before.is_some_and(|before| before.session == now.session);
    if let Some(before) = before
        && !(is_same && now.connected)
    {
        let (reason, epoch) = match is_same {
            true => (reason_of(now.reason), now.epoch.unwrap_or(version)),
            false => (DisconnectReason::TakenOver, before.epoch.unwrap_or(version)),
        };
        let time = Time(now.since_ms);
        news.push(about(
            before,
            epoch,
            time,
            PresenceState::Disconnected(reason),
        ));
    }
    if now.connected && !is_same {
        let state = PresenceState::Connected {
            address: now.address,
        };
        news.push(about(now, version, Time(now.since_ms), state));
    }
    news
}

fn about(record: &Record, version: u64, time: Time, state: PresenceState) -> Presence {
    Presence {
        client_id: record.client_id.as_str().into(),
        device: record.device.clone(),
        session_identifier: record.session.to_string().into(),
        principal: record.principal.as_str().into(),
        version,
        time,
        state,
    }
}

#[cfg(test)]
mod tests {
    use antumbra_shadow::Tenant;
    use uuid::Uuid;

    use super::*;
    use crate::gateway::records::Beginning;

    fn record(session: u128) -> Record {
        Record::begin(Beginning {
            tenant: Tenant::default(),
            client_id: "a".into(),
            session: Uuid::from_u128(session),
            node: "node-1".into(),
            boot: Uuid::nil(),
            since_ms: 7,
            expiry_s: 0,
            keep_alive_s: 30,
            device: None,
            principal: "open".into(),
            address: None,
        })
    }

    fn states(before: Option<&Record>, now: &Record) -> Vec<(u64, PresenceState)> {
        let news = news(before, now, 9);
        news.into_iter()
            .map(|presence| (presence.version, presence.state))
            .collect()
    }

    const CONNECTED: PresenceState = PresenceState::Connected { address: None };

    /// Every connection is told once when it begins and once when it ends.
    #[test]
    fn news_is_what_changed() {
        let (one, two) = (record(1), record(2));
        assert_eq!(states(None, &one), [(9, CONNECTED)]);
        assert_eq!(states(Some(&one), &one), []);
        let taken_over = PresenceState::Disconnected(DisconnectReason::TakenOver);
        assert_eq!(states(Some(&one), &two), [(9, taken_over), (9, CONNECTED)]);
        let mut ended = one.clone();
        ended.end(number_of(DisconnectReason::ByClient), 4, 8);
        let by_client = PresenceState::Disconnected(DisconnectReason::ByClient);
        assert_eq!(states(Some(&one), &ended), [(4, by_client)]);
        assert_eq!(states(Some(&ended), &ended), []);
        assert_eq!(states(Some(&ended), &two), [(9, CONNECTED)]);
    }

    /// Numbers are stored: each reason has one of its own.
    #[test]
    fn reasons_have_numbers() {
        for (number, reason) in NUMBERS {
            assert_eq!(number_of(reason), number);
            assert_eq!(reason_of(Some(number)), reason);
        }
        assert_eq!(reason_of(None), DisconnectReason::ConnectionLost);
    }
}
