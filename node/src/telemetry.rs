//! Where log lines go: to standard error, as text or JSON. Which of them are written can be changed while
//! the process runs.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;

use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::config::{LogFormat, Telemetry};

/// The target of the lines that say which requests came and what came of them. Off unless a filter names it.
pub(crate) const REQUESTS: &str = "antumbra::requests";

/// Longest filter that is taken at run time.
const FILTER_BYTES_MAX: usize = 1024;
/// Most parts of it.
const PARTS_MAX: usize = 32;

/// The filter of the process, once it logs.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts logging for the whole process. A process that already logs (a test with several nodes)
/// keeps what it has.
pub fn start(config: &Telemetry, colors: Colors) -> Result<(), ParseError> {
    let filter = EnvFilter::builder().parse(complete(&config.log_filter))?;
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(io::stderr);
    let started = match config.log_format {
        LogFormat::Text => {
            let ansi = colors == Colors::OnTerminal && io::stderr().is_terminal();
            registry.with(lines.with_ansi(ansi)).try_init()
        }
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    // An error means that somebody else started logging before us.
    if started.is_ok() {
        let _ = FILTER.set(handle);
    }
    Ok(())
}

/// A filter that says what becomes of [`REQUESTS`]: nothing, unless it is named.
fn complete(filter: &str) -> String {
    match filter.contains(REQUESTS) {
        true => filter.to_owned(),
        false => format!("{filter},{REQUESTS}=off"),
    }
}

/// When text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colors {
    /// Where a person is likely to look.
    OnTerminal,
    /// Nowhere.
    Never,
}

/// Why a filter is not taken. What was in force stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// It is too long.
    #[error(
        "is longer than {} bytes or has more than {} parts",
        FILTER_BYTES_MAX,
        PARTS_MAX
    )]
    TooLong,
    /// A part of it is no level, and not a target with one.
    #[error("`{part}` is neither one of off, error, warn, info, debug, trace nor TARGET=LEVEL")]
    Part {
        /// Which one.
        part: String,
    },
    /// The library does not take it.
    #[error("is refused: {0}")]
    Refused(#[from] ParseError),
    /// Somebody else decides what this process logs.
    #[error("this process does not log by itself")]
    NotOurs,
}

/// Checks a filter for [`set_filter`]: parts, separated by commas, each a level or `TARGET=LEVEL`. Stricter
/// than the configuration: a misspelt level must not become the name of a target of which everything
/// is logged, and what looks into spans costs every request.
pub fn check_filter(filter: &str) -> Result<(), FilterError> {
    if filter.len() > FILTER_BYTES_MAX || filter.split(',').count() > PARTS_MAX {
        return Err(FilterError::TooLong);
    }
    let is_target = |target: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
        !target.is_empty() && target.bytes().all(plain)
    };
    let is_level = |level: &str| {
        // The library takes numbers and nothing at all, too.
        let is_word = level.bytes().all(|byte| byte.is_ascii_alphabetic());
        !level.is_empty() && is_word && level.parse::<LevelFilter>().is_ok()
    };
    for part in filter.split(',') {
        let good = match part.split_once('=') {
            Some((target, level)) => is_target(target) && is_level(level),
            None => is_level(part),
        };
        if !good {
            let part = part.to_owned();
            return Err(FilterError::Part { part });
        }
    }
    Ok(())
}

/// Puts a filter into force until the process ends or the next one comes, and gives it back as it is
/// understood. May be called from any thread.
pub fn set_filter(filter: &str) -> Result<String, FilterError> {
    check_filter(filter)?;
    let filter = EnvFilter::builder().parse(complete(filter))?;
    let handle = FILTER.get().ok_or(FilterError::NotOurs)?;
    handle.reload(filter).map_err(|_| FilterError::NotOurs)?;
    self::filter()
}

/// The filter in force.
pub fn filter() -> Result<String, FilterError> {
    let handle = FILTER.get().ok_or(FilterError::NotOurs)?;
    let told = handle.with_current(ToString::to_string);
    told.map_err(|_| FilterError::NotOurs)
}

/// The finest level that this program can log: finer ones are not compiled in.
pub fn finest_level() -> String {
    STATIC_MAX_LEVEL.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is taken is what the library understands, and nothing that costs every request.
    #[test]
    fn filter_is_levels_and_targets_with_levels() {
        let long = format!("info,{}=warn", "a".repeat(FILTER_BYTES_MAX));
        let many = vec!["info"; PARTS_MAX + 1].join(",");
        for good in [
            "info",
            "OFF",
            "info,openraft=error",
            "warn,antumbra::http=debug",
        ] {
            assert!(check_filter(good).is_ok(), "{good}");
            assert!(EnvFilter::builder().parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "inf",
            "3",
            "info,",
            "antumbra",
            "antumbra=",
            "=info",
            "antumbra=loud",
            "[request]=trace",
            "antumbra[request{command=\"(a+)+\"}]=trace",
            "info\nwarn",
            "warn, openraft=error",
            &long,
            &many,
        ] {
            assert!(check_filter(bad).is_err(), "{bad:?}");
        }
    }

    /// A line for each request is for who asks for it.
    #[test]
    fn requests_are_logged_only_where_they_are_named() {
        assert_eq!(complete("info"), "info,antumbra::requests=off");
        let named = "warn,antumbra::requests=info";
        assert_eq!(complete(named), named);
    }

    /// A process whose log is somebody else's says so instead of pretending.
    #[test]
    fn filter_of_a_process_that_does_not_log_is_refused() {
        assert!(matches!(set_filter("info"), Err(FilterError::NotOurs)));
        assert!(matches!(filter(), Err(FilterError::NotOurs)));
    }
}
