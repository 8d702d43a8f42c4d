//! What a user lets a device do, line by line.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use antumbra_shadow::json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::cli::mqtt::{device, lines};
use crate::cli::output::string;
use crate::cli::problem::{Exit, Problem};
use crate::config::parse_duration;

/// The lines that there are.
pub(super) const HELP: &str = "\
report KEY=VALUE… or report JSON, sleep 500ms, disconnect, reconnect; # begins a comment";

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Report this state, an object.
    Report(Value),
    /// Wait; what comes from the server is handled meanwhile.
    Sleep(Duration),
    /// Leave the server.
    Disconnect,
    /// Leave the server, if connected, and come back.
    Reconnect,
}

/// The things to do, one after another.
#[derive(Debug)]
pub(super) struct Steps {
    source: Source,
    /// A `sleep` that goes on.
    asleep_until: Option<Instant>,
}

#[derive(Debug)]
enum Source {
    /// A file, checked before it is begun.
    Script(VecDeque<Step>),
    /// Standard input, line by line.
    Live {
        lines: mpsc::Receiver<String>,
        /// Its end is the end of the steps; else there are just no more.
        ends: bool,
    },
}

impl Steps {
    /// The steps of a file; `-` is standard input. Without a file, standard input too, whose end
    /// means nothing then: a device may run without a terminal.
    pub(super) fn open(script: Option<&Path>) -> Result<Self, Problem> {
        let live = |ends| Source::Live {
            lines: lines(io::stdin()),
            ends,
        };
        let source = match script {
            None => live(false),
            Some(path) if path == Path::new("-") => live(true),
            Some(path) => Source::Script(read(path)?),
        };
        Ok(Self {
            source,
            asleep_until: None,
        })
    }

    /// The next step; `None` at the end. Sleeps where the script says so. May be dropped midway.
    pub(super) async fn next(&mut self) -> Option<Step> {
        loop {
            if let Some(until) = self.asleep_until {
                sleep_until(until).await;
                self.asleep_until = None;
            }
            match self.source.next().await? {
                Step::Sleep(duration) => self.asleep_until = Some(Instant::now() + duration),
                step => return Some(step),
            }
        }
    }
}

impl Source {
    async fn next(&mut self) -> Option<Step> {
        let (lines, ends) = match self {
            Self::Script(steps) => return steps.pop_front(),
            Self::Live { lines, ends } => (lines, *ends),
        };
        while let Some(line) = lines.recv().await {
            match parse(&line) {
                Ok(Some(step)) => return Some(step),
                Ok(None) => {}
                Err(why) => {
                    let _ = writeln!(io::stderr().lock(), "{why}; there are: {HELP}");
                }
            }
        }
        match ends {
            true => None,
            false => std::future::pending().await,
        }
    }
}

fn read(path: &Path) -> Result<VecDeque<Step>, Problem> {
    let what = || format!("cannot use the script {}", path.display());
    let text =
        fs::read_to_string(path).map_err(|error| Problem::new(Exit::Usage, what()).why(error))?;
    let mut steps = VecDeque::new();
    for (nth, line) in text.lines().enumerate() {
        let step = parse(line).map_err(|why| {
            Problem::new(Exit::Usage, what())
                .why(format!("line {}: {why}", nth + 1))
                .try_this(HELP)
        })?;
        steps.extend(step);
    }
    Ok(steps)
}

/// The step of a line; `None` when the line says nothing.
fn parse(line: &str) -> Result<Option<Step>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (verb, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    Ok(Some(match (verb, rest) {
        ("report", rest) => Step::Report(state(rest)?),
        ("sleep", rest) => Step::Sleep(parse_duration(rest)?),
        ("disconnect", "") => Step::Disconnect,
        ("reconnect", "") => Step::Reconnect,
        _ if line.starts_with('{') => Step::Report(state(line)?),
        _ => return Err(format!("`{line}` is nothing that a device can do")),
    }))
}

/// JSON text of an object, or `key=value` with blanks between.
fn state(text: &str) -> Result<Value, String> {
    if text.starts_with('{') {
        let value = device::parse(text.as_bytes()).filter(Value::is_object);
        return value.ok_or_else(|| format!("`{text}` is not a JSON object"));
    }
    let members = text.split_whitespace().map(|pair| {
        let (key, value) = pair
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| format!("`{pair}` is not KEY=VALUE"))?;
        let value = device::parse(value.as_bytes()).unwrap_or_else(|| string(value));
        Ok((key.to_owned(), value))
    });
    let members = members.collect::<Result<Vec<_>, String>>()?;
    if members.is_empty() {
        return Err("there is nothing to report".to_owned());
    }
    Ok(Value::Object(members))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scripts are kept and shared: what a line means must not change.
    #[test]
    fn lines_mean_what_they_meant() {
        let report = |line| match parse(line).unwrap().unwrap() {
            Step::Report(state) => state.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            report(" report on=true level=3 name=Anna"),
            r#"{"on":true,"level":3,"name":"Anna"}"#
        );
        assert_eq!(
            report(r#"report {"a": {"b": 1.50}}"#),
            r#"{"a":{"b":1.50}}"#
        );
        assert_eq!(report(r#"{"a":null}"#), r#"{"a":null}"#);
        let sleep = Step::Sleep(Duration::from_millis(500));
        assert_eq!(parse("sleep 500ms"), Ok(Some(sleep)));
        assert_eq!(parse("disconnect"), Ok(Some(Step::Disconnect)));
        assert_eq!(parse("reconnect"), Ok(Some(Step::Reconnect)));
        assert_eq!(parse("  # a comment"), Ok(None));
        assert_eq!(parse(""), Ok(None));
    }

    #[test]
    fn wrong_lines_are_refused_with_their_number() {
        for line in [
            "report",
            "report a",
            "report =1",
            "sleep",
            "dance",
            "{",
            "disconnect now",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("script");
        fs::write(&path, "report a=1\n\nreport\n").unwrap();
        let text = Steps::open(Some(&path)).unwrap_err().render(false);
        assert!(text.contains("line 3"), "{text}");
    }
}
