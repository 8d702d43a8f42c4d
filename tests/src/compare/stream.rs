//! Clients of `StreamUpdates`: several share one stream, and each has one update in flight.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use antumbra_proto::v1;
use v1::shadows_client::ShadowsClient;

use super::antumbra::patch;
use super::load::{CALL_LIMIT, reason};
use super::tally::{Done, Tally};
use super::workload::Walk;

/// Starts one stream for these clients. It ends when the time is up and all are answered.
pub(crate) fn start(
    tasks: &mut JoinSet<()>,
    tally: &Arc<Tally>,
    shadows: ShadowsClient<Channel>,
    walks: Vec<Walk>,
) {
    let tally = Arc::clone(tally);
    tasks.spawn(async move {
        if let Err(reason) = one_stream(&tally, shadows, walks).await {
            tally.failed(&reason);
        }
    });
}

/// One client of the stream.
struct Slot {
    walk: Walk,
    sequence: u64,
    sent: Instant,
}

async fn one_stream(
    tally: &Tally,
    mut shadows: ShadowsClient<Channel>,
    walks: Vec<Walk>,
) -> Result<(), String> {
    let count = walks.len() as u64;
    // Room for one update of each client: sending never waits.
    let (sender, receiver) = mpsc::channel(walks.len().max(1));
    let mut slots = Vec::new();
    for (number, walk) in (0..count).zip(walks) {
        let mut slot = Slot {
            walk,
            sequence: number,
            sent: Instant::now(),
        };
        send(&sender, &mut slot).await?;
        slots.push(slot);
    }
    let opened = shadows.stream_updates(ReceiverStream::new(receiver)).await;
    let mut answers = opened.map_err(|status| reason(&status))?.into_inner();
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
        send(&sender, slot).await?;
    }
    drop(sender);
    match next(&mut answers).await? {
        None => Ok(()),
        Some(_) => Err("ANSWERED_TWICE".to_owned()),
    }
}

async fn send(
    sender: &mpsc::Sender<v1::StreamUpdatesRequest>,
    slot: &mut Slot,
) -> Result<(), String> {
    let (key, change) = slot.walk.next();
    let request = v1::StreamUpdatesRequest {
        sequence: slot.sequence,
        update: Some(patch(key, change)),
    };
    let sent = sender.send(request).await;
    sent.map_err(|_| "STREAM_CLOSED".to_owned())
}

async fn next(
    answers: &mut Streaming<v1::StreamUpdatesResponse>,
) -> Result<Option<v1::StreamUpdatesResponse>, String> {
    match timeout(CALL_LIMIT, answers.message()).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) => Err(reason(&status)),
        Err(_) => Err("NO_ANSWER".to_owned()),
    }
}
