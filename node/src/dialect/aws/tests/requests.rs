//! What is asked: which requests are refused, and with which text.

use super::*;

fn message_of(body: &[u8]) -> (u16, String) {
    let error = parse_update(body, &Limits::default()).unwrap_err().error;
    (error.row().http, error.aws_message("pump").into_owned())
}

/// Every error text of the service, for the request that earns it.
#[test]
fn wrong_requests_get_the_aws_text() {
    let deep = format!(
        "{{\"state\":{{\"desired\":{}1{}}}}}",
        "{\"a\":".repeat(9),
        "}".repeat(9)
    );
    let abyss = format!("{{\"state\":{{\"desired\":{}", "[".repeat(100_000));
    let token = format!("{{\"state\":{{}},\"clientToken\":\"{}\"}}", "x".repeat(65));
    let long = format!("{{\"state\":{{\"desired\":{{\"a\":{}}}}}}}", "1".repeat(65));
    let table: &[(&str, &str)] = &[
        ("", "Invalid JSON"),
        ("{", "Invalid JSON"),
        ("not json", "Invalid JSON"),
        ("{\"state\":{}} x", "Invalid JSON"),
        ("{'state':{}}", "Invalid JSON"),
        ("[]", "Invalid JSON"),
        ("null", "Invalid JSON"),
        ("7", "Invalid JSON"),
        (&long, "Invalid JSON"),
        ("{\"state\":{\"desired\":{\"a\":1e500}}}", "Invalid JSON"),
        ("{}", "Missing required node: state"),
        ("{\"version\":1}", "Missing required node: state"),
        ("{\"state\":[]}", "State node must be an object"),
        ("{\"state\":\"x\"}", "State node must be an object"),
        ("{\"state\":{\"foo\":1}}", "State contains an invalid node"),
        (
            "{\"state\":{\"desired\":{},\"delta\":{}}}",
            "State contains an invalid node",
        ),
        (
            "{\"state\":{\"desired\":1}}",
            "Desired node must be an object",
        ),
        (
            "{\"state\":{\"desired\":[]}}",
            "Desired node must be an object",
        ),
        (
            "{\"state\":{\"reported\":\"on\"}}",
            "Reported node must be an object",
        ),
        (
            "{\"state\":{\"desired\":{\"a\":[null]}}}",
            "State contains an invalid node",
        ),
        (
            "{\"state\":{\"desired\":{\"a\":[[1,null]]}}}",
            "State contains an invalid node",
        ),
        (
            &deep,
            "JSON contains too many levels of nesting; maximum is 6",
        ),
        (
            &abyss,
            "JSON contains too many levels of nesting; maximum is 6",
        ),
        ("{\"state\":{},\"version\":-1}", "Invalid version"),
        ("{\"state\":{},\"version\":1.5}", "Invalid version"),
        ("{\"state\":{},\"version\":\"1\"}", "Invalid version"),
        ("{\"state\":{},\"version\":null}", "Invalid version"),
        (
            "{\"state\":{},\"version\":99999999999999999999}",
            "Invalid version",
        ),
        (&token, "Invalid clientToken"),
        ("{\"state\":{},\"clientToken\":7}", "Invalid clientToken"),
        ("{\"state\":{},\"clientToken\":null}", "Invalid clientToken"),
    ];
    for (body, message) in table {
        let shown = body.chars().take(60).collect::<String>();
        assert_eq!(
            message_of(body.as_bytes()),
            (400, (*message).to_owned()),
            "{shown}"
        );
    }
    assert_eq!(
        message_of(b"{\"state\":{\"desired\":{\"a\":\"\xff\"}}}"),
        (
            415,
            "Unsupported documented encoding; supported encoding is UTF-8".to_owned()
        )
    );
}

/// A request that is wrong in many ways gets the error of the first check.
#[test]
fn checks_come_in_their_order() {
    let token = "\"clientToken\":7";
    let deep = format!("{}1{}", "{\"a\":".repeat(9), "}".repeat(9));
    let steps = [
        (format!("{{{token},\"version\":-1"), "Invalid JSON"),
        (
            format!("{{{token},\"version\":-1}}"),
            "Missing required node: state",
        ),
        (
            format!("{{\"state\":[],{token},\"version\":-1}}"),
            "Invalid clientToken",
        ),
        (
            "{\"state\":[],\"version\":-1}".to_owned(),
            "State node must be an object",
        ),
        (
            format!("{{\"state\":{{\"foo\":1,\"desired\":{deep},\"reported\":1}},\"version\":-1}}"),
            "State contains an invalid node",
        ),
        (
            format!("{{\"state\":{{\"desired\":{deep},\"reported\":1}},\"version\":-1}}"),
            "Reported node must be an object",
        ),
        (
            format!("{{\"state\":{{\"desired\":{deep}}},\"version\":-1}}"),
            "JSON contains too many levels of nesting; maximum is 6",
        ),
        (
            "{\"state\":{\"desired\":{}},\"version\":-1}".to_owned(),
            "Invalid version",
        ),
    ];
    for (body, message) in steps {
        assert_eq!(message_of(body.as_bytes()).1, message, "{body}");
    }
}

/// The errors that only the shadow itself can give.
#[test]
fn the_shadow_refuses_with_the_aws_text() {
    let mut thing = Thing::at_version(2);
    let conflict = thing
        .update(json!({"state": {}, "version": 1, "clientToken": "t"}))
        .reply;
    assert_eq!(
        conflict,
        json!({"code": 409, "message": "Version conflict", "clientToken": "t"})
    );
    let large = thing
        .update(json!({"state": {"desired": {"a": "x".repeat(9000)}}}))
        .reply;
    assert_eq!(large["code"], 413);
    assert_eq!(
        large["message"],
        "The payload exceeds the maximum size allowed"
    );
    assert!(large["timestamp"].is_u64());
    assert_eq!(thing.get()["version"], 2, "nothing was changed");
}

/// A rejection echoes the token whenever it can be read.
#[test]
fn refusals_carry_a_readable_client_token() {
    let token = |body: &str| {
        parse_update(body.as_bytes(), &Limits::default())
            .unwrap_err()
            .client_token
    };
    assert_eq!(token("{\"clientToken\":\"t\"}").as_deref(), Some("t"));
    assert_eq!(
        token("{\"clientToken\":\"t\",\"state\":1}").as_deref(),
        Some("t")
    );
    assert_eq!(
        token("{\"clientToken\":\"t\",\"state\":{},\"version\":-1}").as_deref(),
        Some("t")
    );
    assert_eq!(token("{\"clientToken\":\"t\""), None);
    assert_eq!(token("{\"clientToken\":7,\"state\":{}}"), None);
}

#[test]
fn get_and_delete_read_only_the_client_token() {
    let limits = Limits::default();
    let token = |body: &str| parse_client_token(body.as_bytes(), &limits);
    for empty in ["", " \n", "{}", "{\"state\":7}"] {
        assert_eq!(token(empty).unwrap(), None, "{empty:?}");
    }
    assert_eq!(
        token("{\"clientToken\":\"t\",\"x\":[1]}")
            .unwrap()
            .as_deref(),
        Some("t")
    );
    assert!(token("[1]").is_err());
    assert!(token("{\"clientToken\":7}").is_err());
}

/// As on AWS, and unlike at our own doors.
#[test]
fn the_last_of_two_equal_keys_counts() {
    let mut thing = Thing::default();
    let body =
        b"{\"state\":{\"desired\":{\"a\":1,\"a\":2}},\"state\":{\"desired\":{\"b\":1,\"b\":3}}}";
    assert_eq!(
        thing.update_text(body).reply["state"],
        json!({"desired": {"b": 3}})
    );
}
