use std::num::NonZeroUsize;

use super::*;

fn id(text: &str) -> CredentialId {
    CredentialId::parse(text).unwrap()
}

/// A hash that costs next to nothing, for tests that need any.
const CHEAP: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$";

/// Tokens that are cut, longer, spelled otherwise or not text are refused.
#[test]
fn refuses_what_is_no_token() {
    let good = Token::draw(id("pump_1")).unwrap().reveal();
    for end in 0..good.len() {
        assert!(Token::parse(&good.as_bytes()[..end]).is_err(), "{end}");
    }
    for bad in [
        good.replacen("atk_", "ATK_", 1),
        good.replacen("pump_1", "", 1),
        format!("{good}0"),
        format!("{good}\0"),
        format!(" {good}"),
        format!("{good}\n"),
        good.replacen("pump", "pum\u{440}", 1),
        good[..good.len() - 1].to_owned() + "G",
    ] {
        assert!(Token::parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
    assert!(Token::parse(b"atk_a_\xff").is_err());
    assert_eq!(Token::parse(&[b'a'; 1_025]), Err(Denied::TooLarge));
}

/// What is shown is what is read, and what is printed is not what is shown.
#[test]
fn a_token_is_read_as_it_is_shown() {
    let token = Token::draw(id("line:7_pump-1")).unwrap();
    let shown = token.reveal();
    assert!(Token::looks_like(shown.as_bytes()));
    assert_eq!(Token::parse(shown.as_bytes()), Ok(token.clone()));
    assert_ne!(Token::draw(id("line:7_pump-1")).unwrap(), token);
    assert_eq!(format!("{token:?}"), "Token(line:7_pump-1, secret)");
}

/// Only the secret itself fits its hash, and the stored text is the same hash.
#[test]
fn a_hash_fits_one_secret() {
    let hash = PasswordHash::make(b"secret", [7; SALT_BYTES]).unwrap();
    let text = hash.to_string();
    assert!(text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$BwcHBwcHBwcHBwcHBwcHBw$"));
    let hash: PasswordHash = text.parse().unwrap();
    assert!(hash.verify(b"secret"));
    for wrong in [&b"secre"[..], b"secret\0", b"Secret", b"", b"secrets"] {
        assert!(!hash.verify(wrong));
    }
    assert_eq!(format!("{hash:?}"), "PasswordHash(secret)");
}

/// A hash that another program made is verified: `argon2-cffi` 25.1.
#[test]
fn verifies_a_hash_of_another_program() {
    let hash: PasswordHash = FOREIGN.parse().unwrap();
    assert!(hash.verify(b"correct horse"));
    assert!(!hash.verify(b"correct horse "));
}

const FOREIGN: &str = "$argon2id$v=19$m=1024,t=2,p=4$04/b3SqXCegX2lII3eOTsA$hjs/bDT84DmSIpZVAoXjEToSC/IizWmgDe42SQ2h10I";

/// A stored hash of another kind, or one that would stop the node, is refused.
#[test]
fn refuses_bad_hashes() {
    let hash = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let good = format!("{CHEAP}{hash}");
    assert!(good.parse::<PasswordHash>().is_ok());
    let change = |from: &str, to: &str| good.replacen(from, to, 1).parse::<PasswordHash>();
    for (from, to) in [
        ("argon2id", "argon2i"),
        ("v=19", "v=16"),
        ("m=8", "m=+8"),
        ("m=8", "m=1"),
        ("m=8,t=1", "t=1,m=8"),
        ("p=1", "p=1,keyid=x"),
        ("p=1", "p=99999999999"),
        ("$c29t", "$$c29t"),
        (hash, "AAAA"),
        ("c29tZXNhbHRzb21lc2FsdA", "c29tZQ"),
    ] {
        assert_eq!(change(from, to), Err(HashError::Form), "{from} {to}");
    }
    for (from, to) in [("m=8", "m=262145"), ("t=1", "t=17"), ("p=1", "p=9")] {
        assert_eq!(change(from, to), Err(HashError::Cost), "{to}");
    }
    let make = |secret: &[u8]| PasswordHash::make(secret, [0; SALT_BYTES]);
    assert_eq!(make(b""), Err(HashError::Length));
    assert_eq!(make(&[b'x'; 1_025]), Err(HashError::Length));
}

/// What was verified is remembered for that record, hash and secret alone, and the oldest is
/// forgotten.
#[test]
fn remembers_what_was_verified() {
    let verified = Verified::new(NonZeroUsize::new(2).unwrap(), [1; 32]);
    let make = |salt| PasswordHash::make(b"secret", [salt; SALT_BYTES]).unwrap();
    let (first, second) = (make(1), make(2));
    let a = id("a");
    assert!(!verified.verify(&a, &first, b"wrong"));
    assert!(!verified.remembers(&a, &first, b"wrong"));
    assert!(verified.verify(&a, &first, b"secret"));
    assert!(verified.remembers(&a, &first, b"secret"));
    assert!(!verified.remembers(&a, &second, b"secret"));
    assert!(!verified.remembers(&id("b"), &first, b"secret"));
    assert!(!verified.remembers(&a, &first, b"secret2"));
    assert!(verified.verify(&a, &second, b"secret"));
    assert!(verified.verify(&id("b"), &first, b"secret"));
    assert!(!verified.remembers(&a, &first, b"secret"));
}
