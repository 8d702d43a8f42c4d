//! What clients do while a simulated cluster is operated: writers whose every change is known, readers that
//! judge what they see, and devices that have to be back soon.
//!
//! Each shadow has one writer, and its n-th change is version n. So reads are linearizable exactly if every one
//! sees at least what was acknowledged, or seen by another reader, before it began, and no more than what was
//! tried before it ended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use antumbra_proto::v1;
use antumbra_tests::client::{Client as Grpc, Refusal, desired_update};
use antumbra_tests::mqtt::{Client, Connect, Version};
use antumbra_tests::waiting;
use tokio::task::JoinSet;
use tonic::Code;

const SHADOWS: usize = 12;
const READERS: usize = 4;
const DEVICES: usize = 10;
const PAUSE: Duration = Duration::from_millis(20);
/// How long one attempt may take.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(3);
/// Devices have to be back so soon, once there is somebody to come back to.
const BACK_WITHIN: Duration = Duration::from_secs(10);
/// Writers go on so soon.
const LIMIT: Duration = Duration::from_secs(60);

/// What is known of one shadow.
#[derive(Default)]
struct Register {
    /// The last change that was tried.
    tried: AtomicU64,
    /// The newest version that was acknowledged or read.
    seen: AtomicU64,
}

#[derive(Default)]
struct Shared {
    stops: AtomicBool,
    registers: Vec<Register>,
    acknowledged: AtomicU64,
    reads: AtomicU64,
    /// Since when each device is away, in milliseconds since the beginning; 0 while it is connected.
    away: Vec<AtomicU64>,
    /// The longest time that a device was away since somebody asked.
    longest_ms: AtomicU64,
}

/// What clients show where not everybody is let in.
#[derive(Clone)]
pub(crate) struct Proof {
    /// Token of backends.
    pub(crate) token: String,
    /// User name and password of devices.
    pub(crate) device: (String, String),
}

/// Clients that run until they are stopped.
pub(crate) struct Traffic {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
    devices: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Clients of a gRPC door, and devices of an MQTT door.
    pub(crate) fn start([grpc, mqtt]: [SocketAddr; 2], proof: Option<&Proof>) -> Traffic {
        // Each has a connection of its own.
        let client = || {
            let client = Grpc::new(grpc).with_limit(ATTEMPT_LIMIT);
            match proof {
                Some(proof) => client.with_token(&proof.token),
                None => client,
            }
        };
        let shared = Arc::new(Shared {
            registers: (0..SHADOWS).map(|_| Register::default()).collect(),
            away: (0..DEVICES).map(|_| AtomicU64::new(1)).collect(),
            ..Shared::default()
        });
        let mut clients = JoinSet::new();
        for nth in 0..SHADOWS {
            clients.spawn(write(Arc::clone(&shared), client(), nth));
        }
        for nth in 0..READERS {
            clients.spawn(read(Arc::clone(&shared), client(), nth));
        }
        let devices = (0..DEVICES).map(|nth| {
            let (shared, proof) = (Arc::clone(&shared), proof.cloned());
            let mut durable = Connect::durable(Version::V5, &format!("device-{nth}"));
            if let Some((user, password)) = proof.map(|proof| proof.device) {
                durable.user = Some(user);
                durable.password = Some(password.into_bytes());
            }
            thread::spawn(move || stay(&shared, mqtt, nth, &durable))
        });
        Traffic {
            devices: devices.collect(),
            clients,
            shared,
        }
    }

    /// Writers get on, and no device was away for too long since it was last asked.
    pub(crate) async fn goes_on(&self, after: &str) {
        let longest = self.progress(after).await;
        assert!(
            longest <= BACK_WITHIN,
            "{after}: a device was away for {longest:?}"
        );
    }

    /// Writers get on, and the devices are back; nobody could serve them before.
    pub(crate) async fn comes_back(&self, after: &str) {
        self.progress(after).await;
    }

    async fn progress(&self, after: &str) -> Duration {
        let shared = &self.shared;
        let begun = Instant::now();
        let all_back = || {
            let away = shared
                .away
                .iter()
                .any(|since| since.load(Ordering::SeqCst) > 0);
            async move { (!away).then_some(()) }
        };
        let back = waiting::until_async("all devices are back", BACK_WITHIN, all_back).await;
        back.unwrap_or_else(|error| panic!("{after}: {error}"));
        let back = begun.elapsed();
        let (before, reads) = (self.acknowledged(), shared.reads.load(Ordering::SeqCst));
        let got_on = || async {
            let is_enough = self.acknowledged() >= before + 100
                && shared.reads.load(Ordering::SeqCst) >= reads + 100;
            is_enough.then_some(())
        };
        let got_on = waiting::until_async("writers and readers get on", LIMIT, got_on).await;
        got_on.unwrap_or_else(|error| panic!("{after}: {error}"));
        let longest = Duration::from_millis(shared.longest_ms.swap(0, Ordering::SeqCst));
        println!("{after}: devices are back within {back:?}, the longest was away for {longest:?}");
        longest
    }

    fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::SeqCst)
    }

    /// Stops all clients once they know what became of what they did.
    pub(crate) async fn stop(mut self) {
        self.shared.stops.store(true, Ordering::SeqCst);
        while let Some(done) = self.clients.join_next().await {
            done.unwrap();
        }
        for device in self.devices {
            device.join().unwrap();
        }
        println!(
            "{} changes acknowledged and {} reads, none lost, none out of order; {DEVICES} devices",
            self.shared.acknowledged.load(Ordering::SeqCst),
            self.shared.reads.load(Ordering::SeqCst)
        );
    }
}

fn name(nth: usize) -> String {
    format!("busy-{nth}")
}

/// Whether an attempt failed in a way that may be repeated.
fn is_passing(refusal: &Refusal) -> bool {
    let passing = [
        Code::Unavailable,
        Code::Unknown,
        Code::DeadlineExceeded,
        Code::Cancelled,
        Code::ResourceExhausted,
    ];
    // What has no reason is said by the library of a connection that broke, not by a node.
    refusal.reason.is_empty() || passing.contains(&refusal.code)
}

/// Makes one change after another, each until it is known to be made.
async fn write(shared: Arc<Shared>, grpc: Grpc, nth: usize) {
    let register = &shared.registers[nth];
    for n in 1_u64.. {
        register.tried.store(n, Ordering::SeqCst);
        let update = v1::UpdateShadowRequest {
            request_id: format!("{}-{n}", name(nth)),
            ..desired_update(&name(nth), &format!("{{\"n\":{n}}}"))
        };
        let version = loop {
            match grpc.send(update.clone()).await {
                Ok(done) => break done.version,
                Err(refusal) => assert!(is_passing(&refusal), "change {n}: {refusal:?}"),
            }
            tokio::time::sleep(PAUSE).await;
        };
        assert_eq!(
            version,
            n,
            "a change of {} was lost or made twice",
            name(nth)
        );
        register.seen.fetch_max(n, Ordering::SeqCst);
        shared.acknowledged.fetch_add(1, Ordering::SeqCst);
        if shared.stops.load(Ordering::SeqCst) {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Reads one shadow after another.
async fn read(shared: Arc<Shared>, grpc: Grpc, first: usize) {
    for nth in (0..SHADOWS).cycle().skip(first) {
        if shared.stops.load(Ordering::SeqCst) {
            return;
        }
        let register = &shared.registers[nth];
        let least = register.seen.load(Ordering::SeqCst);
        match grpc.find(&name(nth)).await {
            Ok(found) => {
                let version = found.map_or(0, |shadow| shadow.version);
                let most = register.tried.load(Ordering::SeqCst);
                assert!(
                    (least..=most).contains(&version),
                    "{} was read at version {version}, after {least} and before {most}",
                    name(nth)
                );
                register.seen.fetch_max(version, Ordering::SeqCst);
                shared.reads.fetch_add(1, Ordering::SeqCst);
            }
            Err(refusal) => assert!(is_passing(&refusal), "{refusal:?}"),
        }
        tokio::time::sleep(PAUSE / 2).await;
    }
}

/// Is connected, and comes back whenever it is not.
fn stay(shared: &Shared, door: SocketAddr, nth: usize, durable: &Connect) {
    let (begun, mut is_known) = (Instant::now(), false);
    let now_ms = || u64::try_from(begun.elapsed().as_millis()).unwrap() + 1;
    while !shared.stops.load(Ordering::SeqCst) {
        let dialled = Client::dial(door, durable).ok();
        let Some((mut client, ack)) = dialled.filter(|(_, ack)| ack.reason == 0) else {
            thread::sleep(PAUSE);
            continue;
        };
        assert_eq!(
            ack.session_present, is_known,
            "device-{nth} has lost its session"
        );
        let since = shared.away[nth].swap(0, Ordering::SeqCst);
        if is_known {
            let gap = now_ms().saturating_sub(since);
            shared.longest_ms.fetch_max(gap, Ordering::SeqCst);
        }
        is_known = true;
        while !shared.stops.load(Ordering::SeqCst) && client.ping().is_ok() {
            thread::sleep(PAUSE);
        }
        shared.away[nth].store(now_ms(), Ordering::SeqCst);
    }
}
