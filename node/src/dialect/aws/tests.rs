#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use antumbra_shadow::{
    Change, Delete, DeviceEntry, DeviceId, DeviceKey, Draft, Kind, Limits, Outcome, Position,
    RowKey, Rows, Tenant, Time, Update, apply::apply,
};
use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::error::Error;

/// A device whose shadow is kept in memory, driven by messages of the dialect.
#[derive(Default)]
struct Thing {
    rows: BTreeMap<RowKey, Bytes>,
    index: u64,
}

impl Rows for Thing {
    type Error = String;

    fn get(&mut self, key: &RowKey) -> Result<Option<Bytes>, Self::Error> {
        Ok(self.rows.get(key).cloned())
    }

    fn put(&mut self, key: &RowKey, value: Bytes) {
        self.rows.insert(key.clone(), value);
    }

    fn delete(&mut self, key: &RowKey) {
        self.rows.remove(key);
    }

    fn damaged(&self, key: &RowKey) -> String {
        format!("{key:?} is damaged")
    }
}

/// What a message gave: the reply, and what observers see.
struct Seen {
    reply: Value,
    change: Option<Change>,
}

impl Seen {
    fn delta(&self) -> Option<Value> {
        delta(self.change.as_ref()?).map(|text| parse(&text))
    }

    fn documents(&self) -> Option<Value> {
        documents(self.change.as_ref()?).map(|text| parse(&text))
    }
}

impl Thing {
    /// Seconds that the clock shows at the nth command.
    fn seconds(&self) -> u64 {
        1_700_000_000 + self.index
    }

    fn now(&self) -> Time {
        Time(self.seconds() * 1000 + 999)
    }

    fn key() -> DeviceKey {
        DeviceKey {
            tenant: Tenant::default(),
            device: DeviceId::parse("pump").unwrap(),
        }
    }

    fn run(&mut self, token: Option<String>, kind: Kind) -> (Outcome, Option<Change>) {
        self.index += 1;
        let mut draft = Draft::new("test", kind);
        draft.client_token = token;
        let entry = DeviceEntry::new(Self::key(), vec![draft.stamp(self.now())]);
        let index = self.index;
        let mut applied = apply(self, Position::first(index), &entry).unwrap();
        let applied = applied.remove(0);
        (applied.outcome, applied.changes.into_iter().next())
    }

    fn update(&mut self, message: Value) -> Seen {
        self.update_text(message.to_string().as_bytes())
    }

    fn update_text(&mut self, message: &[u8]) -> Seen {
        let request = match parse_update(message, &Limits::default()) {
            Ok(request) => request,
            Err(Refusal {
                error,
                client_token,
            }) => {
                return self.refused(&error, client_token.as_deref());
            }
        };
        let kind = Kind::Update(Update {
            shadow: antumbra_shadow::ShadowName::classic(),
            patch: request.patch.clone(),
            conditions: request.conditions(),
        });
        match self.run(request.client_token.clone(), kind) {
            (Outcome::Accepted(items), change) => {
                let text = accepted(request.echo(), items[0].version, items[0].time);
                Seen {
                    reply: parse(&text),
                    change,
                }
            }
            (Outcome::Rejected(rejection), _) => {
                self.refused(&rejection.into(), request.client_token.as_deref())
            }
        }
    }

    fn refused(&self, error: &Error, token: Option<&str>) -> Seen {
        Seen {
            reply: parse(&rejected(error, "pump", self.now(), token)),
            change: None,
        }
    }

    fn delete(&mut self) -> Seen {
        let kind = Kind::Delete(Delete {
            shadow: antumbra_shadow::ShadowName::classic(),
            conditions: Default::default(),
        });
        match self.run(None, kind) {
            (Outcome::Accepted(items), change) => {
                let text = deleted(items[0].version, items[0].time, Some("t"));
                Seen {
                    reply: parse(&text),
                    change,
                }
            }
            (Outcome::Rejected(rejection), _) => self.refused(&rejection.into(), None),
        }
    }

    fn get(&self) -> Value {
        let key = RowKey::Document(Self::key(), antumbra_shadow::ShadowName::classic());
        let stored = self.rows.get(&key).cloned();
        let stored = stored.map(|bytes| antumbra_shadow::Document::decode(bytes).unwrap());
        match stored.filter(|stored| !stored.is_deleted()) {
            Some(stored) => parse(&document(&stored, self.now(), None)),
            None => self.refused(&Error::NotFound, None).reply,
        }
    }

    fn at_version(version: u64) -> Thing {
        let mut thing = Thing::default();
        for nth in 1..=version {
            let reply = thing
                .update(json!({"state": {"reported": {"n": nth}}}))
                .reply;
            assert_eq!(reply["version"], nth);
        }
        thing
    }
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

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

/// Vectors 1 to 4: creation, echo of what was sent, documents, delta.
#[test]
fn vectors_of_the_first_changes() {
    let mut thing = Thing::default();
    assert_eq!(
        thing.get(),
        json!({"code": 404, "message": "No shadow exists with name: 'pump'"})
    );

    let first = thing.update(json!({"state": {"reported": {"c": 1}}, "clientToken": "t"}));
    let t1 = thing.seconds();
    assert_eq!(
        first.reply,
        json!({
            "state": {"reported": {"c": 1}},
            "metadata": {"reported": {"c": {"timestamp": t1}}},
            "version": 1, "timestamp": t1, "clientToken": "t",
        })
    );
    assert_eq!(first.delta(), None);
    assert_eq!(
        first.documents().unwrap(),
        json!({
            "current": {
                "state": {"reported": {"c": 1}},
                "metadata": {"reported": {"c": {"timestamp": t1}}},
                "version": 1,
            },
            "timestamp": t1, "clientToken": "t",
        })
    );

    let second = thing.update(json!({"state": {"desired": {"c": 2}}}));
    let t2 = thing.seconds();
    assert_eq!(second.reply["state"], json!({"desired": {"c": 2}}));
    assert_eq!(
        second.reply["metadata"],
        json!({"desired": {"c": {"timestamp": t2}}})
    );
    assert_eq!(
        second.delta().unwrap(),
        json!({
            "version": 2, "timestamp": t2,
            "state": {"c": 2}, "metadata": {"c": {"timestamp": t2}},
        })
    );
    let documents = second.documents().unwrap();
    assert_eq!(
        (
            &documents["previous"]["version"],
            &documents["current"]["version"]
        ),
        (&json!(1), &json!(2))
    );
    assert_eq!(
        documents["current"]["state"],
        json!({"desired": {"c": 2}, "reported": {"c": 1}})
    );

    let third = thing.update(json!({"state": {"reported": {"c": 2}}}));
    assert_eq!(
        (third.reply["version"].as_u64(), third.delta()),
        (Some(3), None)
    );
}

/// Vectors 5 to 7: what the delta holds.
#[test]
fn vectors_of_the_delta() {
    let mut thing = Thing::default();
    thing.update(json!({"state": {"desired": {"c": 2}, "reported": {"c": 2}}}));
    let seen = thing.update(json!({"state": {"reported": {"c": 9}}}));
    assert_eq!(seen.delta().unwrap()["state"], json!({"c": 2}));

    let mut thing = Thing::default();
    thing.update(json!({"state": {"desired": {"a": {"b": 1, "c": 2}}}}));
    let seen = thing.update(json!({"state": {"reported": {"a": {"b": 1}}}}));
    assert_eq!(seen.delta().unwrap()["state"], json!({"a": {"c": 2}}));

    let mut thing = Thing::default();
    thing.update(json!({"state": {"desired": {"l": [1, 3]}}}));
    let seen = thing.update(json!({"state": {"reported": {"l": [1, 2]}}}));
    assert_eq!(seen.delta().unwrap()["state"], json!({"l": [1, 3]}));
}

/// Vector 8, and our extension: version 0 means that the shadow must not exist.
#[test]
fn vectors_of_the_version() {
    let mut thing = Thing::at_version(2);
    assert_eq!(
        thing.update(json!({"state": {}, "version": 1})).reply["code"],
        409
    );
    assert_eq!(
        thing.update(json!({"state": {}, "version": 2})).reply["version"],
        3
    );
    assert_eq!(
        thing.update(json!({"state": {}, "version": 0})).reply["code"],
        409
    );
    let mut fresh = Thing::default();
    assert_eq!(
        fresh.update(json!({"state": {}, "version": 0})).reply["version"],
        1
    );
    assert_eq!(
        fresh.update(json!({"state": {}, "version": 0})).reply["code"],
        409
    );
}

/// Vectors 9 to 11, 13: empty sections, `state: null`, `state: {}`, explicit empty objects.
#[test]
fn vectors_of_emptiness() {
    let mut thing = Thing::default();
    thing.update(json!({"state": {"desired": {"x": 1}}}));
    let seen = thing.update(json!({"state": {"desired": {"x": null}}}));
    let t = thing.seconds();
    assert_eq!(
        seen.reply["state"],
        json!({"desired": {"x": null}}),
        "nulls are echoed"
    );
    assert_eq!(
        seen.reply["metadata"],
        json!({"desired": {"x": {"timestamp": t}}})
    );
    assert_eq!(thing.get()["state"], json!({}));

    let mut thing = Thing::at_version(3);
    let same = thing.update(json!({"state": {}}));
    assert_eq!(
        (&same.reply["state"], &same.reply["version"]),
        (&json!({}), &json!(4))
    );
    assert_eq!(thing.get()["state"], json!({"reported": {"n": 3}}));

    let cleared = thing.update(json!({"state": null, "clientToken": "t"}));
    let t = thing.seconds();
    assert_eq!(
        cleared.reply,
        json!({
            "state": null, "metadata": {"timestamp": t}, "version": 5, "timestamp": t,
            "clientToken": "t",
        })
    );
    let read = thing.get();
    assert_eq!(
        (&read["state"], &read["metadata"]),
        (&json!({}), &json!({}))
    );
    assert_eq!(thing.update(json!({"state": {}})).reply["version"], 6);

    let mut thing = Thing::default();
    thing.update(json!({"state": {"desired": {"a": 1, "d": {}}}}));
    let read = thing.get();
    assert_eq!(read["state"]["desired"], json!({"a": 1, "d": {}}));
    assert_eq!(read["state"]["delta"], json!({"a": 1, "d": {}}));
    assert!(read["metadata"].get("delta").is_none());
}

/// Vector 12: a delete prints the version of what it deleted, and counts as a version of its own.
#[test]
fn vectors_of_the_delete() {
    let mut thing = Thing::at_version(9);
    let seen = thing.delete();
    let t = thing.seconds();
    assert_eq!(
        seen.reply,
        json!({"version": 9, "timestamp": t, "clientToken": "t"})
    );
    assert_eq!((seen.delta(), seen.documents()), (None, None));
    assert_eq!(thing.get()["code"], 404);
    let again = thing.delete();
    assert_eq!(again.reply["code"], 404);
    let next = thing.update(json!({"state": {"desired": {"a": 1}}}));
    assert_eq!(next.reply["version"], 11);
    assert!(next.documents().unwrap().get("previous").is_none());
}

#[test]
fn a_whole_document_has_its_shape() {
    let mut thing = Thing::default();
    thing.update(json!({"state": {"desired": {"l": [1, {"a": 2}], "s": "é\n\""}}}));
    let t1 = thing.seconds();
    thing.update(json!({"state": {"reported": {"s": "x"}}}));
    let t2 = thing.seconds();
    assert_eq!(
        thing.get(),
        json!({
            "state": {
                "desired": {"l": [1, {"a": 2}], "s": "é\n\""},
                "reported": {"s": "x"},
                "delta": {"l": [1, {"a": 2}], "s": "é\n\""},
            },
            "metadata": {
                "desired": {
                    "l": [{"timestamp": t1}, {"a": {"timestamp": t1}}],
                    "s": {"timestamp": t1},
                },
                "reported": {"s": {"timestamp": t2}},
            },
            "version": 2, "timestamp": t2,
        })
    );
}

#[test]
fn lists_have_their_shape() {
    let name = |text| antumbra_shadow::ShadowName::parse(text).unwrap();
    let names = [name("a"), name("$b")];
    assert_eq!(
        parse(&named_shadows(&names, Some("next"), Time(5999))),
        json!({"results": ["a", "$b"], "nextToken": "next", "timestamp": 5})
    );
    assert_eq!(
        parse(&named_shadows(&[], None, Time(0))),
        json!({"results": [], "timestamp": 0})
    );
}

/// Ours in the same table: an overload and an unknown outcome look as AWS clients expect.
#[test]
fn failures_are_worded_as_aws_does() {
    for (error, code, message) in [
        (Error::Overloaded, 429, "Too many requests"),
        (Error::OutcomeUnknown, 500, "Internal service failure"),
        (Error::Unavailable("x"), 503, "Service unavailable"),
        (Error::Unauthenticated, 401, "Unauthorized"),
        (Error::PermissionDenied, 403, "Forbidden"),
    ] {
        let reply = parse(&rejected(&error, "pump", Time(7000), None));
        assert_eq!(
            reply,
            json!({"code": code, "message": message, "timestamp": 7})
        );
    }
    assert_eq!(shadow_label("pump", ""), "pump");
    assert_eq!(shadow_label("pump", "cfg"), "pump~cfg");
}
