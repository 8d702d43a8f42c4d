//! Request documents: bytes in, intent out.

use antumbra_shadow::json::{self, DuplicateKeys, JsonError, Value};
use antumbra_shadow::{Conditions, Limits, Patch, SectionInput};

use super::response::Echo;
use crate::error::Error;

/// Nesting that is read at all: far beyond any limit, so that a document that is only somewhat too
/// deep is judged by the limits and gets their error.
const NESTING_MAX: usize = json::NESTING_CEILING;

/// What an update message asks for.
#[derive(Debug, Clone)]
pub struct UpdateRequest {
    /// What to merge.
    pub patch: Patch,
    /// `state` itself was null: both sections are cleared, and the reply says so.
    pub clears_state: bool,
    /// `version` of the message.
    pub expected_version: Option<u64>,
    /// `clientToken` of the message.
    pub client_token: Option<String>,
}

/// A message that is refused, with the client token if one could be read, because a rejection
/// echoes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub error: Error,
    /// `clientToken` of the message.
    pub client_token: Option<String>,
}

impl UpdateRequest {
    /// What the reply says back.
    pub fn echo(&self) -> Echo<'_> {
        Echo {
            patch: &self.patch,
            clears_state: self.clears_state,
            client_token: self.client_token.as_deref(),
        }
    }

    /// The conditions that the message puts on the change.
    pub fn conditions(&self) -> Conditions {
        Conditions {
            expected_version: self.expected_version,
            ..Conditions::default()
        }
    }
}

/// Reads an update message.
pub fn parse_update(body: &[u8], limits: &Limits) -> Result<UpdateRequest, Refusal> {
    let anonymous = |error| Refusal {
        error,
        client_token: None,
    };
    let message = parse_object(body).map_err(anonymous)?;
    // A message without `state` is told so even when its client token is wrong too.
    let Some(state) = message.get("state") else {
        let client_token = read_client_token(&message, limits).unwrap_or_default();
        return Err(Refusal {
            error: invalid("state", "Missing required node: state"),
            client_token,
        });
    };
    let client_token = read_client_token(&message, limits).map_err(anonymous)?;
    let refuse = |error| Refusal {
        error,
        client_token: client_token.clone(),
    };

    let patch = read_state(state, limits).map_err(refuse)?;
    let expected_version = read_version(&message).map_err(refuse)?;
    Ok(UpdateRequest {
        patch,
        clears_state: matches!(state, Value::Null),
        expected_version,
        client_token,
    })
}

/// Reads the client token of a get or delete message, whose other content does not matter. An
/// empty message has none.
pub fn parse_client_token(body: &[u8], limits: &Limits) -> Result<Option<String>, Refusal> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let message = parse_object(body);
    message
        .and_then(|message| read_client_token(&message, limits))
        .map_err(|error| Refusal {
            error,
            client_token: None,
        })
}

fn parse_object(body: &[u8]) -> Result<Value, Error> {
    let value =
        json::parse(body, DuplicateKeys::LastWins, NESTING_MAX).map_err(|error| match error {
            JsonError::NotUtf8 { .. } => Error::UnsupportedEncoding,
            JsonError::TooDeep { max } => Error::TooDeep {
                field: "state".into(),
                max: max as u64,
            },
            other => Error::InvalidJson {
                field: "body".into(),
                reason: other.to_string().into(),
            },
        })?;
    match value {
        Value::Object(_) => Ok(value),
        _ => Err(Error::InvalidJson {
            field: "body".into(),
            reason: "is not an object".into(),
        }),
    }
}

fn read_client_token(message: &Value, limits: &Limits) -> Result<Option<String>, Error> {
    match message.get("clientToken") {
        None => Ok(None),
        Some(Value::String(token)) if token.len() <= limits.client_token_bytes_max as usize => {
            Ok(Some(token.clone()))
        }
        Some(_) => Err(invalid("clientToken", "Invalid clientToken")),
    }
}

fn read_state(state: &Value, limits: &Limits) -> Result<Patch, Error> {
    let (desired, reported) = match state {
        Value::Null => (SectionInput::Clear, SectionInput::Clear),
        Value::Object(members) => {
            if members
                .iter()
                .any(|(key, _)| key != "desired" && key != "reported")
            {
                let reason = "holds something other than desired and reported";
                return Err(Error::InvalidNode {
                    field: "state".into(),
                    reason: reason.into(),
                });
            }
            (
                read_section(state, "desired", "Desired node must be an object")?,
                read_section(state, "reported", "Reported node must be an object")?,
            )
        }
        _ => return Err(invalid("state", "State node must be an object")),
    };
    Ok(Patch::build(desired, reported, limits)?)
}

fn read_section<'a>(
    state: &'a Value,
    name: &'static str,
    message: &'static str,
) -> Result<SectionInput<'a>, Error> {
    match state.get(name) {
        None => Ok(SectionInput::Absent),
        Some(Value::Null) => Ok(SectionInput::Clear),
        Some(value @ Value::Object(_)) => Ok(SectionInput::Merge(value)),
        Some(_) => Err(invalid(name, message)),
    }
}

/// `version` is a whole number written without point or exponent.
fn read_version(message: &Value) -> Result<Option<u64>, Error> {
    match message.get("version") {
        None => Ok(None),
        Some(Value::Number(number)) => match number.as_str().parse() {
            Ok(version) => Ok(Some(version)),
            Err(_) => Err(invalid("version", "Invalid version")),
        },
        Some(_) => Err(invalid("version", "Invalid version")),
    }
}

fn invalid(field: &'static str, message: &'static str) -> Error {
    Error::invalid(field, message)
}
