//! Response documents: outcomes in, JSON text out.

use antumbra_shadow::json::write_string;
use antumbra_shadow::{Change, Document, Section, ShadowName, Time, TimeUnit};

use super::request::UpdateRequest;
use crate::error::Error;

/// `update/accepted`: only what was sent, with its times.
pub fn accepted(request: &UpdateRequest, version: u64, time: Time) -> String {
    let mut object = Object::new();
    if request.clears_state {
        object.raw("state", "null");
        object.raw("metadata", &format!("{{\"timestamp\":{}}}", seconds(time)));
    } else {
        let patch = &request.patch;
        let sections = |text: &dyn Fn(Section) -> Option<String>| {
            let mut object = Object::new();
            object.optional("desired", text(Section::Desired));
            object.optional("reported", text(Section::Reported));
            object.finish()
        };
        object.raw("state", &sections(&|section| patch.section_json(section)));
        object.raw(
            "metadata",
            &sections(&|section| patch.metadata_json(section, time, TimeUnit::Seconds)),
        );
    }
    object.number("version", version);
    object.end(Some(seconds(time)), request.client_token.as_deref())
}

/// `get/accepted`: the whole document, with `delta` when there is one.
pub fn document(document: &Document, now: Time, client_token: Option<&str>) -> String {
    let mut object = Object::new();
    object.raw("state", &state(document, document.delta_json(&[])));
    object.raw("metadata", &metadata(document));
    object.number("version", document.version());
    object.end(Some(seconds(now)), client_token)
}

/// `delete/accepted`. `tombstone_version` is the version of the delete; the dialect prints that
/// of the document that was deleted, one less.
pub fn deleted(tombstone_version: u64, time: Time, client_token: Option<&str>) -> String {
    let mut object = Object::new();
    object.number("version", tombstone_version.saturating_sub(1));
    object.end(Some(seconds(time)), client_token)
}

/// `update/delta`: what desired has and reported lacks; nothing when they agree.
pub fn delta(change: &Change) -> Option<String> {
    if change.deleted {
        return None;
    }
    let current = &change.current;
    let state = current.delta_json(&[])?;
    let mut object = Object::new();
    object.number("version", change.version);
    object.number("timestamp", seconds(change.time));
    object.raw("state", &state);
    object.optional("metadata", current.delta_metadata_json(TimeUnit::Seconds));
    Some(object.end(None, change.client_token.as_deref()))
}

/// `update/documents`: the document before and after. `previous` is absent when the change
/// created the shadow. Nothing for a delete.
pub fn documents(change: &Change) -> Option<String> {
    if change.deleted {
        return None;
    }
    let whole = |document: &Document| {
        let mut object = Object::new();
        object.raw("state", &state(document, None));
        object.raw("metadata", &metadata(document));
        object.number("version", document.version());
        object.finish()
    };
    let mut object = Object::new();
    let previous = change
        .previous
        .as_ref()
        .filter(|document| !document.is_deleted());
    object.optional("previous", previous.map(whole));
    object.raw("current", &whole(&change.current));
    Some(object.end(Some(seconds(change.time)), change.client_token.as_deref()))
}

/// An error message on a topic. A missing shadow and a version conflict carry no time.
pub fn rejected(error: &Error, shadow: &str, now: Time, client_token: Option<&str>) -> String {
    let row = error.row();
    let mut object = Object::new();
    object.number("code", u64::from(row.http));
    object.string("message", &error.aws_message(shadow));
    let timed = !matches!(error, Error::NotFound | Error::VersionConflict { .. });
    object.end(timed.then(|| seconds(now)), client_token)
}

/// Reply of `ListNamedShadowsForThing`.
pub fn named_shadows(names: &[ShadowName], next_token: Option<&str>, now: Time) -> String {
    let mut results = String::from("[");
    for (nth, name) in names.iter().enumerate() {
        if nth > 0 {
            results.push(',');
        }
        write_string(name.as_str(), &mut results);
    }
    results.push(']');
    let mut object = Object::new();
    object.raw("results", &results);
    if let Some(token) = next_token {
        object.string("nextToken", token);
    }
    object.end(Some(seconds(now)), None)
}

/// What the service calls a shadow in the text of a missing one. The developer guide shows the
/// bare shadow name for named shadows; live replies show `thing~shadow`, which is what we send.
pub fn shadow_label(thing: &str, shadow: &str) -> String {
    if shadow.is_empty() {
        thing.to_owned()
    } else {
        format!("{thing}~{shadow}")
    }
}

fn state(document: &Document, delta: Option<String>) -> String {
    let mut object = Object::new();
    object.optional("desired", document.state_json(Section::Desired, &[]));
    object.optional("reported", document.state_json(Section::Reported, &[]));
    object.optional("delta", delta);
    object.finish()
}

fn metadata(document: &Document) -> String {
    let text = |section| document.metadata_json(section, &[], TimeUnit::Seconds);
    let mut object = Object::new();
    object.optional("desired", text(Section::Desired));
    object.optional("reported", text(Section::Reported));
    object.finish()
}

fn seconds(time: Time) -> u64 {
    time.0 / 1000
}

/// A JSON object under construction.
struct Object {
    text: String,
}

impl Object {
    fn new() -> Object {
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
    fn raw(&mut self, key: &str, json: &str) {
        self.key(key);
        self.text.push_str(json);
    }

    fn optional(&mut self, key: &str, json: Option<String>) {
        if let Some(json) = json {
            self.raw(key, &json);
        }
    }

    fn number(&mut self, key: &str, value: u64) {
        self.raw(key, &value.to_string());
    }

    fn string(&mut self, key: &str, value: &str) {
        self.key(key);
        write_string(value, &mut self.text);
    }

    fn finish(mut self) -> String {
        self.text.push('}');
        self.text
    }

    /// Adds what every message ends with.
    fn end(mut self, timestamp: Option<u64>, client_token: Option<&str>) -> String {
        if let Some(timestamp) = timestamp {
            self.number("timestamp", timestamp);
        }
        if let Some(token) = client_token {
            self.string("clientToken", token);
        }
        self.finish()
    }
}
