//! JSON text of messages, written member by member.

use antumbra_shadow::json::write_string;

/// A JSON object under construction.
pub(crate) struct Object {
    text: String,
}

impl Object {
    pub(crate) fn new() -> Object {
        Object {
            text: String::from("{"),
        }
    }

    fn key(&mut self, key: &str) {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        write_string(key, &mut self.text);
        self.text.push(':');
    }

    /// Adds a member whose value is already JSON.
    pub(crate) fn raw(&mut self, key: &str, json: &str) {
        self.key(key);
        self.text.push_str(json);
    }

    pub(crate) fn optional(&mut self, key: &str, json: Option<String>) {
        if let Some(json) = json {
            self.raw(key, &json);
        }
    }

    pub(crate) fn number(&mut self, key: &str, value: u64) {
        self.raw(key, &value.to_string());
    }

    pub(crate) fn string(&mut self, key: &str, value: &str) {
        self.key(key);
        write_string(value, &mut self.text);
    }

    /// Closes the object.
    pub(crate) fn finish(mut self) -> String {
        self.text.push('}');
        self.text
    }

    /// Adds what every message ends with.
    pub(crate) fn end(mut self, timestamp: Option<u64>, client_token: Option<&str>) -> String {
        if let Some(timestamp) = timestamp {
            self.number("timestamp", timestamp);
        }
        if let Some(token) = client_token {
            self.string("clientToken", token);
        }
        self.finish()
    }
}
