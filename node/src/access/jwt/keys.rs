//! The public keys of an issuer: a JSON Web Key Set (RFC 7517).

use std::sync::Arc;

use arc_swap::ArcSwap;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use serde::Deserialize;
use serde_json::Value;

use super::{Algorithm, Denied, decode};

/// The longest text of a key set, in bytes.
pub const KEY_SET_BYTES_MAX: usize = 256 * 1024;
/// The most keys of a set.
const KEYS_MAX: usize = 64;

/// The keys of an issuer that tokens can be checked with.
#[derive(Clone)]
pub struct KeySet {
    keys: Vec<Key>,
}

/// The keys of an issuer as they are now. Clones see the same.
#[derive(Debug, Clone)]
pub struct Keys(Arc<ArcSwap<KeySet>>);

impl Keys {
    /// Keys that begin as these.
    pub fn new(keys: KeySet) -> Keys {
        Keys(Arc::new(ArcSwap::from_pointee(keys)))
    }

    /// Puts other keys in the place of all. Who came in by an old one stays until its token ends.
    pub fn replace(&self, keys: KeySet) {
        self.0.store(Arc::new(keys));
    }

    /// The keys as of now.
    pub(super) fn now(&self) -> Arc<KeySet> {
        self.0.load_full()
    }
}

/// One public key.
#[derive(Clone)]
pub(super) struct Key {
    id: Option<Box<str>>,
    /// What it may be used with: what fits its kind, and only that which it names when it names
    /// one.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// Why a key set is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// The text is longer than [`KEY_SET_BYTES_MAX`], or has too many keys.
    #[error("a key set has at most {KEY_SET_BYTES_MAX} bytes and {KEYS_MAX} keys")]
    TooLarge,
    /// The text is not a key set. Where, not what: the text may hold a secret.
    #[error("not a JSON Web Key Set: line {line}, column {column}")]
    Syntax {
        /// Where.
        line: usize,
        /// Where in the line.
        column: usize,
    },
    /// A secret in a file of public keys.
    #[error("key {0} of the set is a shared secret or has a private part")]
    Secret(usize),
    /// A key that is none, or a weak one.
    #[error("key {0} of the set is not a good public key")]
    Bad(usize),
    /// Two keys under one id.
    #[error("key {0} of the set has the id of another")]
    Twice(usize),
    /// No key can be used.
    #[error("the key set has no key that can check signatures")]
    Empty,
}

impl KeySet {
    /// Reads a key set. Keys for other uses and of kinds that are not known are left out, as RFC
    /// 7517 says; what is wrong with a known kind is an error.
    ///
    /// # Errors
    ///
    /// When the text is none, holds a secret, or has no key of use.
    pub fn parse(text: &str) -> Result<KeySet, KeySetError> {
        if text.len() > KEY_SET_BYTES_MAX {
            return Err(KeySetError::TooLarge);
        }
        let syntax = |error: serde_json::Error| KeySetError::Syntax {
            line: error.line(),
            column: error.column(),
        };
        let raw: RawSet = serde_json::from_str(text).map_err(syntax)?;
        if raw.keys.len() > KEYS_MAX {
            return Err(KeySetError::TooLarge);
        }
        let secret = |key: &Value| key.get("d").is_some() || key.get("k").is_some();
        if let Some(index) = raw.keys.iter().position(secret) {
            return Err(KeySetError::Secret(index));
        }
        let mut keys: Vec<Key> = Vec::new();
        for (index, raw) in raw.keys.into_iter().enumerate() {
            let known = is_known(&raw);
            let jwk = serde_json::from_value(raw).map_err(|_| KeySetError::Bad(index))?;
            let Some(key) = Key::read(&jwk, index)? else {
                // The library takes a known key with a part missing for one of a kind it does not
                // know.
                if known && matches!(jwk.algorithm, AlgorithmParameters::Other(_)) {
                    return Err(KeySetError::Bad(index));
                }
                continue;
            };
            if key.id.is_some() && keys.iter().any(|other| other.id == key.id) {
                return Err(KeySetError::Twice(index));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(KeySetError::Empty);
        }
        Ok(KeySet { keys })
    }

    /// The key with this id. A token without an id is only good when one key alone can be meant.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<&Key, Denied> {
        let mut fitting = self
            .keys
            .iter()
            .filter(|key| key.algorithms.contains(&algorithm))
            .filter(|key| id.is_none() || key.id.as_deref() == id);
        let key = fitting.next().ok_or(Denied::UnknownKey)?;
        match fitting.next() {
            None => Ok(key),
            Some(_) => Err(Denied::UnknownKey),
        }
    }
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys = self.keys.iter().map(|key| (&key.id, &key.algorithms));
        f.debug_list().entries(keys).finish()
    }
}

/// Keys as they stand there, to look for what the library would drop.
#[derive(Deserialize)]
struct RawSet {
    keys: Vec<Value>,
}

/// Whether a key is of a kind that tokens can be checked with.
fn is_known(key: &Value) -> bool {
    let member = |name| key.get(name).and_then(Value::as_str);
    match member("kty") {
        Some("RSA") => true,
        Some("EC") => matches!(member("crv"), Some("P-256" | "P-384")),
        Some("OKP") => member("crv") == Some("Ed25519"),
        _ => false,
    }
}

impl Key {
    fn read(jwk: &Jwk, index: usize) -> Result<Option<Key>, KeySetError> {
        let bad = KeySetError::Bad(index);
        if matches!(&jwk.common.public_key_use, Some(other) if *other != PublicKeyUse::Signature) {
            return Ok(None);
        }
        let length = |part: &str| decode(part).map(|bytes| bytes.len());
        let (fitting, good): (&[Algorithm], bool) = match &jwk.algorithm {
            AlgorithmParameters::RSA(key) => {
                let modulus = length(&key.n).is_ok_and(|bytes| (256..=1_024).contains(&bytes));
                (
                    &RSA,
                    modulus && length(&key.e).is_ok_and(|bytes| (1..=8).contains(&bytes)),
                )
            }
            AlgorithmParameters::EllipticCurve(key) => {
                let (fitting, bytes): (&[Algorithm], _) = match key.curve {
                    EllipticCurve::P256 => (&[Algorithm::Es256], 32),
                    EllipticCurve::P384 => (&[Algorithm::Es384], 48),
                    _ => return Ok(None),
                };
                (
                    fitting,
                    [&key.x, &key.y]
                        .iter()
                        .all(|part| length(part) == Ok(bytes)),
                )
            }
            AlgorithmParameters::OctetKeyPair(key) => match key.curve {
                EllipticCurve::Ed25519 => (&[Algorithm::EdDsa], length(&key.x) == Ok(32)),
                _ => return Ok(None),
            },
            AlgorithmParameters::OctetKey(_) => return Err(KeySetError::Secret(index)),
            _ => return Ok(None),
        };
        let mut algorithms = fitting.to_vec();
        if let Some(named) = jwk.common.key_algorithm {
            let named = jsonwebtoken::Algorithm::try_from(named).ok();
            algorithms.retain(|algorithm| Some(library(*algorithm)) == named);
        }
        if algorithms.is_empty() {
            return Ok(None);
        }
        let key = DecodingKey::from_jwk(jwk).map_err(|_| bad.clone())?;
        good.then_some(()).ok_or(bad)?;
        Ok(Some(Key {
            id: jwk.common.key_id.as_deref().map(Box::from),
            algorithms,
            key,
        }))
    }

    /// Whether the key made the signature (base64url) of the message.
    pub(super) fn verify(&self, message: &[u8], signature: &str, algorithm: Algorithm) -> bool {
        let good = jsonwebtoken::crypto::verify(signature, message, &self.key, library(algorithm));
        good.unwrap_or(false)
    }
}

const RSA: [Algorithm; 6] = [
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
];

fn library(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::Rs384 => jsonwebtoken::Algorithm::RS384,
        Algorithm::Rs512 => jsonwebtoken::Algorithm::RS512,
        Algorithm::Ps256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::Ps384 => jsonwebtoken::Algorithm::PS384,
        Algorithm::Ps512 => jsonwebtoken::Algorithm::PS512,
        Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::Es384 => jsonwebtoken::Algorithm::ES384,
        Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
    }
}
