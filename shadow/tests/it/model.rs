//! A deliberately naive model of the rules: JSON trees, recursion, clones. It shares no code with
//! the crate beyond the words.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

pub(crate) type Tree = Map<String, Value>;
type Stamps = BTreeMap<Vec<String>, (u64, u64)>;

/// What a section of an update asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Wish {
    Absent,
    Clear,
    Merge(Tree),
}

/// One change of one shadow.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Act {
    Update {
        shadow: String,
        wishes: [Wish; 2],
        when: When,
    },
    Delete {
        shadow: String,
        when: When,
    },
}

/// Conditions.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct When {
    pub(crate) version: Option<u64>,
    pub(crate) proposed: Option<u64>,
    pub(crate) sections: [Option<u64>; 2],
    /// Section, path and the value that must be there; `None` means nothing may be there.
    pub(crate) equals: Option<(usize, Vec<String>, Option<Value>)>,
}

/// A command: several acts are a batch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ask {
    pub(crate) time: u64,
    pub(crate) request_id: Option<String>,
    pub(crate) issued: Option<u64>,
    pub(crate) acts: Vec<Act>,
    pub(crate) batch: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Shadow {
    pub(crate) deleted: bool,
    pub(crate) version: u64,
    pub(crate) created: u64,
    pub(crate) updated: u64,
    pub(crate) state: [Tree; 2],
    pub(crate) stamps: [Stamps; 2],
    pub(crate) sections: [u64; 2],
    pub(crate) proposed: Option<u64>,
}

/// What a command came to: versions, or the code of the rejection.
pub(crate) type Answer = Result<Vec<u64>, &'static str>;

#[derive(Debug, Clone)]
struct Remembered {
    id: String,
    time: u64,
    acts: Vec<Act>,
    batch: bool,
    answer: Vec<u64>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) shadows: BTreeMap<String, Shadow>,
    requests: Vec<Remembered>,
    forgotten: Option<u64>,
    bytes_max: usize,
    shadows_max: usize,
}

impl Model {
    pub(crate) fn new(bytes_max: usize, shadows_max: usize) -> Self {
        Self {
            bytes_max,
            shadows_max,
            ..Self::default()
        }
    }

    pub(crate) fn run(&mut self, ask: &Ask) -> Answer {
        if let Some(id) = &ask.request_id {
            if let Some(known) = self.requests.iter().find(|known| known.id == *id) {
                let same = known.acts == ask.acts && known.batch == ask.batch;
                return if same {
                    Ok(known.answer.clone())
                } else {
                    Err("REQUEST_ID_REUSED")
                };
            }
            if ask
                .issued
                .is_some_and(|issued| self.forgotten.is_some_and(|gone| issued <= gone))
            {
                return Err("REQUEST_FORGOTTEN");
            }
        }
        let mut next = self.shadows.clone();
        let mut versions = Vec::new();
        for act in &ask.acts {
            versions.push(self.act(&mut next, act, ask.time)?);
        }
        self.shadows = next;
        if let Some(id) = &ask.request_id {
            self.remember(id, ask, &versions);
        }
        Ok(versions)
    }

    fn remember(&mut self, id: &str, ask: &Ask, versions: &[u64]) {
        let latest = self
            .requests
            .last()
            .map_or(0, |last| last.time)
            .max(ask.time);
        self.requests.push(Remembered {
            id: id.to_owned(),
            time: latest,
            acts: ask.acts.clone(),
            batch: ask.batch,
            answer: versions.to_vec(),
        });
        for _ in 0..8 {
            let count = self.requests.len();
            let old = latest - self.requests[0].time > 60_000 && count > 16;
            if old || count > 1_024 {
                let gone = self.requests.remove(0);
                self.forgotten = self.forgotten.max(Some(gone.time));
            }
        }
    }

    fn act(
        &self,
        shadows: &mut BTreeMap<String, Shadow>,
        act: &Act,
        time: u64,
    ) -> Result<u64, &'static str> {
        let (name, when) = match act {
            Act::Update { shadow, when, .. } | Act::Delete { shadow, when } => (shadow, when),
        };
        let old = shadows.get(name).cloned().unwrap_or_default();
        let live = shadows.contains_key(name) && !old.deleted;
        if matches!(act, Act::Delete { .. }) && !live {
            return Err("NOT_FOUND");
        }
        let nothing = Shadow::default();
        check(when, if live { &old } else { &nothing })?;
        let count = shadows.values().filter(|shadow| !shadow.deleted).count();
        if !live && count >= self.shadows_max {
            return Err("TOO_MANY_SHADOWS");
        }
        let mut new = if live { old.clone() } else { nothing };
        new.version = old.version + 1;
        new.updated = time.max(old.updated);
        if !live {
            new.created = new.updated;
        }
        match act {
            Act::Delete { .. } => {
                new = Shadow {
                    deleted: true,
                    version: new.version,
                    created: new.created,
                    updated: new.updated,
                    ..Shadow::default()
                };
            }
            Act::Update { wishes, .. } => {
                for (at, wish) in wishes.iter().enumerate() {
                    change_section(&mut new, at, wish);
                }
                new.proposed = when.proposed.or(new.proposed);
                let size = size(&new.state);
                if size > self.bytes_max && size > if live { self::size(&old.state) } else { 0 } {
                    return Err("DOCUMENT_TOO_LARGE");
                }
            }
        }
        let version = new.version;
        shadows.insert(name.clone(), new);
        Ok(version)
    }
}

fn check(when: &When, shadow: &Shadow) -> Result<(), &'static str> {
    if when
        .version
        .is_some_and(|version| version != shadow.version)
    {
        return Err("VERSION_CONFLICT");
    }
    if when.proposed.is_some() && when.proposed <= shadow.proposed {
        return Err("CONDITION_FAILED");
    }
    for at in 0..2 {
        if when.sections[at].is_some_and(|version| version != shadow.sections[at]) {
            return Err("CONDITION_FAILED");
        }
    }
    if let Some((section, path, expected)) = &when.equals {
        let mut found = Some(&Value::Object(shadow.state[*section].clone())).cloned();
        for key in path {
            found = found.and_then(|value| value.get(key).cloned());
        }
        let met = match (expected, found) {
            (None, None) => true,
            (Some(expected), Some(found)) => same(expected, &found),
            _ => false,
        };
        if !met {
            return Err("CONDITION_FAILED");
        }
    }
    Ok(())
}

fn change_section(shadow: &mut Shadow, at: usize, wish: &Wish) {
    let mut sent = Vec::new();
    match wish {
        Wish::Absent => return,
        Wish::Clear => shadow.state[at] = Tree::new(),
        Wish::Merge(tree) => {
            merge(&mut shadow.state[at], tree);
            leaf_paths(tree, &mut Vec::new(), &mut sent);
            if tree.is_empty() {
                return;
            }
        }
    }
    shadow.sections[at] = shadow.version;
    let mut leaves = Vec::new();
    leaf_paths(&shadow.state[at], &mut Vec::new(), &mut leaves);
    let old = std::mem::take(&mut shadow.stamps[at]);
    for path in leaves {
        let kept = if sent.contains(&path) {
            None
        } else {
            old.get(&path).copied()
        };
        shadow.stamps[at].insert(path, kept.unwrap_or((shadow.updated, shadow.version)));
    }
}

fn merge(target: &mut Tree, patch: &Tree) {
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.remove(key);
            }
            Value::Object(below) => {
                if let Some(Value::Object(inner)) = target.get_mut(key) {
                    merge(inner, below);
                } else if let Some(fresh) = without_nulls(below) {
                    target.insert(key.clone(), Value::Object(fresh));
                }
            }
            other => {
                target.insert(key.clone(), other.clone());
            }
        }
    }
}

/// A new object without its nulls; `None` when nothing but nulls was in it.
fn without_nulls(tree: &Tree) -> Option<Tree> {
    let mut out = Tree::new();
    for (key, value) in tree {
        match value {
            Value::Null => {}
            Value::Object(below) => {
                if let Some(below) = without_nulls(below) {
                    out.insert(key.clone(), Value::Object(below));
                }
            }
            other => {
                out.insert(key.clone(), other.clone());
            }
        }
    }
    (tree.is_empty() || !out.is_empty()).then_some(out)
}

fn leaf_paths(tree: &Tree, path: &mut Vec<String>, out: &mut Vec<Vec<String>>) {
    for (key, value) in tree {
        path.push(key.clone());
        match value {
            Value::Object(below) if !below.is_empty() => leaf_paths(below, path, out),
            _ => out.push(path.clone()),
        }
        path.pop();
    }
}

/// Equality with numbers by value.
pub(crate) fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right)
                    .all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(key, value)| right.get(key).is_some_and(|other| same(value, other)))
        }
        _ => left == right,
    }
}

/// What desired has and reported lacks.
pub(crate) fn delta(desired: &Tree, reported: &Tree) -> Tree {
    let mut out = Tree::new();
    for (key, wanted) in desired {
        match (wanted, reported.get(key)) {
            (Value::Object(wanted), Some(Value::Object(have))) => {
                let below = delta(wanted, have);
                if !below.is_empty() {
                    out.insert(key.clone(), Value::Object(below));
                }
            }
            (wanted, Some(have)) if same(wanted, have) => {}
            (wanted, _) => {
                out.insert(key.clone(), wanted.clone());
            }
        }
    }
    out
}

/// Metadata with the times of the leaves.
pub(crate) fn metadata(tree: &Tree, stamps: &Stamps) -> Tree {
    fn object(tree: &Tree, path: &mut Vec<String>, stamps: &Stamps) -> Tree {
        let mut out = Tree::new();
        for (key, inner) in tree {
            path.push(key.clone());
            let shown = match inner {
                Value::Object(below) => Value::Object(object(below, path, stamps)),
                other => value_of(other, stamps[path].0),
            };
            out.insert(key.clone(), shown);
            path.pop();
        }
        out
    }
    object(tree, &mut Vec::new(), stamps)
}

fn value_of(value: &Value, time: u64) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| value_of(item, time)).collect(),
        Value::Object(below) => below
            .iter()
            .map(|(key, inner)| (key.clone(), value_of(inner, time)))
            .collect(),
        _ => serde_json::json!({ "timestamp": time }),
    }
}

/// Bytes of both sections as compact JSON; an empty section counts nothing.
pub(crate) fn size(state: &[Tree; 2]) -> usize {
    let bytes = |tree: &Tree| match tree.is_empty() {
        true => 0,
        false => serde_json::to_string(tree).unwrap().len(),
    };
    bytes(&state[0]) + bytes(&state[1])
}
