//! Where clients note what they did and what they were told.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use antumbra_proto::v1;

use super::availability::{Acknowledged, Pulse};
use super::history::{Action, Moment, Operation, Outcome, ShadowId};

/// Devices that are written at a steady rate, which shows for how long that was not possible.
const PULSE_DEVICES: u32 = 12;
/// Devices that all workers quarrel about, with two shadows each.
const HOT_DEVICES: u32 = 6;
/// Devices that are used now and then.
const COLD_DEVICES: u32 = 200;

/// The shadows of a run. Their ids tell what they are used for.
#[derive(Clone, Debug)]
pub struct Names {
    prefix: String,
    keys: Vec<(String, String)>,
    ids: BTreeMap<(String, String), ShadowId>,
}

impl Names {
    /// Names of a run; the seed is in them, so that other seeds use other places.
    pub fn new(seed: u64) -> Names {
        let prefix = format!("c{seed:x}-");
        let mut keys = Vec::new();
        let device = |kind: &str, number: u32| format!("{prefix}{kind}-{number}");
        keys.extend((0..PULSE_DEVICES).map(|n| (device("pulse", n), String::new())));
        for number in 0..HOT_DEVICES {
            keys.push((device("hot", number), String::new()));
            keys.push((device("hot", number), "settings".to_owned()));
        }
        keys.extend((0..COLD_DEVICES).map(|n| (device("cold", n), String::new())));
        let ids = (0..).map(ShadowId);
        Names {
            ids: keys.iter().cloned().zip(ids).collect(),
            keys,
            prefix,
        }
    }

    /// Begins all device ids of the run.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// All shadows.
    pub fn all(&self) -> impl Iterator<Item = ShadowId> + use<> {
        (0..self.keys.len() as u32).map(ShadowId)
    }

    /// Shadows that are written at a steady rate.
    pub fn pulse(&self) -> impl Iterator<Item = ShadowId> + use<> {
        (0..PULSE_DEVICES).map(ShadowId)
    }

    /// A shadow for the next operation of a worker, by two random numbers: every second one is hot.
    pub fn pick(&self, hot: bool, number: u32) -> ShadowId {
        let hot_shadows = HOT_DEVICES * 2;
        match hot {
            true => ShadowId(PULSE_DEVICES + number % hot_shadows),
            false => ShadowId(PULSE_DEVICES + hot_shadows + number % COLD_DEVICES),
        }
    }

    /// The device of a shadow.
    pub fn device(&self, shadow: ShadowId) -> &str {
        &self.keys[shadow.0 as usize].0
    }

    /// The key of a shadow.
    pub fn key(&self, shadow: ShadowId) -> v1::ShadowKey {
        let (device_id, shadow_name) = self.keys[shadow.0 as usize].clone();
        v1::ShadowKey {
            device_id,
            shadow_name,
            ..Default::default()
        }
    }

    /// The shadow of a key. One that is not of this run gets an id that no operation uses.
    pub fn id(&self, key: Option<&v1::ShadowKey>) -> ShadowId {
        let key = key.map(|key| (key.device_id.clone(), key.shadow_name.clone()));
        let id = key.and_then(|key| self.ids.get(&key).copied());
        id.unwrap_or(ShadowId(u32::MAX))
    }
}

/// The notes of all clients of a run.
pub struct Recorder {
    /// The shadows.
    pub names: Names,
    begun: Instant,
    operations: Mutex<Vec<Operation>>,
    values: AtomicU64,
    invoked: AtomicU64,
    stopping: AtomicBool,
    /// The last version that anybody was told, 0 when the shadow was absent.
    versions: Vec<AtomicU64>,
    /// When the latest acknowledged write of each steadily written shadow was sent.
    pulses: Vec<AtomicU64>,
}

impl Recorder {
    /// Time begins now.
    pub fn new(names: Names) -> Recorder {
        let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        Recorder {
            begun: Instant::now(),
            operations: Mutex::new(Vec::new()),
            values: AtomicU64::new(1),
            invoked: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            versions: zeros(names.all().count()),
            pulses: zeros(names.pulse().count()),
            names,
        }
    }

    /// The moment.
    pub fn now(&self) -> Moment {
        self.begun.elapsed().as_nanos() as Moment
    }

    /// A value that nobody has used.
    pub fn value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes that an operation is sent now.
    pub fn invoke(&self) -> Moment {
        self.invoked.fetch_add(1, Ordering::Relaxed);
        self.now()
    }

    /// Operations sent so far.
    pub fn invoked(&self) -> u64 {
        self.invoked.load(Ordering::Relaxed)
    }

    /// Notes a whole operation. Every operation that was sent must be noted.
    pub fn note(&self, operation: Operation) {
        let shadow = operation.shadow.0 as usize;
        let version = match (operation.action, operation.outcome) {
            (Action::ReadLocal { .. }, _) => None,
            (action, Outcome::Accepted { version }) => {
                Some(if action.deletes() { 0 } else { version })
            }
            (_, Outcome::Found { version, .. }) => Some(version),
            (_, Outcome::Conflict { current }) => Some(current),
            (_, Outcome::Absent) => Some(0),
            _ => None,
        };
        if let Some(version) = version {
            self.versions[shadow].store(version, Ordering::Relaxed);
        }
        if let (Some(pulse), Outcome::Accepted { .. }) =
            (self.pulses.get(shadow), operation.outcome)
        {
            pulse.fetch_max(operation.invoked, Ordering::Relaxed);
        }
        let mut operations = self.operations.lock().expect("noting does not panic");
        operations.push(operation);
    }

    /// The last version that anybody was told of a shadow.
    pub fn version(&self, shadow: ShadowId) -> u64 {
        self.versions[shadow.0 as usize].load(Ordering::Relaxed)
    }

    /// Whether every steadily written shadow had an acknowledged write that was sent since then.
    pub fn served_since(&self, moment: Moment) -> bool {
        let served = |pulse: &AtomicU64| pulse.load(Ordering::Relaxed) >= moment.max(1);
        self.pulses.iter().all(served)
    }

    /// Asks all clients to finish what they do and begin nothing more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether clients should stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Everything noted so far.
    pub fn operations(&self) -> Vec<Operation> {
        let operations = self.operations.lock().expect("noting does not panic");
        operations.clone()
    }
}

/// The acknowledged writes of the steadily written shadows.
pub fn pulse(names: &Names, operations: &[Operation]) -> Pulse {
    let mut pulse: Pulse = names.pulse().map(|shadow| (shadow, Vec::new())).collect();
    for operation in operations {
        let accepted = matches!(operation.outcome, Outcome::Accepted { .. });
        if let (Some(writes), true) = (pulse.get_mut(&operation.shadow), accepted) {
            writes.push(Acknowledged {
                invoked: operation.invoked,
                completed: operation.completed,
            });
        }
    }
    for writes in pulse.values_mut() {
        writes.sort_by_key(|write| write.completed);
    }
    pulse
}
