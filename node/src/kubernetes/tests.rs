//! The client against a server that plays the API over TLS.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::time::Instant;

use tempfile::TempDir;

use super::fake::{Authority, Reply, Server, account, client, set, status};
use super::*;

async fn meet(reply: Reply) -> (Server, TempDir, Client) {
    let authority = Authority::new();
    let server = Server::start(authority.acceptor("127.0.0.1"), reply).await;
    let account = account(&authority);
    let client = client(&server, &account);
    (server, account, client)
}

/// The request is one that the API understands, and of its answer only what counts is read.
#[tokio::test]
async fn stateful_set_is_read() {
    let (server, _account, client) = meet(set("", "")).await;
    let found = client.stateful_set("antumbra").await.unwrap().unwrap();
    let expected = StatefulSet {
        uid: "u-1".into(),
        replicas: 5,
        start: 0,
        is_being_deleted: false,
    };
    assert_eq!((found.end(), found), (5, expected));
    let asked = server.asked.lock().concat().to_lowercase();
    let line = "get /apis/apps/v1/namespaces/plant-7/statefulsets/antumbra http/1.1\r\n";
    assert!(asked.starts_with(line), "{asked}");
    let host = format!("host: {}\r\n", server.address);
    assert!(asked.contains(&host), "{asked}");

    let deleted = r#","deletionTimestamp":"2026-11-29T21:00:00Z""#;
    *server.reply.lock() = set(deleted, r#","ordinals":{"start":1}"#);
    let found = client.stateful_set("antumbra").await.unwrap().unwrap();
    assert!(found.is_being_deleted);
    assert_eq!((found.start, found.end()), (1, 6));
}

/// Kubernetes replaces the token about once an hour, and the authority now and then.
#[tokio::test]
async fn token_and_authority_are_read_again() {
    let (server, account, client) = meet(set("", "")).await;
    client.stateful_set("antumbra").await.unwrap();
    fs::write(account.path().join("token"), "token-2").unwrap();
    client.stateful_set("antumbra").await.unwrap();
    let asked = server.asked.lock().clone();
    let shows = |nth: usize, token: &str| {
        let header = format!("authorization: bearer {token}\r\n");
        asked[nth].to_lowercase().contains(&header)
    };
    assert!(shows(0, "token-1") && shows(1, "token-2"), "{asked:?}");

    let other = Authority::new();
    fs::write(account.path().join("ca.crt"), &other.pem).unwrap();
    let refused = client.stateful_set("antumbra").await;
    assert!(
        matches!(refused, Err(Error::NotReached { .. })),
        "{refused:?}"
    );
    assert_eq!(
        server.asked.lock().len(),
        2,
        "the token was shown to a stranger"
    );
}

/// A certificate of the authority for somebody else is not one of the API.
#[tokio::test]
async fn certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let server = Server::start(authority.acceptor("10.0.0.1"), set("", "")).await;
    let account = account(&authority);
    let refused = client(&server, &account).stateful_set("antumbra").await;
    assert!(
        matches!(refused, Err(Error::NotReached { .. })),
        "{refused:?}"
    );
    assert!(server.asked.lock().is_empty());
}

/// Only what the API itself says of the StatefulSet means that there is none.
#[tokio::test]
async fn missing_is_told_from_refused() {
    let (server, _account, client) = meet(status(404, "NotFound", "not found")).await;
    assert_eq!(client.stateful_set("antumbra").await.unwrap(), None);
    let refusals = [
        (
            status(403, "Forbidden", "cannot get resource"),
            403,
            "cannot get resource",
        ),
        (
            status(401, "Unauthorized", "Unauthorized"),
            401,
            "Unauthorized",
        ),
        (Reply::Answer(404, "404 page not found".into()), 404, ""),
        (Reply::Answer(500, String::new()), 500, ""),
        (
            status(503, "Unavailable", &"x".repeat(2_000)),
            503,
            &"x".repeat(MESSAGE_CHARS_MAX),
        ),
    ];
    for (reply, code, text) in refusals {
        *server.reply.lock() = reply;
        match client.stateful_set("antumbra").await {
            Err(Error::Refused { status, message }) => {
                assert_eq!((status, &*message), (code, text))
            }
            other => panic!("{code}: {other:?}"),
        }
    }
}

/// What is not the StatefulSet that was asked for, or does not say how many replicas it has, says nothing.
#[tokio::test]
async fn other_answers_are_not_read_as_a_stateful_set() {
    let (server, _account, client) = meet(Reply::Answer(200, String::new())).await;
    let named = |kind: &str, name: &str, spec: &str| {
        format!(r#"{{"kind":"{kind}","metadata":{{"name":"{name}","uid":"u"}},"spec":{spec}}}"#)
    };
    for body in [
        String::new(),
        "<html>".to_owned(),
        named("Deployment", "antumbra", r#"{"replicas":1}"#),
        named("StatefulSet", "other", r#"{"replicas":1}"#),
        named("StatefulSet", "antumbra", "{}"),
        named("StatefulSet", "antumbra", r#"{"replicas":-1}"#),
    ] {
        *server.reply.lock() = Reply::Answer(200, body.clone());
        let answer = client.stateful_set("antumbra").await;
        assert!(
            matches!(answer, Err(Error::Unreadable(_))),
            "{body}: {answer:?}"
        );
    }
}

/// Neither a body without end nor a server without an answer holds anything up.
#[tokio::test]
async fn size_and_time_are_bounded() {
    let (server, _account, client) = meet(Reply::Endless).await;
    let answer = client.stateful_set("antumbra").await;
    assert!(
        matches!(answer, Err(Error::NotReached { .. })),
        "{answer:?}"
    );
    *server.reply.lock() = Reply::Silence;
    let begun = Instant::now();
    let answer = client.stateful_set("antumbra").await;
    assert!(matches!(answer, Err(Error::Timeout)), "{answer:?}");
    assert!(begun.elapsed() < TIMEOUT * 3, "{:?}", begun.elapsed());
}

/// A process outside a pod, and files that are not those of a service account.
#[tokio::test]
async fn what_is_missing_is_named() {
    let pod = |host: Option<&str>, port: Option<&str>| Pod {
        api_host: host.map(str::to_owned),
        api_port: port.map(str::to_owned),
        ..Pod::default()
    };
    for (pod, named) in [
        (pod(None, Some("443")), "KUBERNETES_SERVICE_HOST"),
        (pod(Some("10.0.0.1"), None), "KUBERNETES_SERVICE_PORT"),
        (
            pod(Some("10.0.0.1"), Some("tcp://10.0.0.1:443")),
            "KUBERNETES_SERVICE_PORT",
        ),
        (pod(Some("10.0.0.1"), Some("0")), "KUBERNETES_SERVICE_PORT"),
    ] {
        let error = Client::new(&pod).unwrap_err().to_string();
        assert!(error.starts_with(named), "{error}");
    }
    let (server, account, client) = meet(set("", "")).await;
    for (file, text) in [("token", ""), ("token", "a\nb"), ("namespace", "../x")] {
        let path = account.path().join(file);
        let before = fs::read(&path).unwrap();
        fs::write(&path, text).unwrap();
        let answer = client.stateful_set("antumbra").await;
        assert!(
            matches!(answer, Err(Error::Account { .. })),
            "{text}: {answer:?}"
        );
        fs::write(&path, before).unwrap();
    }
    fs::remove_file(account.path().join("token")).unwrap();
    let answer = client.stateful_set("antumbra").await;
    assert!(matches!(answer, Err(Error::Account { .. })), "{answer:?}");
    fs::write(account.path().join("ca.crt"), "").unwrap();
    fs::write(account.path().join("token"), "t").unwrap();
    let answer = client.stateful_set("antumbra").await;
    assert!(matches!(answer, Err(Error::Authority(_))), "{answer:?}");
    assert!(
        server.asked.lock().is_empty(),
        "nothing is asked without proof"
    );
}

#[test]
fn names_of_pods_are_told_from_others() {
    let parsed = |name| PodName::parse(name).map(|pod| (pod.set, pod.ordinal));
    assert_eq!(parsed("antumbra-0"), Some(("antumbra".into(), 0)));
    assert_eq!(parsed("a-b-12"), Some(("a-b".into(), 12)));
    for name in [
        "antumbra",
        "antumbra-",
        "-1",
        "0",
        "a-01",
        "a-+1",
        "a-x",
        "a-99999999999",
    ] {
        assert_eq!(parsed(name), None, "{name}");
    }
}
