use super::*;

const HASH: &str =
    "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Golden texts: records that were stored once are read for ever, and written alike.
#[test]
fn golden_texts() {
    let fingerprint = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for text in [
        r#"{"format":"tenant/1","name":"acme","created":1795920300000,"limits":{}}"#.to_owned(),
        r#"{"format":"tenant/1","name":"acme","created":0,"limits":{"document_bytes_max":4096,"sessions_max":10}}"#.to_owned(),
        format!(r#"{{"format":"credential/1","id":"pump:1","tenant":"acme","secret":{{"password":{{"hash":"{HASH}"}}}},"device":"pump:1","role":"device","created":1,"expires":2,"revoked":3}}"#),
        r#"{"format":"credential/1","id":"erp","tenant":"acme","secret":{"access_key":{"id":"AKID","secret":"0123456789abcdef"}},"role":"backend","created":1}"#.to_owned(),
        format!(r#"{{"format":"credential/1","id":"c","tenant":"acme","secret":{{"certificate":{{"fingerprint":"{fingerprint}"}}}},"role":"device","created":1}}"#),
        r#"{"format":"role/1","tenant":"acme","name":"line","role":{"shadows":[{"verbs":["read"],"devices":"own"}],"presence":false},"created":7}"#.to_owned(),
        r#"{"format":"role/1","name":"line","role":{"presence":true},"created":7}"#.to_owned(),
    ] {
        let record = Record::parse(&text).unwrap();
        assert_eq!(record.to_text(), text);
    }
}

/// A record of a newer version, or of none, is told apart from a damaged one.
#[test]
fn refuses_unknown_formats() {
    let unknown = Err(RecordError::UnknownFormat("tenant/2".to_owned()));
    assert_eq!(Record::parse(r#"{"format":"tenant/2","name":7}"#), unknown);
    assert_eq!(
        Record::parse(r#"{"name":"acme"}"#),
        Err(RecordError::NoFormat)
    );
    let long = " ".repeat(RECORD_BYTES_MAX + 1);
    assert_eq!(Record::parse(&long), Err(RecordError::TooLong));
}

/// Decoding is strict: unknown and double keys, wrong kinds and names that are none are errors.
#[test]
fn refuses_what_is_no_record() {
    let good = format!(
        r#"{{"format":"credential/1","id":"a","tenant":"acme","secret":{{"password":{{"hash":"{HASH}"}}}},"role":"device","created":1}}"#
    );
    assert!(Record::parse(&good).is_ok());
    for end in 0..good.len() {
        assert!(Record::parse(&good[..end]).is_err(), "{end}");
    }
    for (from, to) in [
        ("\"created\":1", "\"created\":1,\"note\":\"x\""),
        ("\"created\":1", "\"created\":1,\"created\":1"),
        ("\"created\":1", "\"created\":-1"),
        ("\"created\":1", "\"created\":1.5"),
        ("\"created\":1", "\"created\":1,\"format\":\"tenant/1\""),
        ("\"id\":\"a\"", "\"id\":\"a/b\""),
        ("\"id\":\"a\"", "\"id\":\"\u{430}\""),
        ("\"id\":\"a\"", "\"id\":\"a\\u0000\""),
        ("\"role\":\"device\"", "\"role\":\"\""),
        ("\"tenant\":\"acme\",", ""),
        ("password", "pass"),
        ("{\"hash\"", "{\"salt\":\"\",\"hash\""),
        (
            "{\"password\":{\"hash\":",
            "{\"password\":[\"$\"],\"x\":{\"hash\":",
        ),
    ] {
        let bad = Record::parse(&good.replacen(from, to, 1));
        assert!(matches!(bad, Err(RecordError::Syntax { .. })), "{to}");
    }
    let hash = Record::parse(&good.replacen("argon2id", "argon2d", 1));
    assert_eq!(hash, Err(RecordError::Value("hash")));
    for list in [
        r#"["tenant/1","acme",1,{}]"#,
        r#"{"format":"tenant/1","name":"acme","created":1,"limits":[]}"#,
        r#"{"format":"role/1","name":"line","role":[],"created":7}"#,
    ] {
        let bad = Record::parse(list);
        assert!(matches!(bad, Err(RecordError::Syntax { .. })), "{list}");
    }
    let role = r#"{"format":"role/1","name":"admin","role":{"presence":true},"created":7}"#;
    assert!(matches!(Record::parse(role), Err(RecordError::Role(_))));
}

/// Neither a record nor an error about one prints a secret.
#[test]
fn secrets_are_not_printed() {
    let text = r#"{"format":"credential/1","id":"erp","tenant":"acme","secret":{"access_key":{"id":"AKID","secret":"0123456789abcdef"}},"role":"backend","created":1}"#;
    let record = Record::parse(text).unwrap();
    assert!(!format!("{record:?}").contains("0123456789abcdef"));
    let error = Record::parse(&text.replacen("\"secret\":\"", "\"secret\":7,\"x\":\"", 1));
    assert!(!format!("{error:?}").contains("0123456789abcdef"));
}

/// A tenant's limits replace those of the cluster where there are any.
#[test]
fn limits_of_a_tenant_replace_those_of_the_cluster() {
    let limits = TenantLimits {
        depth_max: Some(4),
        ..TenantLimits::default()
    };
    let over = limits.over(Limits::default());
    assert_eq!(over.depth_max, 4);
    assert_eq!(
        over.document_bytes_max,
        Limits::default().document_bytes_max
    );
}
