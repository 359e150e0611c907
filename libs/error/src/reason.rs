//! The reasons that any RPC may answer. Each is documented in `proto/clientele/type/v1/consistency.proto`.

use tonic::Code;

use crate::Reason;

/// Declares a reason; a function, so that each stays one line.
pub const fn reason(code: Code, name: &'static str, text: &'static str) -> Reason {
    Reason { code, name, text }
}

/// Some fields break a rule.
pub const INVALID_FIELDS: Reason = reason(Code::InvalidArgument, "INVALID_FIELDS", "Some fields are not valid.");
/// The bytes are no message of the method's type.
pub const MALFORMED_MESSAGE: Reason =
    reason(Code::InvalidArgument, "MALFORMED_MESSAGE", "The message could not be decoded.");
/// The message is above the limit of 4 MiB.
pub const MESSAGE_TOO_LARGE: Reason =
    reason(Code::ResourceExhausted, "MESSAGE_TOO_LARGE", "The message is larger than 4 MiB.");
/// The request id was used for another request.
pub const REQUEST_ID_REUSED: Reason =
    reason(Code::InvalidArgument, "REQUEST_ID_REUSED", "The request id was used with other content.");
/// There is no such customer.
pub const CUSTOMER_NOT_FOUND: Reason = reason(Code::NotFound, "CUSTOMER_NOT_FOUND", "There is no such customer.");
/// The customer was erased: what identified a person cannot be read any more, by anyone.
pub const CUSTOMER_ERASED: Reason = reason(Code::FailedPrecondition, "CUSTOMER_ERASED", "The customer was erased.");
/// The erasure journal cannot be written, so nothing was erased yet.
pub const JOURNAL_UNAVAILABLE: Reason = reason(
    Code::Unavailable,
    "JOURNAL_UNAVAILABLE",
    "The erasure journal cannot be written; nothing was erased yet. Ask again.",
);
/// The resource is not in the state that the caller has seen.
pub const ETAG_MISMATCH: Reason = reason(Code::Aborted, "ETAG_MISMATCH", "The resource has changed since it was read.");
/// The page token is not one of ours for this listing.
pub const PAGE_TOKEN_INVALID: Reason =
    reason(Code::InvalidArgument, "PAGE_TOKEN_INVALID", "The page token does not belong to this listing.");
/// The consistency token is not one of ours.
pub const CONSISTENCY_TOKEN_INVALID: Reason = reason(
    Code::InvalidArgument,
    "CONSISTENCY_TOKEN_INVALID",
    "A consistency token is not one of this installation's.",
);
/// The write that a token names is not in this database, which was restored.
pub const CONSISTENCY_TOKEN_EXPIRED: Reason = reason(
    Code::OutOfRange,
    "CONSISTENCY_TOKEN_EXPIRED",
    "The write that a consistency token names is not in this database.",
);
/// The resume token is not one of this feed's.
pub const RESUME_TOKEN_INVALID: Reason =
    reason(Code::InvalidArgument, "RESUME_TOKEN_INVALID", "The resume token does not belong to this feed.");
/// What follows the resume token is not here any more.
pub const RESUME_TOKEN_EXPIRED: Reason = reason(
    Code::OutOfRange,
    "RESUME_TOKEN_EXPIRED",
    "Changes behind the resume token are gone, or the database was restored; begin with the initial state.",
);
/// The reader of a stream does not keep up.
pub const SLOW_CONSUMER: Reason =
    reason(Code::Aborted, "SLOW_CONSUMER", "A message was not taken for a minute; go on from its token.");

/// No credentials came with the call.
pub const CREDENTIALS_MISSING: Reason =
    reason(Code::Unauthenticated, "CREDENTIALS_MISSING", "The call carries no bearer token.");
/// The credentials do not hold.
pub const CREDENTIALS_INVALID: Reason =
    reason(Code::Unauthenticated, "CREDENTIALS_INVALID", "The bearer token is not valid here.");
/// The call declares no purpose.
pub const PURPOSE_MISSING: Reason =
    reason(Code::InvalidArgument, "PURPOSE_MISSING", "The metadata clientele-purpose is missing.");
/// The declared purpose does not exist.
pub const PURPOSE_UNKNOWN: Reason =
    reason(Code::InvalidArgument, "PURPOSE_UNKNOWN", "The declared purpose does not exist.");
/// The caller's token does not allow the declared purpose.
pub const PURPOSE_NOT_ALLOWED: Reason =
    reason(Code::PermissionDenied, "PURPOSE_NOT_ALLOWED", "The caller's token does not allow the declared purpose.");

/// The `grpc-timeout` could not be read.
pub const MALFORMED_DEADLINE: Reason =
    reason(Code::InvalidArgument, "MALFORMED_DEADLINE", "The metadata grpc-timeout could not be read.");
/// The caller's deadline passed.
pub const DEADLINE_EXCEEDED: Reason =
    reason(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "The deadline passed before there was an answer.");
/// There is no such method here.
pub const METHOD_NOT_FOUND: Reason = reason(Code::Unimplemented, "METHOD_NOT_FOUND", "There is no such method here.");
/// The message is compressed in a way that is not understood here.
pub const ENCODING_UNSUPPORTED: Reason =
    reason(Code::Unimplemented, "ENCODING_UNSUPPORTED", "The message's compression is not understood here.");
/// Too many calls are in flight.
pub const OVERLOADED: Reason = reason(Code::ResourceExhausted, "OVERLOADED", "Too many calls are in flight.");
/// The caller has used up its calls of this second.
pub const QUOTA_EXCEEDED: Reason =
    reason(Code::ResourceExhausted, "QUOTA_EXCEEDED", "The caller calls more often than it may.");
/// The process that told a stream ends; another one goes on.
pub const SERVER_DRAINING: Reason =
    reason(Code::Unavailable, "SERVER_DRAINING", "This process ends; go on elsewhere from the last token.");
/// No database connection became free in time.
pub const DATABASE_BUSY: Reason =
    reason(Code::Unavailable, "DATABASE_BUSY", "No database connection became free in time.");
/// The database cannot be reached.
pub const DATABASE_UNAVAILABLE: Reason =
    reason(Code::Unavailable, "DATABASE_UNAVAILABLE", "The database cannot be reached.");
/// A service that the call needs cannot be reached.
pub const SERVICE_UNAVAILABLE: Reason =
    reason(Code::Unavailable, "SERVICE_UNAVAILABLE", "A service that the call needs cannot be reached.");
/// Two writes met twice in a row.
pub const WRITE_CONFLICT: Reason =
    reason(Code::Aborted, "WRITE_CONFLICT", "The write met another one and has no effect; send it again.");
/// A stored value does not open under the key ring.
pub const SEALED_VALUE_UNREADABLE: Reason =
    reason(Code::DataLoss, "SEALED_VALUE_UNREADABLE", "A stored value could not be opened.");
/// A fault of ours; the log knows more, the caller does not.
pub const INTERNAL_ERROR: Reason = reason(Code::Internal, "INTERNAL_ERROR", "Something went wrong here.");
