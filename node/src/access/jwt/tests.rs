use aws_lc_rs::hmac;

use super::testing::TestIssuer;
use super::*;

const SECONDS: u64 = vectors::SECONDS;
const NOW: Time = Time(SECONDS * 1_000);

fn claims(more: &str) -> String {
    let exp = SECONDS + 600;
    format!(
        r#"{{"iss":"https://issuer.example","aud":"fleet","sub":"pump:1","tenant":"acme","exp":{exp}{more}}}"#
    )
}

fn check(issuer: &TestIssuer, token: &str) -> Result<Bearer, Denied> {
    verify(token.as_bytes(), &[issuer.settings()], NOW)
}

/// Every cut, every flipped bit and every foreign byte of a good token is refused.
#[test]
fn refuses_damaged_tokens() {
    let issuer = TestIssuer::new("k");
    let good = issuer.sign(&claims(""));
    assert!(check(&issuer, &good).is_ok());
    for end in 0..good.len() {
        assert!(check(&issuer, &good[..end]).is_err(), "{end}");
    }
    for index in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[index] ^= 1;
        assert!(
            verify(&bytes, &[issuer.settings()], NOW).is_err(),
            "{index}"
        );
    }
    for bad in [
        format!("{good}="),
        format!("{good}.x"),
        format!(".{good}"),
        format!("{good}\0"),
        format!(" {good}"),
        good.replacen('.', "", 1),
        good.replacen('.', ".é", 1),
    ] {
        assert!(check(&issuer, &bad).is_err(), "{bad}");
    }
    let not_text = [good.as_bytes(), b"\xff"].concat();
    assert!(verify(&not_text, &[issuer.settings()], NOW).is_err());
    let huge = "a".repeat(TOKEN_BYTES_MAX + 1);
    assert_eq!(check(&issuer, &huge), Err(Denied::TooLarge));
}

/// No algorithm but those allowed: not none, not a shared secret made of the public key, not
/// another of the same key.
#[test]
fn refuses_confusion_of_algorithms() {
    let issuer = TestIssuer::new("k");
    for name in [
        "none", "None", "NONE", "", "HS256", "eddsa", "RS256", "ES256", "Ed25519",
    ] {
        let header = format!(r#"{{"alg":"{name}","kid":"k"}}"#);
        let token = issuer.sign_as(&header, &claims(""));
        assert_eq!(check(&issuer, &token), Err(Denied::Algorithm), "{name}");
    }
    for header in [r#"{"kid":"k"}"#, r#"{"alg":null}"#, r#"{"alg":["EdDSA"]}"#] {
        assert!(check(&issuer, &issuer.sign_as(header, &claims(""))).is_err());
    }
    let signed = issuer.sign(&claims(""));
    let (message, _) = signed.rsplit_once('.').unwrap();
    assert!(check(&issuer, &format!("{message}.")).is_err());

    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","kid":"k"}"#);
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims("")));
    let key = hmac::Key::new(hmac::HMAC_SHA256, issuer.key().as_bytes());
    let tag = hmac::sign(&key, message.as_bytes());
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()));
    assert_eq!(check(&issuer, &token), Err(Denied::Algorithm));

    // Allowed, and yet not what the key is for.
    let mut settings = issuer.settings();
    settings.algorithms = Algorithm::ALL.to_vec();
    let token = issuer.sign_as(r#"{"alg":"ES256","kid":"k"}"#, &claims(""));
    let checked = verify(token.as_bytes(), &[settings], NOW);
    assert_eq!(checked, Err(Denied::UnknownKey));
}

/// The key is the one that the token names; without a name it must be the only one.
#[test]
fn refuses_wrong_keys() {
    let (issuer, other) = (TestIssuer::new("k"), TestIssuer::new("other"));
    let token = issuer.sign_as(r#"{"alg":"EdDSA","kid":"K"}"#, &claims(""));
    assert_eq!(check(&issuer, &token), Err(Denied::UnknownKey));
    let nameless = issuer.sign_as(r#"{"alg":"EdDSA"}"#, &claims(""));
    assert!(check(&issuer, &nameless).is_ok());
    let forged = other.sign_as(r#"{"alg":"EdDSA","kid":"k"}"#, &claims(""));
    assert_eq!(check(&issuer, &forged), Err(Denied::Wrong));

    let both = format!(r#"{{"keys":[{},{}]}}"#, issuer.key(), other.key());
    let mut settings = issuer.settings();
    settings.keys = Keys::new(KeySet::parse(&both).unwrap());
    let checked = verify(nameless.as_bytes(), &[settings], NOW);
    assert_eq!(checked, Err(Denied::UnknownKey));
}

/// A header that brings its own key, or asks for what is not understood, is not followed.
#[test]
fn headers_bring_nothing_in() {
    let (issuer, thief) = (TestIssuer::new("k"), TestIssuer::new("k"));
    let header = format!(r#"{{"alg":"EdDSA","kid":"k","jwk":{}}}"#, thief.key());
    let token = thief.sign_as(&header, &claims(""));
    assert_eq!(check(&issuer, &token), Err(Denied::Wrong));
    for more in [
        r#""crit":["exp"]"#,
        r#""zip":"DEF""#,
        r#""enc":"A256GCM""#,
        r#""typ":"logout+jwt""#,
    ] {
        let header = format!(r#"{{"alg":"EdDSA","kid":"k",{more}}}"#);
        let checked = check(&issuer, &issuer.sign_as(&header, &claims("")));
        assert!(matches!(checked, Err(Denied::Unsupported(_))), "{more}");
    }
}

/// A token counts in its time, give or take the leeway, and must say when it ends.
#[test]
fn refuses_tokens_out_of_their_time() {
    let issuer = TestIssuer::new("k");
    let with = |exp: &str, nbf: &str| {
        let text = claims(nbf).replacen(&(SECONDS + 600).to_string(), exp, 1);
        check(&issuer, &issuer.sign(&text))
    };
    let second = |offset: i64| (SECONDS as i64 + offset).to_string();
    assert_eq!(with(&second(-30), ""), Err(Denied::Expired));
    assert_eq!(with("0", ""), Err(Denied::Expired));
    assert!(with(&second(-29), "").is_ok());
    assert!(with(&format!("{}.5", second(1)), "").is_ok());
    assert!(with(&u64::MAX.to_string(), "").is_ok());
    assert!(with("1e300", "").is_ok());
    for bad in ["-1", "\"1\"", "null", "[]", "true"] {
        assert_eq!(
            with(bad, ""),
            Err(Denied::Malformed("a claim is not a time"))
        );
    }
    let nbf = |offset| with(&second(600), &format!(r#","nbf":{}"#, second(offset)));
    assert_eq!(nbf(31), Err(Denied::NotYetValid));
    assert!(nbf(30).is_ok());

    let endless = claims("").replace("exp", "expires");
    let no_end = Err(Denied::Malformed("the token has no end"));
    assert_eq!(check(&issuer, &issuer.sign(&endless)), no_end);
}

/// A claim that stands there twice is read in two ways by two readers: the token is nobody's.
#[test]
fn refuses_duplicate_claims() {
    let issuer = TestIssuer::new("k");
    let twice = Err(Denied::Malformed(
        "the token is not a JSON object of distinct names",
    ));
    for more in [
        r#","sub":"pump:2""#,
        r#","\u0073ub":"pump:2""#,
        r#","exp":1"#,
    ] {
        assert_eq!(check(&issuer, &issuer.sign(&claims(more))), twice, "{more}");
    }
    for text in ["[]", "", "null", "{", r#"{"a":1}x"#] {
        assert_eq!(check(&issuer, &issuer.sign(text)), twice, "{text}");
    }
    let header = r#"{"alg":"EdDSA","alg":"EdDSA","kid":"k"}"#;
    assert_eq!(check(&issuer, &issuer.sign_as(header, &claims(""))), twice);
    let deep = format!(r#","x":{}"#, "[".repeat(2_000));
    assert_eq!(check(&issuer, &issuer.sign(&claims(&deep))), twice);
}

/// Issuer and audience are compared whole.
#[test]
fn refuses_foreign_issuers_and_audiences() {
    let issuer = TestIssuer::new("k");
    let with =
        |from: &str, to: &str| check(&issuer, &issuer.sign(&claims("").replacen(from, to, 1)));
    for other in [
        "https://issuer.example/",
        "https://ISSUER.example",
        "https://issuer.exampl",
    ] {
        let checked = with("https://issuer.example", other);
        assert_eq!(checked, Err(Denied::UnknownIssuer), "{other}");
    }
    assert_eq!(with("\"iss\"", "\"is\""), Err(Denied::UnknownIssuer));
    for other in ["\"fleet2\"", "\"flee\"", "[]", "[\"a\",\"b\"]", "\"\""] {
        assert_eq!(with("\"fleet\"", other), Err(Denied::Audience), "{other}");
    }
    assert_eq!(with("\"aud\"", "\"audience\""), Err(Denied::Audience));
    assert!(with("\"fleet\"", "[\"a\",\"fleet\"]").is_ok());
    assert!(with("\"fleet\"", "[\"fleet\",1]").is_err());
}

/// Names in claims are ids or the token is refused; an issuer says no more than it may.
#[test]
fn refuses_claims_that_are_no_ids() {
    let issuer = TestIssuer::new("k");
    let with =
        |from: &str, to: &str| check(&issuer, &issuer.sign(&claims("").replacen(from, to, 1)));
    for bad in ["pump\\u0000", "pum\u{440}", "a/b", "", "pump 1", "#"] {
        assert!(with("pump:1", bad).is_err(), "{bad}");
    }
    assert!(with("\"pump:1\"", "7").is_err());
    assert!(with("acme", "a\u{441}me").is_err());
    let nameless = Err(Denied::Malformed("the token names no tenant"));
    assert_eq!(with("\"tenant\"", "\"t\""), nameless);
    let role = |name: &str| {
        check(
            &issuer,
            &issuer.sign(&claims(&format!(r#","role":"{name}""#))),
        )
    };
    assert_eq!(role("admin"), Err(Denied::Overreach("role")));
    assert_eq!(role("reader").unwrap().role.as_str(), "reader");

    let mut settings = issuer.settings();
    settings.tenant = Some(Tenant::parse("other").unwrap());
    let checked = verify(issuer.sign(&claims("")).as_bytes(), &[settings], NOW);
    assert_eq!(checked, Err(Denied::Overreach("tenant")));
}

/// Tokens that another implementation signed are good, with every algorithm, each with its own key.
#[test]
fn verifies_tokens_of_another_implementation() {
    let mut settings = TestIssuer::new("k").settings();
    settings.keys = Keys::new(KeySet::parse(vectors::KEYS).unwrap());
    for (name, token) in vectors::TOKENS {
        settings.algorithms = vec![name.parse().unwrap()];
        let bearer = verify(token.as_bytes(), &[settings.clone()], NOW).unwrap();
        assert_eq!(bearer.device.unwrap().as_str(), "pump:1", "{name}");
        assert_eq!(bearer.tenant.as_str(), "acme");
        assert_eq!(bearer.expires, Time((SECONDS + 600) * 1_000));
        settings.algorithms = Algorithm::ALL.to_vec();
        settings
            .algorithms
            .retain(|algorithm| algorithm.as_str() != name);
        let checked = verify(token.as_bytes(), &[settings.clone()], NOW);
        assert_eq!(checked, Err(Denied::Algorithm), "{name}");
    }
}

/// A file of keys with a secret in it, or without a key of use, is refused as a whole.
#[test]
fn refuses_bad_key_sets() {
    let parse = |keys: &str| KeySet::parse(&format!(r#"{{"keys":[{keys}]}}"#)).map(|_| ());
    let good = TestIssuer::new("k").key();
    assert_eq!(parse(&good), Ok(()));
    assert_eq!(parse(""), Err(KeySetError::Empty));
    let secret = r#"{"kty":"oct","k":"c2VjcmV0c2VjcmV0"}"#;
    assert_eq!(
        parse(&format!("{good},{secret}")),
        Err(KeySetError::Secret(1))
    );
    let private = good.replacen('{', r#"{"d":"AAAA","#, 1);
    assert_eq!(parse(&private), Err(KeySetError::Secret(0)));
    assert_eq!(parse(&format!("{good},{good}")), Err(KeySetError::Twice(1)));
    for bad in [
        r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#,
        r#"{"kty":"RSA","e":"AQAB"}"#,
        r#"{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}"#,
        r#"{"kty":"OKP","crv":"Ed25519","x":"A"}"#,
    ] {
        assert_eq!(parse(bad), Err(KeySetError::Bad(0)), "{bad}");
    }
    for other in [
        r#"{"kty":"EC","crv":"secp256k1","x":"AAAA","y":"AAAA"}"#,
        r#"{"kty":"AKP","alg":"ML-DSA-44","pub":"AAAA"}"#,
        &good.replace("\"sig\"", "\"enc\""),
    ] {
        assert_eq!(parse(other), Err(KeySetError::Empty), "{other}");
        assert_eq!(parse(&format!("{good},{other}")), Ok(()), "{other}");
    }
    for text in ["", "{}", "[]", r#"{"keys":{}}"#, r#"{"keys":[7]}"#] {
        assert!(KeySet::parse(text).is_err(), "{text}");
    }
    let huge = " ".repeat(KEY_SET_BYTES_MAX + 1);
    assert_eq!(KeySet::parse(&huge).unwrap_err(), KeySetError::TooLarge);
}
