//! A device shadow as a device sees it: topics and payloads of AWS IoT.

use antumbra_shadow::json::{self, DuplicateKeys, Value};

use crate::cli::output::{object, string};

/// Deeper than any document.
const DEPTH_MAX: usize = 64;

/// The topics of one shadow.
#[derive(Debug, Clone)]
pub(crate) struct Topics {
    base: String,
}

/// What a message on one of the topics is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Desired state that differs from reported state.
    Delta,
    /// The document that was asked for.
    Got,
    /// Why there is no document.
    GetRejected,
    /// An update of this shadow was accepted.
    Accepted,
    /// An update was rejected.
    Rejected,
}

/// Desired state that a device has not reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delta {
    /// Version of the document.
    pub(crate) version: u64,
    /// What differs.
    pub(crate) state: Value,
}

/// Why a request was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// Code, as of HTTP.
    pub(crate) code: u64,
    /// Words.
    pub(crate) message: String,
}

impl Topics {
    /// The topics of a shadow of `device`; no name means the classic one.
    pub(crate) fn new(device: &str, shadow: Option<&str>) -> Self {
        let base = match shadow {
            None => format!("$aws/things/{device}/shadow"),
            Some(shadow) => format!("$aws/things/{device}/shadow/name/{shadow}"),
        };
        Self { base }
    }

    /// Where updates are published.
    pub(crate) fn update(&self) -> String {
        format!("{}/update", self.base)
    }

    /// Where the document is asked for.
    pub(crate) fn get(&self) -> String {
        format!("{}/get", self.base)
    }

    /// What a device that only follows its shadow subscribes to.
    pub(crate) fn followed(&self) -> [String; 2] {
        ["update/delta", "get/accepted"].map(|end| format!("{}/{end}", self.base))
    }

    /// What a device that also wants answers subscribes to.
    pub(crate) fn all(&self) -> [String; 5] {
        let ends = [
            "update/delta",
            "update/accepted",
            "update/rejected",
            "get/accepted",
            "get/rejected",
        ];
        ends.map(|end| format!("{}/{end}", self.base))
    }

    /// What a message on `topic` is, if it is about this shadow.
    pub(crate) fn kind(&self, topic: &str) -> Option<Kind> {
        let end = topic.strip_prefix(&self.base)?.strip_prefix('/')?;
        match end {
            "update/delta" => Some(Kind::Delta),
            "update/accepted" => Some(Kind::Accepted),
            "update/rejected" => Some(Kind::Rejected),
            "get/accepted" => Some(Kind::Got),
            "get/rejected" => Some(Kind::GetRejected),
            _ => None,
        }
    }
}

/// The JSON of a payload; `None` when it is none.
pub(crate) fn parse(payload: &[u8]) -> Option<Value> {
    json::parse(payload, DuplicateKeys::LastWins, DEPTH_MAX).ok()
}

/// The delta of a message of this kind. `None` when there is no difference.
pub(crate) fn delta(kind: Kind, payload: &Value) -> Option<Delta> {
    let state = payload.get("state")?;
    let state = match kind {
        Kind::Delta => state,
        Kind::Got => state.get("delta")?,
        _ => return None,
    };
    state.is_object().then(|| Delta {
        version: version(payload).unwrap_or_default(),
        state: state.clone(),
    })
}

/// The version that a payload carries.
pub(crate) fn version(payload: &Value) -> Option<u64> {
    payload.get("version")?.as_u64()
}

/// Why a request was rejected.
pub(crate) fn rejection(payload: &Value) -> Rejection {
    let message = payload.get("message").and_then(Value::as_str);
    Rejection {
        code: payload
            .get("code")
            .and_then(Value::as_u64)
            .unwrap_or_default(),
        message: message.unwrap_or("no message").to_owned(),
    }
}

/// The payload of an update that reports `state`.
pub(crate) fn report(state: Value, client_token: &str) -> String {
    let state = object([("reported", state)]);
    object([("state", state), ("clientToken", string(client_token))]).to_string()
}

/// Merges `change` into `state` as a shadow does, except that null stays, to be reported.
pub(crate) fn merge(state: &mut Value, change: Value) {
    match (state, change) {
        (Value::Object(members), Value::Object(changes)) => {
            for (key, value) in changes {
                match members.iter_mut().find(|(name, _)| *name == key) {
                    Some((_, member)) => merge(member, value),
                    None => members.push((key, value)),
                }
            }
        }
        (state, change) => *state = change,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        parse(text.as_bytes()).unwrap()
    }

    /// A device that answered the wrong topic would loop or stay silent.
    #[test]
    fn tells_messages_by_their_topics() {
        let classic = Topics::new("lamp-1", None);
        let named = Topics::new("lamp-1", Some("radio"));
        assert_eq!(classic.update(), "$aws/things/lamp-1/shadow/update");
        for topics in [&classic, &named] {
            assert!(
                topics
                    .all()
                    .iter()
                    .all(|topic| topics.kind(topic).is_some())
            );
            assert_eq!(topics.kind(&topics.followed()[0]), Some(Kind::Delta));
            assert_eq!(topics.kind(&topics.update()), None);
        }
        assert_eq!(classic.kind(&named.followed()[0]), None);
    }

    #[test]
    fn finds_the_difference_in_both_payloads() {
        let delta_of = |kind, text| delta(kind, &value(text)).map(|delta| delta.state.to_string());
        let payload = r#"{"version":7,"state":{"on":true},"metadata":{}}"#;
        assert_eq!(delta(Kind::Delta, &value(payload)).unwrap().version, 7);
        assert_eq!(delta_of(Kind::Delta, payload).unwrap(), r#"{"on":true}"#);
        let document = r#"{"state":{"desired":{"a":1},"delta":{"a":1}},"version":2}"#;
        assert_eq!(delta_of(Kind::Got, document).unwrap(), r#"{"a":1}"#);
        assert_eq!(delta_of(Kind::Got, r#"{"state":{"desired":{}}}"#), None);
        assert_eq!(delta_of(Kind::Accepted, payload), None);
    }

    /// What was set while a device was away arrives as a whole when it is back.
    #[test]
    fn changes_add_up() {
        let mut state = value(r#"{"a":{"x":1},"b":1}"#);
        merge(&mut state, value(r#"{"a":{"y":2},"b":null,"c":[1]}"#));
        assert_eq!(state, value(r#"{"a":{"x":1,"y":2},"b":null,"c":[1]}"#));
    }
}
