//! A live fleet for `antumbra dev --devices K`: devices as tasks of this process, so that there is
//! something to see, to set and to break.
//!
//! Each reports a temperature that wanders, and makes of itself what is desired. A device that
//! loses its node comes back at the next one, after a pause that grows. They say at most one line
//! a minute, all together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use antumbra_shadow::json::{Number, Value};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::cli::mqtt::device::{self, Topics};
use crate::cli::mqtt::{self, Connection, Endpoint, Event, Settings};
use crate::cli::output::object;
use crate::gateway::mqtt::wire::{Qos, Version};

use super::backoff::Backoff;
use super::supervisor::tell;

const KEEP_ALIVE_S: u16 = 60;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A device reports once in a time between these.
const REPORT_FASTEST: Duration = Duration::from_secs(3);
const REPORT_SLOWEST: Duration = Duration::from_secs(7);
/// How often the fleet may say something.
const NEWS_INTERVAL: Duration = Duration::from_secs(60);
/// How soon the first thing may be said: by then all are connected, if nothing is wrong.
const FIRST_NEWS: Duration = Duration::from_secs(10);

/// Plays `devices` devices, `fleet-1` and so on, until `stop` is cancelled; then all of them say
/// goodbye. They spread over `endpoints`, which may be gone for a while. Dropped midway, it ends
/// them without a goodbye.
pub(super) async fn run(endpoints: Vec<Endpoint>, devices: u32, stop: CancellationToken) {
    if endpoints.is_empty() || devices == 0 {
        return;
    }
    let endpoints: Arc<[Endpoint]> = endpoints.into();
    let connected = Arc::new(AtomicU32::new(0));
    let mut tasks = JoinSet::new();
    for nth in 0..devices {
        let device = Device {
            nth: nth as usize,
            name: format!("fleet-{}", nth + 1),
            endpoints: endpoints.clone(),
            connected: connected.clone(),
            random: Random::new(nth),
            tenths: 150 + i64::from(nth * 7 % 100),
        };
        let stop = stop.clone();
        tasks.spawn(async move { device.run(&stop).await });
    }
    tokio::select! {
        () = stop.cancelled() => {}
        () = tell_news(devices, &connected) => {}
    }
    while tasks.join_next().await.is_some() {}
}

/// Says how many are connected when that has changed, never often.
async fn tell_news(devices: u32, connected: &AtomicU32) {
    let mut told = None;
    sleep(FIRST_NEWS).await;
    let mut ticks = interval(NEWS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = connected.load(Ordering::Relaxed);
        if told != Some(now) {
            tell(&format!("fleet: {now} of {devices} devices are connected"));
            told = Some(now);
        }
    }
}

struct Device {
    nth: usize,
    name: String,
    endpoints: Arc<[Endpoint]>,
    connected: Arc<AtomicU32>,
    random: Random,
    /// Temperature in tenths of a degree.
    tenths: i64,
}

impl Device {
    async fn run(mut self, stop: &CancellationToken) {
        let mut backoff = Backoff::new();
        for attempt in 0.. {
            let endpoints = self.endpoints.clone();
            let endpoint = &endpoints[self.nth.wrapping_add(attempt) % endpoints.len()];
            let started = Instant::now();
            if self.session(endpoint, stop).await.is_ok() || stop.is_cancelled() {
                return;
            }
            // Up to half as much again: devices that were thrown out together come back apart.
            let wait = backoff.after(started.elapsed());
            let wait = self.random.between(wait, wait * 3 / 2);
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(wait) => {}
            }
        }
    }

    /// One connection, until it breaks or all is over.
    async fn session(
        &mut self,
        endpoint: &Endpoint,
        stop: &CancellationToken,
    ) -> Result<(), mqtt::Error> {
        let topics = Topics::new(&self.name, None);
        let opened = async {
            let settings = settings();
            let mut connection = mqtt::connect(endpoint, &self.name, &settings).await?;
            connection.subscribe(topics.followed()).await?;
            Ok::<_, mqtt::Error>(connection)
        };
        let mut connection = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            opened = opened => opened?,
        };
        connection.publish(topics.get(), "", Qos::AtMostOnce)?;
        let connected = self.connected.clone();
        let _present = Present::new(&connected);
        let ended = tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = self.live(&mut connection, &topics) => ended,
        };
        match ended {
            Ok(()) => connection.disconnect().await,
            Err(error) => Err(error),
        }
    }

    /// Reports and follows, until the connection breaks.
    async fn live(
        &mut self,
        connection: &mut Connection,
        topics: &Topics,
    ) -> Result<(), mqtt::Error> {
        let mut version = 0;
        let mut report_at = Instant::now();
        loop {
            let event = tokio::select! {
                biased;
                () = sleep_until(report_at) => None,
                event = connection.next() => Some(event?),
            };
            let state = match event {
                None => {
                    report_at += self.random.between(REPORT_FASTEST, REPORT_SLOWEST);
                    self.measure()
                }
                Some(Event::Message(message)) => {
                    let kind = topics.kind(&message.topic);
                    let payload = device::parse(&message.payload);
                    let delta = kind.zip(payload.as_ref());
                    match delta.and_then(|(kind, payload)| device::delta(kind, payload)) {
                        Some(delta) if delta.version >= version => {
                            version = delta.version;
                            delta.state
                        }
                        _ => continue,
                    }
                }
                Some(_) => continue,
            };
            let payload = device::report(state, &self.name);
            connection.publish(topics.update(), payload, Qos::AtLeastOnce)?;
        }
    }

    /// The temperature, a little off the last one.
    fn measure(&mut self) -> Value {
        // At most half a degree, and back towards 20 degrees from far away.
        let step = i64::from(self.random.next() % 11) - 5;
        self.tenths += step + (200 - self.tenths) / 50;
        let text = format!("{}.{}", self.tenths / 10, self.tenths.rem_euclid(10));
        let temperature = Number::from_text(&text).map_or(Value::Null, Value::Number);
        object([("temperature", temperature)])
    }
}

fn settings() -> Settings {
    Settings {
        version: Version::V5,
        clean_start: true,
        session_expiry_s: 0,
        keep_alive_s: KEEP_ALIVE_S,
        username: None,
        password: None,
        source: None,
        tls: None,
        timeout: CONNECT_TIMEOUT,
    }
}

/// One device more among the connected, as long as this lives.
struct Present<'a>(&'a AtomicU32);

impl<'a> Present<'a> {
    fn new(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Numbers without a visible pattern, the same in every run (xorshift, Marsaglia 2003).
struct Random(u32);

impl Random {
    fn new(seed: u32) -> Self {
        // Any state but 0; the factor sets neighbours apart.
        Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9).max(1))
    }

    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// A duration in this range.
    fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let share = f64::from(self.next()) / f64::from(u32::MAX);
        low + high.saturating_sub(low).mul_f64(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reports that did not change would be no news, and a value that ran away no temperature.
    #[test]
    fn temperature_wanders_and_stays() {
        let mut device = Device {
            nth: 0,
            name: "fleet-1".to_owned(),
            endpoints: Arc::new([]),
            connected: Arc::default(),
            random: Random::new(0),
            tenths: 150,
        };
        let reports: std::collections::BTreeSet<String> =
            (0..1_000).map(|_| device.measure().to_string()).collect();
        assert!(reports.len() > 20, "{reports:?}");
        assert!((50..400).contains(&device.tenths), "{}", device.tenths);
    }

    /// A node that is restarted must not be met by all its devices at once.
    #[test]
    fn pauses_differ() {
        let (low, high) = (Duration::from_secs(2), Duration::from_secs(3));
        let pauses: std::collections::BTreeSet<Duration> = (0..20)
            .map(|nth| Random::new(nth).between(low, high))
            .collect();
        assert!(pauses.len() > 15);
        assert!(pauses.iter().all(|pause| (low..=high).contains(pause)));
    }
}
