//! Rows in memory and short ways to say commands.

use std::collections::BTreeMap;
use std::convert::Infallible;

use antumbra_shadow::json::{DuplicateKeys, Value, parse};
use antumbra_shadow::{
    Applied, BatchItem, Change, Command, Conditions, Delete, DeviceEntry, DeviceId, DeviceKey,
    Document, Draft, Entry, Kind, Limits, Outcome, Patch, Position, Rejection, RequestId, RowKey,
    Rows, Section, SectionInput, ShadowName, Tenant, Time, TimeUnit, Update, apply,
};
use bytes::Bytes;

/// The rows of a shard in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MemoryRows(pub(crate) BTreeMap<RowKey, Vec<u8>>);

impl Rows for MemoryRows {
    type Error = Infallible;

    fn get(&mut self, key: &RowKey) -> Result<Option<Bytes>, Infallible> {
        Ok(self.0.get(key).map(|value| Bytes::copy_from_slice(value)))
    }

    fn put(&mut self, key: &RowKey, value: Bytes) {
        self.0.insert(key.clone(), value.to_vec());
    }

    fn delete(&mut self, key: &RowKey) {
        self.0.remove(key);
    }

    fn damaged(&self, key: &RowKey) -> Infallible {
        panic!("damaged row {key:?}")
    }
}

/// One device with its rows, a clock and a log index.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) rows: MemoryRows,
    pub(crate) device: DeviceKey,
    pub(crate) time: u64,
    pub(crate) index: u64,
    pub(crate) limits: Limits,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            rows: MemoryRows::default(),
            device: DeviceKey::new(Tenant::default(), DeviceId::parse("thing").unwrap()),
            time: 1_700_000_000_000,
            index: 0,
            limits: Limits::default(),
        }
    }

    /// Applies one command through the encoded entry, as a replica does.
    pub(crate) fn run(&mut self, draft: Draft) -> Applied {
        self.index += 1;
        self.time += 1_000;
        self.run_at(draft, self.time)
    }

    pub(crate) fn run_at(&mut self, mut draft: Draft, time: u64) -> Applied {
        draft.limits = self.limits;
        let command = draft.stamp(Time(time));
        self.run_commands(vec![command]).pop().unwrap()
    }

    pub(crate) fn run_commands(&mut self, commands: Vec<Command>) -> Vec<Applied> {
        let entry = Entry::Device(DeviceEntry::new(self.device.clone(), commands));
        let Ok(Entry::Device(decoded)) = Entry::decode(&entry.encode()) else {
            panic!("an entry survives its encoding")
        };
        assert_eq!(entry, Entry::Device(decoded.clone()));
        apply::apply(&mut self.rows, Position::first(self.index), &decoded).unwrap()
    }

    /// Updates the classic shadow with `{"desired":…,"reported":…}`.
    pub(crate) fn update(&mut self, state: &str) -> Applied {
        let draft = update_draft("", state, Conditions::default());
        self.run(draft)
    }

    pub(crate) fn update_if(&mut self, state: &str, conditions: Conditions) -> Applied {
        self.run(update_draft("", state, conditions))
    }

    pub(crate) fn accept(&mut self, state: &str) -> Change {
        accepted(self.update(state))
    }

    pub(crate) fn delete(&mut self) -> Applied {
        self.run(delete_draft("", Conditions::default()))
    }

    pub(crate) fn document(&self) -> Option<Document> {
        self.named("")
    }

    pub(crate) fn named(&self, name: &str) -> Option<Document> {
        let key = RowKey::Document(self.device.clone(), ShadowName::parse(name).unwrap());
        let row = self.rows.0.get(&key)?;
        Some(Document::decode(Bytes::copy_from_slice(row)).unwrap())
    }

    /// `[desired, reported, delta]` of the classic shadow, `-` for what is not shown.
    pub(crate) fn shown(&self) -> [String; 3] {
        let document = self.document().unwrap();
        let shown = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        [
            shown(document.state_json(Section::Desired, &[])),
            shown(document.state_json(Section::Reported, &[])),
            shown(document.delta_json(&[])),
        ]
    }

    pub(crate) fn metadata(&self, section: Section) -> Option<String> {
        self.document()
            .unwrap()
            .metadata_json(section, &[], TimeUnit::Seconds)
    }
}

pub(crate) fn json(text: &str) -> Value {
    parse(text.as_bytes(), DuplicateKeys::LastWins, 64).unwrap()
}

pub(crate) fn patch(state: &str, limits: &Limits) -> Result<Patch, Rejection> {
    let state = json(state);
    let input = |name: &str| match state.get(name) {
        None => SectionInput::Absent,
        Some(Value::Null) => SectionInput::Clear,
        Some(value) => SectionInput::Merge(value),
    };
    if state.is_null() {
        return Ok(Patch::clear_both());
    }
    Patch::build(input("desired"), input("reported"), limits)
}

pub(crate) fn update_item(shadow: &str, state: &str, conditions: Conditions) -> Update {
    // Built without limits, so that apply is what judges.
    let limits = Limits {
        depth_max: 16,
        key_bytes_max: 1 << 20,
        ..Limits::default()
    };
    Update {
        shadow: ShadowName::parse(shadow).unwrap(),
        patch: patch(state, &limits).unwrap(),
        conditions,
    }
}

pub(crate) fn update_draft(shadow: &str, state: &str, conditions: Conditions) -> Draft {
    Draft::new(
        "tester",
        Kind::Update(update_item(shadow, state, conditions)),
    )
}

pub(crate) fn delete_item(shadow: &str, conditions: Conditions) -> Delete {
    Delete {
        shadow: ShadowName::parse(shadow).unwrap(),
        conditions,
    }
}

pub(crate) fn delete_draft(shadow: &str, conditions: Conditions) -> Draft {
    Draft::new("tester", Kind::Delete(delete_item(shadow, conditions)))
}

pub(crate) fn batch_draft(items: Vec<BatchItem>) -> Draft {
    Draft::new("tester", Kind::Batch(items))
}

pub(crate) fn with_request(mut draft: Draft, request_id: &str) -> Draft {
    draft.request_id = Some(RequestId::parse(request_id).unwrap());
    draft
}

pub(crate) fn expecting(version: u64) -> Conditions {
    Conditions {
        expected_version: Some(version),
        ..Conditions::default()
    }
}

pub(crate) fn accepted(applied: Applied) -> Change {
    match applied.outcome {
        Outcome::Accepted(items) => {
            assert_eq!(items.len(), applied.changes.len());
            let change = applied.changes.into_iter().next().expect("a change");
            assert_eq!(items[0].version, change.version);
            assert_eq!(items[0].time, change.time);
            assert_eq!(items[0].position, change.position);
            change
        }
        Outcome::Rejected(rejection) => panic!("rejected: {rejection}"),
    }
}

pub(crate) fn rejected(applied: Applied) -> Rejection {
    assert!(applied.changes.is_empty(), "a rejection has no changes");
    match applied.outcome {
        Outcome::Rejected(rejection) => rejection,
        Outcome::Accepted(items) => panic!("accepted: {items:?}"),
    }
}
