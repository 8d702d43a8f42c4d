//! The twins of a shard over a shard in memory: one entry in flight, honest outcomes, bounds.

mod bounds;
mod counts;
mod direct;
mod fake;
mod grouping;
mod outcomes;
mod reads;
mod roles;

use std::future::poll_fn;
use std::task::Poll;

use antumbra_shadow::{Failure, Outcome, Twins};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use fake::{FakeShard, classic, device, later, write};

type Running = JoinHandle<Result<Outcome, Failure>>;

/// Submits in the background, and comes back once the command waits or is in flight.
async fn submit(twins: &Twins<FakeShard>, number: usize, text: &str) -> Running {
    submit_until(twins, number, text, later()).await
}

async fn submit_until(
    twins: &Twins<FakeShard>,
    number: usize,
    text: &str,
    deadline: Instant,
) -> Running {
    let (started, has_started) = tokio::sync::oneshot::channel();
    let (twins, draft) = (twins.clone(), write(text));
    let running = tokio::spawn(async move {
        let device = device(number);
        let mut command = std::pin::pin!(twins.submit(&device, draft, deadline));
        let first = poll_fn(|context| Poll::Ready(command.as_mut().poll(context)));
        let first = first.await;
        started.send(()).unwrap();
        match first {
            Poll::Ready(result) => result,
            Poll::Pending => command.await,
        }
    });
    has_started.await.unwrap();
    running
}

async fn read_version(twins: &Twins<FakeShard>, number: usize) -> Option<u64> {
    let document = twins
        .read(&device(number), &classic(), later())
        .await
        .unwrap();
    document.map(|document| document.version())
}
