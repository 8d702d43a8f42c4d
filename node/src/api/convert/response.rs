//! Outcomes and documents as replies.

use std::collections::HashMap;

use antumbra_proto::v1;
use antumbra_shadow::{
    AcceptedItem, DeviceKey, Document, Pointer, Section, ShadowName, Time, TimeUnit,
};
use prost_types::Timestamp;

use super::{Get, include};
use crate::error::Error;

/// The reply of a read.
pub(in crate::api) fn got(get: &Get, document: &Document, cursor: String) -> v1::GetShadowResponse {
    let shadow = shadow(
        &get.key.device,
        &get.key.shadow,
        document,
        &get.paths,
        get.include,
    );
    v1::GetShadowResponse {
        shadow: Some(shadow),
        cursor,
    }
}

/// A whole document, as watches send it.
pub(in crate::api) fn whole(
    device: &DeviceKey,
    shadow_name: &ShadowName,
    document: &Document,
) -> v1::Shadow {
    shadow(device, shadow_name, document, &[], include(None))
}

fn shadow(
    device: &DeviceKey,
    shadow_name: &ShadowName,
    document: &Document,
    paths: &[Pointer],
    include: v1::Include,
) -> v1::Shadow {
    let state = |section| match include.state {
        true => document.state_json(section, paths).unwrap_or_default(),
        false => String::new(),
    };
    let delta = include.delta.then(|| document.delta_json(paths)).flatten();
    v1::Shadow {
        key: Some(shadow_key(device, shadow_name)),
        version: document.version(),
        desired_json: state(Section::Desired),
        reported_json: state(Section::Reported),
        delta_json: delta.unwrap_or_default(),
        metadata_json: if include.metadata {
            metadata(document, paths)
        } else {
            String::new()
        },
        created: Some(timestamp(document.created())),
        updated: Some(timestamp(document.updated())),
        desired_version: document.section_version(Section::Desired),
        reported_version: document.section_version(Section::Reported),
    }
}

fn metadata(document: &Document, paths: &[Pointer]) -> String {
    let sections = Section::ALL.into_iter().filter_map(|section| {
        let json = document.metadata_json(section, paths, TimeUnit::Milliseconds)?;
        Some(format!("\"{section}\":{json}"))
    });
    format!("{{{}}}", sections.collect::<Vec<_>>().join(","))
}

/// The wire form of a key.
pub(in crate::api) fn shadow_key(device: &DeviceKey, shadow: &ShadowName) -> v1::ShadowKey {
    v1::ShadowKey {
        tenant: device.tenant.to_string(),
        device_id: device.device.to_string(),
        shadow_name: shadow.to_string(),
    }
}

/// The reply of an accepted update.
pub(in crate::api) fn updated(item: &AcceptedItem, cursor: String) -> v1::UpdateShadowResponse {
    v1::UpdateShadowResponse {
        version: item.version,
        time: Some(timestamp(item.time)),
        cursor,
    }
}

/// The reply of an accepted delete.
pub(in crate::api) fn deleted(item: &AcceptedItem, cursor: String) -> v1::DeleteShadowResponse {
    v1::DeleteShadowResponse {
        version: item.version,
        time: Some(timestamp(item.time)),
        cursor,
    }
}

/// The status of one item of a batch of updates. `failed_item` is the item that is to blame, when
/// it is another one of the same device.
pub(in crate::api) fn update_result(
    result: Result<v1::UpdateShadowResponse, Error>,
    failed_item: Option<usize>,
) -> v1::BatchUpdateResult {
    match result {
        Ok(response) => v1::BatchUpdateResult {
            response: Some(response),
            ..Default::default()
        },
        Err(error) => {
            let Failed {
                code,
                message,
                reason,
                metadata,
            } = failed(&error, failed_item);
            v1::BatchUpdateResult {
                code,
                message,
                reason,
                metadata,
                response: None,
            }
        }
    }
}

/// The status of one item of a batch of reads.
pub(in crate::api) fn get_result(
    result: Result<v1::GetShadowResponse, Error>,
) -> v1::BatchGetResult {
    match result {
        Ok(response) => v1::BatchGetResult {
            response: Some(response),
            ..Default::default()
        },
        Err(error) => {
            let Failed {
                code,
                message,
                reason,
                metadata,
            } = failed(&error, None);
            v1::BatchGetResult {
                code,
                message,
                reason,
                metadata,
                response: None,
            }
        }
    }
}

struct Failed {
    code: i32,
    message: String,
    reason: String,
    metadata: HashMap<String, String>,
}

fn failed(error: &Error, failed_item: Option<usize>) -> Failed {
    let mut metadata = error.metadata();
    let mut message = error.to_string();
    if let Some(item) = failed_item {
        metadata.insert("failed_item".to_owned(), item.to_string());
        message = format!("item {item} of the same device was refused: {message}");
    }
    let row = error.row();
    Failed {
        code: row.grpc as i32,
        message,
        reason: row.name.to_owned(),
        metadata,
    }
}

/// The wire form of a time, exact to the millisecond.
pub(in crate::api) fn timestamp(time: Time) -> Timestamp {
    Timestamp {
        seconds: i64::try_from(time.0 / 1000).unwrap_or(i64::MAX),
        nanos: (time.0 % 1000) as i32 * 1_000_000,
    }
}
