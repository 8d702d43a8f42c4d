//! Wrong input at the gRPC door: a documented reason, no panic, no change, no memory.

use tonic::Code;

use antumbra_proto::v1;
use antumbra_tests::client::{self, Client, Refusal};
use antumbra_tests::node::{Node, Options};
use v1::path_condition::Test;

const MIB: u64 = 1 << 20;

/// What a refusal must be: code and reason.
type Expected = (Code, &'static str);

const ARGUMENT: Expected = (Code::InvalidArgument, "INVALID_ARGUMENT");
const JSON: Expected = (Code::InvalidArgument, "INVALID_JSON");
const NODE: Expected = (Code::InvalidArgument, "INVALID_NODE");
const DEEP: Expected = (Code::InvalidArgument, "TOO_DEEP");
const LARGE: Expected = (Code::ResourceExhausted, "TOO_LARGE");

fn assert_refused<T: std::fmt::Debug>(
    answer: Result<T, impl Into<Refusal>>,
    expected: Expected,
    what: &str,
) {
    match answer {
        Ok(answer) => panic!("{what}: accepted with {answer:?}"),
        Err(refusal) => {
            let refusal = refusal.into();
            let seen = (refusal.code, refusal.reason.as_str());
            assert_eq!(seen, expected, "{what}: {}", refusal.message);
            assert!(!refusal.message.is_empty(), "{what}: says nothing");
        }
    }
}

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

/// JSON fields that hold no JSON, or JSON that no shadow can hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_json_is_refused_over_grpc() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::start(&Options::new(directory.path())).unwrap();
    let client = Client::new(node.grpc());
    let deep = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    let cases: Vec<(&str, String, Expected)> = vec![
        ("nothing", String::new(), JSON),
        ("half an object", r#"{"a":"#.to_owned(), JSON),
        ("two documents", "{}{}".to_owned(), JSON),
        ("duplicate keys", r#"{"a":1,"a":2}"#.to_owned(), JSON),
        ("65 digits", format!(r#"{{"a":{}}}"#, "9".repeat(65)), JSON),
        ("exponent 401", r#"{"a":1e401}"#.to_owned(), JSON),
        ("a number", "7".to_owned(), JSON),
        ("an array", "[]".to_owned(), JSON),
        ("null in an array", r#"{"a":[1,null]}"#.to_owned(), NODE),
        (
            "a long key",
            format!(r#"{{"{}":1}}"#, "k".repeat(1025)),
            NODE,
        ),
        ("nine levels", deep(9), DEEP),
        ("100,000 levels", deep(100_000), DEEP),
        ("9 KB", format!(r#"{{"a":"{}"}}"#, "x".repeat(9000)), LARGE),
    ];
    for (what, json, expected) in cases {
        assert_refused(client.update("victim", &json).await, expected, what);
        let reported = v1::UpdateShadowRequest {
            key: client::key("victim"),
            reported_json: Some(json),
            ..Default::default()
        };
        assert_refused(client.send(reported).await, expected, what);
    }
    assert_unharmed(&mut node).await;
}

fn with_key(tenant: &str, device: &str, shadow: &str) -> v1::UpdateShadowRequest {
    let key = v1::ShadowKey {
        tenant: tenant.to_owned(),
        device_id: device.to_owned(),
        shadow_name: shadow.to_owned(),
    };
    v1::UpdateShadowRequest {
        key: Some(key),
        ..client::desired_update("", r#"{"a":1}"#)
    }
}

fn with_path(pointer: &str, test: Option<Test>) -> v1::UpdateShadowRequest {
    let section = v1::Section::Desired.into();
    let path = v1::PathCondition {
        section,
        pointer: pointer.to_owned(),
        test,
    };
    let conditions = v1::Conditions {
        paths: vec![path],
        ..Default::default()
    };
    let update = client::desired_update("victim", r#"{"a":1}"#);
    v1::UpdateShadowRequest {
        conditions: Some(conditions),
        ..update
    }
}

/// Keys, ids, tokens and conditions that are not what they must be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_fields_are_refused_over_grpc() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::start(&Options::new(directory.path())).unwrap();
    let client = Client::new(node.grpc());
    let good = client::desired_update("victim", r#"{"a":1}"#);
    let updates = [
        (
            "no key",
            v1::UpdateShadowRequest {
                key: None,
                ..good.clone()
            },
        ),
        ("an empty id", with_key("", "", "")),
        ("129 characters", with_key("", &"x".repeat(129), "")),
        ("a space", with_key("", "a b", "")),
        ("a null character", with_key("", "a\0b", "")),
        ("a slash", with_key("", "a/b", "")),
        (
            "a long shadow name",
            with_key("", "victim", &"x".repeat(65)),
        ),
        ("a bad shadow name", with_key("", "victim", "a b")),
        ("a bad tenant", with_key("no such/tenant", "victim", "")),
        (
            "a long request id",
            v1::UpdateShadowRequest {
                request_id: "x".repeat(65),
                ..good.clone()
            },
        ),
        (
            "a long client token",
            v1::UpdateShadowRequest {
                client_token: "x".repeat(65),
                ..good.clone()
            },
        ),
        (
            "a pointer without a slash",
            with_path("a", Some(Test::Exists(true))),
        ),
        (
            "a pointer with a bad escape",
            with_path("/~2", Some(Test::Exists(true))),
        ),
        ("a path without a test", with_path("/a", None)),
    ];
    for (what, update) in updates {
        assert_refused(client.send(update).await, ARGUMENT, what);
    }
    let test = Test::EqualsJson("{".to_owned());
    assert_refused(
        client.send(with_path("/a", Some(test))).await,
        JSON,
        "half a value",
    );

    let sizes = [-1, 1001, i32::MAX, i32::MIN];
    for page_size in sizes {
        let request = v1::ListDevicesRequest {
            page_size,
            ..Default::default()
        };
        let answer = client.raw().list_devices(request).await;
        assert_refused(answer, ARGUMENT, &format!("page of {page_size}"));
    }
    let request = v1::ListDevicesRequest {
        page_token: "nonsense".into(),
        ..Default::default()
    };
    assert_refused(
        client.raw().list_devices(request).await,
        ARGUMENT,
        "a page token",
    );
    let request = v1::GetShadowRequest {
        paths: vec!["no-slash".into()],
        ..client::get_request("victim")
    };
    assert_refused(
        client.raw().get_shadow(request).await,
        ARGUMENT,
        "a path to read",
    );
    let requests = vec![good.clone(); 101];
    let request = v1::BatchUpdateShadowsRequest { requests };
    assert_refused(
        client.raw().batch_update_shadows(request).await,
        ARGUMENT,
        "101 updates",
    );
    let requests = vec![client::get_request("victim"); 101];
    let request = v1::BatchGetShadowsRequest { requests };
    assert_refused(
        client.raw().batch_get_shadows(request).await,
        ARGUMENT,
        "101 reads",
    );
    assert_unharmed(&mut node).await;
}

/// A message far over the limit is refused from its length, before it is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_messages_over_the_limit_are_refused_over_grpc() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::start(&Options::new(directory.path())).unwrap();
    let client = Client::new(node.grpc());
    let before = node.rss().unwrap();
    let huge = format!(r#"{{"a":"{}"}}"#, "x".repeat(128 << 20));
    let refusal = client.update("victim", &huge).await.unwrap_err();
    println!("{refusal:?}");
    // The server may close the stream before all is sent; the client then sees that instead.
    let fine = [
        Code::OutOfRange,
        Code::ResourceExhausted,
        Code::Internal,
        Code::Unknown,
    ];
    assert!(
        fine.contains(&refusal.code) || refusal.code == Code::Unavailable,
        "{refusal:?}"
    );
    let grown = node.rss_peak().unwrap().saturating_sub(before);
    assert!(grown < 64 * MIB, "memory grew by {} MiB", grown / MIB);
    assert_unharmed(&mut node).await;
}
