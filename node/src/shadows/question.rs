//! What can be asked of one shard without changing it. The same values are answered from a replica
//! on this node and carried to another one.

use antumbra_raft::Key;
use antumbra_shadow::{DeviceId, DeviceKey, Document, ShadowName, Tenant};

use super::list::{DeviceFilter, Found, ShadowSummary};
use super::read::{Consistency, ReadOptions};

/// A read that one shard answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Question {
    /// One document.
    Document {
        device: DeviceKey,
        shadow: ShadowName,
        options: ReadOptions,
    },
    /// The shadows of a device from a key on, one page at most.
    Shadows {
        device: DeviceKey,
        from: Key,
        size: usize,
    },
    /// The devices from a key on that pass a filter, one page at most.
    Devices {
        filter: DeviceFilter,
        from: Key,
        size: usize,
        /// Rows that may be looked at.
        rows_max: usize,
    },
}

/// What the shard says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// An applied index that the document is not older than, and the document, tombstones included.
    Document {
        seen: u64,
        document: Option<Document>,
    },
    Shadows(Found<ShadowSummary>),
    Devices(Found<DeviceId>),
}

impl Question {
    /// Whose data it is about.
    pub(crate) fn tenant(&self) -> &Tenant {
        match self {
            Question::Document { device, .. } | Question::Shadows { device, .. } => &device.tenant,
            Question::Devices { filter, .. } => &filter.tenant,
        }
    }

    /// Whether any replica's state will do, however old.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Question::Document { options, .. } => options.consistency == Consistency::Local,
            Question::Shadows { .. } | Question::Devices { .. } => false,
        }
    }

    /// The device, if it is about a single one.
    pub(crate) fn device(&self) -> Option<&DeviceKey> {
        match self {
            Question::Document { device, .. } | Question::Shadows { device, .. } => Some(device),
            Question::Devices { .. } => None,
        }
    }
}

impl Reply {
    /// The applied index that it is at least of; the largest for lists, which have seen all.
    pub(crate) fn seen(&self) -> u64 {
        match self {
            Reply::Document { seen, .. } => *seen,
            Reply::Shadows(_) | Reply::Devices(_) => u64::MAX,
        }
    }
}
