//! A server that answers like a node and watches the clients: the load itself is under test here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::stream::BoxStream;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use antumbra_proto::v1;
use v1::shadows_client::ShadowsClient;
use v1::shadows_server::{Shadows, ShadowsServer};

use super::leaders::Way;
use super::tally::{Counted, Tally};
use super::workload::Walk;
use super::{antumbra, load, stream};

/// Clients of each run here.
const CLIENTS: u64 = 8;
/// After this silence what is held back is answered.
const SILENCE: Duration = Duration::from_millis(30);

#[derive(Clone, Default)]
struct Fake {
    /// Updates answered.
    answered: Arc<AtomicU64>,
    /// Every so many updates are refused; 0: none.
    refuse_each: u64,
}

type Reply<T> = Result<Response<T>, Status>;

fn absent<T>() -> Reply<T> {
    Err(Status::unimplemented("not needed"))
}

impl Fake {
    /// The answer to an update, after a look at it.
    fn answer(&self, update: &v1::UpdateShadowRequest) -> v1::BatchUpdateResult {
        let number = 1 + self.answered.fetch_add(1, Ordering::Relaxed);
        let refused = self.refuse_each > 0 && number.is_multiple_of(self.refuse_each);
        let patch: Result<serde_json::Value, _> = serde_json::from_str(update.reported_json());
        let reason = match patch {
            Err(_) => "NO_JSON",
            Ok(_) if refused => "OVERLOADED",
            Ok(_) => "",
        };
        v1::BatchUpdateResult {
            code: i32::from(!reason.is_empty()),
            reason: reason.to_owned(),
            ..<_>::default()
        }
    }
}

#[tonic::async_trait]
impl Shadows for Fake {
    async fn get_shadow(&self, _: Request<v1::GetShadowRequest>) -> Reply<v1::GetShadowResponse> {
        absent()
    }

    async fn batch_get_shadows(
        &self,
        _: Request<v1::BatchGetShadowsRequest>,
    ) -> Reply<v1::BatchGetShadowsResponse> {
        absent()
    }

    async fn update_shadow(
        &self,
        request: Request<v1::UpdateShadowRequest>,
    ) -> Reply<v1::UpdateShadowResponse> {
        match self.answer(request.get_ref()) {
            result if result.code == 0 => Ok(Response::new(<_>::default())),
            result => Err(Status::resource_exhausted(result.reason)),
        }
    }

    async fn batch_update_shadows(
        &self,
        _: Request<v1::BatchUpdateShadowsRequest>,
    ) -> Reply<v1::BatchUpdateShadowsResponse> {
        absent()
    }

    async fn delete_shadow(
        &self,
        _: Request<v1::DeleteShadowRequest>,
    ) -> Reply<v1::DeleteShadowResponse> {
        absent()
    }

    async fn list_shadows(
        &self,
        _: Request<v1::ListShadowsRequest>,
    ) -> Reply<v1::ListShadowsResponse> {
        absent()
    }

    async fn list_devices(
        &self,
        _: Request<v1::ListDevicesRequest>,
    ) -> Reply<v1::ListDevicesResponse> {
        absent()
    }

    type WatchShadowsStream = BoxStream<'static, Result<v1::WatchShadowsResponse, Status>>;

    async fn watch_shadows(
        &self,
        _: Request<v1::WatchShadowsRequest>,
    ) -> Reply<Self::WatchShadowsStream> {
        absent()
    }

    type StreamUpdatesStream = ReceiverStream<Result<v1::StreamUpdatesResponse, Status>>;

    /// Answers when all clients wait, the last one first, or when nothing more comes. Ends the
    /// stream with an error when more is in flight than there are clients, or two updates of one
    /// device or with one sequence.
    async fn stream_updates(
        &self,
        request: Request<Streaming<v1::StreamUpdatesRequest>>,
    ) -> Reply<Self::StreamUpdatesStream> {
        let (replies, receiver) = mpsc::channel(CLIENTS as usize);
        let (fake, mut incoming) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            let mut held = Vec::new();
            loop {
                let message = timeout(SILENCE, incoming.message()).await;
                let ended = matches!(message, Ok(Ok(None) | Err(_)));
                if let Ok(Ok(Some(request))) = message {
                    held.push(request);
                    if held.len() < CLIENTS as usize {
                        continue;
                    }
                }
                if let Err(status) = check(&held) {
                    replies.send(Err(status)).await.ok();
                    return;
                }
                for request in held.drain(..).rev() {
                    let reply = v1::StreamUpdatesResponse {
                        sequence: request.sequence,
                        result: request.update.as_ref().map(|update| fake.answer(update)),
                    };
                    replies.send(Ok(reply)).await.ok();
                }
                if ended {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

fn check(held: &[v1::StreamUpdatesRequest]) -> Result<(), Status> {
    let device = |request: &v1::StreamUpdatesRequest| -> Option<String> {
        Some(request.update.as_ref()?.key.as_ref()?.device_id.clone())
    };
    let devices: BTreeSet<_> = held.iter().map(device).collect();
    let sequences: BTreeSet<_> = held.iter().map(|request| request.sequence).collect();
    if devices.len() < held.len() || sequences.len() < held.len() || held.len() > CLIENTS as usize {
        return Err(Status::internal("clients are not closed loops"));
    }
    Ok(())
}

/// Puts load on a fake for a short while.
async fn run(fake: Fake, streamed: bool) -> Counted {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::builder().add_service(ShadowsServer::new(fake));
    let server = tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let channel = load::connect(&[endpoint], 1).await.unwrap().remove(0);
    let tally = Arc::new(Tally::start(Duration::ZERO, Duration::from_millis(300)).unwrap());
    let mut tasks = JoinSet::new();
    let way = Way::One(ShadowsClient::new(channel));
    let mut walks = (0..CLIENTS).map(|client| Walk::new(client, CLIENTS, 100));
    if streamed {
        stream::start(&mut tasks, &tally, way, walks.collect());
    } else {
        let walk = walks.next().unwrap();
        load::start(&mut tasks, &tally, antumbra::Update { way, walk });
    }
    load::finish(tasks, &tally).await.unwrap();
    server.abort();
    tally.counted()
}

/// Clients of a stream must have one update in flight each, whatever the order of the answers.
#[tokio::test]
async fn clients_of_a_stream_are_closed_loops() {
    let fake = Fake::default();
    let counted = run(fake.clone(), true).await;
    assert_eq!(counted.errors, [].into());
    let answered = fake.answered.load(Ordering::Relaxed);
    assert!(counted.operations >= 5 * CLIENTS, "{}", counted.operations);
    // The last answer of each client may come when the time is up.
    assert!(answered - counted.operations <= CLIENTS);
    assert_eq!(counted.latency.len(), counted.operations);
}

/// A refused update is no update, and makes the run fail.
#[tokio::test]
async fn errors_are_counted_and_not_measured() {
    for streamed in [true, false] {
        let fake = Fake {
            refuse_each: 3,
            ..Fake::default()
        };
        let counted = run(fake.clone(), streamed).await;
        let refused = fake.answered.load(Ordering::Relaxed) / 3;
        assert!(refused > 0);
        assert_eq!(counted.errors.values().sum::<u64>(), refused);
        assert_eq!(counted.errors.len(), 1);
        assert!(
            counted
                .errors
                .keys()
                .all(|reason| reason.contains("OVERLOADED"))
        );
        assert!(counted.operations >= refused);
    }
}

/// A server that goes away is an error, and the run ends by itself.
#[tokio::test]
async fn a_call_that_is_not_served_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::builder().add_service(ShadowsServer::new(Fake::default()));
    let server = tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let channel = load::connect(&[endpoint], 1).await.unwrap().remove(0);
    server.abort();
    server.await.ok();
    let tally = Arc::new(Tally::start(Duration::ZERO, Duration::from_millis(300)).unwrap());
    let mut tasks = JoinSet::new();
    let (way, walk) = (Way::One(ShadowsClient::new(channel)), Walk::new(0, 1, 100));
    load::start(&mut tasks, &tally, antumbra::Read { way, walk });
    load::finish(tasks, &tally).await.unwrap();
    let counted = tally.counted();
    assert_eq!(counted.operations, 0);
    assert!(!counted.errors.is_empty());
}
