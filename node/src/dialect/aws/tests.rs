#![allow(clippy::unwrap_used)]

mod requests;
mod responses;

use std::collections::BTreeMap;

use antumbra_shadow::{
    Change, Delete, DeviceEntry, DeviceId, DeviceKey, Draft, Kind, Limits, Outcome, Position,
    RowKey, Rows, Tenant, Time, Update, apply::apply,
};
use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::error::Error;

/// A device whose shadow is kept in memory, driven by messages of the dialect.
#[derive(Default)]
struct Thing {
    rows: BTreeMap<RowKey, Bytes>,
    index: u64,
}

impl Rows for Thing {
    type Error = String;

    fn get(&mut self, key: &RowKey) -> Result<Option<Bytes>, Self::Error> {
        Ok(self.rows.get(key).cloned())
    }

    fn put(&mut self, key: &RowKey, value: Bytes) {
        self.rows.insert(key.clone(), value);
    }

    fn delete(&mut self, key: &RowKey) {
        self.rows.remove(key);
    }

    fn damaged(&self, key: &RowKey) -> String {
        format!("{key:?} is damaged")
    }
}

/// What a message gave: the reply, and what observers see.
struct Seen {
    reply: Value,
    change: Option<Change>,
}

impl Seen {
    fn delta(&self) -> Option<Value> {
        delta(self.change.as_ref()?).map(|text| parse(&text))
    }

    fn documents(&self) -> Option<Value> {
        documents(self.change.as_ref()?).map(|text| parse(&text))
    }
}

impl Thing {
    /// Seconds that the clock shows at the nth command.
    fn seconds(&self) -> u64 {
        1_700_000_000 + self.index
    }

    fn now(&self) -> Time {
        Time(self.seconds() * 1000 + 999)
    }

    fn key() -> DeviceKey {
        DeviceKey {
            tenant: Tenant::default(),
            device: DeviceId::parse("pump").unwrap(),
        }
    }

    fn run(&mut self, token: Option<String>, kind: Kind) -> (Outcome, Option<Change>) {
        self.index += 1;
        let mut draft = Draft::new("test", kind);
        draft.client_token = token;
        let entry = DeviceEntry::new(Self::key(), vec![draft.stamp(self.now())]);
        let index = self.index;
        let mut applied = apply(self, Position::first(index), &entry).unwrap();
        let applied = applied.remove(0);
        (applied.outcome, applied.changes.into_iter().next())
    }

    fn update(&mut self, message: Value) -> Seen {
        self.update_text(message.to_string().as_bytes())
    }

    fn update_text(&mut self, message: &[u8]) -> Seen {
        let request = match parse_update(message, &Limits::default()) {
            Ok(request) => request,
            Err(Refusal {
                error,
                client_token,
            }) => {
                return self.refused(&error, client_token.as_deref());
            }
        };
        let kind = Kind::Update(Update {
            shadow: antumbra_shadow::ShadowName::classic(),
            patch: request.patch.clone(),
            conditions: request.conditions(),
        });
        match self.run(request.client_token.clone(), kind) {
            (Outcome::Accepted(items), change) => {
                let text = accepted(request.echo(), items[0].version, items[0].time);
                Seen {
                    reply: parse(&text),
                    change,
                }
            }
            (Outcome::Rejected(rejection), _) => {
                self.refused(&rejection.into(), request.client_token.as_deref())
            }
        }
    }

    fn refused(&self, error: &Error, token: Option<&str>) -> Seen {
        Seen {
            reply: parse(&rejected(error, "pump", self.now(), token)),
            change: None,
        }
    }

    fn delete(&mut self) -> Seen {
        let kind = Kind::Delete(Delete {
            shadow: antumbra_shadow::ShadowName::classic(),
            conditions: Default::default(),
        });
        match self.run(None, kind) {
            (Outcome::Accepted(items), change) => {
                let text = deleted(items[0].version, items[0].time, Some("t"));
                Seen {
                    reply: parse(&text),
                    change,
                }
            }
            (Outcome::Rejected(rejection), _) => self.refused(&rejection.into(), None),
        }
    }

    fn get(&self) -> Value {
        let key = RowKey::Document(Self::key(), antumbra_shadow::ShadowName::classic());
        let stored = self.rows.get(&key).cloned();
        let stored = stored.map(|bytes| antumbra_shadow::Document::decode(bytes).unwrap());
        match stored.filter(|stored| !stored.is_deleted()) {
            Some(stored) => parse(&document(&stored, self.now(), None)),
            None => self.refused(&Error::NotFound, None).reply,
        }
    }

    fn at_version(version: u64) -> Thing {
        let mut thing = Thing::default();
        for nth in 1..=version {
            let reply = thing
                .update(json!({"state": {"reported": {"n": nth}}}))
                .reply;
            assert_eq!(reply["version"], nth);
        }
        thing
    }
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}
