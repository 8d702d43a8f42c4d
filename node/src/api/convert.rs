//! Between `antumbra.v1` messages and the domain: free functions, and the only place that does it.
//!
//! A wrong request is refused here with the path of the field that is wrong. Message types never
//! leave this door, and domain types never reach the wire but through here.

mod response;

use antumbra_proto::v1;
use antumbra_shadow::json::{self, DuplicateKeys, JsonError, Value};
use antumbra_shadow::{
    Conditions, DeviceId, DeviceKey, IdError, Limits, Patch, PathCondition, PathTest, Pointer,
    RequestId, Section, SectionInput, ShadowName, Tenant, Time, Update,
};
use prost_types::Timestamp;

use crate::error::Error;
use crate::shadows::{Caller, CommandHeader, Consistency, ReadOptions};

pub(super) use response::{
    deleted, get_result, got, shadow_key, timestamp, update_result, updated, whole,
};

/// Most JSON Pointers of one read.
const PATHS_MAX: usize = 100;

/// The document that a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) device: DeviceKey,
    pub(super) shadow: ShadowName,
}

/// A change as the use cases take it.
#[derive(Debug, Clone)]
pub(super) struct Change<T> {
    pub(super) device: DeviceKey,
    pub(super) header: CommandHeader,
    pub(super) what: T,
}

/// A read as the use cases take it, and what of the document the caller wants.
#[derive(Debug, Clone)]
pub(super) struct Get {
    pub(super) key: Key,
    pub(super) options: ReadOptions,
    paths: Vec<Pointer>,
    include: v1::Include,
}

/// Reads the tenant of a request: the caller's own when it is empty.
pub(super) fn tenant(text: &str, caller: &Caller, field: &'static str) -> Result<Tenant, Error> {
    if text.is_empty() {
        return Ok(caller.tenant.clone().unwrap_or_default());
    }
    Tenant::parse(text).map_err(|error| bad_id(field, error))
}

/// Reads a device id.
pub(super) fn device_id(text: &str, field: &'static str) -> Result<DeviceId, Error> {
    DeviceId::parse(text).map_err(|error| bad_id(field, error))
}

/// Reads what device ids start with; empty for all of them.
pub(super) fn prefix(text: &str) -> Result<&str, Error> {
    match text.is_empty() {
        true => Ok(text),
        false => device_id(text, "device_id_prefix").map(|_| text),
    }
}

fn key(key: Option<v1::ShadowKey>, caller: &Caller) -> Result<Key, Error> {
    let key = key.ok_or_else(|| Error::invalid("key", "must be given"))?;
    let tenant = tenant(&key.tenant, caller, "key.tenant")?;
    let device = device_id(&key.device_id, "key.device_id")?;
    let shadow =
        ShadowName::parse(&key.shadow_name).map_err(|error| bad_id("key.shadow_name", error))?;
    Ok(Key {
        device: DeviceKey { tenant, device },
        shadow,
    })
}

/// Reads only the device of a key.
pub(super) fn device(wire: Option<&v1::ShadowKey>, caller: &Caller) -> Result<DeviceKey, Error> {
    let wire = wire.map(|wire| v1::ShadowKey {
        shadow_name: String::new(),
        ..wire.clone()
    });
    Ok(key(wire, caller)?.device)
}

/// The header of a change that says nothing about itself.
pub(super) fn no_header(limits: &Limits) -> CommandHeader {
    CommandHeader {
        request_id: None,
        issued: None,
        client_token: None,
        limits: *limits,
    }
}

/// Reads a `GetShadowRequest`.
pub(super) fn get(request: v1::GetShadowRequest, caller: &Caller) -> Result<Get, Error> {
    let consistency = match v1::Consistency::try_from(request.consistency) {
        Ok(v1::Consistency::Unspecified | v1::Consistency::Linearizable) => {
            Consistency::Linearizable
        }
        Ok(v1::Consistency::Local) => Consistency::Local,
        Err(_) => return Err(Error::invalid("consistency", "is not a known value")),
    };
    if request.paths.len() > PATHS_MAX {
        return Err(Error::invalid(
            "paths",
            format!("at most {PATHS_MAX} are allowed"),
        ));
    }
    let paths = request.paths.iter().enumerate().map(|(nth, text)| {
        Pointer::parse(text)
            .map_err(|error| Error::invalid(format!("paths[{nth}]"), error.to_string()))
    });
    Ok(Get {
        key: key(request.key, caller)?,
        options: ReadOptions {
            consistency,
            min_version: request.min_version,
        },
        paths: paths.collect::<Result<_, _>>()?,
        include: include(request.include),
    })
}

/// Nothing chosen means the state.
fn include(include: Option<v1::Include>) -> v1::Include {
    let include = include.unwrap_or_default();
    match include {
        v1::Include {
            state: false,
            delta: false,
            metadata: false,
        } => v1::Include {
            state: true,
            ..include
        },
        chosen => chosen,
    }
}

/// Reads an `UpdateShadowRequest`.
pub(super) fn update(
    request: v1::UpdateShadowRequest,
    caller: &Caller,
    limits: &Limits,
) -> Result<Change<Update>, Error> {
    let Key { device, shadow } = key(request.key, caller)?;
    let header = header(
        request.request_id,
        request.client_token,
        request.issued,
        limits,
    )?;
    let (desired, reported) = (request.desired_json, request.reported_json);
    let patch = patch(desired.as_deref(), reported.as_deref(), limits)?;
    let conditions = conditions(request.conditions, limits)?;
    Ok(Change {
        device,
        header,
        what: Update {
            shadow,
            patch,
            conditions,
        },
    })
}

/// Reads a `DeleteShadowRequest`.
pub(super) fn delete(
    request: v1::DeleteShadowRequest,
    caller: &Caller,
    limits: &Limits,
) -> Result<Change<antumbra_shadow::Delete>, Error> {
    let Key { device, shadow } = key(request.key, caller)?;
    let header = header(
        request.request_id,
        request.client_token,
        request.issued,
        limits,
    )?;
    let conditions = conditions(request.conditions, limits)?;
    Ok(Change {
        device,
        header,
        what: antumbra_shadow::Delete { shadow, conditions },
    })
}

fn header(
    request_id: String,
    client_token: String,
    issued: Option<Timestamp>,
    limits: &Limits,
) -> Result<CommandHeader, Error> {
    let request_id = match request_id.is_empty() {
        true => None,
        false => Some(RequestId::parse(&request_id).map_err(|error| bad_id("request_id", error))?),
    };
    let max = limits.client_token_bytes_max as usize;
    if client_token.len() > max {
        let reason = format!(
            "is {} bytes long; at most {max} are allowed",
            client_token.len()
        );
        return Err(Error::invalid("client_token", reason));
    }
    Ok(CommandHeader {
        request_id,
        issued: issued.map(time).transpose()?,
        client_token: Some(client_token).filter(|token| !token.is_empty()),
        limits: *limits,
    })
}

/// Reads the text of a section: an object, or `null`.
fn section(field: &'static str, text: Option<&str>) -> Result<Option<Value>, Error> {
    let Some(text) = text else { return Ok(None) };
    let value = value(field, text)?;
    if !value.is_object() && !value.is_null() {
        return Err(Error::InvalidJson {
            field: field.into(),
            reason: "must be a JSON object or null".into(),
        });
    }
    Ok(Some(value))
}

fn value(field: &str, text: &str) -> Result<Value, Error> {
    json::parse(
        text.as_bytes(),
        DuplicateKeys::Reject,
        json::NESTING_CEILING,
    )
    .map_err(|error| {
        let field = field.to_owned().into();
        match error {
            JsonError::TooDeep { max } => Error::TooDeep {
                field,
                max: max as u64,
            },
            other => Error::InvalidJson {
                field,
                reason: other.to_string().into(),
            },
        }
    })
}

/// Reads the texts of both sections, one of which must be given.
fn patch(desired: Option<&str>, reported: Option<&str>, limits: &Limits) -> Result<Patch, Error> {
    if desired.is_none() && reported.is_none() {
        let reason = "desired_json or reported_json must be given";
        return Err(Error::invalid("desired_json", reason));
    }
    // Most texts need no trees; where there is anything to say, they are needed to say it.
    if let Some(patch) = Patch::from_sorted(desired, reported, limits) {
        return Ok(patch);
    }
    let desired = section("desired_json", desired)?;
    let reported = section("reported_json", reported)?;
    patch_of_values(desired.as_ref(), reported.as_ref(), limits)
}

fn patch_of_values(
    desired: Option<&Value>,
    reported: Option<&Value>,
    limits: &Limits,
) -> Result<Patch, Error> {
    Patch::build(section_input(desired), section_input(reported), limits).map_err(|rejection| {
        // Which of the two was it?
        let alone = Patch::build(section_input(desired), SectionInput::Absent, limits);
        let field = if alone.is_err() {
            "desired_json"
        } else {
            "reported_json"
        };
        at_field(rejection.into(), field)
    })
}

/// Names the field of an error in the content of a document.
fn at_field(error: Error, name: &'static str) -> Error {
    match error {
        Error::InvalidNode { reason, .. } => Error::InvalidNode {
            field: name.into(),
            reason,
        },
        Error::TooDeep { max, .. } => Error::TooDeep {
            field: name.into(),
            max,
        },
        other => other,
    }
}

fn section_input(value: Option<&Value>) -> SectionInput<'_> {
    match value {
        None => SectionInput::Absent,
        Some(Value::Null) => SectionInput::Clear,
        Some(value) => SectionInput::Merge(value),
    }
}

fn conditions(conditions: Option<v1::Conditions>, limits: &Limits) -> Result<Conditions, Error> {
    let Some(conditions) = conditions else {
        return Ok(Conditions::default());
    };
    let max = limits.path_conditions_max as usize;
    if conditions.paths.len() > max {
        return Err(Error::invalid(
            "conditions.paths",
            format!("at most {max} are allowed"),
        ));
    }
    let paths = conditions.paths.into_iter().enumerate();
    Ok(Conditions {
        expected_version: conditions.expected_version,
        proposed_version_greater: conditions.proposed_version_greater,
        expected_desired_version: conditions.expected_desired_version,
        expected_reported_version: conditions.expected_reported_version,
        paths: paths
            .map(|(nth, condition)| path_condition(nth, condition, limits))
            .collect::<Result<_, _>>()?,
    })
}

fn path_condition(
    nth: usize,
    condition: v1::PathCondition,
    limits: &Limits,
) -> Result<PathCondition, Error> {
    let field = |name: &str| format!("conditions.paths[{nth}].{name}");
    let section = match v1::Section::try_from(condition.section) {
        Ok(v1::Section::Desired) => Section::Desired,
        Ok(v1::Section::Reported) => Section::Reported,
        _ => {
            return Err(Error::invalid(
                field("section"),
                "must be DESIRED or REPORTED",
            ));
        }
    };
    let pointer = Pointer::parse(&condition.pointer)
        .map_err(|error| Error::invalid(field("pointer"), error.to_string()))?;
    use v1::path_condition::Test;
    let test = match condition.test {
        Some(Test::Exists(true)) => PathTest::Exists,
        Some(Test::Exists(false)) => PathTest::Absent,
        Some(Test::EqualsJson(text)) => {
            let value = value(&field("equals_json"), &text)?;
            PathTest::equals(&value, limits)
                .map_err(|rejection| Error::invalid(field("equals_json"), rejection.to_string()))?
        }
        Some(Test::LeafVersion(_)) if section != Section::Desired => {
            return Err(Error::invalid(field("leaf_version"), "is for desired only"));
        }
        Some(Test::LeafVersion(version)) => PathTest::LeafVersion(version),
        None => return Err(Error::invalid(field("test"), "must be given")),
    };
    Ok(PathCondition {
        section,
        pointer,
        test,
    })
}

fn time(timestamp: Timestamp) -> Result<Time, Error> {
    let bad = || Error::invalid("issued", "is not a time after 1970");
    let seconds = u64::try_from(timestamp.seconds).map_err(|_| bad())?;
    let nanos = u64::try_from(timestamp.nanos).map_err(|_| bad())?;
    let millis = seconds
        .checked_mul(1000)
        .and_then(|ms| ms.checked_add(nanos / 1_000_000));
    millis.map(Time).ok_or_else(bad)
}

fn bad_id(field: &'static str, error: IdError) -> Error {
    Error::invalid(field, error.to_string())
}
