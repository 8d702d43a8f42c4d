//! Secrets of our own making: tokens, the hashes that are stored of them, and what was verified
//! lately.

mod hash;
mod verified;

use std::fmt;

use super::record::CredentialId;
use super::{Denied, hexadecimal};

pub use self::hash::{HashError, PasswordHash, SALT_BYTES};
pub use self::verified::Verified;

/// What every token begins with, so that scanners for leaked secrets find it.
pub const TOKEN_PREFIX: &str = "atk_";
/// The longest password or token that is looked at, in bytes.
pub const SECRET_BYTES_MAX: usize = 1_024;

const SECRET_BYTES: usize = 32;

/// A token: `atk_<record>_<secret>`, where the secret is 32 random bytes as 64 hexadecimal digits.
/// It is shown once, when it is made; only its hash is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The credential that it is for.
    pub record: CredentialId,
    secret: Box<str>,
}

impl Token {
    /// Draws a new token.
    ///
    /// # Errors
    ///
    /// When the system has no randomness.
    pub fn draw(record: CredentialId) -> Result<Token, getrandom::Error> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Token::new(record, &bytes))
    }

    fn new(record: CredentialId, bytes: &[u8; SECRET_BYTES]) -> Token {
        Token {
            record,
            secret: hexadecimal::encode(bytes).into(),
        }
    }

    /// Whether bytes begin like a token.
    pub fn looks_like(bytes: &[u8]) -> bool {
        bytes.starts_with(TOKEN_PREFIX.as_bytes())
    }

    /// Reads a token. Strict: every token has one spelling.
    ///
    /// # Errors
    ///
    /// When the bytes are none.
    pub fn parse(bytes: &[u8]) -> Result<Token, Denied> {
        if bytes.len() > SECRET_BYTES_MAX {
            return Err(Denied::TooLarge);
        }
        let malformed = Denied::Malformed("the token is not atk_RECORD_SECRET");
        let text = std::str::from_utf8(bytes).map_err(|_| malformed)?;
        let rest = text.strip_prefix(TOKEN_PREFIX).ok_or(malformed)?;
        // From the right: the name of a record may have the separator, the secret has not.
        let (record, secret) = rest.rsplit_once('_').ok_or(malformed)?;
        let record = CredentialId::parse(record).map_err(|_| malformed)?;
        hexadecimal::decode(secret.as_bytes()).ok_or(malformed)?;
        Ok(Token {
            record,
            secret: secret.into(),
        })
    }

    /// The token as it is shown. The only way to see the secret.
    pub fn reveal(&self) -> String {
        format!("{TOKEN_PREFIX}{}_{}", self.record, self.secret)
    }

    /// The secret part: what is hashed.
    pub fn secret(&self) -> &[u8] {
        self.secret.as_bytes()
    }
}

/// Draws the salt of a new hash.
///
/// # Errors
///
/// When the system has no randomness.
pub fn draw_salt() -> Result<[u8; SALT_BYTES], getrandom::Error> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt)?;
    Ok(salt)
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, secret)", self.record)
    }
}

#[cfg(test)]
mod tests;
