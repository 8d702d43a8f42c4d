//! Clients of `StreamUpdates`: several share one stream, and each has one update in flight.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::SelectAll;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use antumbra_proto::v1;

use super::antumbra::patch;
use super::leaders::Way;
use super::load::{CALL_LIMIT, reason};
use super::tally::{Done, Tally};
use super::workload::Walk;

/// Starts one stream to each node of the way for these clients. They end when the time is up and all are
/// answered.
pub(crate) fn start(tasks: &mut JoinSet<()>, tally: &Arc<Tally>, way: Way, walks: Vec<Walk>) {
    let tally = Arc::clone(tally);
    tasks.spawn(async move {
        if let Err(reason) = run(&tally, way, walks).await {
            tally.failed(&reason);
        }
    });
}

/// One client of the streams.
struct Slot {
    walk: Walk,
    sequence: u64,
    sent: Instant,
}

/// The sending halves of the streams.
struct Senders {
    way: Way,
    streams: Vec<mpsc::Sender<v1::StreamUpdatesRequest>>,
}

async fn run(tally: &Tally, mut way: Way, walks: Vec<Walk>) -> Result<(), String> {
    let count = walks.len() as u64;
    let (mut senders, mut receivers) = (Vec::new(), Vec::new());
    for _ in 0..way.len() {
        // Room for one update of each client: sending never waits.
        let (sender, receiver) = mpsc::channel(walks.len().max(1));
        senders.push(sender);
        receivers.push(receiver);
    }
    let streams = Senders {
        way: way.clone(),
        streams: senders,
    };
    let mut slots = Vec::new();
    for (number, walk) in (0..count).zip(walks) {
        let mut slot = Slot {
            walk,
            sequence: number,
            sent: Instant::now(),
        };
        streams.send(&mut slot).await?;
        slots.push(slot);
    }
    let mut answers = SelectAll::new();
    for (number, receiver) in receivers.into_iter().enumerate() {
        let updates = ReceiverStream::new(receiver);
        let opened = way.client(number).stream_updates(updates).await;
        answers.push(opened.map_err(|status| reason(&status))?.into_inner());
    }
    let mut in_flight = count;
    while in_flight > 0 {
        let Some(answer) = next(&mut answers).await? else {
            return Err("STREAM_ENDED".to_owned());
        };
        let slot = &mut slots[(answer.sequence % count) as usize];
        if slot.sequence != answer.sequence {
            return Err("UNKNOWN_SEQUENCE".to_owned());
        }
        match answer.result.unwrap_or_default() {
            result if result.code == 0 => tally.answered(slot.sent, &Done::ONE),
            result => tally.failed(&result.reason),
        }
        if tally.over() {
            in_flight -= 1;
            continue;
        }
        slot.sequence += count;
        slot.sent = Instant::now();
        streams.send(slot).await?;
    }
    drop(streams);
    match next(&mut answers).await? {
        None => Ok(()),
        Some(_) => Err("ANSWERED_TWICE".to_owned()),
    }
}

impl Senders {
    async fn send(&self, slot: &mut Slot) -> Result<(), String> {
        let (key, change) = slot.walk.next();
        let request = v1::StreamUpdatesRequest {
            sequence: slot.sequence,
            update: Some(patch(key, change)),
        };
        let sent = self.streams[self.way.number(key)].send(request).await;
        sent.map_err(|_| "STREAM_CLOSED".to_owned())
    }
}

type Answers = SelectAll<Streaming<v1::StreamUpdatesResponse>>;

async fn next(answers: &mut Answers) -> Result<Option<v1::StreamUpdatesResponse>, String> {
    match timeout(CALL_LIMIT, answers.next()).await {
        Ok(Some(Ok(answer))) => Ok(Some(answer)),
        Ok(None) => Ok(None),
        Ok(Some(Err(status))) => Err(reason(&status)),
        Err(_) => Err("NO_ANSWER".to_owned()),
    }
}
