//! Topic names and topic filters: what is well formed, what is within limits, what matches what.
//!
//! Everything works on text in place and allocates nothing. Section numbers are those of the MQTT 5
//! specification; 3.1.1 says the same in its section 4.7.

#[cfg(test)]
mod tests;

/// Prefix of a shared subscription (section 4.8.2).
const SHARED_PREFIX: &str = "$share/";

/// Longest text that an MQTT string can carry, in bytes.
const STRING_BYTES_MAX: usize = 65_535;

/// How long and how deep a topic name or filter may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicLimits {
    /// Most bytes of a topic name or filter. Default 256, the limit of AWS IoT.
    pub bytes_max: u16,
    /// Most slashes. Default 7, the limit of AWS IoT: a named shadow's topics have exactly that
    /// many.
    pub slashes_max: u16,
}

impl Default for TopicLimits {
    fn default() -> Self {
        Self {
            bytes_max: 256,
            slashes_max: 7,
        }
    }
}

/// Why a topic name or filter is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No character at all [MQTT-4.7.3-1].
    #[error("topic is empty")]
    Empty,
    /// Contains U+0000 [MQTT-4.7.3-2].
    #[error("topic contains the null character")]
    Null,
    /// A topic name contains `+` or `#` [MQTT-3.3.2-2].
    #[error("topic name contains a wildcard")]
    WildcardInName,
    /// A wildcard shares its level with other text [MQTT-4.7.1-2], or `#` is not last
    /// [MQTT-4.7.1-1].
    #[error("wildcard is misplaced")]
    WildcardMisplaced,
    /// `$share/` without a group or without a filter behind it [MQTT-4.8.2-1, MQTT-4.8.2-2].
    #[error("shared subscription is incomplete")]
    SharedIncomplete,
    /// More bytes than [`TopicLimits::bytes_max`], or than a string can hold [MQTT-4.7.3-3].
    #[error("topic is too long")]
    TooLong,
    /// More slashes than [`TopicLimits::slashes_max`].
    #[error("topic has too many levels")]
    TooDeep,
}

/// Checks that `name` can be published to, as far as the specification rules it.
///
/// # Errors
/// The first rule that is broken.
pub fn check_name(name: &str) -> Result<(), Error> {
    check_text(name)?;
    if has_wildcard(name) {
        return Err(Error::WildcardInName);
    }
    Ok(())
}

/// Checks that `filter` can be subscribed to, as far as the specification rules it.
///
/// # Errors
/// The first rule that is broken.
pub fn check_filter(filter: &str) -> Result<(), Error> {
    check_text(filter)?;
    let filter = match filter.strip_prefix(SHARED_PREFIX) {
        Some(shared) => shared_filter(shared)?,
        None => filter,
    };
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let alone = level.len() == 1;
        let multi_level = level.contains('#');
        if (multi_level || level.contains('+')) && !alone {
            return Err(Error::WildcardMisplaced);
        }
        if multi_level && levels.peek().is_some() {
            return Err(Error::WildcardMisplaced);
        }
    }
    Ok(())
}

/// Checks a name or filter that is well formed against the limits of this server.
///
/// # Errors
/// [`Error::TooLong`] or [`Error::TooDeep`].
pub fn check_limits(topic: &str, limits: &TopicLimits) -> Result<(), Error> {
    if topic.len() > usize::from(limits.bytes_max) {
        return Err(Error::TooLong);
    }
    let slashes = topic.bytes().filter(|byte| *byte == b'/').count();
    if slashes > usize::from(limits.slashes_max) {
        return Err(Error::TooDeep);
    }
    Ok(())
}

/// Whether the well-formed `filter` covers the well-formed topic name `name`.
///
/// A filter that starts with a wildcard never covers a name that starts with `$` [MQTT-4.7.2-1];
/// `#` covers its parent level, too (section 4.7.1.2). A shared subscription covers nothing here.
#[must_use]
pub fn matches(filter: &str, name: &str) -> bool {
    if is_shared(filter) || (name.starts_with('$') && filter.starts_with(['+', '#'])) {
        return false;
    }
    let mut names = name.split('/');
    let mut filters = filter.split('/');
    loop {
        match (filters.next(), names.next()) {
            (Some("#"), _) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// Whether `filter` asks for a shared subscription.
#[must_use]
pub fn is_shared(filter: &str) -> bool {
    filter.starts_with(SHARED_PREFIX)
}

/// Whether `topic` contains `+` or `#`.
#[must_use]
pub fn has_wildcard(topic: &str) -> bool {
    topic.contains(['+', '#'])
}

/// What names and filters have in common.
fn check_text(topic: &str) -> Result<(), Error> {
    if topic.is_empty() {
        return Err(Error::Empty);
    }
    if topic.len() > STRING_BYTES_MAX {
        return Err(Error::TooLong);
    }
    if topic.contains('\0') {
        return Err(Error::Null);
    }
    Ok(())
}

/// The filter of `{group}/{filter}`.
fn shared_filter(shared: &str) -> Result<&str, Error> {
    match shared.split_once('/') {
        Some((group, filter)) if !group.is_empty() && !filter.is_empty() => {
            if has_wildcard(group) {
                return Err(Error::WildcardMisplaced);
            }
            Ok(filter)
        }
        _ => Err(Error::SharedIncomplete),
    }
}
