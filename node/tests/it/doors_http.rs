//! The HTTP door as AWS clients and operators see it.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::doors_support::{Site, patiently, raw, read_reply};

const PUMP: &str = "/things/pump/shadow";

/// Status, exception type and message.
type Failure = (u16, &'static str, &'static str);

/// The four operations with the shapes that AWS clients read.
#[tokio::test]
async fn aws_operations_have_their_shapes() {
    let site = Site::open().await;
    let body = br#"{"state":{"desired":{"on":true},"reported":{"on":false}},"clientToken":"t"}"#;
    let updated = site.send("POST", PUMP, body).await;
    assert_eq!(updated.status, 200);
    assert_eq!(updated.headers["content-type"], "application/json");
    assert_eq!(updated.headers["x-amzn-requestid"].len(), 36);
    let reply = updated.json();
    let time = reply["timestamp"].as_u64().unwrap();
    assert!(
        (1_700_000_000..20_000_000_000).contains(&time),
        "seconds: {time}"
    );
    assert_eq!(
        reply,
        json!({
            "state": {"desired": {"on": true}, "reported": {"on": false}},
            "metadata": {
                "desired": {"on": {"timestamp": time}},
                "reported": {"on": {"timestamp": time}},
            },
            "version": 1, "timestamp": time, "clientToken": "t",
        })
    );

    let read = site.shadow("pump").await;
    assert_eq!(read["state"]["delta"], json!({"on": true}));
    assert_eq!(
        (read["version"].as_u64(), read.get("clientToken")),
        (Some(1), None)
    );

    let deleted = site.send("DELETE", PUMP, b"").await.json();
    assert_eq!(deleted["version"], 1);
    assert!(deleted["timestamp"].is_u64());
    let again = site.send("POST", PUMP, br#"{"state":{}}"#).await.json();
    assert_eq!(
        (again["version"].as_u64(), &again["state"]),
        (Some(3), &json!({}))
    );
    site.close().await;
}

/// Each class of error as the SDKs recognise it: status, header, text.
#[tokio::test]
async fn aws_errors_have_status_class_and_text() {
    let site = Site::open().await;
    let invalid = "InvalidRequestException";
    let missing = "ResourceNotFoundException";
    site.send("POST", PUMP, br#"{"state":{}}"#).await;
    let long = format!("/things/{}/shadow", "x".repeat(129));
    let long_name = format!("{PUMP}?name={}", "x".repeat(65));
    let table: &[(&str, &str, &[u8], Failure)] = &[
        (
            "GET",
            "/things/none/shadow",
            b"",
            (404, missing, "No shadow exists with name: 'none'"),
        ),
        (
            "GET",
            "/things/none/shadow?name=cfg",
            b"",
            (404, missing, "No shadow exists with name: 'none~cfg'"),
        ),
        (
            "DELETE",
            "/things/none/shadow",
            b"",
            (404, missing, "No shadow exists with name: 'none'"),
        ),
        ("POST", PUMP, b"{", (400, invalid, "Invalid JSON")),
        ("POST", PUMP, b"", (400, invalid, "Invalid JSON")),
        (
            "POST",
            PUMP,
            b"{}",
            (400, invalid, "Missing required node: state"),
        ),
        (
            "POST",
            PUMP,
            br#"{"state":{},"version":7}"#,
            (409, "ConflictException", "Version conflict"),
        ),
        ("GET", &long, b"", (400, invalid, "Invalid thing name")),
        (
            "GET",
            "/things/a%2Fb/shadow",
            b"",
            (400, invalid, "Invalid thing name"),
        ),
        (
            "GET",
            "/things/a%00b/shadow",
            b"",
            (400, invalid, "Invalid thing name"),
        ),
        (
            "GET",
            "/things/%C3%A9/shadow",
            b"",
            (400, invalid, "Invalid thing name"),
        ),
        (
            "GET",
            "/things/%ff/shadow",
            b"",
            (400, invalid, "Invalid thing name"),
        ),
        (
            "GET",
            &long_name,
            b"",
            (400, invalid, "Invalid shadow name"),
        ),
        (
            "GET",
            "/things/pump/shadow?name=",
            b"",
            (400, invalid, "Invalid shadow name"),
        ),
        (
            "GET",
            "/things/pump/shadow?name=a/b",
            b"",
            (400, invalid, "Invalid shadow name"),
        ),
        (
            "GET",
            "/things//shadow",
            b"",
            (400, invalid, "Invalid thing name"),
        ),
        ("GET", "/nothing", b"", (404, missing, "Not found")),
        (
            "PUT",
            PUMP,
            b"",
            (405, "MethodNotAllowedException", "Method not allowed"),
        ),
    ];
    for (method, path, body, expected) in table {
        let reply = site.send(method, path, body).await;
        let (status, exception, message) = reply.failure();
        assert_eq!(
            (status, &*exception, &*message),
            *expected,
            "{method} {path}"
        );
        assert!(
            reply.json().get("code").is_none(),
            "the SDK would take it for the class"
        );
        assert_eq!(reply.headers["x-amzn-requestid"].len(), 36);
    }
    site.close().await;
}

/// Names arrive percent-encoded, and signatures are not looked at.
#[tokio::test]
async fn names_are_decoded_and_signatures_ignored() {
    let site = Site::open().await;
    let signed = "authorization: AWS4-HMAC-SHA256 Credential=x, Signature=y\r\n";
    let path = "/things/pump%3Anorth/shadow?name=%24cfg";
    let updated = site
        .send_with("POST", path, signed, br#"{"state":{"desired":{"a":1}}}"#)
        .await;
    assert_eq!(updated.status, 200, "{updated:?}");
    let read = site
        .send("GET", "/things/pump:north/shadow?name=$cfg", b"")
        .await
        .json();
    assert_eq!(read["state"]["desired"], json!({"a": 1}));
    site.close().await;
}

/// A retry of an SDK repeats its invocation id and must not count twice; a client token may repeat
/// for ever and never stops anything.
#[tokio::test]
async fn sdk_retries_apply_once_and_client_tokens_never_dedupe() {
    let site = Site::open().await;
    let body = br#"{"state":{"desired":{"a":1}},"clientToken":"same"}"#;
    let attempt = "amz-sdk-invocation-id: 6f1c\r\n";
    for _ in 0..2 {
        let reply = site.send_with("POST", PUMP, attempt, body).await.json();
        assert_eq!(reply["version"], 1);
    }
    for version in 2..12 {
        assert_eq!(
            site.send("POST", PUMP, body).await.json()["version"],
            version
        );
    }
    site.close().await;
}

#[tokio::test]
async fn named_shadows_are_listed_in_pages() {
    let site = Site::open().await;
    site.send("POST", PUMP, br#"{"state":{}}"#).await;
    for name in ["a", "b", "c", "d", "e"] {
        let path = format!("{PUMP}?name={name}");
        assert_eq!(
            site.send("POST", &path, br#"{"state":{}}"#).await.status,
            200
        );
    }
    let list = "/api/things/shadow/ListNamedShadowsForThing/pump";
    let all = site.send("GET", list, b"").await.json();
    assert_eq!(
        all["results"],
        json!(["a", "b", "c", "d", "e"]),
        "the classic one is not listed"
    );
    assert!(all.get("nextToken").is_none() && all["timestamp"].is_u64());

    let mut seen = Vec::new();
    let mut path = format!("{list}?pageSize=2");
    loop {
        let page = site.send("GET", &path, b"").await.json();
        seen.push(page["results"].as_array().unwrap().len());
        match page["nextToken"].as_str() {
            Some(token) => path = format!("{list}?pageSize=2&nextToken={token}"),
            None => break,
        }
    }
    assert_eq!(seen, [2, 2, 1]);

    for (query, message) in [
        ("pageSize=0", "Invalid pageSize"),
        ("pageSize=101", "Invalid pageSize"),
        ("pageSize=-1", "Invalid pageSize"),
        ("pageSize=x", "Invalid pageSize"),
        ("nextToken=", "Invalid nextToken"),
        ("nextToken=garbage", "Invalid nextToken"),
    ] {
        let reply = site.send("GET", &format!("{list}?{query}"), b"").await;
        let expected = (
            400,
            "InvalidRequestException".to_owned(),
            message.to_owned(),
        );
        assert_eq!(reply.failure(), expected, "{query}");
    }
    let unknown = "/api/things/shadow/ListNamedShadowsForThing/none";
    assert_eq!(
        site.send("GET", unknown, b"").await.json()["results"],
        json!([])
    );
    site.close().await;
}

/// Wrong input has its documented error and changes nothing.
#[tokio::test]
async fn bad_bodies_are_refused_and_change_nothing() {
    let site = Site::open().await;
    site.send("POST", PUMP, br#"{"state":{"desired":{"a":1}}}"#)
        .await;
    let before = site.shadow("pump").await;

    let deep = format!("{{\"state\":{{\"desired\":{}", "{\"a\":".repeat(100_000)).into_bytes();
    let number = format!("{{\"state\":{{\"desired\":{{\"a\":{}}}}}}}", "9".repeat(65)).into_bytes();
    let large = json!({"state": {"desired": {"a": "x".repeat(9000)}}})
        .to_string()
        .into_bytes();
    let table: &[(&str, &[u8], u16, &str, &str)] = &[
        ("not JSON", b"][", 400, "INVALID_JSON", "Invalid JSON"),
        (
            "not UTF-8",
            b"{\"state\":{\"desired\":{\"a\":\"\xff\xfe\"}}}",
            415,
            "UNSUPPORTED_ENCODING",
            "Unsupported documented encoding; supported encoding is UTF-8",
        ),
        (
            "deep",
            &deep,
            400,
            "TOO_DEEP",
            "JSON contains too many levels of nesting; maximum is 6",
        ),
        ("long number", &number, 400, "INVALID_JSON", "Invalid JSON"),
        (
            "huge exponent",
            b"{\"state\":{\"desired\":{\"a\":1e500}}}",
            400,
            "INVALID_JSON",
            "Invalid JSON",
        ),
        (
            "null in an array",
            b"{\"state\":{\"desired\":{\"a\":[null]}}}",
            400,
            "INVALID_NODE",
            "State contains an invalid node",
        ),
        (
            "unknown field in the state",
            b"{\"state\":{\"wanted\":{}}}",
            400,
            "INVALID_NODE",
            "State contains an invalid node",
        ),
        (
            "large document",
            &large,
            413,
            "TOO_LARGE",
            "The payload exceeds the maximum size allowed",
        ),
    ];
    for (what, body, status, reason, message) in table {
        let reply = site.send("POST", PUMP, body).await;
        assert_eq!(
            (reply.status, &*reply.failure().2),
            (*status, *message),
            "{what}"
        );
        assert_eq!(reply.reason(), *reason, "{what}");
    }
    for headers in [
        "content-encoding: gzip\r\n",
        "content-type: application/json; charset=utf-16\r\n",
        "content-type: application/json; charset=\"latin1\"\r\n",
    ] {
        let reply = site
            .send_with("POST", PUMP, headers, b"{\"state\":{}}")
            .await;
        assert_eq!(
            reply.failure().1,
            "UnsupportedDocumentEncodingException",
            "{headers}"
        );
    }
    let mut after = site.shadow("pump").await;
    after["timestamp"] = before["timestamp"].clone();
    assert_eq!(after, before);

    // Accepted, as on AWS: unknown fields beside the state, a key given twice, UTF-8 by name.
    let odd = b"{\"x\":1,\"state\":{\"desired\":{\"a\":2,\"a\":3}}}";
    let utf8 = "content-type: application/json; charset=UTF-8\r\n";
    let reply = site.send_with("POST", PUMP, utf8, odd).await.json();
    assert_eq!(reply["state"]["desired"], json!({"a": 3}));
    site.close().await;
}

/// A body that is too large is refused without being read, or after a bounded part of it.
#[tokio::test]
async fn oversize_bodies_are_refused_early() {
    let site = Site::open_with(|config| config.http.body_bytes_max.0 = 64 * 1024).await;
    let too_large = |status: u16, class: &str| {
        assert_eq!((status, class), (413, "RequestEntityTooLargeException"));
    };

    // A gibibyte is announced: the answer comes although nothing of it was sent.
    let head = format!(
        "POST {PUMP} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        1 << 30
    );
    let reply = raw(site.http(), head.as_bytes()).await;
    too_large(reply.status, &reply.failure().1);

    // A little too large: the client sends everything before it listens.
    let reply = site.send("POST", PUMP, &vec![b' '; 100 * 1024]).await;
    too_large(reply.status, &reply.failure().1);

    // Of unknown length and without end: the answer comes after a bounded part.
    let mut stream = TcpStream::connect(site.http()).await.unwrap();
    let head = format!("POST {PUMP} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    let mut sent = 0_u64;
    let flood = async {
        while stream.write_all(&chunk).await.is_ok() {
            sent += 0x10000;
            if sent > 64 << 20 {
                break;
            }
        }
    };
    patiently(flood).await;
    assert!(sent < 64 << 20, "the server went on reading");

    // Exactly the limit is read.
    let mut body = br#"{"state":{"desired":{"a":1}}}"#.to_vec();
    body.resize(64 * 1024, b' ');
    assert_eq!(site.send("POST", PUMP, &body).await.status, 200);
    site.close().await;
}

/// Heads are limited, and a body that does not come is given up.
#[tokio::test]
async fn slow_and_fat_requests_are_cut_off() {
    let site =
        Site::open_with(|config| config.http.default_deadline = Duration::from_millis(300)).await;
    let fat = format!("x-fat: {}\r\n", "x".repeat(32 * 1024));
    assert_eq!(site.send_with("GET", PUMP, &fat, b"").await.status, 431);

    let mut stream = TcpStream::connect(site.http()).await.unwrap();
    let head = format!("POST {PUMP} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{{");
    stream.write_all(head.as_bytes()).await.unwrap();
    let reply = read_reply(&mut stream).await;
    assert_eq!(reply.failure().2, "The body did not arrive in time");
    site.close().await;
}

#[tokio::test]
async fn operators_see_health_metrics_and_the_doors() {
    let site = Site::open().await;
    for path in ["/livez", "/readyz", "/startupz"] {
        let reply = site.send("GET", path, b"").await;
        assert_eq!((reply.status, &*reply.body), (200, "ok\n"), "{path}");
    }
    site.send("POST", PUMP, br#"{"state":{}}"#).await;
    let metrics = site.send("GET", "/metrics", b"").await;
    assert!(
        metrics.body.contains("antumbra_requests_total"),
        "{}",
        metrics.body
    );
    let index = site.send("GET", "/", b"").await.body;
    let grpc = site.node.addresses().grpc.to_string();
    for part in [&*grpc, "/things/{thing}/shadow", "/readyz", "/metrics"] {
        assert!(index.contains(part), "{part} is missing in\n{index}");
    }
    site.close().await;
}
