//! The load itself: clients that keep a number of updates in flight until the time is up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use antumbra_proto::v1::shadows_client::ShadowsClient;
use antumbra_proto::v1::{ShadowKey, StreamUpdatesRequest, UpdateShadowRequest};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_types::StatusExt;

use crate::cli::connect::{self, Shown};

use super::tally::Tally;

/// How long a client waits before it tries again after the connection failed.
const PAUSE: Duration = Duration::from_millis(100);
/// How long answers are awaited after the time is up.
const GRACE: Duration = Duration::from_secs(10);

/// What all clients of a run share.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Devices whose shadows are updated: `<prefix>0` and so on.
    pub(crate) devices: u64,
    /// Start of their ids.
    pub(crate) prefix: String,
    /// Tenant of the devices.
    pub(crate) tenant: String,
    /// Token to show, if there is one.
    pub(crate) token: Option<Shown>,
    /// Updates of one client that wait for their answer at one time.
    pub(crate) in_flight: usize,
    /// Bytes of padding in each update.
    pub(crate) padding: usize,
    /// Deadline of each update.
    pub(crate) timeout: Duration,
    /// Answers before this are not counted.
    pub(crate) from: Instant,
    /// No update is sent after this, and answers after it are not counted.
    pub(crate) until: Instant,
    /// Accepted updates so far, for the progress bar.
    pub(crate) progress: AtomicU64,
}

impl Plan {
    fn update(&self, n: u64) -> UpdateShadowRequest {
        let device = n % self.devices;
        let padding = "x".repeat(self.padding);
        UpdateShadowRequest {
            key: Some(ShadowKey {
                tenant: self.tenant.clone(),
                device_id: format!("{}{device}", self.prefix),
                shadow_name: String::new(),
            }),
            reported_json: Some(format!(r#"{{"sequence":{n},"padding":"{padding}"}}"#)),
            ..<_>::default()
        }
    }

    /// A request with the token.
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        connect::show(&mut request, self.token.as_ref());
        request
    }

    fn over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Counts an answer if it came while the clock ran.
    fn count(&self, tally: &mut Tally, sent: Instant, outcome: Result<(), &str>) {
        let now = Instant::now();
        if now < self.from || now > self.until {
            return;
        }
        match outcome {
            Ok(()) => {
                self.progress.fetch_add(1, Ordering::Relaxed);
                tally.accepted(now - sent);
            }
            Err(reason) => tally.failed(reason),
        }
    }
}

/// One client with a call of its own for each update. `first` and `step` choose its devices.
pub(crate) async fn unary(plan: Arc<Plan>, client: ShadowsClient<Channel>, first: u64) -> Tally {
    let next = Arc::new(AtomicU64::new(first));
    let mut slots = JoinSet::new();
    for _ in 0..plan.in_flight {
        let (plan, mut client, next) = (plan.clone(), client.clone(), next.clone());
        slots.spawn(async move {
            let mut tally = Tally::new();
            while !plan.over() {
                let update = plan.update(next.fetch_add(1, Ordering::Relaxed));
                let mut request = plan.request(update);
                request.set_timeout(plan.timeout);
                let sent = Instant::now();
                match client.update_shadow(request).await {
                    Ok(_) => plan.count(&mut tally, sent, Ok(())),
                    Err(status) => {
                        plan.count(&mut tally, sent, Err(&reason(&status)));
                        if status.code() == tonic::Code::Unavailable {
                            sleep(PAUSE).await;
                        }
                    }
                }
            }
            tally
        });
    }
    let mut all = Tally::new();
    while let Some(tally) = slots.join_next().await {
        tally
            .map(|tally| all.add(&tally))
            .unwrap_or_else(|_| all.failed("PANICKED"));
    }
    all
}

/// One client with one `StreamUpdates` call for all its updates; reopened when it breaks.
pub(crate) async fn stream(plan: Arc<Plan>, client: ShadowsClient<Channel>, first: u64) -> Tally {
    let mut tally = Tally::new();
    let mut next = first;
    while !plan.over() {
        let broken = one_stream(&plan, client.clone(), &mut next, &mut tally).await;
        if let Err(reason) = broken {
            plan.count(&mut tally, Instant::now(), Err(&reason));
            sleep(PAUSE).await;
        }
    }
    tally
}

/// When each update in flight was sent, by sequence. Bounded by the permits.
type Sent = Mutex<std::collections::BTreeMap<u64, Instant>>;

async fn one_stream(
    plan: &Arc<Plan>,
    mut client: ShadowsClient<Channel>,
    next: &mut u64,
    tally: &mut Tally,
) -> Result<(), String> {
    let permits = Arc::new(Semaphore::new(plan.in_flight));
    let sent = Arc::new(Sent::default());
    let (sender, receiver) = mpsc::channel(plan.in_flight);
    let writer = tokio::spawn(write(
        plan.clone(),
        permits.clone(),
        sent.clone(),
        sender,
        *next,
    ));
    let updates = plan.request(ReceiverStream::new(receiver));
    let opened = client.stream_updates(updates).await;
    let mut answers = opened.map_err(|status| reason(&status))?.into_inner();
    let broken = loop {
        let answer = match timeout_at(plan.until + GRACE, answers.message()).await {
            Ok(Ok(Some(answer))) => answer,
            Ok(Ok(None)) if plan.over() => break None,
            Ok(Ok(None)) => break Some("STREAM_ENDED".to_owned()),
            Ok(Err(status)) => break Some(reason(&status)),
            Err(_) => break Some("NO_ANSWER".to_owned()),
        };
        let Some(at) = sent.lock().remove(&answer.sequence) else {
            continue;
        };
        permits.add_permits(1);
        let result = answer.result.unwrap_or_default();
        let outcome = if result.code == 0 {
            Ok(())
        } else {
            Err(result.reason.as_str())
        };
        plan.count(tally, at, outcome);
    };
    writer.abort();
    if let Ok(reached) = writer.await {
        *next = reached;
    } else {
        *next += plan.devices;
    }
    for _ in 0..sent.lock().len() {
        plan.count(tally, Instant::now(), Err("NO_ANSWER"));
    }
    broken.map_or(Ok(()), Err)
}

/// Sends updates as permits allow until the time is up; then the stream ends by itself.
async fn write(
    plan: Arc<Plan>,
    permits: Arc<Semaphore>,
    sent: Arc<Sent>,
    sender: mpsc::Sender<StreamUpdatesRequest>,
    first: u64,
) -> u64 {
    let mut sequence = first;
    while let Ok(Ok(permit)) = timeout_at(plan.until, permits.acquire()).await {
        // Given back by whoever reads the answer.
        permit.forget();
        if plan.over() {
            break;
        }
        sent.lock().insert(sequence, Instant::now());
        let update = Some(plan.update(sequence));
        if sender
            .send(StreamUpdatesRequest { sequence, update })
            .await
            .is_err()
        {
            break;
        }
        sequence += 1;
    }
    sequence
}

/// The reason of a failed call, or the name of its code.
fn reason(status: &Status) -> String {
    match status.get_details_error_info() {
        Some(info) if !info.reason.is_empty() => info.reason,
        _ => format!("{:?}", status.code()),
    }
}
