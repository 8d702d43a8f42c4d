//! What a command is going to write. Nothing reaches the rows before the whole command is
//! accepted, so a rejection changes nothing.

use crate::change::Change;
use crate::command::Command;
use crate::document::{Document, Head};
use crate::id::{DeviceKey, Position, ShadowName};
use crate::limits::Limits;
use crate::outcome::Rejection;
use crate::patch::Patch;
use crate::stored::{self, DeviceRow};

use super::{RowKey, Rows};

/// Why a command goes no further.
pub(super) enum Stop<E> {
    /// It is refused.
    Rejected(Rejection),
    /// The store failed or a row is damaged.
    Failed(E),
}

impl<E> From<Rejection> for Stop<E> {
    fn from(rejection: Rejection) -> Self {
        Stop::Rejected(rejection)
    }
}

/// Reads and decodes one row; a row that cannot be decoded is damage.
pub(super) fn read<R: Rows, T>(
    rows: &mut R,
    key: &RowKey,
    decode: impl FnOnce(bytes::Bytes) -> Result<T, stored::DecodeError>,
) -> Result<Option<T>, Stop<R::Error>> {
    match rows.get(key).map_err(Stop::Failed)? {
        None => Ok(None),
        Some(bytes) => match decode(bytes) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(Stop::Failed(rows.damaged(key))),
        },
    }
}

pub(super) fn read_device_row<R: Rows>(
    rows: &mut R,
    device: &DeviceKey,
) -> Result<DeviceRow, Stop<R::Error>> {
    let key = RowKey::Device(device.clone());
    let row = read(rows, &key, |bytes| DeviceRow::decode(&bytes))?;
    Ok(row.unwrap_or_default())
}

/// One planned change of one shadow.
pub(super) struct Step {
    pub(super) shadow: ShadowName,
    /// The row before, a tombstone included.
    pub(super) stored: Option<Document>,
    pub(super) current: Document,
    pub(super) patch: Patch,
    pub(super) undo: Patch,
}

/// The planned changes of one command.
pub(super) struct Plan<'a, R: Rows> {
    rows: &'a mut R,
    device: &'a DeviceKey,
    command: &'a Command,
    next: Position,
    steps: Vec<Step>,
    /// The device row, once it was needed.
    row: Option<DeviceRow>,
    row_changed: bool,
}

impl<'a, R: Rows> Plan<'a, R> {
    pub(super) fn new(
        rows: &'a mut R,
        device: &'a DeviceKey,
        command: &'a Command,
        next: Position,
        row: Option<DeviceRow>,
    ) -> Self {
        Self {
            rows,
            device,
            command,
            next,
            // Steps are large, and few commands have more than one.
            steps: Vec::with_capacity(1),
            row,
            row_changed: false,
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.command.draft.limits
    }

    /// The shadow as the steps so far leave it.
    pub(super) fn load(&mut self, shadow: &ShadowName) -> Result<Option<Document>, Stop<R::Error>> {
        if let Some(step) = self.steps.iter().rev().find(|step| step.shadow == *shadow) {
            return Ok(Some(step.current.clone()));
        }
        let key = RowKey::Document(self.device.clone(), shadow.clone());
        read(self.rows, &key, stored::decode_document)
    }

    /// The counters after this change; what is not about the change is kept from a live document.
    pub(super) fn next_head(&self, stored: Option<&Document>) -> Head {
        let previous = stored.map_or_else(Head::default, |document| document.head);
        // The leader's clock may run behind the one before; a document's time never goes back.
        let updated = self.command.time.max(previous.updated);
        let live = stored.is_some() && !previous.deleted;
        Head {
            deleted: false,
            version: previous.version.saturating_add(1),
            created: if live { previous.created } else { updated },
            updated,
            section_versions: previous.section_versions,
            proposed_version: previous.proposed_version,
            position: self.next,
            json_bytes: [0, 0],
        }
    }

    /// Counts a shadow that comes into being.
    pub(super) fn count_created(&mut self, new_name: bool) -> Result<(), Stop<R::Error>> {
        let limits = *self.limits();
        let row = self.device_row()?;
        let max = limits.shadows_per_device_max;
        if row.shadows >= max {
            return Err(Stop::Rejected(Rejection::TooManyShadows { max }));
        }
        let max = limits.shadow_names_per_device_max;
        if new_name && row.names >= max {
            return Err(Stop::Rejected(Rejection::TooManyShadows { max }));
        }
        row.shadows = row.shadows.saturating_add(1);
        row.names = row.names.saturating_add(u32::from(new_name));
        self.row_changed = true;
        Ok(())
    }

    /// Counts a shadow that goes.
    pub(super) fn count_deleted(&mut self) -> Result<(), Stop<R::Error>> {
        let row = self.device_row()?;
        row.shadows = row.shadows.saturating_sub(1);
        self.row_changed = true;
        Ok(())
    }

    fn device_row(&mut self) -> Result<&mut DeviceRow, Stop<R::Error>> {
        let row = match self.row.take() {
            Some(row) => row,
            None => read_device_row(self.rows, self.device)?,
        };
        Ok(self.row.insert(row))
    }

    pub(super) fn damaged(&self, shadow: &ShadowName) -> Stop<R::Error> {
        let key = RowKey::Document(self.device.clone(), shadow.clone());
        Stop::Failed(self.rows.damaged(&key))
    }

    pub(super) fn add(&mut self, step: Step) {
        self.next.sequence += 1;
        self.steps.push(step);
    }

    /// Writes the documents. The device row, when it changed, is left to the caller, which may
    /// change it once more.
    pub(super) fn commit(self) -> (Vec<Change>, Option<DeviceRow>) {
        let mut changes = Vec::with_capacity(self.steps.len());
        for step in self.steps {
            let key = RowKey::Document(self.device.clone(), step.shadow.clone());
            self.rows.put(&key, step.current.encoded().clone());
            changes.push(Change {
                device: self.device.clone(),
                shadow: step.shadow,
                version: step.current.version(),
                time: step.current.updated(),
                actor: self.command.draft.actor.clone(),
                client_token: self.command.draft.client_token.clone(),
                position: step.current.feed_position(),
                deleted: step.current.is_deleted(),
                patch: step.patch,
                undo: step.undo,
                previous_position: step.stored.as_ref().map(Document::feed_position),
                previous: step.stored.filter(|document| !document.is_deleted()),
                current: step.current,
            });
        }
        (changes, self.row.filter(|_| self.row_changed))
    }
}
