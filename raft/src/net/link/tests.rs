#![allow(clippy::unwrap_used)]

use super::*;
use crate::net::fake::{Way, heard, link, open, route, say};

const SOON: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(30);

fn is_empty(link: &Link) -> bool {
    let state = link.state.lock();
    let counted = (state.requests, state.bytes) == (0, 0);
    counted && state.waiting.is_empty() && state.queue.is_empty()
}

/// Outcomes are honest: what was never handed to a connection was certainly not carried out.
#[tokio::test]
async fn a_request_that_never_left_is_not_sent() {
    let (link, _) = link(Way::Never);
    let answer = link.call(route(), Body::ReadIndex, SHORT).await;
    assert_eq!(answer.unwrap_err(), CallError::NotSent);
    assert!(is_empty(&link));
}

#[tokio::test]
async fn a_request_without_an_answer_is_timed_out_and_forgotten() {
    let (link, mut ends) = open();
    let answer = link.call(route(), Body::ReadIndex, SHORT).await;
    assert_eq!(answer.unwrap_err(), CallError::TimedOut);
    assert!(is_empty(&link));
    // Its late answer finds nobody, and harms nobody.
    let mut far = ends.recv().await.unwrap();
    let id = heard(&mut far).await[0].id;
    say(&far, [(id, route().back(), Body::ReadAt(7))]).await;
    let asking = link.call(route(), Body::ReadIndex, SOON);
    let answering = async {
        let id = heard(&mut far).await[0].id;
        say(&far, [(id, route().back(), Body::ReadAt(8))]).await;
    };
    let (answer, ()) = tokio::join!(asking, answering);
    assert!(matches!(answer, Ok(Body::ReadAt(8))));
}

/// An answer of another replica than the one that was asked is none.
#[tokio::test]
async fn an_answer_of_another_replica_is_refused() {
    let (link, mut ends) = open();
    let asking = link.call(route(), Body::ReadIndex, SOON);
    let answering = async {
        let mut far = ends.recv().await.unwrap();
        let id = heard(&mut far).await[0].id;
        say(&far, [(id, route(), Body::ReadAt(7))]).await;
        far
    };
    let (answer, _far) = tokio::join!(asking, answering);
    assert_eq!(answer.unwrap_err(), CallError::Lost);
}

/// All that waits learns at once that the connection is gone; what was still queued was not sent.
#[tokio::test]
async fn a_lost_connection_fails_everything_at_once() {
    let (link, mut ends) = open();
    let calls = (0..10).map(|_| link.call(route(), Body::ReadIndex, SOON));
    let losing = async {
        let mut far = ends.recv().await.unwrap();
        heard(&mut far).await;
    };
    let (answers, ()) = tokio::join!(futures::future::join_all(calls), losing);
    for answer in answers {
        assert_eq!(answer.unwrap_err(), CallError::Lost);
    }
    assert!(is_empty(&link));
}

/// A node that cannot be reached costs few attempts, and nobody waits for it.
#[tokio::test]
async fn attempts_to_connect_back_off() {
    let (link, fake) = link(Way::Refused);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(300) {
        let answer = link.call(route(), Body::ReadIndex, SOON).await;
        assert_eq!(answer.unwrap_err(), CallError::NotSent);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // At 0, 50 and 150 ms.
    let attempts = fake.attempts.load(Ordering::Relaxed);
    assert!((1..=3).contains(&attempts), "{attempts}");
    assert_eq!(retry_pause(1), RETRY_MIN);
    assert_eq!(retry_pause(30), RETRY_MAX);
}

/// Over the bounds a request is refused at once.
#[tokio::test]
async fn requests_and_bytes_are_bounded() {
    let (link, _) = link(Way::Never);
    let mut calls: Vec<_> = (0..REQUESTS_MAX)
        .map(|_| Box::pin(link.call(route(), Body::ReadIndex, SOON)))
        .collect();
    for call in &mut calls {
        assert!(futures::poll!(call).is_pending());
    }
    let over = link.call(route(), Body::ReadIndex, SOON).await;
    assert_eq!(over.unwrap_err(), CallError::NotSent);
    drop(calls);
    assert!(is_empty(&link));
    let large = || Body::Forward(vec![0; 6 << 20].into());
    let mut calls: Vec<_> = (0..10)
        .map(|_| Box::pin(link.call(route(), large(), SOON)))
        .collect();
    for call in &mut calls {
        assert!(futures::poll!(call).is_pending());
    }
    let over = link.call(route(), large(), SOON).await;
    assert_eq!(over.unwrap_err(), CallError::NotSent);
}

/// A stream is answered in order, and says farewell when it is dropped.
#[tokio::test]
async fn a_stream_is_answered_in_order_and_says_farewell() {
    let (link, mut ends) = open();
    let mut stream = link.stream(route(), 4, Body::AppendEnd);
    for _ in 0..3 {
        stream.send(Body::ReadIndex).unwrap();
    }
    let mut far = ends.recv().await.unwrap();
    let mut asked = Vec::new();
    while asked.len() < 3 {
        asked.extend(heard(&mut far).await);
    }
    assert!(asked.iter().all(|message| message.id == asked[0].id));
    let id = asked[0].id;
    let answers = (0..3).map(|n| (id, route().back(), Body::ReadAt(n)));
    say(&far, answers).await;
    for n in 0..3 {
        let answer = stream.answer().await.unwrap().unwrap();
        assert!(matches!(answer, Body::ReadAt(found) if found == n));
    }
    assert!(link.state.lock().requests == 0);
    drop(stream);
    let farewell = heard(&mut far).await;
    assert!(matches!(
        farewell[..],
        [Message {
            body: Body::AppendEnd,
            ..
        }]
    ));
    assert!(is_empty(&link));
}

/// A stream does not go on over another connection than the one on which it began.
#[tokio::test]
async fn a_stream_ends_with_its_connection() {
    let (link, mut ends) = open();
    let mut stream = link.stream(route(), 4, Body::AppendEnd);
    stream.send(Body::ReadIndex).unwrap();
    let mut far = ends.recv().await.unwrap();
    heard(&mut far).await;
    drop(far);
    assert!(stream.answer().await.is_none());
    assert_eq!(stream.send(Body::ReadIndex), Err(CallError::Lost));
    assert!(ends.try_recv().is_err());
}

/// More answers than requests make no sense: the connection ends.
#[tokio::test]
async fn an_answer_too_many_ends_the_connection() {
    let (link, mut ends) = open();
    let mut stream = link.stream(route(), 4, Body::AppendEnd);
    stream.send(Body::ReadIndex).unwrap();
    let mut far = ends.recv().await.unwrap();
    let id = heard(&mut far).await[0].id;
    let answers = (0..2).map(|n| (id, route().back(), Body::ReadAt(n)));
    say(&far, answers).await;
    assert!(far.receiver.recv().await.is_none());
    assert!(stream.answer().await.unwrap().is_ok());
    assert!(stream.answer().await.is_none());
}
