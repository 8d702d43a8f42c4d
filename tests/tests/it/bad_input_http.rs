//! Wrong input at the HTTP door: a documented answer, no panic, no change, no memory.

use std::net::SocketAddr;

use antumbra_tests::client::Client;
use antumbra_tests::http::{self, Announced, Answer};
use antumbra_tests::node::{Node, Options};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

const INVALID: (u16, &str) = (400, "InvalidRequestException");
const TOO_LARGE: (u16, &str) = (413, "RequestEntityTooLargeException");
const ENCODING: (u16, &str) = (415, "UnsupportedDocumentEncodingException");
const METHOD: (u16, &str) = (405, "MethodNotAllowedException");
const NOT_FOUND: (u16, &str) = (404, "ResourceNotFoundException");

fn post(address: SocketAddr, body: &[u8]) -> Answer {
    http::send(address, "POST", "/things/victim/shadow", body).unwrap()
}

fn assert_answer(answer: &Answer, expected: (u16, &str), what: &str) {
    let seen = (answer.status, answer.error_type().unwrap_or_default());
    assert_eq!(seen, expected, "{what}: {}", answer.text());
    let body: serde_json::Value = serde_json::from_slice(&answer.body)
        .unwrap_or_else(|error| panic!("{what}: {error}: {}", answer.text()));
    assert!(body["message"].is_string(), "{what}: {body}");
    assert!(
        body.get("code").is_none(),
        "{what}: an SDK would take `code` for the error: {body}"
    );
    assert!(
        answer.header("x-amzn-requestid").is_some(),
        "{what}: no request id"
    );
}

/// After all that, the node is well and holds nothing.
async fn assert_unharmed(node: &mut Node) {
    assert!(node.is_running());
    assert!(!node.output().contains("panicked"), "{}", node.output());
    let client = Client::new(node.grpc());
    assert_eq!(client.list_devices().await.unwrap(), Vec::<String>::new());
    assert_eq!(
        client.update("victim", r#"{"a":1}"#).await.unwrap().version,
        1
    );
}

/// Bodies that are no request documents.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_bodies_are_refused_over_http() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::start(&Options::new(directory.path())).unwrap();
    let deep = |depth: usize, open: &str, close: &str| {
        format!(
            r#"{{"state":{{"desired":{}1{}}}}}"#,
            open.repeat(depth),
            close.repeat(depth)
        )
    };
    let desired = |value: &str| format!(r#"{{"state":{{"desired":{{"a":{value}}}}}}}"#);
    let long_key = format!(r#"{{"state":{{"desired":{{"{}":1}}}}}}"#, "k".repeat(1025));
    let cases: Vec<(&str, Vec<u8>, (u16, &str))> = vec![
        ("nothing", b"".to_vec(), INVALID),
        (
            "half an object",
            br#"{"state":{"desired":{"a":"#.to_vec(),
            INVALID,
        ),
        (
            "two documents",
            br#"{"state":{}}{"state":{}}"#.to_vec(),
            INVALID,
        ),
        ("a comment", br#"{"state":{}} // hi"#.to_vec(), INVALID),
        ("single quotes", b"{'state':{}}".to_vec(), INVALID),
        (
            "a byte order mark",
            "\u{feff}{\"state\":{}}".into(),
            INVALID,
        ),
        ("not a number", desired("NaN").into(), INVALID),
        ("a leading zero", desired("01").into(), INVALID),
        (
            "a raw control character",
            desired("\"\u{1}\"").into(),
            INVALID,
        ),
        ("half a surrogate", desired(r#""\ud800""#).into(), INVALID),
        ("a null byte", b"\0".to_vec(), INVALID),
        ("an array of 100,000", "[".repeat(100_000).into(), INVALID),
        (
            "100,000 deep objects",
            deep(100_000, r#"{"a":"#, "}").into(),
            INVALID,
        ),
        (
            "100,000 deep arrays",
            deep(100_000, r#"{"a":["#, "]}").into(),
            INVALID,
        ),
        ("nine levels", deep(9, r#"{"a":"#, "}").into(), INVALID),
        ("65 digits", desired(&"9".repeat(65)).into(), INVALID),
        ("exponent 401", desired("1e401").into(), INVALID),
        ("exponent -401", desired("1e-401").into(), INVALID),
        (
            "an exponent without end",
            desired("1e99999999999999999999").into(),
            INVALID,
        ),
        ("null in an array", desired("[null]").into(), INVALID),
        ("a long key", long_key.into(), INVALID),
        (
            "UTF-8 cut short",
            b"{\"state\":{\"desired\":{\"a\":\"\xe2\x82\"}}}".to_vec(),
            ENCODING,
        ),
        ("UTF-16", b"\xff\xfe{\0}\0".to_vec(), ENCODING),
        (
            "9 KB",
            desired(&format!("\"{}\"", "x".repeat(9000))).into(),
            TOO_LARGE,
        ),
        (
            "2 MB",
            desired(&format!("\"{}\"", "x".repeat(2_000_000))).into(),
            TOO_LARGE,
        ),
    ];
    for (what, body, expected) in cases {
        assert_answer(&post(node.http(), &body), expected, what);
    }
    assert_unharmed(&mut node).await;
}

/// Names, paths, methods and queries that do not exist.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_targets_are_refused_over_http() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::start(&Options::new(directory.path())).unwrap();
    let thing = |name: &str| format!("/things/{name}/shadow");
    let named = |name: &str| format!("/things/victim/shadow?name={name}");
    let list = |query: &str| format!("/api/things/shadow/ListNamedShadowsForThing/victim?{query}");
    let cases = [
        ("GET", thing(&"x".repeat(129)), INVALID),
        ("GET", thing("a%20b"), INVALID),
        ("GET", thing("a%2Fb"), INVALID),
        ("GET", thing("%00"), INVALID),
        ("GET", thing("%ff%fe"), INVALID),
        ("POST", thing("%C3%A4"), INVALID),
        ("DELETE", thing("a.b"), INVALID),
        ("GET", named(&"x".repeat(65)), INVALID),
        ("GET", named("a%20b"), INVALID),
        ("GET", list("pageSize=0"), INVALID),
        ("GET", list("pageSize=101"), INVALID),
        ("GET", list("pageSize=many"), INVALID),
        ("GET", list("nextToken=nonsense"), INVALID),
        ("PUT", thing("victim"), METHOD),
        ("PATCH", thing("victim"), METHOD),
        ("POST", list("pageSize=1"), METHOD),
        ("GET", "/nowhere".to_owned(), NOT_FOUND),
        ("GET", "/things".to_owned(), NOT_FOUND),
        ("GET", thing(""), INVALID),
    ];
    for (method, target, expected) in cases {
        let answer = http::send(node.http(), method, &target, br#"{"state":{}}"#).unwrap();
        let short: String = target.chars().take(60).collect();
        assert_answer(&answer, expected, &format!("{method} {short}"));
    }
    let long = http::send(node.http(), "GET", &thing(&"x".repeat(100_000)), b"").unwrap();
    assert!((400..500).contains(&long.status), "{}", long.status);
    assert_unharmed(&mut node).await;
}

/// Bytes that are no HTTP at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_bytes_are_survived_by_http() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::start(&Options::new(directory.path())).unwrap();
    let requests: [&[u8]; 6] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"POST /things/victim/shadow HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        b"POST /things/victim/shadow HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /things/victim/shadow HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        b"GET / HTTP/9.9\r\n\r\n",
    ];
    for request in requests {
        // An answer is welcome, a closed connection is fine too.
        if let Ok(answer) = http::send_raw(node.http(), request) {
            assert!(answer.status >= 400, "{}", answer.status);
        }
    }
    assert_unharmed(&mut node).await;
}

/// A body of one gibibyte is refused early, however it is announced, and nobody keeps it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_of_one_gibibyte_is_refused_early() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::start(&Options::new(directory.path())).unwrap();
    let before = node.rss().unwrap();
    for announced in [Announced::Length, Announced::Chunked] {
        let (answer, sent) =
            http::stream_body(node.http(), "/things/victim/shadow", GIB, announced).unwrap();
        println!("{announced:?}: {} after {} MiB", answer.status, sent / MIB);
        assert_answer(&answer, TOO_LARGE, &format!("{announced:?}"));
        assert!(sent < GIB / 4, "the server took {} MiB", sent / MIB);
    }
    let grown = node.rss_peak().unwrap().saturating_sub(before);
    assert!(grown < 64 * MIB, "memory grew by {} MiB", grown / MIB);
    assert_unharmed(&mut node).await;
}
