//! Random command sequences against the naive model.

use antumbra_shadow::{
    Applied, BatchItem, Conditions, Document, Draft, FeedRecord, Kind, Limits, Outcome,
    PathCondition, PathTest, Pointer, Section, Time, TimeUnit, Update,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::model::{self, Act, Ask, Model, Shadow, Tree, When, Wish};
use crate::support::{World, delete_item, json, update_draft, with_request};

const KEYS: [&str; 8] = ["a", "b", "ab", "a\"", "", "\u{0}", "ü", "n"];
const SHADOWS: [&str; 8] = ["", "", "", "x", "x", "y", "y", "z"];

/// Protects `apply` as a whole: outcomes, states, metadata, delta, sizes and undo agree with a
/// model that is too simple to be wrong in the same way. 20,000 commands; over a million with
/// `ANTUMBRA_LONG=1`.
#[test]
#[allow(clippy::disallowed_methods)]
fn apply_agrees_with_the_naive_model() {
    let long = std::env::var("ANTUMBRA_LONG").is_ok_and(|value| value == "1");
    let (seeds, steps) = if long { (1_100, 1_000) } else { (40, 500) };
    let mut counts = Counts::default();
    for seed in 0..seeds {
        sequence(seed, steps, &mut counts);
    }
    println!("{counts:?}");
    assert!(
        counts.accepted > counts.commands / 4,
        "most of the run must be real changes"
    );
    assert!(
        counts.codes.len() >= 7,
        "every kind of rejection must be met: {:?}",
        counts.codes
    );
}

#[derive(Debug, Default)]
struct Counts {
    commands: u64,
    accepted: u64,
    changes: u64,
    retries: u64,
    undone: u64,
    codes: std::collections::BTreeMap<&'static str, u64>,
}

fn sequence(seed: u64, steps: usize, counts: &mut Counts) {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut world = World::new();
    world.time = 1_000_000;
    world.limits = Limits {
        document_bytes_max: 150,
        shadows_per_device_max: 3,
        ..Limits::default()
    };
    let mut model = Model::new(150, 3);
    let mut past: Vec<Ask> = Vec::new();
    for step in 0..steps {
        let ask = ask(&mut random, &model, &past, &mut world.time);
        world.index += 1;
        let applied = world.run_at(draft(&ask), ask.time);
        let expected = model.run(&ask);
        let context = format!("seed {seed} step {step}: {ask:?}");
        compare_outcome(&applied, &expected, counts, &context);
        for change in &applied.changes {
            let record = FeedRecord::from(change);
            assert_eq!(change.encode_record(), record.encode(), "{context}");
            let shadow = &model.shadows[change.shadow.as_str()];
            // A batch may change a shadow again; only the last change is what the model shows.
            if change.version == shadow.version {
                compare_document(&change.current, shadow, &context);
            }
        }
        if applied.changes.len() == 1 && step % 2 == 0 {
            undo(&world, &applied, &context);
            counts.undone += 1;
        }
        if ask.request_id.is_some() {
            past.push(ask);
        }
    }
    for (name, shadow) in &model.shadows {
        compare_document(
            &world.named(name).unwrap(),
            shadow,
            &format!("seed {seed}: {name}"),
        );
    }
}

fn compare_outcome(
    applied: &Applied,
    expected: &model::Answer,
    counts: &mut Counts,
    context: &str,
) {
    counts.commands += 1;
    match (&applied.outcome, expected) {
        (Outcome::Accepted(items), Ok(versions)) => {
            let got: Vec<_> = items.iter().map(|item| item.version).collect();
            assert_eq!(&got, versions, "{context}");
            counts.accepted += 1;
            counts.changes += applied.changes.len() as u64;
            counts.retries += u64::from(applied.changes.is_empty());
        }
        (Outcome::Rejected(rejection), Err(code)) => {
            assert_eq!(rejection.code(), *code, "{context}");
            assert!(applied.changes.is_empty(), "{context}");
            *counts.codes.entry(rejection.code()).or_default() += 1;
        }
        (got, expected) => panic!("{context}: got {got:?}, expected {expected:?}"),
    }
}

fn compare_document(document: &Document, shadow: &Shadow, context: &str) {
    let decoded = Document::decode(document.encoded().clone()).unwrap();
    assert_eq!(decoded.version(), shadow.version, "{context}");
    assert_eq!(decoded.is_deleted(), shadow.deleted, "{context}");
    assert_eq!(decoded.created(), Time(shadow.created), "{context}");
    assert_eq!(decoded.updated(), Time(shadow.updated), "{context}");
    assert_eq!(decoded.proposed_version(), shadow.proposed, "{context}");
    assert_eq!(
        decoded.state_bytes(),
        model::size(&shadow.state),
        "{context}"
    );
    for section in Section::ALL {
        let at = section as usize;
        assert_eq!(
            decoded.section_version(section),
            shadow.sections[at],
            "{context}"
        );
        let state = decoded.state_json(section, &[]);
        compare_tree(state, &shadow.state[at], context);
        let metadata = decoded.metadata_json(section, &[], TimeUnit::Milliseconds);
        compare_tree(
            metadata,
            &model::metadata(&shadow.state[at], &shadow.stamps[at]),
            context,
        );
        for (path, (_, version)) in &shadow.stamps[at] {
            let pointer = Pointer::of_keys(path.iter().map(String::as_str));
            assert_eq!(
                decoded.leaf_version(section, &pointer),
                Some(*version),
                "{context}"
            );
        }
    }
    let delta = model::delta(&shadow.state[0], &shadow.state[1]);
    compare_tree(decoded.delta_json(&[]), &delta, context);
    assert_eq!(decoded.has_delta(), !delta.is_empty(), "{context}");
}

fn compare_tree(text: Option<String>, tree: &Tree, context: &str) {
    match text {
        None => assert!(
            tree.is_empty(),
            "{context}: nothing shown, expected {tree:?}"
        ),
        Some(text) => {
            let shown: Tree = serde_json::from_str(&text).unwrap();
            assert_eq!(&shown, tree, "{context}");
            assert_eq!(
                text.len(),
                serde_json::to_string(tree).unwrap().len(),
                "{context}"
            );
        }
    }
}

/// Applies the undo of a change and expects the state before it.
fn undo(world: &World, applied: &Applied, context: &str) {
    let change = &applied.changes[0];
    let mut world = world.clone();
    world.limits = Limits {
        document_bytes_max: u32::MAX,
        ..Limits::default()
    };
    let update = Update {
        shadow: change.shadow.clone(),
        patch: change.undo.clone(),
        conditions: Conditions::default(),
    };
    let undone = world.run(Draft::new("undo", Kind::Update(update)));
    let undone = crate::support::accepted(undone).current;
    for section in Section::ALL {
        let before = change
            .previous
            .as_ref()
            .and_then(|document| document.state_json(section, &[]));
        assert_eq!(undone.state_json(section, &[]), before, "{context}");
    }
}

fn ask(random: &mut SmallRng, model: &Model, past: &[Ask], time: &mut u64) -> Ask {
    *time += match random.random_range(0..20) {
        0 => 70_000,
        1 => 0,
        _ => random.random_range(0..3_000),
    };
    // Now and then the clock of a new leader is behind.
    let now = if random.random_range(0..20) == 0 {
        *time - 500_000
    } else {
        *time
    };
    if !past.is_empty() && random.random_range(0..12) == 0 {
        let from = past.len().saturating_sub(60);
        let mut retry = past[random.random_range(from..past.len())].clone();
        retry.time = now;
        if random.random_range(0..6) == 0 {
            retry.acts = vec![act(random, model)];
            retry.batch = false;
        }
        return retry;
    }
    let batch = random.random_range(0..8) == 0;
    let acts = if batch { random.random_range(1..4) } else { 1 };
    let request = random.random_range(0..3) == 0;
    Ask {
        time: now,
        request_id: request.then(|| format!("r{}", past.len())),
        issued: (request && random.random_range(0..2) == 0).then_some(now),
        acts: (0..acts).map(|_| act(random, model)).collect(),
        batch,
    }
}

fn act(random: &mut SmallRng, model: &Model) -> Act {
    let shadow = SHADOWS[random.random_range(0..SHADOWS.len())].to_owned();
    let when = when(random, model.shadows.get(&shadow));
    if random.random_range(0..12) == 0 {
        return Act::Delete { shadow, when };
    }
    let mut wish = || match random.random_range(0..12) {
        0..=4 => Wish::Absent,
        5 => Wish::Clear,
        _ => Wish::Merge(tree(random, 0)),
    };
    Act::Update {
        shadow,
        wishes: [wish(), wish()],
        when,
    }
}

fn when(random: &mut SmallRng, shadow: Option<&Shadow>) -> When {
    let mut when = When::default();
    let shadow = shadow
        .filter(|shadow| !shadow.deleted)
        .cloned()
        .unwrap_or_default();
    match random.random_range(0..16) {
        0 => when.version = Some(shadow.version),
        1 => when.version = Some(random.random_range(0..50)),
        2 => when.proposed = Some(shadow.proposed.unwrap_or(0) + random.random_range(0..3)),
        3 => when.sections[0] = Some(shadow.sections[0]),
        4 => when.sections[1] = Some(shadow.sections[1].saturating_sub(1)),
        5 => {
            let section = random.random_range(0..2);
            let key = KEYS[random.random_range(0..KEYS.len())];
            let mut value = shadow.state[section].get(key).cloned();
            if random.random_range(0..4) == 0 {
                value = Some(leaf(random));
            }
            let value = value.filter(|value| !value.is_null());
            when.equals = Some((section, vec![key.to_owned()], value));
        }
        _ => {}
    }
    when
}

fn tree(random: &mut SmallRng, depth: usize) -> Tree {
    let members = random.random_range(0..4);
    (0..members)
        .map(|_| {
            let key = KEYS[random.random_range(0..KEYS.len())].to_owned();
            let value = match random.random_range(0..10) {
                0..=2 => Value::Null,
                3..=5 if depth < 4 => Value::Object(tree(random, depth + 1)),
                _ => leaf(random),
            };
            (key, value)
        })
        .collect()
}

fn leaf(random: &mut SmallRng) -> Value {
    let texts = [
        "1", "1.0", "2.5", "-3", "true", "false", "\"\"", "\"s\\n\"", "[]", "[1,2.0]", "[1.0,2]",
    ];
    let more = [r#"[{"k":[1]},"x"]"#, "{}", "10", "\"1\""];
    let at = random.random_range(0..texts.len() + more.len());
    let text = texts.iter().chain(&more).nth(at).unwrap();
    serde_json::from_str(text).unwrap()
}

fn draft(ask: &Ask) -> Draft {
    let items: Vec<BatchItem> = ask.acts.iter().map(item).collect();
    let mut draft = update_draft("", "{}", Conditions::default());
    draft.kind = match (ask.batch, items) {
        (true, items) => Kind::Batch(items),
        (false, items) => match items.into_iter().next().unwrap() {
            BatchItem::Update(update) => Kind::Update(update),
            BatchItem::Delete(delete) => Kind::Delete(delete),
        },
    };
    draft.issued = ask.issued.map(Time);
    match &ask.request_id {
        Some(id) => with_request(draft, id),
        None => draft,
    }
}

fn item(act: &Act) -> BatchItem {
    match act {
        Act::Delete { shadow, when } => BatchItem::Delete(delete_item(shadow, conditions(when))),
        Act::Update {
            shadow,
            wishes,
            when,
        } => {
            let mut state = Tree::new();
            for (name, wish) in ["desired", "reported"].into_iter().zip(wishes) {
                match wish {
                    Wish::Absent => {}
                    Wish::Clear => drop(state.insert(name.to_owned(), Value::Null)),
                    Wish::Merge(tree) => {
                        state.insert(name.to_owned(), Value::Object(tree.clone()));
                    }
                }
            }
            let state = serde_json::to_string(&state).unwrap();
            BatchItem::Update(crate::support::update_item(
                shadow,
                &state,
                conditions(when),
            ))
        }
    }
}

fn conditions(when: &When) -> Conditions {
    let paths = when
        .equals
        .iter()
        .map(|(section, path, value)| PathCondition {
            section: Section::ALL[*section],
            pointer: Pointer::of_keys(path.iter().map(String::as_str)),
            test: match value {
                None => PathTest::Absent,
                Some(value) => {
                    PathTest::equals(&json(&value.to_string()), &Limits::default()).unwrap()
                }
            },
        });
    Conditions {
        expected_version: when.version,
        proposed_version_greater: when.proposed,
        expected_desired_version: when.sections[0],
        expected_reported_version: when.sections[1],
        paths: paths.collect(),
    }
}
