//! Forwarding from a node without replicas to nodes that follow a script.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ::bytes::Bytes;
use antumbra_raft::{Env, HashRange, ReplicaId};
use antumbra_shadow::{
    AcceptedItem, Conditions, Delete, DeviceId, DeviceKey, Draft, Kind, Outcome, Position,
    Rejection, RequestId, ShadowName, Tenant, Time,
};
use futures::FutureExt;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::wire::{Envelope, Request, decode_request};
use super::*;
use crate::shadows::question::Reply;
use crate::shadows::{Caller, ReadOptions, ShadowsConfig, ShardPlace, Wiring};

/// What a node does with a request.
enum Act {
    NotSent,
    Lost,
    /// It never answers.
    Hang,
    Say(Answer),
    Garbage,
}

/// One request as it arrived.
#[derive(Debug, Clone)]
struct Seen {
    node: String,
    envelope: Envelope,
    request: Request,
}

/// Other nodes that do what the script says; behind its end they do the last thing again.
#[derive(Default)]
struct Script {
    acts: Mutex<VecDeque<Act>>,
    seen: Mutex<Vec<Seen>>,
}

impl Peers for Script {
    fn forward(
        &self,
        node: &Node,
        body: Bytes,
        _timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, ForwardError>> {
        let (envelope, request) = decode_request(body).unwrap();
        self.seen.lock().push(Seen {
            node: node.name.clone(),
            envelope,
            request,
        });
        let mut acts = self.acts.lock();
        let act = match acts.len() {
            1 => None,
            _ => acts.pop_front(),
        };
        let result = match act.as_ref().or(acts.front()) {
            Some(Act::NotSent) => Err(ForwardError::NotSent),
            Some(Act::Lost) => Err(ForwardError::Unknown),
            Some(Act::Say(answer)) => Ok(answer.encode()),
            Some(Act::Garbage) => Ok(Bytes::from_static(b"\xffgarbage")),
            Some(Act::Hang) | None => return std::future::pending().boxed(),
        };
        async move { result }.boxed()
    }

    fn follow(
        &self,
        _node: &Node,
        _body: Bytes,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Result<Bytes, String>>, String>> {
        async { Err("nobody is there".to_owned()) }.boxed()
    }
}

impl Script {
    fn of(acts: impl IntoIterator<Item = Act>) -> Arc<Script> {
        Arc::new(Script {
            acts: Mutex::new(acts.into_iter().collect()),
            ..Script::default()
        })
    }

    /// Who was asked, in order.
    fn asked(&self) -> Vec<String> {
        let seen = self.seen.lock();
        seen.iter().map(|seen| seen.node.clone()).collect()
    }

    /// The commands that were sent, in order.
    fn drafts(&self) -> Vec<Draft> {
        let seen = self.seen.lock();
        let drafts = seen.iter().map(|seen| match &seen.request {
            Request::Command { draft, .. } => Draft::clone(draft),
            Request::Question(question) => panic!("not a command: {question:?}"),
        });
        drafts.collect()
    }
}

fn node(name: &str) -> Node {
    Node {
        name: name.to_owned(),
        address: format!("{name}:1"),
    }
}

/// A node `a` that knows replicas of the only shard on these nodes, and has none itself.
fn shadows(script: &Arc<Script>, nodes: &[&str]) -> Shadows {
    let shadows = Shadows::new(Wiring {
        node: "a".to_owned(),
        clock: Env::system().clock,
        peers: Arc::<Script>::clone(script),
        config: ShadowsConfig::default(),
        stop: CancellationToken::new(),
    });
    let replicas = (1..)
        .map(ReplicaId)
        .zip(nodes.iter().map(|name| node(name)));
    let place = ShardPlace {
        shard: ShardId(1),
        range: HashRange::FULL,
        replicas: replicas.collect(),
    };
    shadows.set_table(vec![place], BTreeMap::new());
    shadows
}

fn device() -> DeviceKey {
    DeviceKey::new(Tenant::default(), DeviceId::parse("pump").unwrap())
}

fn draft(request_id: Option<&str>) -> Draft {
    let delete = Delete {
        shadow: ShadowName::classic(),
        conditions: Conditions::default(),
    };
    Draft {
        request_id: request_id.map(|id| RequestId::parse(id).unwrap()),
        ..Draft::new("test", Kind::Delete(delete))
    }
}

async fn send(
    shadows: &Shadows,
    request_id: Option<&str>,
    within: Duration,
) -> Result<Outcome, Error> {
    let deadline = Instant::now() + within;
    let caller = Caller::anyone("test");
    shadows
        .update(&caller, &device(), draft(request_id), deadline)
        .await
}

fn outcome() -> Outcome {
    Outcome::Accepted(vec![AcceptedItem {
        shadow: ShadowName::classic(),
        version: 1,
        time: Time(2),
        position: Position::default(),
    }])
}

fn done() -> Act {
    Act::Say(Answer::Outcome(outcome()))
}

fn rejected() -> Act {
    let rejection = Rejection::VersionConflict { current: 7 };
    Act::Say(Answer::Outcome(Outcome::Rejected(rejection)))
}

fn refused(refusal: Refusal) -> Act {
    Act::Say(Answer::Refused(refusal))
}

fn not_leader(hint: Option<&str>) -> Act {
    Act::Say(Answer::NotLeader(hint.map(node)))
}

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(150);
/// A busy machine may be late by so much.
const SLACK: Duration = Duration::from_secs(5);

/// Invariant 5: what was certainly not done is tried again, whoever it is.
#[tokio::test]
async fn certain_failures_are_retried() {
    for request_id in [None, Some("r")] {
        let script = Script::of([
            Act::NotSent,
            not_leader(None),
            refused(Refusal::Unavailable),
            Act::NotSent,
            done(),
        ]);
        let shadows = shadows(&script, &["b", "c"]);
        let done = send(&shadows, request_id, LONG).await;
        assert_eq!(done.unwrap(), outcome());
        assert_eq!(script.asked().len(), 5);
        let changed = script
            .drafts()
            .into_iter()
            .any(|sent| sent != draft(request_id));
        assert!(
            !changed,
            "a command that was never carried out stays as it was"
        );
    }
}

/// UNAVAILABLE promises that nothing was done, and comes before the deadline.
#[tokio::test]
async fn certain_failures_end_as_unavailable_within_the_deadline() {
    for act in [
        Act::NotSent,
        not_leader(None),
        refused(Refusal::Unavailable),
    ] {
        let script = Script::of([act]);
        let shadows = shadows(&script, &["b", "c"]);
        let begin = Instant::now();
        let failed = send(&shadows, Some("r"), SHORT).await;
        assert!(matches!(failed, Err(Error::Unavailable(_))), "{failed:?}");
        assert!(begin.elapsed() < SHORT + SLACK);
        assert!(script.asked().len() >= 2, "{:?}", script.asked());
    }
}

/// Without a request id a repeat could do a command twice.
#[tokio::test]
async fn unknown_without_request_id_is_not_retried() {
    for act in [
        Act::Lost,
        Act::Garbage,
        refused(Refusal::Unknown),
        refused(Refusal::Internal),
    ] {
        let script = Script::of([act, done()]);
        let shadows = shadows(&script, &["b", "c"]);
        let failed = send(&shadows, None, LONG).await;
        assert_eq!(failed.unwrap_err(), Error::OutcomeUnknown);
        assert_eq!(script.asked().len(), 1);
    }
}

/// With one the same command is sent again, with the time at which it was first sent.
#[tokio::test]
async fn unknown_with_request_id_is_retried_under_the_same_id() {
    let unknowns = [Act::Lost, refused(Refusal::Unknown), Act::Garbage, done()];
    let script = Script::of(unknowns);
    let shadows = shadows(&script, &["b", "c"]);
    let before = Env::system().clock.now_ms();
    assert_eq!(send(&shadows, Some("r"), LONG).await.unwrap(), outcome());
    let drafts = script.drafts();
    assert_eq!(drafts.len(), 4);
    assert_eq!(drafts[0], draft(Some("r")), "the first is as it came");
    let issued = drafts[1].issued.unwrap();
    assert!(issued >= Time(before));
    for repeat in &drafts[1..] {
        let same = Draft {
            issued: Some(issued),
            ..draft(Some("r"))
        };
        assert_eq!(*repeat, same);
    }
    assert_ne!(
        script.asked()[0],
        script.asked()[1],
        "who did not answer is left alone"
    );
}

/// A queue that is full now says nothing about an attempt before.
#[tokio::test]
async fn no_refusal_makes_an_unknown_outcome_certain_again() {
    let refusals = [
        Refusal::Overloaded,
        Refusal::Unavailable,
        Refusal::PermissionDenied,
        Refusal::NotUnderstood,
    ];
    for refusal in refusals {
        let script = Script::of([Act::Lost, refused(refusal)]);
        let shadows = shadows(&script, &["b", "c"]);
        let failed = send(&shadows, Some("r"), SHORT).await;
        assert_eq!(failed.unwrap_err(), Error::OutcomeUnknown, "{refusal:?}");
        assert!(script.asked().len() > 2);
    }
    let script = Script::of([
        Act::Lost,
        Act::NotSent,
        refused(Refusal::Overloaded),
        done(),
    ]);
    let found = send(&shadows(&script, &["b", "c"]), Some("r"), LONG).await;
    assert_eq!(found.unwrap(), outcome());
}

/// A copy that went astray may be carried out after its repeat was rejected; an entry of a leader
/// that lost its result is in the log before the repeat or nowhere.
#[tokio::test]
async fn rejection_of_a_repeat_is_believed_only_when_nothing_is_astray() {
    let script = Script::of([Act::Lost, rejected()]);
    let astray = send(&shadows(&script, &["b"]), Some("r"), LONG).await;
    assert_eq!(astray.unwrap_err(), Error::OutcomeUnknown);
    let script = Script::of([refused(Refusal::Unknown), rejected()]);
    let settled = send(&shadows(&script, &["b"]), Some("r"), LONG).await;
    assert!(matches!(settled, Ok(Outcome::Rejected(_))));
    let script = Script::of([Act::NotSent, rejected()]);
    let certain = send(&shadows(&script, &["b"]), Some("r"), LONG).await;
    assert!(matches!(certain, Ok(Outcome::Rejected(_))));
}

/// Load and damage are told at once: more attempts would make them worse.
#[tokio::test]
async fn overload_and_damage_are_told_at_once() {
    let refusals = [
        (Refusal::Overloaded, Error::Overloaded),
        (Refusal::Damaged, Error::Damaged),
        (Refusal::Deadline, Error::Deadline),
        (Refusal::PermissionDenied, Error::PermissionDenied),
    ];
    for (refusal, error) in refusals {
        let script = Script::of([refused(refusal), done()]);
        let shadows = shadows(&script, &["b", "c"]);
        let failed = send(&shadows, None, LONG).await;
        assert_eq!(failed.unwrap_err(), error);
        assert_eq!(script.asked().len(), 1);
    }
}

/// The word of who does not lead is followed at once, also to a node that the table lacks, and kept.
#[tokio::test]
async fn hint_is_followed_and_kept() {
    let script = Script::of([not_leader(Some("z")), done(), done()]);
    let shadows = shadows(&script, &["b", "c"]);
    send(&shadows, None, LONG).await.unwrap();
    send(&shadows, None, LONG).await.unwrap();
    assert_eq!(script.asked(), ["b", "z", "z"]);
}

/// Nodes that point at each other cost pauses, not a storm of requests.
#[tokio::test]
async fn hints_in_circles_are_followed_slowly() {
    let acts = (0..1000).map(|nth| not_leader(Some(["c", "b"][nth % 2])));
    let script = Script::of(acts);
    let failed = send(&shadows(&script, &["b", "c"]), None, SHORT).await;
    assert!(matches!(failed, Err(Error::Unavailable(_))));
    let asked = script.asked().len();
    assert!((3..=16).contains(&asked), "{asked} requests");
}

/// The node that is asked gets a little less time than there is, so that its answer arrives.
#[tokio::test]
async fn deadline_travels_along_and_is_kept() {
    let script = Script::of([Act::Hang]);
    let shadows = shadows(&script, &["b"]);
    let begin = Instant::now();
    let failed = send(&shadows, None, SHORT).await;
    assert_eq!(failed.unwrap_err(), Error::Deadline);
    assert!(begin.elapsed() >= SHORT);
    assert!(begin.elapsed() < SHORT + SLACK);
    let remaining = script.seen.lock()[0].envelope.remaining;
    assert!(remaining < SHORT, "{remaining:?}");
    // A read that finds nobody ends in time too.
    let script = Script::of([Act::Hang]);
    let begin = Instant::now();
    let read = read(&self::shadows(&script, &["b"]), SHORT).await;
    assert_eq!(read.unwrap_err(), Error::Deadline);
    assert!(begin.elapsed() < SHORT + SLACK);
}

async fn read(shadows: &Shadows, within: Duration) -> Result<crate::shadows::Read, Error> {
    let deadline = Instant::now() + within;
    let (caller, name) = (Caller::anyone("test"), ShadowName::classic());
    shadows
        .get(&caller, &device(), &name, ReadOptions::default(), deadline)
        .await
}

/// A read changes nothing: it is repeated whatever became of it.
#[tokio::test]
async fn reads_are_always_retried() {
    let nothing = Answer::Reply(Reply::Document {
        seen: 3,
        document: None,
    });
    let script = Script::of([
        Act::Lost,
        Act::Garbage,
        Act::NotSent,
        not_leader(None),
        refused(Refusal::Unavailable),
        refused(Refusal::NotUnderstood),
        Act::Say(nothing),
    ]);
    let found = read(&shadows(&script, &["b", "c"]), LONG).await;
    assert_eq!(found.unwrap_err(), Error::NotFound);
    assert_eq!(script.asked().len(), 7);
    let script = Script::of([refused(Refusal::Overloaded), Act::NotSent]);
    let found = read(&shadows(&script, &["b", "c"]), LONG).await;
    assert_eq!(found.unwrap_err(), Error::Overloaded);
}

/// Before a node knows the shards it refuses everything, at once.
#[tokio::test]
async fn nothing_is_served_before_the_first_table() {
    let script = Script::of([done()]);
    let shadows = shadows(&script, &["b"]);
    shadows.set_table(Vec::new(), BTreeMap::new());
    let command = send(&shadows, Some("r"), LONG).await;
    assert!(matches!(command, Err(Error::Unavailable(_))));
    let read = read(&shadows, LONG).await;
    assert!(matches!(read, Err(Error::Unavailable(_))));
    assert_eq!(shadows.cursor(&device(), Position::default()), "");
    assert_eq!(shadows.map(), None);
    assert_eq!(script.asked().len(), 0);
}

/// A node without the shard says so, and what it cannot read it refuses.
#[tokio::test]
async fn receiver_refuses_what_it_cannot_serve() {
    let script = Script::of([done()]);
    let shadows = shadows(&script, &["b"]);
    let handler = shadows.forward_handler();
    let envelope = Envelope {
        shard: ShardId(1),
        remaining: LONG,
        tenant: None,
    };
    let command = wire::encode_command(&envelope, &device(), draft(None));
    let answer = async |body| Answer::decode(handler.handle(body).await).unwrap();
    assert_eq!(answer(command.clone()).await, Answer::NotLeader(None));
    let unreadable = Answer::Refused(Refusal::NotUnderstood);
    for garbage in [&b""[..], b"\x51", b"\xff\xff", b"\x58\0\0\0\0"] {
        let body = Bytes::copy_from_slice(garbage);
        assert_eq!(answer(body).await, unreadable);
    }
    assert_eq!(script.asked().len(), 0, "nothing is passed on");
    drop(shadows);
    let gone = Answer::Refused(Refusal::Unavailable);
    assert_eq!(answer(command).await, gone);
}

/// What is too large for a frame is refused before it is sent.
#[tokio::test]
async fn command_over_the_frame_is_refused() {
    let script = Script::of([done()]);
    let shadows = shadows(&script, &["b"]);
    let mut large = draft(None);
    large.actor = "x".repeat(FRAME_BYTES_MAX);
    let caller = Caller::anyone("test");
    let refused = shadows
        .update(&caller, &device(), large, Instant::now() + LONG)
        .await;
    assert!(matches!(refused, Err(Error::TooLarge { .. })));
    assert_eq!(script.asked().len(), 0);
}
