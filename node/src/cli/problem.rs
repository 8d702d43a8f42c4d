//! How a command fails: what happened, why, and what to try; and the exit code.

use std::fmt::Write;

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Exit codes of the program. 0 is success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Anything without a code of its own.
    Failure = 1,
    /// The command line, the configuration or the request is wrong.
    Usage = 2,
    /// The shadow does not exist.
    NotFound = 3,
    /// The shadow is not as the caller expected.
    Conflict = 4,
    /// Nobody could take the request. It was certainly not applied.
    Unavailable = 5,
    /// It is not known whether the change was applied.
    Unknown = 6,
    /// The caller may not do this.
    Denied = 7,
    /// Stored data are damaged.
    Damaged = 8,
}

/// Every exit code with its meaning, for help and docs.
pub const EXIT_CODES: &[(u8, &str)] = &[
    (0, "success"),
    (1, "any failure without a code of its own"),
    (
        2,
        "the command line, the configuration or the request is wrong",
    ),
    (3, "the shadow does not exist"),
    (
        4,
        "version conflict, a condition that does not hold, or a reused request id",
    ),
    (
        5,
        "unavailable or overloaded: the change was certainly not applied",
    ),
    (
        6,
        "outcome unknown or deadline passed: the change may have been applied",
    ),
    (7, "not authenticated or not allowed"),
    (8, "stored data are damaged"),
];

/// Why a command failed, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    what: String,
    why: Option<String>,
    try_this: Option<String>,
    exit: Exit,
}

impl Problem {
    /// What could not be done: "read shadow lamp-1".
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            why: None,
            try_this: None,
            exit,
        }
    }

    /// Why; may have several lines.
    pub(crate) fn why(mut self, why: impl ToString) -> Self {
        self.why = Some(why.to_string());
        self
    }

    /// What the user can do about it.
    pub(crate) fn try_this(mut self, hint: impl Into<String>) -> Self {
        self.try_this = Some(hint.into());
        self
    }

    /// The exit code of the process.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// The answer of a server to something that was asked of it.
    pub(crate) fn from_status(what: impl Into<String>, status: &Status) -> Self {
        let info = status.get_details_error_info();
        let reason = info
            .as_ref()
            .map(|info| info.reason.as_str())
            .unwrap_or_default();
        let (exit, hint) = advice(status.code(), reason);
        let mut why = status.message().to_owned();
        if why.is_empty() {
            why = status.code().description().to_owned();
        }
        let name = if reason.is_empty() {
            format!("{:?}", status.code())
        } else {
            reason.to_owned()
        };
        let mut problem = Self::new(exit, what).why(format!("{why} ({name})"));
        problem.try_this = hint.map(str::to_owned);
        if let Some(current) = info.and_then(|info| info.metadata.get("current_version").cloned()) {
            problem.try_this = Some(format!("read it again; it is at version {current}"));
        }
        problem
    }

    /// The text for standard error, with a line feed at the end.
    pub(crate) fn render(&self, color: bool) -> String {
        let mut out = String::new();
        let mut line = |label: &str, style: &str, text: &str| {
            let text = text.trim_end().replace('\n', "\n       ");
            let _ = match color {
                true => writeln!(out, "\x1b[{style}m{label}\x1b[0m {text}"),
                false => writeln!(out, "{label} {text}"),
            };
        };
        line("error:", "1;31", &self.what);
        if let Some(why) = &self.why {
            line("  why:", "1", why);
        }
        if let Some(hint) = &self.try_this {
            line("  try this:", "1;32", hint);
        }
        out
    }
}

/// Exit code and hint for what a server answered.
fn advice(code: Code, reason: &str) -> (Exit, Option<&'static str>) {
    let retry =
        "the same again with the same --request-id: it tells the outcome without applying it twice";
    match (code, reason) {
        (Code::InvalidArgument | Code::OutOfRange, _) => (Exit::Usage, None),
        (Code::NotFound, _) => (
            Exit::NotFound,
            Some("`antumbra shadow list DEVICE` to see which shadows there are"),
        ),
        (_, "REQUEST_ID_REUSED") => (Exit::Conflict, Some("a new --request-id")),
        (Code::Aborted | Code::FailedPrecondition, _) => (
            Exit::Conflict,
            Some("`antumbra shadow get DEVICE` to see how it is now"),
        ),
        (_, "TOO_LARGE" | "TOO_MANY_SHADOWS") => (Exit::Usage, None),
        (Code::ResourceExhausted, _) => (Exit::Unavailable, Some("again in a moment")),
        (Code::Unavailable, _) => (
            Exit::Unavailable,
            Some("again in a moment, or another --endpoint"),
        ),
        (Code::Unknown | Code::DeadlineExceeded | Code::Cancelled, _) => {
            (Exit::Unknown, Some(retry))
        }
        (Code::Unauthenticated | Code::PermissionDenied, _) => (Exit::Denied, None),
        (Code::DataLoss, _) => (
            Exit::Damaged,
            Some("the log of the node: it says what is damaged"),
        ),
        (Code::Unimplemented, _) => (
            Exit::Failure,
            Some("`antumbra version` on both sides: the server may be older"),
        ),
        _ => (Exit::Failure, None),
    }
}

#[cfg(test)]
mod tests {
    use super::{EXIT_CODES, Exit, Problem};
    use tonic::{Code, Status};

    /// Scripts branch on these numbers.
    #[test]
    fn exit_codes_are_documented_in_order() {
        let codes: Vec<u8> = EXIT_CODES.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes, (0..=Exit::Damaged as u8).collect::<Vec<_>>());
    }

    /// The three lines are the contract with whoever reads standard error.
    #[test]
    fn renders_what_why_and_what_to_try() {
        let problem = Problem::new(Exit::Usage, "cannot read F")
            .why("line 1\nline 2")
            .try_this("G");
        assert_eq!(
            problem.render(false),
            "error: cannot read F\n  why: line 1\n       line 2\n  try this: G\n"
        );
        assert!(
            problem
                .render(true)
                .contains("\x1b[1;31merror:\x1b[0m cannot read F")
        );
    }

    /// A lost outcome must not look like a failed write.
    #[test]
    fn statuses_map_to_exit_codes() {
        let exit = |code| Problem::from_status("x", &Status::new(code, "m")).exit();
        assert_eq!(exit(Code::NotFound), Exit::NotFound);
        assert_eq!(exit(Code::Aborted), Exit::Conflict);
        assert_eq!(exit(Code::Unavailable), Exit::Unavailable);
        assert_eq!(exit(Code::Unknown), Exit::Unknown);
        assert_eq!(exit(Code::DeadlineExceeded), Exit::Unknown);
        assert_eq!(exit(Code::PermissionDenied), Exit::Denied);
    }
}
