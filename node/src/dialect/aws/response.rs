//! Response documents: outcomes in, JSON text out.

use antumbra_shadow::json::write_string;
use antumbra_shadow::{Change, Document, Patch, Section, ShadowName, Time, TimeUnit};

use crate::dialect::Object;
use crate::error::Error;

/// What `update/accepted` says back of a request: made from the request itself, or from the change
/// that it became.
#[derive(Debug, Clone, Copy)]
pub struct Echo<'a> {
    /// What was merged.
    pub patch: &'a Patch,
    /// `state` itself was null.
    pub clears_state: bool,
    /// `clientToken` of the message.
    pub client_token: Option<&'a str>,
}

/// `update/accepted`: only what was sent, with its times.
pub fn accepted(request: Echo<'_>, version: u64, time: Time) -> String {
    let mut object = Object::new();
    if request.clears_state {
        object.raw("state", "null");
        object.raw("metadata", &format!("{{\"timestamp\":{}}}", seconds(time)));
    } else {
        let patch = request.patch;
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
    object.end(Some(seconds(time)), request.client_token)
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
    difference(&change.current, change.time, change.client_token.as_deref())
}

/// `update/delta` of a document as it is now, for a device that has not seen the change itself.
/// Nothing when the sections agree.
pub fn difference(document: &Document, time: Time, client_token: Option<&str>) -> Option<String> {
    let state = document.delta_json(&[])?;
    let mut object = Object::new();
    object.number("version", document.version());
    object.number("timestamp", seconds(time));
    object.raw("state", &state);
    object.optional("metadata", document.delta_metadata_json(TimeUnit::Seconds));
    Some(object.end(None, client_token))
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
