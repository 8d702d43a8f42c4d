//! Shadows and changes as output: JSON values for programs, lines for people.

use antumbra_proto::v1::{Change, Shadow, ShadowKey};
use antumbra_shadow::json::Value;
use prost_types::Timestamp;

use crate::cli::output::{from_json, number, object, pairs, pretty, string};

/// A shadow as a JSON value. Sections that are empty are null; parts that were not asked for are
/// left out.
pub(crate) fn shadow_value(shadow: &Shadow, cursor: &str) -> Value {
    let key = shadow.key.clone().unwrap_or_default();
    let mut members = vec![
        ("device", string(key.device_id)),
        ("shadow", string(key.shadow_name)),
        ("version", number(shadow.version)),
        ("desired_version", number(shadow.desired_version)),
        ("reported_version", number(shadow.reported_version)),
        ("created", time_value(shadow.created)),
        ("updated", time_value(shadow.updated)),
        ("desired", from_json(&shadow.desired_json)),
        ("reported", from_json(&shadow.reported_json)),
    ];
    for (name, text) in [
        ("delta", &shadow.delta_json),
        ("metadata", &shadow.metadata_json),
    ] {
        if !text.is_empty() {
            members.push((name, from_json(text)));
        }
    }
    if !cursor.is_empty() {
        members.push(("cursor", string(cursor)));
    }
    object(members)
}

/// A shadow for people.
pub(crate) fn shadow_text(shadow: &Shadow) -> String {
    let key = shadow.key.clone().unwrap_or_default();
    let mut rows = vec![
        ("device", key.device_id),
        ("shadow", shadow_name(&key.shadow_name)),
        ("version", shadow.version.to_string()),
        ("updated", time_text(shadow.updated)),
        ("desired", section_text(&shadow.desired_json)),
        ("reported", section_text(&shadow.reported_json)),
    ];
    for (name, text) in [
        ("delta", &shadow.delta_json),
        ("metadata", &shadow.metadata_json),
    ] {
        if !text.is_empty() {
            rows.push((name, section_text(text)));
        }
    }
    pairs(rows)
}

/// A change as a JSON value.
pub(crate) fn change_value(change: &Change) -> Value {
    let key = change.key.clone().unwrap_or_default();
    let patch = |text: &Option<String>| text.as_deref().map_or(Value::Null, from_json);
    object([
        ("device", string(key.device_id)),
        ("shadow", string(key.shadow_name)),
        ("version", number(change.version)),
        ("time", time_value(change.time)),
        ("actor", string(change.actor.clone())),
        ("client_token", string(change.client_token.clone())),
        ("deleted", Value::Bool(change.deleted)),
        ("cleared", cleared(change)),
        ("desired", patch(&change.desired_patch_json)),
        ("reported", patch(&change.reported_patch_json)),
    ])
}

/// A change as one line.
pub(crate) fn change_line(change: &Change) -> String {
    let mut line = format!(
        "{} {} v{}",
        time_text(change.time),
        place(change.key.as_ref()),
        change.version
    );
    if change.deleted {
        line.push_str(" deleted");
    }
    let patches = [
        ("desired", &change.desired_patch_json),
        ("reported", &change.reported_patch_json),
    ];
    for (name, patch) in patches {
        if let Some(patch) = patch {
            line.push_str(&format!(" {name} {patch}"));
        }
    }
    line
}

/// A document of a watch as one line.
pub(crate) fn document_line(shadow: &Shadow) -> String {
    let mut line = format!(
        "{} {} v{} is",
        time_text(shadow.updated),
        place(shadow.key.as_ref()),
        shadow.version
    );
    for (name, text) in [
        ("desired", &shadow.desired_json),
        ("reported", &shadow.reported_json),
    ] {
        if !text.is_empty() {
            line.push_str(&format!(" {name} {text}"));
        }
    }
    line
}

/// RFC 3339, or a dash.
pub(crate) fn time_text(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| time.to_string())
}

/// RFC 3339, or null.
pub(crate) fn time_value(time: Option<Timestamp>) -> Value {
    time.map_or(Value::Null, |time| string(time.to_string()))
}

/// The classic shadow has no name.
pub(crate) fn shadow_name(name: &str) -> String {
    if name.is_empty() {
        "(classic)".to_owned()
    } else {
        name.to_owned()
    }
}

/// Names of the sections that the change cleared: a null patch says so, and an absent one is
/// printed as null too.
fn cleared(change: &Change) -> Value {
    let patches = [
        ("desired", &change.desired_patch_json),
        ("reported", &change.reported_patch_json),
    ];
    let cleared = patches
        .into_iter()
        .filter(|(_, patch)| patch.as_deref() == Some("null"));
    Value::Array(cleared.map(|(name, _)| string(name)).collect())
}

fn place(key: Option<&ShadowKey>) -> String {
    match key {
        Some(key) if key.shadow_name.is_empty() => key.device_id.clone(),
        Some(key) => format!("{}/{}", key.device_id, key.shadow_name),
        None => "-".to_owned(),
    }
}

fn section_text(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        pretty(&from_json(text))
    }
}
