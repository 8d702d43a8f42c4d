//! Why a connection could not be opened or ended.

use std::io;
use std::time::Duration;

use bytestring::ByteString;

use crate::cli::problem::{Exit, Problem};
use crate::gateway::mqtt::client;
use crate::gateway::mqtt::wire::{EncodeError, Reason};

use super::Endpoint;

/// Why a connection could not be opened or ended. It is of no use afterwards.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No TCP connection.
    #[error("{0}")]
    Unreachable(#[source] io::Error),
    /// No TLS session.
    #[error("TLS: {0}")]
    Insecure(#[source] io::Error),
    /// The server did not answer in time.
    #[error("no answer within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// The server does not want this client.
    #[error("the server refuses: {}", words(*.reason, .text.as_ref()))]
    Refused {
        /// Its reason.
        reason: Reason,
        /// Its words.
        text: Option<ByteString>,
    },
    /// The server ended the connection and said why.
    #[error("the server ended it: {}", words(*.reason, .text.as_ref()))]
    Ended {
        /// Its reason.
        reason: Reason,
        /// Its words.
        text: Option<ByteString>,
    },
    /// The server closed the connection without a word.
    #[error("the server closed it without a reason")]
    Closed,
    /// The connection broke.
    #[error("{0}")]
    Lost(#[source] io::Error),
    /// Nothing came back for a PINGREQ.
    #[error("the server does not answer signs of life")]
    Silent,
    /// What the server sends cannot be read.
    #[error("the server sends a {0}")]
    Unreadable(#[from] client::Error),
    /// The server sends something that is not expected now.
    #[error("the server sends {0}")]
    Unexpected(&'static str),
    /// What is to be sent cannot be expressed.
    #[error("{0}")]
    Unwritable(#[from] EncodeError),
}

impl Error {
    /// The problem to show, for a connection to `endpoint`.
    pub(crate) fn problem(&self, endpoint: &Endpoint) -> Problem {
        let (exit, what, hint) = match self {
            Self::Unreachable(_) | Self::TimedOut(_) => (
                Exit::Unavailable,
                format!("cannot reach {endpoint}"),
                Some("another MQTT endpoint, or `antumbra dev` to start a node"),
            ),
            Self::Insecure(_) => (
                Exit::Denied,
                format!("cannot trust or talk to {endpoint}"),
                Some("--ca FILE with the authority of its certificate, and a host that it names"),
            ),
            Self::Refused { reason, .. } => {
                let (exit, hint) = advice(*reason);
                (exit, format!("cannot connect to {endpoint}"), hint)
            }
            Self::Unwritable(_) => (Exit::Usage, format!("cannot send to {endpoint}"), None),
            _ => (
                Exit::Unavailable,
                format!("the connection to {endpoint} ended"),
                None,
            ),
        };
        let problem = Problem::new(exit, what).why(self);
        match hint {
            Some(hint) => problem.try_this(hint),
            None => problem,
        }
    }

    /// A short name, to count what happened.
    pub(crate) fn code(&self) -> String {
        match self {
            Self::Unreachable(error) => format!("UNREACHABLE {}", error.kind()),
            Self::Insecure(_) => "TLS".to_owned(),
            Self::TimedOut(_) => "TIMED_OUT".to_owned(),
            Self::Refused { reason, .. } => format!("REFUSED {reason:?}"),
            Self::Ended { reason, .. } => format!("ENDED {reason:?}"),
            Self::Closed => "CLOSED".to_owned(),
            Self::Lost(error) => format!("LOST {}", error.kind()),
            Self::Silent => "SILENT".to_owned(),
            Self::Unreadable(_) | Self::Unexpected(_) => "UNREADABLE".to_owned(),
            Self::Unwritable(_) => "UNWRITABLE".to_owned(),
        }
    }
}

fn advice(reason: Reason) -> (Exit, Option<&'static str>) {
    match reason {
        Reason::BadUserNameOrPassword | Reason::NotAuthorized | Reason::Banned => (
            Exit::Denied,
            Some("--username and --password, or --cert and --key"),
        ),
        Reason::ClientIdentifierNotValid => (Exit::Usage, Some("another client id")),
        Reason::UnsupportedProtocolVersion => (Exit::Usage, Some("another --protocol")),
        _ => (Exit::Unavailable, Some("again in a moment")),
    }
}

fn words(reason: Reason, text: Option<&ByteString>) -> String {
    match text {
        Some(text) => format!("{text} ({reason:?})"),
        None => format!("{reason:?}"),
    }
}
