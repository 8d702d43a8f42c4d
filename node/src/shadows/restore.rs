//! Rows of a snapshot go through the log of a shard: the command, and what applying it gives.
//!
//! A device that is not there is written as it was. One that is there with the same bytes stays, so that a
//! restore that broke off can be repeated; one that is there with others is a conflict, and then
//! nothing of the command is written. Records of the nodes ([`OWN_TENANT_PREFIX`]) that are there stay
//! whatever they are. Apply is total: rows that this shard cannot have are refused.

use std::collections::BTreeMap;

use antumbra_raft::{Error, HashRange, WriteTx};
use antumbra_shadow::{DeviceKey, RowKey, detach};
use bytes::Bytes;

use crate::snapshot::Row;

use super::caller::OWN_TENANT_PREFIX;
use super::dump::device_of;
use super::forward::{Reader, Writer};
use super::keys;

/// First byte of the command; part of the log's format, no other command of a shard starts with it.
const TAG_RESTORE_V1: u8 = 0x76;

/// First byte of the reply.
const TAG_RESTORED_V1: u8 = 0x7e;

/// Bytes of rows in one command. Part of the rules of apply: never changes. A command must fit into the
/// log, and into a message between nodes.
pub(super) const ROWS_BYTES_MAX: usize = 3 << 20;

/// Rows in one command. Part of the rules of apply: never changes.
pub(super) const ROWS_MAX: usize = 64 * 1024;

/// What became of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Restored {
    /// They are there now.
    pub(crate) written: u64,
    /// They were there before, with the same bytes.
    pub(crate) present: u64,
    /// Records of the nodes that were there before and were left as they are.
    pub(crate) left: u64,
}

impl std::ops::AddAssign for Restored {
    fn add_assign(&mut self, other: Restored) {
        self.written += other.written;
        self.present += other.present;
        self.left += other.left;
    }
}

/// What applying the command gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Applied {
    Restored(Restored),
    /// This device is there and is not the same. Nothing was written.
    Conflict(DeviceKey),
    /// The command is none that a shard can carry out. Nothing was written.
    Refused(Refusal),
}

/// Why rows are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[repr(u8)]
pub(super) enum Refusal {
    #[error("the command cannot be read")]
    Undecodable = 0,
    #[error("too many rows in one command")]
    TooMuch = 1,
    #[error("a row is none that a shard would have written")]
    NoRow = 2,
    #[error("a row belongs to another shard")]
    OtherShard = 3,
    #[error("a row of a device comes before its counters")]
    NoDevice = 4,
}

impl Refusal {
    const ALL: [Refusal; 5] = [
        Refusal::Undecodable,
        Refusal::TooMuch,
        Refusal::NoRow,
        Refusal::OtherShard,
        Refusal::NoDevice,
    ];
}

/// The command that restores these rows.
pub(super) fn command<'a>(rows: impl ExactSizeIterator<Item = &'a Row> + Clone) -> Bytes {
    let bytes: usize = rows.clone().map(|row| row.bytes() + 8).sum();
    let mut writer = Writer::new(TAG_RESTORE_V1, 4 + bytes);
    writer.u32(rows.len() as u32);
    for row in rows {
        writer.bytes(&row.key);
        writer.bytes(&row.value);
    }
    writer.finish()
}

/// Whether it is such a command, readable or not.
pub(super) fn is_command(command: &[u8]) -> bool {
    command.first() == Some(&TAG_RESTORE_V1)
}

/// Carries the command out, whole or not at all.
pub(super) fn apply(
    tx: &mut WriteTx<'_>,
    range: HashRange,
    command: &[u8],
) -> Result<Applied, Error> {
    let devices = match read(command, range) {
        Ok(devices) => devices,
        Err(refusal) => return Ok(Applied::Refused(refusal)),
    };
    let mut restored = Restored::default();
    let mut writes = Vec::new();
    for (device, rows) in devices {
        let count = rows.len() as u64;
        match judge(tx, &device, rows)? {
            Verdict::Write(absent) => {
                restored.written += absent.len() as u64;
                restored.present += count - absent.len() as u64;
                writes.extend(absent);
            }
            Verdict::Differs if device.tenant.as_str().starts_with(OWN_TENANT_PREFIX) => {
                restored.left += count;
            }
            Verdict::Differs => return Ok(Applied::Conflict(device)),
            Verdict::Refuse(refusal) => return Ok(Applied::Refused(refusal)),
        }
    }
    for (key, value) in writes {
        tx.put(keys::row(&key), value);
    }
    Ok(Applied::Restored(restored))
}

/// The rows of each device.
type Devices = BTreeMap<DeviceKey, BTreeMap<RowKey, Bytes>>;

/// Reads the command and checks all that does not depend on what is there.
fn read(command: &[u8], range: HashRange) -> Result<Devices, Refusal> {
    if command.len() > ROWS_BYTES_MAX + 8 * ROWS_MAX {
        return Err(Refusal::TooMuch);
    }
    let rows = read_rows(Bytes::copy_from_slice(command)).ok_or(Refusal::Undecodable)?;
    if rows.iter().map(Row::bytes).sum::<usize>() > ROWS_BYTES_MAX {
        return Err(Refusal::TooMuch);
    }
    let mut devices = Devices::new();
    for Row { key, value } in rows {
        let key = keys::decode_row(&key).ok_or(Refusal::NoRow)?;
        let device = device_of(&key).clone();
        if !range.contains(device.hash()) {
            return Err(Refusal::OtherShard);
        }
        if detach(&key, &value).as_ref() != Ok(&value) {
            return Err(Refusal::NoRow);
        }
        // A row that comes twice must not be two things.
        if devices
            .entry(device)
            .or_default()
            .insert(key, value)
            .is_some()
        {
            return Err(Refusal::NoRow);
        }
    }
    Ok(devices)
}

fn read_rows(command: Bytes) -> Option<Vec<Row>> {
    let (tag, mut reader) = Reader::open(command)?;
    if tag != TAG_RESTORE_V1 {
        return None;
    }
    let rows = reader.list(ROWS_MAX, |reader| {
        Some(Row {
            key: reader.bytes()?,
            value: reader.bytes()?,
        })
    })?;
    reader.finish(rows)
}

/// What is to be done with the rows of one device.
enum Verdict {
    /// These are not there yet; all others are there and the same.
    Write(Vec<(RowKey, Bytes)>),
    /// The device that is there is another one.
    Differs,
    Refuse(Refusal),
}

/// Compares the rows of one device with what is there. With its counters begins what a snapshot has of a
/// device; without them the rows are the rest of a device that is too large for one command.
fn judge(
    tx: &mut WriteTx<'_>,
    device: &DeviceKey,
    rows: BTreeMap<RowKey, Bytes>,
) -> Result<Verdict, Error> {
    let head = RowKey::Device(device.clone());
    let (is_begin, is_known) = (
        rows.contains_key(&head),
        tx.get(&keys::row(&head))?.is_some(),
    );
    if !is_begin && !is_known {
        return Ok(Verdict::Refuse(Refusal::NoDevice));
    }
    let mut absent = Vec::new();
    for (key, value) in rows {
        match tx.get(&keys::row(&key))? {
            Some(found) if found == value => {}
            Some(_) => return Ok(Verdict::Differs),
            None => absent.push((key, value)),
        }
    }
    // A command is applied whole, so a device that it began has all of these rows.
    match is_begin && is_known && !absent.is_empty() {
        true => Ok(Verdict::Differs),
        false => Ok(Verdict::Write(absent)),
    }
}

impl Applied {
    /// Whether anything was written.
    pub(super) fn has_written(&self) -> bool {
        matches!(self, Applied::Restored(restored) if restored.written > 0)
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::new(TAG_RESTORED_V1, 25);
        match self {
            Applied::Restored(restored) => {
                writer.u8(0);
                writer.u64(restored.written);
                writer.u64(restored.present);
                writer.u64(restored.left);
            }
            Applied::Conflict(device) => {
                writer.u8(1);
                writer.device(device);
            }
            Applied::Refused(refusal) => {
                writer.u8(2);
                writer.u8(*refusal as u8);
            }
        }
        writer.finish()
    }

    pub(super) fn decode(reply: Bytes) -> Option<Applied> {
        let (tag, mut reader) = Reader::open(reply)?;
        if tag != TAG_RESTORED_V1 {
            return None;
        }
        let applied = match reader.u8()? {
            0 => Applied::Restored(Restored {
                written: reader.u64()?,
                present: reader.u64()?,
                left: reader.u64()?,
            }),
            1 => Applied::Conflict(reader.device()?),
            2 => {
                let number = reader.u8()?;
                let mut all = Refusal::ALL.into_iter();
                Applied::Refused(all.find(|refusal| *refusal as u8 == number)?)
            }
            _ => return None,
        };
        reader.finish(applied)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use antumbra_shadow::{DeviceId, DeviceRow, Tenant};

    use super::*;

    fn device() -> DeviceKey {
        DeviceKey::new(Tenant::default(), DeviceId::parse("pump").unwrap())
    }

    /// Golden bytes: they are in logs.
    #[test]
    fn command_and_replies_have_their_frozen_bytes() {
        let row = Row {
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(b"vv"),
        };
        let bytes = command([row.clone()].iter());
        assert_eq!(&bytes[..], b"\x76\0\0\0\x01\0\0\0\x01k\0\0\0\x02vv");
        assert!(is_command(&bytes));
        assert_eq!(read_rows(bytes), Some(vec![row]));
        let restored = Applied::Restored(Restored {
            written: 1,
            present: 2,
            left: 3,
        });
        let golden = b"\x7e\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03";
        assert_eq!(&restored.encode()[..], golden);
        let conflict = Applied::Conflict(device());
        assert_eq!(
            &conflict.encode()[..],
            b"\x7e\x01\0\0\0\x07default\0\0\0\x04pump"
        );
        let refused = Refusal::ALL.map(Applied::Refused);
        for applied in refused.into_iter().chain([restored, conflict]) {
            assert_eq!(Applied::decode(applied.encode()), Some(applied));
        }
        assert_eq!(Applied::decode(Bytes::from_static(b"\x7e\x02\x09")), None);
        assert_eq!(Applied::decode(Bytes::new()), None);
    }

    /// Whatever bytes come out of a log, apply says what is wrong with them.
    #[test]
    fn rows_that_no_shard_would_have_written_are_refused() {
        let pump = RowKey::Device(device());
        let row = |key: &RowKey, value: &[u8]| Row {
            key: Bytes::copy_from_slice(keys::row(key).as_bytes()),
            value: Bytes::copy_from_slice(value),
        };
        let counters = counters();
        let good = row(&pump, &counters);
        let refused = |rows: &[Row], range| read(&command(rows.iter()), range).err();
        assert_eq!(refused(std::slice::from_ref(&good), HashRange::FULL), None);
        let hash = device().hash();
        let below = HashRange {
            start: 0,
            end: hash - 1,
        };
        assert_eq!(
            refused(std::slice::from_ref(&good), below),
            Some(Refusal::OtherShard)
        );
        let twice = [good.clone(), good.clone()];
        assert_eq!(refused(&twice, HashRange::FULL), Some(Refusal::NoRow));
        let broken = row(&pump, &counters[1..]);
        assert_eq!(
            refused(std::slice::from_ref(&broken), HashRange::FULL),
            Some(Refusal::NoRow)
        );
        let foreign = Row {
            key: Bytes::copy_from_slice(keys::account(antumbra_raft::ShardId(1)).as_bytes()),
            value: good.value.clone(),
        };
        assert_eq!(
            refused(std::slice::from_ref(&foreign), HashRange::FULL),
            Some(Refusal::NoRow)
        );
        let large = Row {
            key: good.key.clone(),
            value: vec![0; ROWS_BYTES_MAX].into(),
        };
        assert_eq!(
            refused(std::slice::from_ref(&large), HashRange::FULL),
            Some(Refusal::TooMuch)
        );
        let cut = &command([good].iter())[..20];
        assert_eq!(read(cut, HashRange::FULL).err(), Some(Refusal::Undecodable));
    }

    /// A stored row of a device, made by hand: its frozen form.
    fn counters() -> Vec<u8> {
        let bytes = vec![0x18, 1, 1, 0, 0, 0, 0, 0];
        assert!(DeviceRow::decode(&bytes).is_ok());
        bytes
    }
}
