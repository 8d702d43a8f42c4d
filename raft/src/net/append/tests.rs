#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use futures::stream::BoxStream;
use openraft::errors::RPCError;
use openraft::raft::StreamAppendError;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::net::fake::{Way, fake, heard, route, say};
use crate::net::wire::Message;
use crate::net::{Duplex, Links, Refusal};
use crate::types::{Entry, LogId, Node, Payload, Vote, log_id};

/// A pipeline between a test that plays openraft and one that plays the follower.
struct Play {
    requests: mpsc::UnboundedSender<Request>,
    answers: BoxStream<'static, Answer>,
    ends: mpsc::UnboundedReceiver<Duplex>,
}

fn play(lane: Lane, patience: Duration) -> Play {
    let (sender, ends) = mpsc::unbounded_channel();
    let transport = fake(Way::Open(sender));
    let links = Links::new(transport, 1, TaskTracker::new(), CancellationToken::new());
    let client = Client {
        links: Arc::new(links),
        route: route(),
        node: Node::default(),
        lane,
        patience,
    };
    let (requests, mut taken) = mpsc::unbounded_channel();
    let input = Box::pin(stream::poll_fn(move |context| taken.poll_recv(context)));
    let answers = match lane {
        Lane::Log => Pipeline::new(&client, input).answers().boxed(),
        _ => heartbeats(&client, input, patience).boxed(),
    };
    Play {
        requests,
        answers,
        ends,
    }
}

fn request(prev: u64, entries: u64, committed: u64) -> Request {
    let mut vote = Vote::new(1, 1);
    vote.committed = true;
    let entry = |index| Entry {
        log_id: log_id(1, index),
        payload: Payload::Blank,
    };
    AppendEntriesRequest {
        vote,
        prev_log_id: Some(log_id(1, prev)),
        leader_commit: Some(log_id(1, committed)),
        entries: (prev + 1..=prev + entries).map(entry).collect(),
    }
}

/// What the follower hears, as (sequence, previous index, number of entries, committed index).
fn heard_appends(messages: &[Message]) -> Vec<(u64, u64, usize, u64)> {
    let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
    let append = |message: &Message| match &message.body {
        Body::Append { sequence, request } => (
            *sequence,
            index(request.prev_log_id),
            request.entries.len(),
            index(request.leader_commit),
        ),
        other => panic!("{other:?}"),
    };
    messages.iter().map(append).collect()
}

fn matched(index: u64) -> Body {
    Body::Appended(Ok(Some(log_id(1, index))))
}

const LONG: Duration = Duration::from_secs(20);

/// Requests go out before earlier ones are answered; answers come in their order; the stream ends
/// with its input.
#[tokio::test]
async fn requests_do_not_wait_for_answers() {
    let mut play = play(Lane::Log, LONG);
    for n in 0..3 {
        play.requests.send(request(n, 1, 0)).unwrap();
    }
    drop(play.requests);
    let follower = async {
        let mut far = play.ends.recv().await.unwrap();
        let mut messages = Vec::new();
        while messages.len() < 3 {
            messages.extend(heard(&mut far).await);
        }
        assert_eq!(
            heard_appends(&messages),
            [(0, 0, 1, 0), (1, 1, 1, 0), (2, 2, 1, 0)]
        );
        let id = messages[0].id;
        say(&far, (1..=3).map(|n| (id, route().back(), matched(n)))).await;
        far
    };
    let answers = async {
        let mut answers = Vec::new();
        while let Some(answer) = play.answers.next().await {
            answers.push(answer.unwrap().unwrap());
        }
        answers
    };
    let (_far, answers) = tokio::join!(follower, answers);
    assert_eq!(answers, [1, 2, 3].map(|index| Some(log_id(1, index))));
}

/// A commit alone waits for entries that carry it along, but not for long.
#[tokio::test]
async fn a_commit_rides_with_the_next_entries_or_goes_alone() {
    let mut play = play(Lane::Log, LONG);
    play.requests.send(request(0, 1, 0)).unwrap();
    play.requests.send(request(1, 0, 1)).unwrap();
    play.requests.send(request(1, 2, 1)).unwrap();
    play.requests.send(request(3, 0, 2)).unwrap();
    play.requests.send(request(3, 0, 3)).unwrap();
    let follower = async {
        let mut far = play.ends.recv().await.unwrap();
        let mut messages = Vec::new();
        while messages.len() < 3 {
            messages.extend(heard(&mut far).await);
        }
        assert_eq!(
            heard_appends(&messages),
            [(0, 0, 1, 0), (1, 1, 2, 1), (2, 3, 0, 3)]
        );
    };
    tokio::select! {
        () = follower => {}
        answer = play.answers.next() => panic!("{answer:?}"),
    }
}

/// No more than the window is under way, whatever openraft has.
#[tokio::test]
async fn the_window_bounds_what_is_under_way() {
    let mut play = play(Lane::Log, LONG);
    for n in 0..200 {
        play.requests.send(request(n, 1, 0)).unwrap();
    }
    let follower = async {
        let mut far = play.ends.recv().await.unwrap();
        let mut messages = Vec::new();
        while messages.len() < IN_FLIGHT_MAX {
            messages.extend(heard(&mut far).await);
        }
        let more = tokio::time::timeout(Duration::from_millis(30), heard(&mut far)).await;
        assert!(more.is_err() && messages.len() == IN_FLIGHT_MAX);
        say(&far, [(messages[0].id, route().back(), matched(1))]).await;
        assert_eq!(heard(&mut far).await.len(), 1);
    };
    let openraft = async {
        assert_eq!(
            play.answers.next().await.unwrap().unwrap(),
            Ok(Some(log_id(1, 1)))
        );
        play.answers.next().await
    };
    tokio::select! {
        () = follower => {}
        answer = openraft => panic!("{answer:?}"),
    }
}

/// A conflict, a refusal, silence or a lost connection ends the stream.
#[tokio::test]
async fn a_stream_ends_with_the_first_failure() {
    let conflict = || StreamAppendError::Conflict(log_id(1, 0));
    for answer in [
        Some(Body::Appended(Err(conflict()))),
        Some(Body::Refused(Refusal::NoSuchReplica)),
        None,
    ] {
        let lost = answer.is_none();
        let refused = matches!(answer, Some(Body::Refused(_)));
        let mut play = play(Lane::Log, LONG);
        for n in 0..3 {
            play.requests.send(request(n, 1, 0)).unwrap();
        }
        let follower = async {
            let mut far = play.ends.recv().await.unwrap();
            let id = heard(&mut far).await[0].id;
            if let Some(answer) = answer {
                say(&far, [(id, route().back(), answer)]).await;
                return Some(far);
            }
            None
        };
        let (_far, found) = tokio::join!(follower, play.answers.next());
        match found.unwrap() {
            Ok(result) => assert!(!lost && !refused && result == Err(conflict())),
            Err(RPCError::Unreachable(_)) => assert!(lost || refused),
            Err(other) => panic!("{other}"),
        }
        assert!(play.answers.next().await.is_none());
    }
    let mut play = play(Lane::Log, Duration::from_millis(30));
    play.requests.send(request(0, 1, 0)).unwrap();
    let silent = play.answers.next().await.unwrap();
    assert!(matches!(silent, Err(RPCError::Timeout(_))));
    assert!(play.answers.next().await.is_none());
}

/// Heartbeats are asked one by one.
#[tokio::test]
async fn heartbeats_are_answered_or_time_out() {
    let mut play = play(Lane::Control, Duration::from_millis(50));
    for _ in 0..2 {
        play.requests.send(request(4, 0, 4)).unwrap();
    }
    let follower = async {
        let mut far = play.ends.recv().await.unwrap();
        let messages = heard(&mut far).await;
        assert!(matches!(
            &messages[..],
            [Message {
                body: Body::Heartbeat(_),
                ..
            }]
        ));
        say(&far, [(messages[0].id, route().back(), matched(4))]).await;
        far
    };
    let (_far, answer) = tokio::join!(follower, play.answers.next());
    assert_eq!(answer.unwrap().unwrap(), Ok(Some(log_id(1, 4))));
    let silent = play.answers.next().await.unwrap();
    assert!(matches!(silent, Err(RPCError::Timeout(_))));
    assert!(play.answers.next().await.is_none());
}
