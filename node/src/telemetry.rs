//! Where log lines go: to standard error, as text or JSON.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::{LogFormat, Telemetry};

/// Starts logging for the whole process. A process that already logs (a test with several nodes)
/// keeps what it has.
pub fn start(config: &Telemetry, colors: Colors) -> Result<(), ParseError> {
    let filter = EnvFilter::builder().parse(&config.log_filter)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    // An error means that somebody else started logging before us.
    let _ = match config.log_format {
        LogFormat::Text => {
            let ansi = colors == Colors::OnTerminal && io::stderr().is_terminal();
            lines.with_ansi(ansi).try_init()
        }
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// When text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colors {
    /// Where a person is likely to look.
    OnTerminal,
    /// Nowhere.
    Never,
}
