//! The stored form of passwords and tokens: argon2id (RFC 9106) as a PHC string.

use std::fmt;
use std::str::FromStr;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::SECRET_BYTES_MAX;

/// Memory of one hash. 19 MiB with two passes is the lowest that OWASP advises: people choose
/// passwords too. More would let reconnecting devices push a node out of memory, for they all come
/// at once.
const MEMORY_KIB: u32 = 19 * 1024;
/// Passes over the memory: two, as OWASP recommends for 19 MiB.
const PASSES: u32 = 2;
/// One: parallel lanes would help whoever guesses as much as they help us.
const LANES: u32 = 1;
/// Bytes of a salt, as RFC 9106 advises.
pub const SALT_BYTES: usize = 16;

const HASH_BYTES: usize = 32;
/// A stored hash that asks for more is refused, for verifying it would stop the node.
const MEMORY_KIB_MAX: u32 = 256 * 1024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 8;

/// The hash of a password or of the secret of a token. Printed without the hash.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: [u8; SALT_BYTES],
    hash: [u8; HASH_BYTES],
}

/// Why there is no hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// A password is empty or longer than [`SECRET_BYTES_MAX`].
    #[error("a password has between 1 and {SECRET_BYTES_MAX} bytes")]
    Length,
    /// The text is not a hash of this kind.
    #[error("not a hash `$argon2id$v=19$m=…,t=…,p=…$salt$hash` with 16 and 32 bytes")]
    Form,
    /// The text is one, and verifying it costs too much.
    #[error(
        "the hash asks for more than {MEMORY_KIB_MAX} KiB, {PASSES_MAX} passes or {LANES_MAX} lanes"
    )]
    Cost,
    /// The memory for hashing cannot be had.
    #[error("hashing failed")]
    Failed,
}

impl PasswordHash {
    /// Hashes a secret under a salt, which must be drawn anew for every hash. Takes milliseconds of a core:
    /// never on a thread that others wait for.
    ///
    /// # Errors
    ///
    /// When the secret is empty or too long, or memory cannot be had.
    pub fn make(secret: &[u8], salt: [u8; SALT_BYTES]) -> Result<PasswordHash, HashError> {
        let mut made = PasswordHash {
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
            salt,
            hash: [0; HASH_BYTES],
        };
        made.hash = made.compute(secret)?;
        Ok(made)
    }

    /// Whether this is the hash of the secret. Costs as much as making it did.
    pub fn verify(&self, secret: &[u8]) -> bool {
        self.compute(secret)
            .is_ok_and(|hash| constant_time::verify_slices_are_equal(&hash, &self.hash).is_ok())
    }

    fn compute(&self, secret: &[u8]) -> Result<[u8; HASH_BYTES], HashError> {
        if secret.is_empty() || secret.len() > SECRET_BYTES_MAX {
            return Err(HashError::Length);
        }
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(HASH_BYTES));
        let params = params.map_err(|_| HashError::Cost)?;
        let mut hash = [0; HASH_BYTES];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(secret, &self.salt, &mut hash)
            .map_err(|_| HashError::Failed)?;
        Ok(hash)
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(secret)")
    }
}

/// The PHC string, as it is stored.
impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PasswordHash {
            memory_kib,
            passes,
            lanes,
            ..
        } = self;
        let salt = STANDARD_NO_PAD.encode(self.salt);
        let hash = STANDARD_NO_PAD.encode(self.hash);
        write!(
            f,
            "$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${hash}"
        )
    }
}

impl FromStr for PasswordHash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<PasswordHash, HashError> {
        let rest = text
            .strip_prefix("$argon2id$v=19$")
            .ok_or(HashError::Form)?;
        let mut parts = rest.split('$');
        let (Some(costs), Some(salt), Some(hash), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(HashError::Form);
        };
        let mut costs = costs.split(',');
        let mut cost = |name: &str| {
            let number = costs.next()?.strip_prefix(name)?;
            let digits = number.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| number.parse::<u32>().ok())?
        };
        let (Some(memory_kib), Some(passes), Some(lanes)) = (cost("m="), cost("t="), cost("p="))
        else {
            return Err(HashError::Form);
        };
        if costs.next().is_some() {
            return Err(HashError::Form);
        }
        if memory_kib > MEMORY_KIB_MAX || passes > PASSES_MAX || lanes > LANES_MAX {
            return Err(HashError::Cost);
        }
        Params::new(memory_kib, passes, lanes, Some(HASH_BYTES)).map_err(|_| HashError::Form)?;
        Ok(PasswordHash {
            memory_kib,
            passes,
            lanes,
            salt: bytes(salt)?,
            hash: bytes(hash)?,
        })
    }
}

fn bytes<const N: usize>(text: &str) -> Result<[u8; N], HashError> {
    let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| HashError::Form)?;
    bytes.try_into().map_err(|_| HashError::Form)
}
