//! What one command costs the domain: parse, merge, delta, apply and encode of a 1 KiB document
//! and an update of about 300 bytes.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::hint::black_box;

use antumbra_shadow::json::{DuplicateKeys, Value, parse};
use antumbra_shadow::{
    Conditions, DeviceEntry, DeviceId, DeviceKey, Document, Draft, Entry, Kind, Limits, Patch,
    Position, RowKey, Rows, Section, SectionInput, ShadowName, Tenant, Time, Update, apply,
};
use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};

#[derive(Default)]
struct MemoryRows(BTreeMap<RowKey, Bytes>);

impl Rows for MemoryRows {
    type Error = Infallible;

    fn get(&mut self, key: &RowKey) -> Result<Option<Bytes>, Infallible> {
        Ok(self.0.get(key).cloned())
    }

    fn put(&mut self, key: &RowKey, value: Bytes) {
        self.0.insert(key.clone(), value);
    }

    fn delete(&mut self, key: &RowKey) {
        self.0.remove(key);
    }

    fn damaged(&self, _: &RowKey) -> Infallible {
        panic!("the bench writes its own rows")
    }
}

/// A section of about 500 bytes of compact JSON: groups of settings as devices have them.
fn section(offset: usize) -> String {
    let group = |name: &str, members: usize| {
        let members: Vec<_> = (0..members)
            .map(|at| format!("\"setting{at}\":{}", at * 37 + offset))
            .collect();
        format!(
            "\"{name}\":{{{},\"mode\":\"automatic\",\"on\":true}}",
            members.join(",")
        )
    };
    format!(
        "{{{},{},{},\"firmware\":\"v2.14.3-rc1\",\"hours\":[8,12.5,17,22]}}",
        group("heating", 8),
        group("lights", 8),
        group("network", 6)
    )
}

fn value(text: &str) -> Value {
    parse(text.as_bytes(), DuplicateKeys::LastWins, 16).unwrap()
}

fn update_text() -> String {
    let members: Vec<_> = (0..12)
        .map(|at| format!("\"setting{at}\":{}", at * 41))
        .collect();
    format!(
        "{{\"heating\":{{{}}},\"lights\":{{\"mode\":\"manual\",\"on\":false}},\"hours\":[7,12.5,17]}}",
        members.join(",")
    )
}

fn entry(desired: Option<&str>, reported: Option<&str>) -> DeviceEntry {
    let values = [desired.map(value), reported.map(value)];
    let input = |value: &'static Option<Value>| match value {
        Some(value) => SectionInput::Merge(value),
        None => SectionInput::Absent,
    };
    let values: &'static [Option<Value>; 2] = Box::leak(Box::new(values));
    let limits = Limits::default();
    let patch = Patch::build(input(&values[0]), input(&values[1]), &limits).unwrap();
    let shadow = ShadowName::classic();
    let update = Update {
        shadow,
        patch,
        conditions: Conditions::default(),
    };
    let command = Draft::new("bench", Kind::Update(update)).stamp(Time(1_700_000_000_000));
    let device = DeviceKey::new(Tenant::default(), DeviceId::parse("device-1").unwrap());
    DeviceEntry::new(device, vec![command])
}

fn document(criterion: &mut Criterion) {
    let (desired, reported, update) = (section(0), section(1), update_text());
    let mut rows = MemoryRows::default();
    apply::apply(
        &mut rows,
        Position::first(1),
        &entry(Some(&desired), Some(&reported)),
    )
    .unwrap();
    let key = RowKey::Document(entry(None, None).device, ShadowName::classic());
    let stored = rows.0[&key].clone();
    let document = Document::decode(stored.clone()).unwrap();
    println!(
        "document: {} bytes of JSON, {} stored; update: {} bytes of JSON",
        document.state_bytes(),
        stored.len(),
        update.len()
    );

    let whole = format!("{{\"state\":{{\"desired\":{desired},\"reported\":{reported}}}}}");
    criterion.bench_function("parse 1 KiB", |bencher| {
        bencher.iter(|| parse(black_box(whole.as_bytes()), DuplicateKeys::LastWins, 16).unwrap());
    });
    let update_value = value(&update);
    criterion.bench_function("build patch of 300 B", |bencher| {
        bencher.iter(|| {
            let input = SectionInput::Merge(black_box(&update_value));
            Patch::build(SectionInput::Absent, input, &Limits::default()).unwrap()
        });
    });
    criterion.bench_function("decode document", |bencher| {
        bencher.iter(|| Document::decode(black_box(stored.clone())).unwrap());
    });
    let changing = entry(None, Some(&update));
    criterion.bench_function("apply (check, merge, undo, encode)", |bencher| {
        bencher.iter(|| apply::apply(&mut rows, Position::first(2), black_box(&changing)).unwrap());
    });
    replace_leaves(criterion);
    let entry = Entry::Device(changing);
    criterion.bench_function("encode entry", |bencher| {
        bencher.iter(|| black_box(&entry).encode())
    });
    let encoded = entry.encode();
    criterion.bench_function("decode entry", |bencher| {
        bencher.iter(|| Entry::decode(black_box(&encoded)).unwrap());
    });
    criterion.bench_function("delta", |bencher| {
        bencher.iter(|| black_box(&document).delta_json(&[]));
    });
    criterion.bench_function("section as JSON", |bencher| {
        bencher.iter(|| black_box(&document).state_json(Section::Desired, &[]));
    });
}

/// What devices send most: new values for many leaves of a section that they alone write.
fn replace_leaves(criterion: &mut Criterion) {
    let group = |name: &str, members: usize, offset: usize| {
        let members: Vec<_> = (0..members)
            .map(|at| format!("\"measurement{at}\":{}.25", at * 37 + offset))
            .collect();
        format!("\"{name}\":{{{}}}", members.join(","))
    };
    let section = |members: usize, offset: usize| {
        let groups = ["battery", "inverter", "meter"].map(|name| group(name, members, offset));
        format!("{{{}}}", groups.join(","))
    };
    let mut rows = MemoryRows::default();
    let whole = entry(None, Some(&section(11, 100)));
    apply::apply(&mut rows, Position::first(1), &whole).unwrap();
    let changing = entry(None, Some(&section(5, 200)));
    criterion.bench_function("apply, 15 of 33 leaves replaced", |bencher| {
        bencher.iter(|| apply::apply(&mut rows, Position::first(2), black_box(&changing)).unwrap());
    });
}

criterion_group!(benches, document);
criterion_main!(benches);
