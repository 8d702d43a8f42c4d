//! AWS Signature Version 4 of HTTP requests, as AWS software development kits sign calls of the
//! service `iotdata` (AWS General Reference, "Create a signed AWS API request").
//!
//! The signature is in the header `Authorization`; the form in the query of a link is refused, for
//! such links leak. Any region is good: it is a word of the client's, and takes part in the
//! signature.

mod canonical;

use std::fmt;
use std::time::Duration;

use antumbra_shadow::Time;
use aws_lc_rs::{constant_time, hmac};

use super::{Denied, hexadecimal};

/// The service whose calls are signed.
pub const SERVICE: &str = "iotdata";
/// How far the time of a request may be from ours.
pub const SKEW: Duration = Duration::from_secs(300);
/// The most that [`SKEW`] may be set to; AWS allows as much.
pub const SKEW_MAX: Duration = Duration::from_secs(900);

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const TERMINATOR: &str = "aws4_request";
const AUTHORIZATION_BYTES_MAX: usize = 2_048;
const WORD_BYTES_MAX: usize = 128;
const HEADERS_MAX: usize = 100;

/// What was signed of a request, as it came over the wire.
#[derive(Debug, Clone, Copy)]
pub struct SignedRequest<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// The path, percent-encoded as it came.
    pub path: &'a str,
    /// The query, percent-encoded as it came, without the question mark; empty when there is none.
    pub query: &'a str,
    /// All headers. With HTTP/2 `host` is the authority of the request.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// SHA-256 of the body.
    pub body_hash: [u8; 32],
}

/// What the header `Authorization` says. Holds no secret: a signature cannot be used for another
/// request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization<'a> {
    /// Whose secret signed it.
    pub access_key: &'a str,
    /// The day, `20261129`.
    date: &'a str,
    /// As the client was set up.
    pub region: &'a str,
    /// Names of the headers that take part.
    signed_headers: Vec<&'a str>,
    signature: [u8; 32],
}

/// A secret that signs requests. Printed as nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret(Box<str>);

impl SigningSecret {
    /// Takes a text of 16–128 printable characters without space.
    pub fn parse(text: &str) -> Option<SigningSecret> {
        let good = (16..=WORD_BYTES_MAX).contains(&text.len());
        (good && text.bytes().all(|byte| byte.is_ascii_graphic()))
            .then(|| SigningSecret(text.into()))
    }

    /// The text. The only way to see it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Whether a request is signed in this way, well or not.
pub fn is_signed(request: &SignedRequest<'_>) -> bool {
    let signed = |value: &[u8]| value.starts_with(b"AWS4-");
    canonical::is_presigned(request.query) || request.header("authorization").any(signed)
}

impl<'a> SignedRequest<'a> {
    /// The values of a header.
    fn header(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let headers = self.headers.iter();
        headers
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }

    /// The value of a header that must stand there once.
    fn single(&self, name: &str) -> Result<&'a str, Denied> {
        let mut values = self.header(name);
        match (values.next(), values.next()) {
            (Some(value), None) => std::str::from_utf8(value)
                .map_err(|_| Denied::Malformed("a signed header is not text")),
            (None, _) => Err(Denied::Malformed("a header of the signature is missing")),
            _ => Err(Denied::Malformed(
                "a header of the signature stands there twice",
            )),
        }
    }
}

impl<'a> Authorization<'a> {
    /// Reads the header, to learn whose secret to load.
    ///
    /// # Errors
    ///
    /// When it is missing, not of this form, or signs for something else.
    pub fn read(request: &SignedRequest<'a>) -> Result<Authorization<'a>, Denied> {
        if canonical::is_presigned(request.query) {
            return Err(Denied::Unsupported("signatures in a link"));
        }
        if request.headers.len() > HEADERS_MAX {
            return Err(Denied::TooLarge);
        }
        if request.header("authorization").next().is_none() {
            return Err(Denied::Missing);
        }
        let header = request.single("authorization")?;
        if header.len() > AUTHORIZATION_BYTES_MAX {
            return Err(Denied::TooLarge);
        }
        let rest = header.strip_prefix(ALGORITHM);
        let rest = rest.and_then(|rest| rest.strip_prefix(' '));
        let rest = rest.ok_or(Denied::Unsupported("signatures of this kind"))?;
        Authorization::parse(rest)
    }

    fn parse(text: &'a str) -> Result<Authorization<'a>, Denied> {
        let malformed = Denied::Malformed("the header Authorization");
        let [mut credential, mut headers, mut signature] = [None; 3];
        for part in text.split(',') {
            let (name, value) = part.trim().split_once('=').ok_or(malformed)?;
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut headers,
                "Signature" => &mut signature,
                _ => return Err(malformed),
            };
            if place.replace(value).is_some() {
                return Err(malformed);
            }
        }
        let (Some(credential), Some(headers), Some(signature)) = (credential, headers, signature)
        else {
            return Err(malformed);
        };
        let scope = credential.split('/').collect::<Vec<_>>();
        let [access_key, date, region, service, TERMINATOR] = scope[..] else {
            return Err(malformed);
        };
        if service != SERVICE {
            return Err(Denied::Unsupported("signatures for this service"));
        }
        let word = |text: &str| (1..=WORD_BYTES_MAX).contains(&text.len());
        let signed_headers = headers.split(';').collect::<Vec<_>>();
        let ordered = signed_headers.windows(2).all(|pair| pair[0] < pair[1]);
        let lower =
            |name: &&str| !name.is_empty() && !name.bytes().any(|byte| byte.is_ascii_uppercase());
        if !word(access_key) || !word(region) || !ordered || !signed_headers.iter().all(lower) {
            return Err(malformed);
        }
        Ok(Authorization {
            access_key,
            date,
            region,
            signed_headers,
            signature: hexadecimal::decode(signature.as_bytes()).ok_or(malformed)?,
        })
    }

    /// Checks the signature with the secret of the access key, and that the request is of now.
    ///
    /// # Errors
    ///
    /// When it was signed otherwise, long ago or in the future, or not enough of it was signed.
    pub fn verify(
        &self,
        request: &SignedRequest<'_>,
        secret: &SigningSecret,
        skew: Duration,
        now: Time,
    ) -> Result<(), Denied> {
        for needed in ["host", "x-amz-date"] {
            if !self.signed_headers.contains(&needed) {
                return Err(Denied::Malformed("too few headers are signed"));
            }
            request.single(needed)?;
        }
        let stamp = request.single("x-amz-date")?;
        let time = canonical::time(stamp).ok_or(Denied::Malformed("the header X-Amz-Date"))?;
        if !stamp.starts_with(self.date) || self.date.len() != 8 {
            return Err(Denied::Malformed("the day of the signature"));
        }
        let skew = skew.min(SKEW_MAX).as_millis() as u64;
        if time.0.abs_diff(now.0) > skew {
            return Err(Denied::Skewed);
        }
        let canonical = canonical::request(request, &self.signed_headers)?;
        let hash = canonical::sha256(canonical.as_bytes());
        let Authorization { date, region, .. } = self;
        let text = format!(
            "{ALGORITHM}\n{stamp}\n{date}/{region}/{SERVICE}/{TERMINATOR}\n{}",
            hexadecimal::encode(&hash)
        );
        let key = self.signing_key(secret);
        let signature = sign(key.as_ref(), &text);
        constant_time::verify_slices_are_equal(signature.as_ref(), &self.signature)
            .map_err(|_| Denied::Wrong)
    }

    fn signing_key(&self, secret: &SigningSecret) -> hmac::Tag {
        let day = sign(format!("AWS4{}", secret.0).as_bytes(), self.date);
        let region = sign(day.as_ref(), self.region);
        let service = sign(region.as_ref(), SERVICE);
        sign(service.as_ref(), TERMINATOR)
    }
}

fn sign(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

#[cfg(test)]
mod tests;
