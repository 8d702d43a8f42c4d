//! Wrong input at the gRPC door: each kind has its documented error and changes nothing.

use antumbra_proto::v1;
use antumbra_proto::v1::path_condition::Test;
use tonic::{Code, Status};

use crate::doors_grpc::{put, read, refused};
use crate::doors_support::{Site, desired, get, key, patiently, reason, refusal};

/// Wrong input names the field that is wrong, and changes nothing.
#[tokio::test]
async fn bad_requests_name_the_field_and_change_nothing() {
    let site = Site::open().await;
    let before = put(&site, "pump", r#"{"a":1}"#).await.version;
    let base = || desired("pump", "{}");
    let json = |text: &str| desired("pump", text);
    let condition = |pointer: &str, test| v1::UpdateShadowRequest {
        conditions: Some(v1::Conditions {
            paths: vec![v1::PathCondition {
                section: v1::Section::Reported as i32,
                pointer: pointer.to_owned(),
                test,
            }],
            ..Default::default()
        }),
        ..base()
    };
    let deep = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
    let id = |id: &str| v1::UpdateShadowRequest {
        key: key(id, ""),
        ..base()
    };
    let table = [
        (
            "no key",
            v1::UpdateShadowRequest {
                key: None,
                ..base()
            },
            "INVALID_ARGUMENT",
            "key",
        ),
        ("empty id", id(""), "INVALID_ARGUMENT", "key.device_id"),
        (
            "long id",
            id(&"x".repeat(129)),
            "INVALID_ARGUMENT",
            "key.device_id",
        ),
        ("bad id", id("a/b"), "INVALID_ARGUMENT", "key.device_id"),
        (
            "NUL in the id",
            id("a\0b"),
            "INVALID_ARGUMENT",
            "key.device_id",
        ),
        (
            "long shadow name",
            v1::UpdateShadowRequest {
                key: key("pump", &"x".repeat(65)),
                ..base()
            },
            "INVALID_ARGUMENT",
            "key.shadow_name",
        ),
        (
            "nothing to do",
            v1::UpdateShadowRequest {
                desired_json: None,
                ..base()
            },
            "INVALID_ARGUMENT",
            "desired_json",
        ),
        ("not JSON", json("{"), "INVALID_JSON", "desired_json"),
        ("empty text", json(""), "INVALID_JSON", "desired_json"),
        ("an array", json("[]"), "INVALID_JSON", "desired_json"),
        (
            "text after it",
            json("{} x"),
            "INVALID_JSON",
            "desired_json",
        ),
        (
            "a key twice",
            json(r#"{"a":1,"a":2}"#),
            "INVALID_JSON",
            "desired_json",
        ),
        (
            "long number",
            json(&format!(r#"{{"a":{}}}"#, "9".repeat(65))),
            "INVALID_JSON",
            "desired_json",
        ),
        (
            "huge exponent",
            json(r#"{"a":1e500}"#),
            "INVALID_JSON",
            "desired_json",
        ),
        (
            "null in an array",
            json(r#"{"a":[null]}"#),
            "INVALID_NODE",
            "desired_json",
        ),
        (
            "a long key",
            json(&format!(r#"{{"{}":1}}"#, "k".repeat(1025))),
            "INVALID_NODE",
            "desired_json",
        ),
        ("nine levels", json(&deep(9)), "TOO_DEEP", "desired_json"),
        ("an abyss", json(&deep(100_000)), "TOO_DEEP", "desired_json"),
        (
            "deep in reported",
            v1::UpdateShadowRequest {
                reported_json: Some(deep(9)),
                ..base()
            },
            "TOO_DEEP",
            "reported_json",
        ),
        (
            "long request id",
            v1::UpdateShadowRequest {
                request_id: "x".repeat(65),
                ..base()
            },
            "INVALID_ARGUMENT",
            "request_id",
        ),
        (
            "long client token",
            v1::UpdateShadowRequest {
                client_token: "x".repeat(65),
                ..base()
            },
            "INVALID_ARGUMENT",
            "client_token",
        ),
        (
            "bad pointer",
            condition("a", Some(Test::Exists(true))),
            "INVALID_ARGUMENT",
            "conditions.paths[0].pointer",
        ),
        (
            "no test",
            condition("/a", None),
            "INVALID_ARGUMENT",
            "conditions.paths[0].test",
        ),
        (
            "bad value",
            condition("/a", Some(Test::EqualsJson("{".into()))),
            "INVALID_JSON",
            "conditions.paths[0].equals_json",
        ),
        (
            "leaf version of reported",
            condition("/a", Some(Test::LeafVersion(1))),
            "INVALID_ARGUMENT",
            "conditions.paths[0].leaf_version",
        ),
    ];
    for (what, request, reason, field) in table {
        let status = refused(&site, request).await;
        let expected = (Code::InvalidArgument, reason.to_owned(), field.to_owned());
        assert_eq!(refusal(&status), expected, "{what}: {status}");
    }
    let large = json(&format!(r#"{{"a":"{}"}}"#, "x".repeat(9000)));
    let status = refused(&site, large).await;
    assert_eq!(
        (status.code(), &*reason(&status)),
        (Code::ResourceExhausted, "TOO_LARGE")
    );
    let huge = json(&format!(r#"{{"a":"{}"}}"#, "x".repeat(6 << 20)));
    let status = refused(&site, huge).await;
    assert_eq!(
        (status.code(), &*reason(&status)),
        (Code::ResourceExhausted, "TOO_LARGE")
    );
    assert_eq!(read(&site, get("pump")).await.version, before);
    site.close().await;
}

/// Protobuf that is none, text in it that is not UTF-8, and fields that nobody knows.
#[tokio::test]
async fn bad_messages_are_refused_and_unknown_fields_ignored() {
    let site = Site::open().await;
    // GetShadowRequest { key: { device_id: <bytes> } } by hand: the client would not send it.
    let message = |id: &[u8], more: &[u8]| {
        let key = [&[0x12, id.len() as u8], id].concat();
        [&[0x0a, key.len() as u8], key.as_slice(), more].concat()
    };
    put(&site, "pump", "{}").await;
    for (bytes, code) in [
        (message(b"pump", b""), "0"),
        // Field 100, varint 7.
        (message(b"pump", &[0xa0, 0x06, 0x07]), "0"),
        (message(b"\xff\xfe", b""), "3"),
        (b"\x0a\xff".to_vec(), "3"),
    ] {
        let reply = patiently(raw_unary(&site, "GetShadow", &bytes)).await;
        assert_eq!(reply, code, "{bytes:?}");
    }
    site.close().await;
}

/// A unary call with hand-made bytes; gives the `grpc-status`.
async fn raw_unary(site: &Site, method: &str, message: &[u8]) -> String {
    use tonic::client::Grpc;
    use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

    struct Bytes;
    impl Codec for Bytes {
        type Encode = Vec<u8>;
        type Decode = ();
        type Encoder = Bytes;
        type Decoder = Bytes;
        fn encoder(&mut self) -> Bytes {
            Bytes
        }
        fn decoder(&mut self) -> Bytes {
            Bytes
        }
    }
    impl Encoder for Bytes {
        type Item = Vec<u8>;
        type Error = Status;
        fn encode(&mut self, item: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
            bytes::BufMut::put_slice(out, &item);
            Ok(())
        }
        fn buffer_settings(&self) -> BufferSettings {
            BufferSettings::default()
        }
    }
    impl Decoder for Bytes {
        type Item = ();
        type Error = Status;
        fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
            let count = bytes::Buf::remaining(from);
            bytes::Buf::advance(from, count);
            Ok(Some(()))
        }
    }

    let address = format!("http://{}", site.node.addresses().grpc);
    let channel = tonic::transport::Endpoint::new(address)
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = Grpc::new(channel);
    client.ready().await.unwrap();
    let path = format!("/antumbra.v1.Shadows/{method}").parse().unwrap();
    let reply = client
        .unary(tonic::Request::new(message.to_vec()), path, Bytes)
        .await;
    let code = reply.map_or_else(|status| status.code(), |_| Code::Ok);
    (code as i32).to_string()
}
