//! JSON Web Tokens (RFC 7519) of issuers that the operator trusts, hardened as RFC 8725 says.
//!
//! The algorithm comes from an allow-list and must fit the key; there is no way to write `none` or
//! a shared secret into that list. Keys come from files of the operator: what a token says about
//! where keys are is never followed. The signature is checked before a claim is believed; only the
//! name of the issuer is read before, to find its keys.

mod claims;
mod keys;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use antumbra_shadow::{DeviceId, Tenant, Time};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use self::claims::Claims;
use super::Denied;
use super::roles::RoleName;

pub use self::keys::{KEY_SET_BYTES_MAX, KeySet, KeySetError, Keys};

/// The longest token that is looked at, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// The most that clocks may differ.
pub const LEEWAY_MAX: Duration = Duration::from_secs(300);

/// How tokens may be signed (RFC 7518, RFC 8037). Only with public keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names of the standard say it")]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

/// A text is not the name of an algorithm with public keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an algorithm is one of RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 EdDSA")]
pub struct AlgorithmError;

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Algorithm; 9] = [
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::Ps256,
        Algorithm::Ps384,
        Algorithm::Ps512,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::EdDsa,
    ];

    /// The name in the header of a token.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Rs384 => "RS384",
            Algorithm::Rs512 => "RS512",
            Algorithm::Ps256 => "PS256",
            Algorithm::Ps384 => "PS384",
            Algorithm::Ps512 => "PS512",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
            Algorithm::EdDsa => "EdDSA",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = AlgorithmError;

    fn from_str(text: &str) -> Result<Algorithm, AlgorithmError> {
        let mut all = Algorithm::ALL.into_iter();
        all.find(|algorithm| algorithm.as_str() == text)
            .ok_or(AlgorithmError)
    }
}

/// One issuer that is trusted, and for what.
#[derive(Debug, Clone)]
pub struct JwtSettings {
    /// What its tokens have as `iss`.
    pub issuer: Box<str>,
    /// Of these a token must have one as `aud`. At least one.
    pub audiences: Vec<Box<str>>,
    /// How tokens may be signed. At least one.
    pub algorithms: Vec<Algorithm>,
    /// How far its clock may be from ours (default 30 s, at most [`LEEWAY_MAX`]).
    pub leeway: Duration,
    /// Its public keys. New keys are read anew as a whole.
    pub keys: Keys,
    /// Where its tokens say whom they are for.
    pub claims: ClaimNames,
    /// The only tenant of its tokens, when it is bound to one.
    pub tenant: Option<Tenant>,
    /// The role of tokens that name none (default: `device`).
    pub role: RoleName,
    /// The roles that a token may name (default: `device`, `backend`, `reader`).
    pub roles: Vec<RoleName>,
}

/// The names of the claims that say whom a token is for, at the top level of the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimNames {
    /// The device (default: `sub`). Tokens without it are for no device.
    pub device: Box<str>,
    /// The tenant; none when tokens do not say. A token that must say and does not is refused.
    pub tenant: Option<Box<str>>,
    /// The role; none when tokens do not say.
    pub role: Option<Box<str>>,
}

impl Default for ClaimNames {
    fn default() -> ClaimNames {
        ClaimNames {
            device: "sub".into(),
            tenant: None,
            role: None,
        }
    }
}

/// Whom a good token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// Who signed it.
    pub issuer: Box<str>,
    /// Its `sub`, when it has one.
    pub subject: Option<Box<str>>,
    /// The tenant.
    pub tenant: Tenant,
    /// The device.
    pub device: Option<DeviceId>,
    /// The role.
    pub role: RoleName,
    /// When it ends.
    pub expires: Time,
}

/// Whether bytes have the shape of a signed token: good enough to tell it from a password.
pub fn looks_like_token(bytes: &[u8]) -> bool {
    bytes.starts_with(b"ey") && bytes.iter().filter(|&&byte| byte == b'.').count() == 2
}

/// Checks a token against the issuers that are trusted.
///
/// # Errors
///
/// When it is not certainly good.
pub fn verify(token: &[u8], issuers: &[JwtSettings], now: Time) -> Result<Bearer, Denied> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Denied::TooLarge);
    }
    let form = Denied::Malformed("the token has not three parts");
    let text = std::str::from_utf8(token).map_err(|_| form)?;
    let (message, signature) = text.rsplit_once('.').ok_or(form)?;
    let (header, payload) = message.split_once('.').ok_or(form)?;
    if payload.contains('.') {
        return Err(form);
    }
    let header = Header::read(header)?;
    let claims = Claims::read(&decode(payload)?)?;
    let issuer = claims.text("iss")?.ok_or(Denied::UnknownIssuer)?;
    let settings = issuers.iter().find(|known| *known.issuer == *issuer);
    let settings = settings.ok_or(Denied::UnknownIssuer)?;
    if !settings.algorithms.contains(&header.algorithm) {
        return Err(Denied::Algorithm);
    }
    let keys = settings.keys.now();
    let key = keys.find(header.key.as_deref(), header.algorithm)?;
    if !key.verify(message.as_bytes(), signature, header.algorithm) {
        return Err(Denied::Wrong);
    }
    bearer(&claims, settings, now)
}

/// Believes the claims of a token whose signature is good.
fn bearer(claims: &Claims, settings: &JwtSettings, now: Time) -> Result<Bearer, Denied> {
    let leeway = settings.leeway.min(LEEWAY_MAX).as_millis() as u64;
    let expires = claims.time("exp")?;
    let expires = expires.ok_or(Denied::Malformed("the token has no end"))?;
    if expires.0.saturating_add(leeway) <= now.0 {
        return Err(Denied::Expired);
    }
    let begins = claims.time("nbf")?.unwrap_or_default();
    if begins.0 > now.0.saturating_add(leeway) {
        return Err(Denied::NotYetValid);
    }
    let known = |audience: &str| settings.audiences.iter().any(|known| **known == *audience);
    if !claims.audiences()?.into_iter().any(known) {
        return Err(Denied::Audience);
    }
    let bad = Denied::Malformed;
    let names = &settings.claims;
    let device = claims.text(&names.device)?.map(DeviceId::parse);
    let device = device.transpose();
    let named = claims.optional(names.tenant.as_deref())?.map(Tenant::parse);
    let named = named
        .transpose()
        .map_err(|_| bad("the tenant in the token"))?;
    let role = claims.optional(names.role.as_deref())?.map(RoleName::parse);
    let role = role.transpose().map_err(|_| bad("the role in the token"))?;
    if role
        .as_ref()
        .is_some_and(|role| !settings.roles.contains(role))
    {
        return Err(Denied::Overreach("role"));
    }
    Ok(Bearer {
        issuer: settings.issuer.clone(),
        subject: claims.text("sub")?.map(Box::from),
        tenant: tenant(named, settings)?,
        device: device.map_err(|_| bad("the device in the token"))?,
        role: role.unwrap_or_else(|| settings.role.clone()),
        expires,
    })
}

fn tenant(named: Option<Tenant>, settings: &JwtSettings) -> Result<Tenant, Denied> {
    match (named, &settings.tenant) {
        (Some(named), Some(bound)) if named != *bound => Err(Denied::Overreach("tenant")),
        (_, Some(bound)) => Ok(bound.clone()),
        (Some(named), None) => Ok(named),
        (None, None) if settings.claims.tenant.is_some() => {
            Err(Denied::Malformed("the token names no tenant"))
        }
        (None, None) => Ok(Tenant::default_tenant()),
    }
}

/// What the header of a token says. What else it says is not looked at, least of all keys.
struct Header {
    algorithm: Algorithm,
    key: Option<Box<str>>,
}

impl Header {
    fn read(part: &str) -> Result<Header, Denied> {
        let header = Claims::read(&decode(part)?)?;
        // An extension that must be understood is one that is not understood.
        if header.has("crit") || header.has("zip") || header.has("enc") {
            return Err(Denied::Unsupported("extensions of tokens"));
        }
        // A token made for another use is not taken for one of ours (RFC 8725, section 3.11).
        let kind = header.text("typ")?.map(str::to_ascii_lowercase);
        if !matches!(kind.as_deref(), None | Some("jwt" | "at+jwt")) {
            return Err(Denied::Unsupported("tokens of this type"));
        }
        let algorithm = header.text("alg")?.ok_or(Denied::Algorithm)?;
        Ok(Header {
            algorithm: algorithm.parse().map_err(|_| Denied::Algorithm)?,
            key: header.text("kid")?.map(Box::from),
        })
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Denied> {
    let bytes = URL_SAFE_NO_PAD.decode(part);
    bytes.map_err(|_| Denied::Malformed("the token is not base64url"))
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
