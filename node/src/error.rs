//! What a caller is told when a call fails: one small enum and one table that maps it to every
//! door. The only file that knows gRPC codes, HTTP statuses and AWS exception names.
//!
//! The table keeps the promise of `docs/errors.md`: UNAVAILABLE and OVERLOADED mean certainly not
//! applied; OUTCOME_UNKNOWN and DEADLINE_EXCEEDED mean that the change may have been applied; a
//! rejection changed nothing.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use antumbra_shadow::{Failure, Rejection};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Domain of every `google.rpc.ErrorInfo` that this server sends.
pub const DOMAIN: &str = "antumbra";

/// How long a caller that was refused for load should wait before it tries again.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Why a call failed, the same for all doors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A field of the request is not what it must be.
    #[error("{field}: {reason}")]
    Invalid {
        /// Path of the field in the request, as gRPC callers know it.
        field: Cow<'static, str>,
        /// What is wrong with it, for people.
        reason: Cow<'static, str>,
    },
    /// A field must hold JSON text and does not.
    #[error("{field}: {reason}")]
    InvalidJson {
        /// Path of the field in the request.
        field: Cow<'static, str>,
        /// What is wrong with it, for people.
        reason: Cow<'static, str>,
    },
    /// Well-formed JSON that a shadow cannot hold: null inside an array, an over-long key.
    #[error("{field}: {reason}")]
    InvalidNode {
        /// Path of the field in the request, `state` when it is not known which.
        field: Cow<'static, str>,
        /// What is wrong with it, for people.
        reason: Cow<'static, str>,
    },
    /// Objects and arrays are nested too deep.
    #[error("{field}: nested deeper than {max} levels")]
    TooDeep {
        /// Path of the field in the request, `state` when it is not known which.
        field: Cow<'static, str>,
        /// The deepest that is allowed.
        max: u64,
    },
    /// The shadow does not exist.
    #[error("the shadow does not exist")]
    NotFound,
    /// The shadow is at another version than the caller expected.
    #[error("version conflict: the shadow is at version {current}")]
    VersionConflict {
        /// Version of the shadow when the command was applied; 0 when it does not exist.
        current: u64,
    },
    /// A condition other than the version did not hold.
    #[error("condition failed: {condition}")]
    ConditionFailed {
        /// Which one.
        condition: Cow<'static, str>,
    },
    /// The request id was used for another command.
    #[error("the request id was already used for another command")]
    RequestIdReused,
    /// The document, or the request, would be or is too large.
    #[error("{what} of {bytes} bytes is larger than {max}")]
    TooLarge {
        /// What is too large: the document, the request.
        what: &'static str,
        /// Its size; at least this for a request that was not read to its end.
        bytes: u64,
        /// The largest that is allowed.
        max: u64,
    },
    /// The device has as many shadows as it may have.
    #[error("the device already has {max} shadows")]
    TooManyShadows {
        /// The most that are allowed.
        max: u64,
    },
    /// A queue or limit of ours is full.
    #[error("overloaded")]
    Overloaded,
    /// No replica can take the command now.
    #[error("unavailable: {0}")]
    Unavailable(&'static str),
    /// A node of the cluster did nothing, and says why.
    #[error("refused: {0}")]
    Refused(String),
    /// The command was sent and its fate is not known.
    #[error("the outcome is unknown: the change may or may not have been applied")]
    OutcomeUnknown,
    /// Time ran out.
    #[error("the deadline passed before the outcome was known")]
    Deadline,
    /// Nobody knows who the caller is.
    #[error("not authenticated")]
    Unauthenticated,
    /// The caller may not do this.
    #[error("not allowed")]
    PermissionDenied,
    /// Stored data are damaged.
    #[error("stored data are damaged")]
    Damaged,
    /// A bug of ours, or a command from a newer version.
    #[error("internal error: {0}")]
    Internal(&'static str),
    /// An HTTP path that does not exist.
    #[error("no such path")]
    UnknownPath,
    /// An HTTP method that the path does not have.
    #[error("method not allowed")]
    MethodNotAllowed,
    /// An HTTP body in an encoding that is not read, or text that is not UTF-8.
    #[error("the document is not UTF-8")]
    UnsupportedEncoding,
}

/// The stable name of a kind of error: `google.rpc.ErrorInfo.reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(
    missing_docs,
    reason = "docs/errors.md describes each, and a test checks that it does"
)]
pub enum Reason {
    InvalidArgument,
    InvalidJson,
    InvalidNode,
    TooDeep,
    NotFound,
    VersionConflict,
    ConditionFailed,
    RequestIdReused,
    TooLarge,
    TooManyShadows,
    Overloaded,
    Unavailable,
    OutcomeUnknown,
    DeadlineExceeded,
    Unauthenticated,
    PermissionDenied,
    DataDamaged,
    Internal,
    UnknownPath,
    MethodNotAllowed,
    UnsupportedEncoding,
}

/// Whether a call that failed so may have changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// Certainly not.
    No,
    /// Perhaps: repeat it with the same request id to learn.
    Maybe,
}

/// One line of the table: how a reason looks at each door.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// `google.rpc.ErrorInfo.reason`.
    pub name: &'static str,
    /// gRPC status code.
    pub grpc: Code,
    /// HTTP status.
    pub http: u16,
    /// AWS exception type, for the header `x-amzn-ErrorType`.
    pub exception: &'static str,
    /// Whether the change may have been applied.
    pub applied: Applied,
}

impl Reason {
    /// Every reason, in the order of the documentation.
    pub const ALL: [Reason; 21] = [
        Reason::InvalidArgument,
        Reason::InvalidJson,
        Reason::InvalidNode,
        Reason::TooDeep,
        Reason::NotFound,
        Reason::VersionConflict,
        Reason::ConditionFailed,
        Reason::RequestIdReused,
        Reason::TooLarge,
        Reason::TooManyShadows,
        Reason::Overloaded,
        Reason::Unavailable,
        Reason::OutcomeUnknown,
        Reason::DeadlineExceeded,
        Reason::Unauthenticated,
        Reason::PermissionDenied,
        Reason::DataDamaged,
        Reason::Internal,
        Reason::UnknownPath,
        Reason::MethodNotAllowed,
        Reason::UnsupportedEncoding,
    ];

    /// How this reason looks at each door.
    #[rustfmt::skip]
    pub const fn row(self) -> Row {
        use Applied::{Maybe, No};
        let (name, grpc, http, exception, applied) = match self {
            Reason::InvalidArgument     => ("INVALID_ARGUMENT",     Code::InvalidArgument,    400, "InvalidRequestException", No),
            Reason::InvalidJson         => ("INVALID_JSON",         Code::InvalidArgument,    400, "InvalidRequestException", No),
            Reason::InvalidNode         => ("INVALID_NODE",         Code::InvalidArgument,    400, "InvalidRequestException", No),
            Reason::TooDeep             => ("TOO_DEEP",             Code::InvalidArgument,    400, "InvalidRequestException", No),
            Reason::NotFound            => ("NOT_FOUND",            Code::NotFound,           404, "ResourceNotFoundException", No),
            Reason::VersionConflict     => ("VERSION_CONFLICT",     Code::Aborted,            409, "ConflictException", No),
            Reason::ConditionFailed     => ("CONDITION_FAILED",     Code::FailedPrecondition, 409, "ConflictException", No),
            Reason::RequestIdReused     => ("REQUEST_ID_REUSED",    Code::FailedPrecondition, 409, "ConflictException", No),
            Reason::TooLarge            => ("TOO_LARGE",            Code::ResourceExhausted,  413, "RequestEntityTooLargeException", No),
            Reason::TooManyShadows      => ("TOO_MANY_SHADOWS",     Code::ResourceExhausted,  400, "InvalidRequestException", No),
            Reason::Overloaded          => ("OVERLOADED",           Code::ResourceExhausted,  429, "ThrottlingException", No),
            Reason::Unavailable         => ("UNAVAILABLE",          Code::Unavailable,        503, "ServiceUnavailableException", No),
            Reason::OutcomeUnknown      => ("OUTCOME_UNKNOWN",      Code::Unknown,            500, "InternalFailureException", Maybe),
            Reason::DeadlineExceeded    => ("DEADLINE_EXCEEDED",    Code::DeadlineExceeded,   500, "InternalFailureException", Maybe),
            Reason::Unauthenticated     => ("UNAUTHENTICATED",      Code::Unauthenticated,    401, "UnauthorizedException", No),
            Reason::PermissionDenied    => ("PERMISSION_DENIED",    Code::PermissionDenied,   403, "ForbiddenException", No),
            Reason::DataDamaged         => ("DATA_DAMAGED",         Code::DataLoss,           500, "InternalFailureException", Maybe),
            Reason::Internal            => ("INTERNAL",             Code::Internal,           500, "InternalFailureException", Maybe),
            Reason::UnknownPath         => ("UNKNOWN_PATH",         Code::Unimplemented,      404, "ResourceNotFoundException", No),
            Reason::MethodNotAllowed    => ("METHOD_NOT_ALLOWED",   Code::Unimplemented,      405, "MethodNotAllowedException", No),
            Reason::UnsupportedEncoding => ("UNSUPPORTED_ENCODING", Code::InvalidArgument,    415, "UnsupportedDocumentEncodingException", No),
        };
        Row { name, grpc, http, exception, applied }
    }
}

impl Error {
    /// A field of the request that is wrong.
    pub fn invalid(
        field: impl Into<Cow<'static, str>>,
        reason: impl Into<Cow<'static, str>>,
    ) -> Error {
        Error::Invalid {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// The stable name of this kind of error.
    pub fn reason(&self) -> Reason {
        match self {
            Error::Invalid { .. } => Reason::InvalidArgument,
            Error::InvalidJson { .. } => Reason::InvalidJson,
            Error::InvalidNode { .. } => Reason::InvalidNode,
            Error::TooDeep { .. } => Reason::TooDeep,
            Error::NotFound => Reason::NotFound,
            Error::VersionConflict { .. } => Reason::VersionConflict,
            Error::ConditionFailed { .. } => Reason::ConditionFailed,
            Error::RequestIdReused => Reason::RequestIdReused,
            Error::TooLarge { .. } => Reason::TooLarge,
            Error::TooManyShadows { .. } => Reason::TooManyShadows,
            Error::Overloaded => Reason::Overloaded,
            Error::Unavailable(_) | Error::Refused(_) => Reason::Unavailable,
            Error::OutcomeUnknown => Reason::OutcomeUnknown,
            Error::Deadline => Reason::DeadlineExceeded,
            Error::Unauthenticated => Reason::Unauthenticated,
            Error::PermissionDenied => Reason::PermissionDenied,
            Error::Damaged => Reason::DataDamaged,
            Error::Internal(_) => Reason::Internal,
            Error::UnknownPath => Reason::UnknownPath,
            Error::MethodNotAllowed => Reason::MethodNotAllowed,
            Error::UnsupportedEncoding => Reason::UnsupportedEncoding,
        }
    }

    /// How this error looks at each door.
    pub fn row(&self) -> Row {
        self.reason().row()
    }

    /// What `google.rpc.ErrorInfo` carries besides the reason.
    pub fn metadata(&self) -> HashMap<String, String> {
        let entry = |key: &str, value: u64| (key.to_owned(), value.to_string());
        match self {
            Error::VersionConflict { current } => [entry("current_version", *current)].into(),
            Error::TooLarge { bytes, max, .. } => {
                [entry("bytes", *bytes), entry("bytes_max", *max)].into()
            }
            Error::TooDeep { max, .. } => [entry("depth_max", *max)].into(),
            Error::TooManyShadows { max } => [entry("shadows_max", *max)].into(),
            _ => HashMap::new(),
        }
    }

    /// The text an AWS client expects for this error. `shadow` is what a missing shadow is called.
    pub fn aws_message(&self, shadow: &str) -> Cow<'static, str> {
        match self {
            Error::Invalid { reason, .. } => reason.clone(),
            Error::InvalidJson { .. } => "Invalid JSON".into(),
            Error::InvalidNode { .. } => "State contains an invalid node".into(),
            // The limit is another one; the text is the one that clients know.
            Error::TooDeep { .. } => {
                "JSON contains too many levels of nesting; maximum is 6".into()
            }
            Error::NotFound => format!("No shadow exists with name: '{shadow}'").into(),
            Error::VersionConflict { .. } => "Version conflict".into(),
            Error::ConditionFailed { .. } => "Condition failed".into(),
            Error::RequestIdReused => "Request id was used for another request".into(),
            Error::TooLarge { .. } => "The payload exceeds the maximum size allowed".into(),
            Error::TooManyShadows { .. } => "Too many shadows for this thing".into(),
            Error::Overloaded => "Too many requests".into(),
            Error::Unavailable(_) | Error::Refused(_) => "Service unavailable".into(),
            Error::OutcomeUnknown | Error::Deadline | Error::Damaged | Error::Internal(_) => {
                "Internal service failure".into()
            }
            Error::Unauthenticated => "Unauthorized".into(),
            Error::PermissionDenied => "Forbidden".into(),
            Error::UnknownPath => "Not found".into(),
            Error::MethodNotAllowed => "Method not allowed".into(),
            Error::UnsupportedEncoding => {
                "Unsupported documented encoding; supported encoding is UTF-8".into()
            }
        }
    }

    /// The `google.rpc` details that go with the status.
    fn details(&self) -> ErrorDetails {
        let mut details = ErrorDetails::new();
        details.set_error_info(self.row().name, DOMAIN, self.metadata());
        match self {
            Error::Invalid { field, reason }
            | Error::InvalidJson { field, reason }
            | Error::InvalidNode { field, reason } => {
                details.add_bad_request_violation(field.clone(), reason.clone());
            }
            Error::TooDeep { field, max } => {
                let reason = format!("nested deeper than {max} levels");
                details.add_bad_request_violation(field.clone(), reason);
            }
            Error::Overloaded | Error::Unavailable(_) | Error::Refused(_) => {
                details.set_retry_info(Some(RETRY_DELAY));
            }
            _ => {}
        }
        details
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        Status::with_error_details(error.row().grpc, error.to_string(), error.details())
    }
}

/// A failure says whether anything may have happened; nothing of that is lost here.
impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            Failure::Overloaded => Error::Overloaded,
            Failure::NotLeader => Error::Unavailable("the shard has no leader here"),
            Failure::Unavailable(why) => Error::Unavailable(why),
            Failure::Unknown => Error::OutcomeUnknown,
            Failure::Deadline => Error::Deadline,
            Failure::Damaged => Error::Damaged,
        }
    }
}

/// A rejection changed nothing. Fields are named as gRPC callers know them.
impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Error {
        let text = rejection.to_string();
        match rejection {
            Rejection::VersionConflict { current } => Error::VersionConflict { current },
            Rejection::ConditionFailed { condition } => Error::ConditionFailed {
                condition: condition.to_string().into(),
            },
            Rejection::NotFound => Error::NotFound,
            Rejection::DocumentTooLarge { bytes, max } => Error::TooLarge {
                what: "document",
                bytes,
                max,
            },
            Rejection::TooDeep { max } => Error::TooDeep {
                field: "state".into(),
                max: u64::from(max),
            },
            Rejection::KeyTooLong { .. } | Rejection::ArrayNull => Error::InvalidNode {
                field: "state".into(),
                reason: text.into(),
            },
            Rejection::SectionNotObject { section } => {
                Error::invalid(format!("{section}_json"), "must be a JSON object or null")
            }
            Rejection::TooManyShadows { max } => Error::TooManyShadows {
                max: u64::from(max),
            },
            Rejection::ClientTokenTooLong { .. } => Error::invalid("client_token", text),
            Rejection::BatchSize { .. } => Error::invalid("requests", text),
            Rejection::TooManyConditions { .. } => Error::invalid("conditions.paths", text),
            Rejection::RequestIdReused => Error::RequestIdReused,
            // It may have been applied long ago: that is what the caller has to know.
            Rejection::RequestForgotten => Error::OutcomeUnknown,
            Rejection::UnknownRules { .. } => {
                Error::Unavailable("this node is older than the node that leads the shard")
            }
            Rejection::Undecodable => Error::Internal("the command cannot be read"),
            Rejection::Item { rejection, .. } => Error::from(*rejection),
        }
    }
}

#[cfg(test)]
mod tests;
