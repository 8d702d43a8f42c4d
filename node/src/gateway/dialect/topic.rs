//! Topic names and topic filters as text (MQTT 5.0, sections 4.7.1 to 4.7.3).
//!
//! The matcher here is the plain one, level by level. Hot paths compile filters instead, see
//! [`super::grant`]; tests hold the compiled form against this one.

/// The longest topic name or filter that is taken, in bytes. MQTT allows 65,535, AWS 256; the longest
/// topic of a shadow has 234.
pub const TOPIC_BYTES_MAX: usize = 1_024;

/// Why a text is no topic name or filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// A topic has at least one character.
    #[error("a topic must not be empty")]
    Empty,
    /// Longer than [`TOPIC_BYTES_MAX`].
    #[error("a topic has at most {TOPIC_BYTES_MAX} bytes")]
    TooLong,
    /// U+0000 is not allowed.
    #[error("a topic must not contain U+0000")]
    Nul,
    /// A name with a wildcard, or a filter with one that does not fill its level or is not last.
    #[error("a wildcard stands where it may not")]
    Wildcard,
}

/// Checks the name of a topic that something is published to.
///
/// # Errors
///
/// When the text is no topic name.
pub fn check_name(name: &str) -> Result<(), TopicError> {
    check_text(name)?;
    if name.contains(['+', '#']) {
        return Err(TopicError::Wildcard);
    }
    Ok(())
}

/// Checks a topic filter.
///
/// # Errors
///
/// When the text is no topic filter.
pub fn check_filter(filter: &str) -> Result<(), TopicError> {
    check_text(filter)?;
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let alone = level.len() == 1;
        let last = levels.peek().is_none();
        if (level.contains('#') && !(alone && last)) || (level.contains('+') && !alone) {
            return Err(TopicError::Wildcard);
        }
    }
    Ok(())
}

fn check_text(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > TOPIC_BYTES_MAX {
        return Err(TopicError::TooLong);
    }
    if text.contains('\0') {
        return Err(TopicError::Nul);
    }
    Ok(())
}

/// Whether a valid filter matches a valid name. Wildcards at the first level do not match names that
/// begin with `$`.
pub fn matches(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    levels_match(filter.split('/'), name)
}

/// Whether the rest of a filter matches the rest of a name, without the rule about `$`.
pub fn levels_match<'a>(filter: impl IntoIterator<Item = &'a str>, name: &str) -> bool {
    let mut filter = filter.into_iter();
    let mut name = name.split('/');
    loop {
        match (filter.next(), name.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

/// Whether everything that `filter` matches is matched by the filter with the levels `allowed` too.
/// Both are valid filters; a name counts as a filter without wildcards.
pub fn covers<'a>(allowed: impl IntoIterator<Item = &'a str>, filter: &str) -> bool {
    let mut allowed = allowed.into_iter().peekable();
    let rooted = matches!(allowed.peek(), Some(&"+" | &"#"));
    if rooted && filter.starts_with('$') {
        return false;
    }
    let mut levels = filter.split('/');
    loop {
        match (allowed.next(), levels.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(wanted), Some(level)) if wanted == level && level != "#" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests;
