//! The form of commands in the log.

use bincode::{BorrowDecode, Encode};
use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use crate::command::{
    BatchItem, COMMANDS_PER_ENTRY_MAX, Command, Delete, DeviceEntry, Draft, Entry, Kind, RULES,
    TrimFeed, Update,
};
use crate::conditions::{Conditions, Expected, PathCondition, PathTest};
use crate::id::{DeviceId, DeviceKey, RequestId, ShadowName, Tenant, Time};
use crate::limits::Limits;
use crate::patch::Section;
use crate::pointer::Pointer;

use super::patch::PatchV1;
use super::{CODEC, DecodeError, Tag, malformed};

#[derive(Encode, BorrowDecode)]
enum EntryV1<'a> {
    Device(DeviceEntryV1<'a>),
    TrimFeed { upto_index: u64 },
}

#[derive(Encode, BorrowDecode)]
struct DeviceEntryV1<'a> {
    rules: u16,
    tenant: &'a str,
    device: &'a str,
    commands: Vec<CommandV1<'a>>,
}

/// How an entry begins. Entries of later rules may hold what cannot be read here, but they begin with the same
/// tag and shape, for ever: the number of their rules can always be read.
#[derive(BorrowDecode)]
enum EntryHeadV1 {
    Device { rules: u16 },
    TrimFeed,
}

#[derive(Encode, BorrowDecode)]
struct CommandV1<'a> {
    time: u64,
    actor: &'a str,
    request_id: Option<&'a str>,
    issued: Option<u64>,
    client_token: Option<&'a str>,
    limits: LimitsV1,
    kind: KindV1<'a>,
}

#[derive(Encode, BorrowDecode)]
struct LimitsV1 {
    document_bytes_max: u32,
    depth_max: u32,
    shadows_per_device_max: u32,
    shadow_names_per_device_max: u32,
    client_token_bytes_max: u32,
    key_bytes_max: u32,
    batch_items_max: u32,
    path_conditions_max: u32,
}

#[derive(Encode, BorrowDecode)]
enum KindV1<'a> {
    Update(UpdateV1<'a>),
    Delete(DeleteV1<'a>),
    Batch(Vec<BatchItemV1<'a>>),
}

#[derive(Encode, BorrowDecode)]
enum BatchItemV1<'a> {
    Update(UpdateV1<'a>),
    Delete(DeleteV1<'a>),
}

#[derive(Encode, BorrowDecode)]
struct UpdateV1<'a> {
    shadow: &'a str,
    patch: PatchV1<'a>,
    conditions: ConditionsV1<'a>,
}

#[derive(Encode, BorrowDecode)]
struct DeleteV1<'a> {
    shadow: &'a str,
    conditions: ConditionsV1<'a>,
}

#[derive(Encode, BorrowDecode)]
struct ConditionsV1<'a> {
    expected_version: Option<u64>,
    proposed_version_greater: Option<u64>,
    expected_desired_version: Option<u64>,
    expected_reported_version: Option<u64>,
    paths: Vec<PathConditionV1<'a>>,
}

#[derive(Encode, BorrowDecode)]
struct PathConditionV1<'a> {
    section: SectionV1,
    path: &'a [u8],
    test: PathTestV1<'a>,
}

#[derive(Encode, BorrowDecode)]
enum PathTestV1<'a> {
    Exists,
    Absent,
    Equals(&'a [u8]),
    LeafVersion(u64),
}

#[derive(Debug, Clone, Copy, Encode, BorrowDecode)]
pub(super) enum SectionV1 {
    Desired,
    Reported,
}

impl From<Section> for SectionV1 {
    fn from(section: Section) -> Self {
        match section {
            Section::Desired => SectionV1::Desired,
            Section::Reported => SectionV1::Reported,
        }
    }
}

impl From<SectionV1> for Section {
    fn from(section: SectionV1) -> Self {
        match section {
            SectionV1::Desired => Section::Desired,
            SectionV1::Reported => Section::Reported,
        }
    }
}

pub(crate) fn encode_entry(entry: &Entry) -> Bytes {
    let shape = match entry {
        Entry::Device(entry) => EntryV1::Device(DeviceEntryV1 {
            rules: entry.rules,
            tenant: entry.device.tenant.as_str(),
            device: entry.device.device.as_str(),
            commands: entry.commands.iter().map(CommandV1::from).collect(),
        }),
        Entry::TrimFeed(trim) => EntryV1::TrimFeed {
            upto_index: trim.upto_index,
        },
    };
    Bytes::from(super::encode(Tag::EntryV1, &shape, 512))
}

pub(crate) fn decode_entry(bytes: &[u8]) -> Result<Entry, DecodeError> {
    let (head, _) = super::decode_prefix(Tag::EntryV1, bytes)?;
    if let EntryHeadV1::Device { rules } = head
        && rules > RULES
    {
        return Err(DecodeError::LaterRules { rules });
    }
    let entry = match super::decode(Tag::EntryV1, bytes)? {
        EntryV1::TrimFeed { upto_index } => return Ok(Entry::TrimFeed(TrimFeed { upto_index })),
        EntryV1::Device(entry) => entry,
    };
    if entry.commands.len() > COMMANDS_PER_ENTRY_MAX {
        return Err(DecodeError::Malformed);
    }
    Ok(Entry::Device(DeviceEntry {
        rules: entry.rules,
        device: DeviceKey {
            tenant: Tenant::parse(entry.tenant).map_err(malformed)?,
            device: DeviceId::parse(entry.device).map_err(malformed)?,
        },
        commands: entry
            .commands
            .into_iter()
            .map(command)
            .collect::<Result<_, _>>()?,
    }))
}

/// A hash of what a command does, without who asks, when, and under which limits: what makes a
/// retry the same command.
pub(crate) fn command_hash(kind: &Kind) -> u128 {
    let mut bytes = Vec::with_capacity(512);
    bincode::encode_into_std_write(KindV1::from(kind), &mut bytes, CODEC)
        .expect("writing to memory cannot fail, and the shapes have no failing parts");
    xxh3_128(&bytes)
}

impl<'a> From<&'a Command> for CommandV1<'a> {
    fn from(command: &'a Command) -> Self {
        let draft = &command.draft;
        CommandV1 {
            time: command.time.0,
            actor: &draft.actor,
            request_id: draft.request_id.as_ref().map(RequestId::as_str),
            issued: draft.issued.map(|time| time.0),
            client_token: draft.client_token.as_deref(),
            limits: LimitsV1::from(&draft.limits),
            kind: KindV1::from(&draft.kind),
        }
    }
}

fn command(shape: CommandV1<'_>) -> Result<Command, DecodeError> {
    Ok(Command {
        time: Time(shape.time),
        draft: Draft {
            actor: shape.actor.to_owned(),
            request_id: shape
                .request_id
                .map(RequestId::parse)
                .transpose()
                .map_err(malformed)?,
            issued: shape.issued.map(Time),
            client_token: shape.client_token.map(str::to_owned),
            limits: Limits::from(shape.limits),
            kind: kind(shape.kind)?,
        },
    })
}

impl From<&Limits> for LimitsV1 {
    fn from(limits: &Limits) -> Self {
        LimitsV1 {
            document_bytes_max: limits.document_bytes_max,
            depth_max: limits.depth_max,
            shadows_per_device_max: limits.shadows_per_device_max,
            shadow_names_per_device_max: limits.shadow_names_per_device_max,
            client_token_bytes_max: limits.client_token_bytes_max,
            key_bytes_max: limits.key_bytes_max,
            batch_items_max: limits.batch_items_max,
            path_conditions_max: limits.path_conditions_max,
        }
    }
}

impl From<LimitsV1> for Limits {
    fn from(shape: LimitsV1) -> Self {
        Limits {
            document_bytes_max: shape.document_bytes_max,
            depth_max: shape.depth_max,
            shadows_per_device_max: shape.shadows_per_device_max,
            shadow_names_per_device_max: shape.shadow_names_per_device_max,
            client_token_bytes_max: shape.client_token_bytes_max,
            key_bytes_max: shape.key_bytes_max,
            batch_items_max: shape.batch_items_max,
            path_conditions_max: shape.path_conditions_max,
        }
    }
}

impl<'a> From<&'a Kind> for KindV1<'a> {
    fn from(kind: &'a Kind) -> Self {
        match kind {
            Kind::Update(update) => KindV1::Update(update.into()),
            Kind::Delete(delete) => KindV1::Delete(delete.into()),
            Kind::Batch(items) => KindV1::Batch(
                items
                    .iter()
                    .map(|item| match item {
                        BatchItem::Update(update) => BatchItemV1::Update(update.into()),
                        BatchItem::Delete(delete) => BatchItemV1::Delete(delete.into()),
                    })
                    .collect(),
            ),
        }
    }
}

impl<'a> From<&'a Update> for UpdateV1<'a> {
    fn from(update: &'a Update) -> Self {
        UpdateV1 {
            shadow: update.shadow.as_str(),
            patch: PatchV1::from(&update.patch),
            conditions: ConditionsV1::from(&update.conditions),
        }
    }
}

impl<'a> From<&'a Delete> for DeleteV1<'a> {
    fn from(delete: &'a Delete) -> Self {
        DeleteV1 {
            shadow: delete.shadow.as_str(),
            conditions: ConditionsV1::from(&delete.conditions),
        }
    }
}

impl<'a> From<&'a Conditions> for ConditionsV1<'a> {
    fn from(conditions: &'a Conditions) -> Self {
        let paths = conditions.paths.iter().map(|condition| PathConditionV1 {
            section: condition.section.into(),
            path: condition.pointer.path(),
            test: match &condition.test {
                PathTest::Exists => PathTestV1::Exists,
                PathTest::Absent => PathTestV1::Absent,
                PathTest::Equals(expected) => PathTestV1::Equals(&expected.0),
                PathTest::LeafVersion(version) => PathTestV1::LeafVersion(*version),
            },
        });
        ConditionsV1 {
            expected_version: conditions.expected_version,
            proposed_version_greater: conditions.proposed_version_greater,
            expected_desired_version: conditions.expected_desired_version,
            expected_reported_version: conditions.expected_reported_version,
            paths: paths.collect(),
        }
    }
}

fn kind(shape: KindV1<'_>) -> Result<Kind, DecodeError> {
    Ok(match shape {
        KindV1::Update(shape) => Kind::Update(update(shape)?),
        KindV1::Delete(shape) => Kind::Delete(delete(shape)?),
        KindV1::Batch(items) => Kind::Batch(
            items
                .into_iter()
                .map(|item| match item {
                    BatchItemV1::Update(shape) => update(shape).map(BatchItem::Update),
                    BatchItemV1::Delete(shape) => delete(shape).map(BatchItem::Delete),
                })
                .collect::<Result<_, _>>()?,
        ),
    })
}

fn update(shape: UpdateV1<'_>) -> Result<Update, DecodeError> {
    Ok(Update {
        shadow: ShadowName::parse(shape.shadow).map_err(malformed)?,
        patch: shape.patch.to_patch(),
        conditions: conditions(shape.conditions)?,
    })
}

fn delete(shape: DeleteV1<'_>) -> Result<Delete, DecodeError> {
    Ok(Delete {
        shadow: ShadowName::parse(shape.shadow).map_err(malformed)?,
        conditions: conditions(shape.conditions)?,
    })
}

fn conditions(shape: ConditionsV1<'_>) -> Result<Conditions, DecodeError> {
    let paths = shape.paths.into_iter().map(|condition| {
        Ok(PathCondition {
            section: condition.section.into(),
            pointer: Pointer::from_path(condition.path).ok_or(DecodeError::Malformed)?,
            test: match condition.test {
                PathTestV1::Exists => PathTest::Exists,
                PathTestV1::Absent => PathTest::Absent,
                PathTestV1::Equals(leaves) => {
                    PathTest::Equals(Expected(Bytes::copy_from_slice(leaves)))
                }
                PathTestV1::LeafVersion(version) => PathTest::LeafVersion(version),
            },
        })
    });
    Ok(Conditions {
        expected_version: shape.expected_version,
        proposed_version_greater: shape.proposed_version_greater,
        expected_desired_version: shape.expected_desired_version,
        expected_reported_version: shape.expected_reported_version,
        paths: paths.collect::<Result<_, DecodeError>>()?,
    })
}
