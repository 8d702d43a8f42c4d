//! The limits of a tenant. The leader stamps them into every command, so that replicas judge a
//! command alike even while the settings change.

/// The deepest nesting that any setting may allow below a section, arrays included.
pub const DEPTH_CEILING: usize = 16;
/// The largest document that any setting may allow, in bytes.
pub const DOCUMENT_BYTES_CEILING: usize = 256 * 1024;
/// The longest text of a number that is kept.
pub const NUMBER_BYTES_MAX: usize = 64;
/// The largest exponent, in either direction, that a number may be written with.
pub const EXPONENT_MAX: u32 = 400;

/// What one tenant may store. `Default` is what holds when nobody says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Compact JSON of `desired` plus that of `reported`, in bytes (default 8 KiB). A change that
    /// does not grow a document that is already larger is accepted.
    pub document_bytes_max: u32,
    /// Levels of names below a section (default 8). A container inside an array is a level too.
    pub depth_max: u32,
    /// Shadows that exist at one time per device (default 64).
    pub shadows_per_device_max: u32,
    /// Names of shadows that a device has ever used, tombstones included (default 1,024).
    pub shadow_names_per_device_max: u32,
    /// Length of a client token in bytes (default 64, the AWS limit).
    pub client_token_bytes_max: u32,
    /// Length of one key of a document in bytes (default 1,024).
    pub key_bytes_max: u32,
    /// Shadows that one atomic batch may change (default 100).
    pub batch_items_max: u32,
    /// Path conditions of one change (default 16).
    pub path_conditions_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            document_bytes_max: 8 * 1024,
            depth_max: 8,
            shadows_per_device_max: 64,
            shadow_names_per_device_max: 1_024,
            client_token_bytes_max: 64,
            key_bytes_max: 1_024,
            batch_items_max: 100,
            path_conditions_max: 16,
        }
    }
}

impl Limits {
    /// The deepest nesting these limits allow, never above [`DEPTH_CEILING`].
    pub fn depth(&self) -> usize {
        (self.depth_max as usize).min(DEPTH_CEILING)
    }

    /// The largest document these limits allow, never above [`DOCUMENT_BYTES_CEILING`].
    pub fn document_bytes(&self) -> usize {
        (self.document_bytes_max as usize).min(DOCUMENT_BYTES_CEILING)
    }
}
