//! Every way in which the gateway itself refuses.

use error::{Reason, reason::reason};
use tonic::Code;

pub use error::reason::{
    CONSISTENCY_TOKEN_EXPIRED, CONSISTENCY_TOKEN_INVALID, CUSTOMER_ERASED, CUSTOMER_NOT_FOUND, DEADLINE_EXCEEDED,
    INTERNAL_ERROR, INVALID_FIELDS, RESUME_TOKEN_INVALID, SERVER_DRAINING, SERVICE_UNAVAILABLE, SLOW_CONSUMER,
};

pub const IDENTIFIER_SHARED: Reason =
    reason(Code::FailedPrecondition, "IDENTIFIER_SHARED", "Several customers have this identifier.");
