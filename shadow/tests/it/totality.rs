//! Nothing that arrives as bytes makes the domain panic.

use std::collections::BTreeMap;

use antumbra_shadow::json::{DuplicateKeys, JsonError, parse};
use antumbra_shadow::{
    Conditions, Document, Entry, FeedRecord, Patch, Pointer, Position, RowKey, Rows, Section,
    TimeUnit, apply, decode_outcomes, encode_outcomes,
};
use bytes::Bytes;
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::support::{World, accepted, batch_draft, update_draft, update_item, with_request};

/// Rows whose content may be anything; damage is an error, as in a real store.
struct AnyRows(BTreeMap<RowKey, Vec<u8>>);

#[derive(Debug)]
struct Damaged;

impl Rows for AnyRows {
    type Error = Damaged;

    fn get(&mut self, key: &RowKey) -> Result<Option<Bytes>, Damaged> {
        Ok(self.0.get(key).map(|value| Bytes::copy_from_slice(value)))
    }

    fn put(&mut self, key: &RowKey, value: Bytes) {
        self.0.insert(key.clone(), value.to_vec());
    }

    fn delete(&mut self, key: &RowKey) {
        self.0.remove(key);
    }

    fn damaged(&self, _: &RowKey) -> Damaged {
        Damaged
    }
}

/// Decodes the bytes as everything there is, and uses what comes out.
fn use_bytes(bytes: &[u8]) {
    if let Ok(document) = Document::decode(Bytes::copy_from_slice(bytes)) {
        use_document(&document);
    }
    if let Ok(patch) = Patch::decode(bytes) {
        use_patch(&patch);
    }
    if let Ok(record) = FeedRecord::decode(bytes) {
        use_patch(&record.patch);
        use_patch(&record.undo);
    }
    if let Ok(outcomes) = decode_outcomes(bytes) {
        let _ = encode_outcomes(&outcomes);
    }
    let _ = antumbra_shadow::DeviceRow::decode(bytes);
    if let Ok(Entry::Device(entry)) = Entry::decode(bytes) {
        let applied =
            apply::apply(&mut AnyRows(BTreeMap::new()), Position::first(1), &entry).unwrap();
        assert_eq!(applied.len(), entry.commands.len());
        for change in applied.iter().flat_map(|applied| &applied.changes) {
            use_document(&change.current);
            use_patch(&change.patch);
            use_patch(&change.undo);
        }
    }
}

fn use_document(document: &Document) {
    let pointer = [Pointer::parse("/a").unwrap()];
    for section in Section::ALL {
        let _ = document.state_json(section, &[]);
        let _ = document.state_json(section, &pointer);
        let _ = document.metadata_json(section, &[], TimeUnit::Seconds);
    }
    let _ = document.delta_json(&[]);
    let _ = document.delta_metadata_json(TimeUnit::Seconds);
}

fn use_patch(patch: &Patch) {
    for section in Section::ALL {
        let _ = patch.section_json(section);
        let _ = patch.metadata_json(section, antumbra_shadow::Time(1), TimeUnit::Seconds);
    }
}

/// Real byte strings of every stored shape, to be damaged.
fn samples() -> Vec<Vec<u8>> {
    let mut world = World::new();
    world.accept(r#"{"desired":{"a":{"b":1,"c":[1,{"x":2}]},"e":{}},"reported":{"a":{"b":2}}}"#);
    let mut draft = with_request(
        update_draft(
            "",
            r#"{"desired":{"a":{"b":null},"z\u0000":"ü"}}"#,
            Conditions::default(),
        ),
        "id",
    );
    draft.client_token = Some("token".to_owned());
    let entry = |draft: antumbra_shadow::Draft| {
        let command = draft.stamp(antumbra_shadow::Time(5));
        let entry = antumbra_shadow::DeviceEntry::new(world.device.clone(), vec![command]);
        Entry::Device(entry).encode().to_vec()
    };
    let item = update_item("x", r#"{"reported":{"q":[true]}}"#, Conditions::default());
    let mut samples = vec![
        entry(draft.clone()),
        entry(batch_draft(vec![antumbra_shadow::BatchItem::Update(item)])),
    ];
    let applied = world.run(draft);
    samples.push(encode_outcomes(std::slice::from_ref(&applied.outcome)));
    let change = accepted(applied);
    samples.push(change.patch.encode());
    samples.push(change.undo.encode());
    samples.push(FeedRecord::from(&change).encode());
    samples.extend(world.rows.0.values().cloned());
    samples
}

/// Protects replicas from bytes of any kind: apply answers, it never panics.
#[test]
fn apply_is_total_on_arbitrary_bytes() {
    let mut random = SmallRng::seed_from_u64(7);
    let samples = samples();
    for sample in &samples {
        use_bytes(sample);
        for length in 0..sample.len() {
            use_bytes(&sample[..length]);
        }
    }
    for _ in 0..60_000 {
        let mut bytes = samples[random.random_range(0..samples.len())].clone();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..bytes.len());
            match random.random_range(0..4) {
                0 => bytes[at] = random.random(),
                1 => bytes[at] ^= 1 << random.random_range(0..8),
                2 => bytes.insert(at, random.random()),
                _ => drop(bytes.remove(at)),
            }
            if bytes.is_empty() {
                break;
            }
        }
        use_bytes(&bytes);
    }
}

/// Protects replicas from rows of any kind: damage is an error, never a panic.
#[test]
fn apply_is_total_on_damaged_rows() {
    let mut random = SmallRng::seed_from_u64(8);
    let mut world = World::new();
    world.accept(r#"{"desired":{"a":{"b":1,"c":[1,{"x":2}]},"e":{}},"reported":{"a":{"b":2}}}"#);
    world.run(with_request(
        update_draft("", "{}", Conditions::default()),
        "one",
    ));
    let mut draft = with_request(
        update_draft(
            "",
            r#"{"desired":{"a":{"b":null},"k":1}}"#,
            Conditions::default(),
        ),
        "two",
    );
    draft.limits = world.limits;
    let command = draft.stamp(antumbra_shadow::Time(u64::MAX));
    let entry = antumbra_shadow::DeviceEntry::new(world.device.clone(), vec![command]);
    let (mut worked, mut damaged) = (0, 0);
    for _ in 0..40_000 {
        let mut rows = AnyRows(world.rows.0.clone());
        for value in rows.0.values_mut() {
            if random.random_range(0..2) == 0 {
                let at = random.random_range(0..value.len());
                value[at] = random.random();
            }
        }
        match apply::apply(&mut rows, Position::first(9), &entry) {
            Ok(applied) => {
                worked += 1;
                applied
                    .iter()
                    .flat_map(|one| &one.changes)
                    .for_each(|change| {
                        use_document(&change.current);
                    });
            }
            Err(Damaged) => damaged += 1,
        }
    }
    assert!(
        worked > 1_000 && damaged > 1_000,
        "{worked} worked, {damaged} damaged"
    );
}

/// Protects the stack: nesting of any depth is an error, quickly.
#[test]
fn a_hundred_thousand_levels_are_an_error() {
    for open in ["[", r#"{"a":"#] {
        let deep = open.repeat(100_000);
        let error = parse(deep.as_bytes(), DuplicateKeys::LastWins, 16).unwrap_err();
        assert_eq!(error, JsonError::TooDeep { max: 16 });
        let error = parse(deep.as_bytes(), DuplicateKeys::LastWins, usize::MAX).unwrap_err();
        assert_eq!(error, JsonError::TooDeep { max: 128 });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Protects every decoder from noise.
    #[test]
    fn decoders_are_total_on_noise(tag in 0x10_u8..0x1a, noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = vec![tag];
        bytes.extend(noise);
        use_bytes(&bytes);
    }

    /// Protects the parser from noise that looks like JSON.
    #[test]
    fn parser_is_total_on_noise(noise in r#"[\[\]{}:,"\\ntrue0-9eE.+ü\-]{0,60}"#) {
        let ours = parse(noise.as_bytes(), DuplicateKeys::LastWins, 64);
        let theirs: Result<serde_json::Value, _> = serde_json::from_str(&noise);
        match ours {
            Ok(_) => prop_assert!(theirs.is_ok() || noise.contains(['e', 'E']), "{noise}"),
            Err(JsonError::Syntax { .. }) => prop_assert!(theirs.is_err(), "{noise}"),
            Err(_) => {}
        }
    }
}
