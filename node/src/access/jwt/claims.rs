//! The claims of a token: a JSON object in which every name stands once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use antumbra_shadow::Time;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::Denied;

/// The most claims of a token.
const CLAIMS_MAX: usize = 100;

/// Claims by name.
pub(super) struct Claims(HashMap<String, Value>);

impl Claims {
    /// Reads them. A name that stands there twice would be read in two ways by two readers:
    /// refused.
    pub(super) fn read(json: &[u8]) -> Result<Claims, Denied> {
        let claims = serde_json::from_slice(json);
        claims.map_err(|_| Denied::Malformed("the token is not a JSON object of distinct names"))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A claim that is a text, when it is there.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Denied> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if !text.chars().any(char::is_control) => Ok(Some(text)),
            Some(_) => Err(Denied::Malformed("a claim is not a text")),
        }
    }

    /// A claim that is a text, when there is a name for it.
    pub(super) fn optional(&self, name: Option<&str>) -> Result<Option<&str>, Denied> {
        name.map_or(Ok(None), |name| self.text(name))
    }

    /// A claim that is a time: seconds since the Unix epoch, perhaps with a fraction.
    pub(super) fn time(&self, name: &str) -> Result<Option<Time>, Denied> {
        let Some(value) = self.0.get(name) else {
            return Ok(None);
        };
        if let Some(seconds) = value.as_u64() {
            return Ok(Some(Time(seconds.saturating_mul(1_000))));
        }
        match value.as_f64() {
            // The cast saturates, and a whole negative number has no time either.
            Some(seconds) if seconds >= 0.0 => Ok(Some(Time((seconds * 1_000.0) as u64))),
            _ => Err(Denied::Malformed("a claim is not a time")),
        }
    }

    /// The audiences: one text or a list of them.
    pub(super) fn audiences(&self) -> Result<Vec<&str>, Denied> {
        match self.0.get("aud") {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => values.iter().map(audience).collect(),
            Some(value) => audience(value).map(|text| vec![text]),
        }
    }
}

fn audience(value: &Value) -> Result<&str, Denied> {
    let text = value.as_str();
    text.ok_or(Denied::Malformed("the audience is not a text"))
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Claims, D::Error> {
        deserializer.deserialize_map(Distinct)
    }
}

struct Distinct;

impl<'de> Visitor<'de> for Distinct {
    type Value = Claims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
        let mut claims = HashMap::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if claims.len() == CLAIMS_MAX {
                return Err(A::Error::custom("too many names"));
            }
            match claims.entry(name) {
                Entry::Occupied(_) => return Err(A::Error::custom("a name twice")),
                Entry::Vacant(entry) => entry.insert(value),
            };
        }
        Ok(Claims(claims))
    }
}
