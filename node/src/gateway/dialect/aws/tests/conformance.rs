//! The conformance vectors of `aws-shadow.md`, section 11, over the topics.

use serde_json::{Value, json};

use super::{Pump, names};

const ALL: [&str; 3] = ["update/accepted", "update/delta", "update/documents"];

/// Vector 1: a missing shadow is told without a time, and names the thing.
#[test]
fn a_missing_shadow_is_rejected_by_name() {
    let mut pump = Pump::new();
    let seen = pump.send("get", r#"{"clientToken":"t"}"#);
    let text = "No shadow exists with name: 'pump'";
    assert_eq!(
        seen,
        [(
            "get/rejected".to_owned(),
            json!({"code": 404, "message": text, "clientToken": "t"})
        )]
    );
    assert_eq!(pump.send("delete", "")[0].1["code"], 404);
    let named = pump.send("name/config/get", "");
    assert_eq!(named[0].0, "name/config/get/rejected");
    let text = "No shadow exists with name: 'pump~config'";
    assert_eq!(named[0].1["message"], text);
}

/// Vectors 2 to 5: what is published for which update.
#[test]
fn accepted_delta_and_documents_come_as_they_should() {
    let mut pump = Pump::new();
    let seen = pump.update(r#"{"state":{"reported":{"c":1}},"clientToken":"t1"}"#);
    assert_eq!(names(&seen), ["update/accepted", "update/documents"]);
    assert_eq!(
        seen[0].1,
        json!({"state": {"reported": {"c": 1}}, "metadata": {"reported": {"c": {"timestamp": 1_700_000_001}}},
            "version": 1, "timestamp": 1_700_000_001, "clientToken": "t1"})
    );
    assert_eq!(seen[1].1.get("previous"), None);
    assert_eq!(seen[1].1["current"]["version"], 1);

    let seen = pump.update(r#"{"state":{"desired":{"c":2}},"clientToken":"t2"}"#);
    assert_eq!(names(&seen), ALL);
    assert_eq!(seen[0].1["state"], json!({"desired": {"c": 2}}));
    assert_eq!(
        seen[1].1,
        json!({"version": 2, "timestamp": 1_700_000_002, "state": {"c": 2},
            "metadata": {"c": {"timestamp": 1_700_000_002}}, "clientToken": "t2"})
    );
    assert_eq!(seen[2].1["previous"]["version"], 1);
    assert_eq!(seen[2].1["current"]["version"], 2);
    assert_eq!(seen[2].1["current"]["state"].get("delta"), None);

    let seen = pump.update(r#"{"state":{"reported":{"c":2}}}"#);
    assert_eq!(names(&seen), ["update/accepted", "update/documents"]);
    assert_eq!(seen[0].1["version"], 3);

    let seen = pump.update(r#"{"state":{"reported":{"c":9}}}"#);
    assert_eq!(names(&seen), ALL);
    assert_eq!(seen[1].1["state"], json!({"c": 2}));
}

/// Vectors 6, 7 and 13: the delta keeps its path, takes arrays whole, and knows empty objects.
#[test]
fn the_delta_is_what_differs() {
    let table = [
        (
            r#"{"a":{"b":1,"c":2}}"#,
            r#"{"a":{"b":1}}"#,
            json!({"a": {"c": 2}}),
        ),
        (r#"{"l":[1,3]}"#, r#"{"l":[1,2]}"#, json!({"l": [1, 3]})),
        (r#"{"a":1,"d":{}}"#, r#"{"a":1.0}"#, json!({"d": {}})),
    ];
    for (desired, reported, delta) in table {
        let mut pump = Pump::new();
        let message = format!(r#"{{"state":{{"desired":{desired},"reported":{reported}}}}}"#);
        let seen = pump.update(&message);
        assert_eq!(names(&seen), ALL);
        assert_eq!(seen[1].1["state"], delta);
        assert_eq!(pump.get()["state"]["delta"], delta);
    }
}

/// Vector 8: the version of a request must be the present one; a conflict has no time.
#[test]
fn a_stale_version_is_rejected() {
    let mut pump = Pump::new();
    pump.update(r#"{"state":{"reported":{"c":1}}}"#);
    pump.update(r#"{"state":{"reported":{"c":2}}}"#);
    let seen = pump.update(r#"{"state":{"reported":{"c":3}},"version":1,"clientToken":"t"}"#);
    let conflict = json!({"code": 409, "message": "Version conflict", "clientToken": "t"});
    assert_eq!(seen, [("update/rejected".to_owned(), conflict)]);
    let seen = pump.update(r#"{"state":{"reported":{"c":3}},"version":2}"#);
    assert_eq!(seen[0].1["version"], 3);
}

/// Vectors 9 to 11: nulls, a state that is null, and a state that is empty.
#[test]
fn null_clears_and_empty_does_not() {
    let mut pump = Pump::new();
    pump.update(r#"{"state":{"desired":{"x":1},"reported":{"y":1}}}"#);
    let seen = pump.update(r#"{"state":{"desired":{"x":null}}}"#);
    assert_eq!(seen[0].1["state"], json!({"desired": {"x": null}}));
    assert_eq!(pump.get()["state"], json!({"reported": {"y": 1}}));
    let seen = pump.update(r#"{"state":{}}"#);
    assert_eq!(seen[0].1["state"], json!({}));
    assert_eq!(pump.get()["state"], json!({"reported": {"y": 1}}));
    pump.world
        .subscribe(pump.device, "$aws/things/pump/shadow/update/accepted")
        .unwrap();
    let seen = pump.update(r#"{"state":null}"#);
    let cleared = json!({"state": null, "metadata": {"timestamp": 1_700_000_004}, "version": 4,
        "timestamp": 1_700_000_004});
    assert_eq!(seen[0].1, cleared);
    assert_eq!(
        pump.world.take(pump.device)[0].1,
        cleared,
        "who asked sees the same"
    );
    let document = pump.get();
    assert_eq!(
        (&document["state"], &document["metadata"]),
        (&json!({}), &json!({}))
    );
    assert_eq!(document["version"], 4);
}

/// Who asked sees its own two nulls as they were sent.
#[test]
fn two_cleared_sections_are_echoed_as_sections() {
    let mut pump = Pump::new();
    pump.world
        .subscribe(pump.device, "$aws/things/pump/shadow/update/accepted")
        .unwrap();
    pump.update(r#"{"state":{"desired":null,"reported":null}}"#);
    let accepted = pump.world.take(pump.device).remove(0).1;
    assert_eq!(
        accepted["state"],
        json!({"desired": null, "reported": null})
    );
}

/// Vector 12: a delete shows the version that it deleted, and the count goes on.
#[test]
fn a_deleted_shadow_counts_on() {
    let mut pump = Pump::new();
    for n in 1..=9 {
        pump.update(&format!(r#"{{"state":{{"reported":{{"n":{n}}}}}}}"#));
    }
    let seen = pump.send("delete", r#"{"clientToken":"d","other":1}"#);
    let deleted = json!({"version": 9, "timestamp": 1_700_000_010, "clientToken": "d"});
    assert_eq!(seen, [("delete/accepted".to_owned(), deleted)]);
    assert_eq!(pump.get()["code"], 404);
    let seen = pump.update(r#"{"state":{"reported":{"n":1}}}"#);
    assert_eq!(seen[0].1["version"], 11);
    assert_eq!(
        seen[1].1.get("previous"),
        None,
        "it is a first creation again"
    );
}

/// Vectors 14 to 17, and the other requests that are wrong by themselves.
#[test]
fn wrong_requests_are_rejected_with_the_text_of_the_service() {
    let token = "x".repeat(65);
    let long = format!(r#"{{"state":{{}},"clientToken":"{token}"}}"#);
    let table = [
        ("update", &long[..], 400, "Invalid clientToken"),
        (
            "update",
            r#"{"state":{"desired":{"a":[null]}}}"#,
            400,
            "State contains an invalid node",
        ),
        (
            "update",
            r#"{"state":{"foo":1}}"#,
            400,
            "State contains an invalid node",
        ),
        ("update", "{}", 400, "Missing required node: state"),
        ("update", "", 400, "Invalid JSON"),
        (
            "update",
            r#"{"state":{},"version":-1}"#,
            400,
            "Invalid version",
        ),
        ("get", "[", 400, "Invalid JSON"),
        ("delete", r#"{"clientToken":7}"#, 400, "Invalid clientToken"),
    ];
    for (verb, payload, code, text) in table {
        let mut pump = Pump::new();
        let seen = pump.send(verb, payload);
        assert_eq!(names(&seen), [format!("{verb}/rejected")], "{payload}");
        assert_eq!(
            (&seen[0].1["code"], &seen[0].1["message"]),
            (&json!(code), &json!(text))
        );
    }
}

/// A get or delete may say nothing, in any way of saying nothing; what else it says does not matter.
#[test]
fn the_body_of_a_get_is_its_token() {
    let mut pump = Pump::new();
    pump.update(r#"{"state":{"reported":{"c":1}}}"#);
    for payload in ["", " ", "{}", r#"{"state":7}"#] {
        assert_eq!(pump.send("get", payload)[0].0, "get/accepted", "{payload}");
    }
    let document = pump.send("get", r#"{"clientToken":"g"}"#).remove(0).1;
    assert_eq!(document["clientToken"], "g");
    assert_eq!(
        document["metadata"],
        json!({"reported": {"c": {"timestamp": 1_700_000_001}}})
    );
    assert_ne!(document["timestamp"], Value::Null);
}
