//! The events of a device as lines.

use std::time::Duration;

use antumbra_shadow::json::Value;

use crate::cli::mqtt::device::{Delta, Rejection};
use crate::cli::mqtt::{Endpoint, Error};
use crate::cli::output::{Format, number, object, print_event, string};
use crate::gateway::mqtt::wire::Reason;

/// Prints events, each with the device it is about.
pub(super) struct Show {
    format: Format,
    device: String,
    shadow: Option<String>,
}

impl Show {
    pub(super) fn new(format: Format, device: &str, shadow: Option<&str>) -> Self {
        Self {
            format,
            device: device.to_owned(),
            shadow: shadow.map(str::to_owned),
        }
    }

    pub(super) fn connected(&self, endpoint: &Endpoint, session_present: bool) {
        let fields = [
            ("endpoint", string(endpoint.to_string())),
            ("session_present", Value::Bool(session_present)),
        ];
        let again = if session_present { " again" } else { "" };
        self.print("connected", fields, &format!("to {endpoint}{again}"));
    }

    pub(super) fn delta(&self, delta: &Delta) {
        let fields = [
            ("version", number(delta.version)),
            ("state", delta.state.clone()),
        ];
        let line = format!("version {}  {}", delta.version, delta.state);
        self.print("delta", fields, &line);
    }

    pub(super) fn reported(&self, state: &Value) {
        self.print("reported", [("state", state.clone())], &state.to_string());
    }

    pub(super) fn kept(&self, state: &Value) {
        let line = format!("{state}  until there is a connection");
        self.print("kept", [("state", state.clone())], &line);
    }

    pub(super) fn accepted(&self, version: u64) {
        let line = format!("version {version}");
        self.print("accepted", [("version", number(version))], &line);
    }

    pub(super) fn rejected(&self, rejection: &Rejection) {
        let fields = [
            ("code", number(rejection.code)),
            ("message", string(rejection.message.clone())),
        ];
        let line = format!("{} {}", rejection.code, rejection.message);
        self.print("rejected", fields, &line);
    }

    /// The server did not take the message that carries this state.
    pub(super) fn refused(&self, state: &Value, reason: Reason) {
        let fields = [
            ("state", state.clone()),
            ("reason", string(format!("{reason:?}"))),
        ];
        self.print("refused", fields, &format!("{state}  {reason:?}"));
    }

    pub(super) fn unreadable(&self, topic: &str) {
        let line = format!("a message on {topic} that is not JSON");
        self.print("unreadable", [("topic", string(topic))], &line);
    }

    pub(super) fn lost(&self, error: &Error, wait: Duration) {
        let fields = [
            ("reason", string(error.to_string())),
            ("retry_in_s", number(wait.as_secs())),
        ];
        let line = format!("{error}; again in {} s", wait.as_secs());
        self.print("lost", fields, &line);
    }

    pub(super) fn disconnected(&self) {
        self.print("disconnected", [], "");
    }

    fn print<const N: usize>(&self, event: &str, fields: [(&str, Value); N], line: &str) {
        let mut members = vec![("event", string(event)), ("device", string(&*self.device))];
        if let Some(shadow) = &self.shadow {
            members.push(("shadow", string(&**shadow)));
        }
        members.extend(fields);
        print_event(self.format, &object(members), || {
            format!("{event:<12}  {line}").trim_end().to_owned()
        });
    }
}
