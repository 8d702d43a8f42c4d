//! What is answered: the vectors one by one, and the shapes of documents.

use super::*;

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
