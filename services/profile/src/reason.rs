//! Every way in which profile refuses.

use error::{Reason, reason::reason};
use store::Constraint;
use tonic::Code;

pub use error::reason::{CUSTOMER_NOT_FOUND, ETAG_MISMATCH};

pub const CUSTOMER_EXISTS: Reason =
    reason(Code::AlreadyExists, "CUSTOMER_EXISTS", "A customer with this id exists already.");
pub const EXTERNAL_ID_TAKEN: Reason =
    reason(Code::AlreadyExists, "EXTERNAL_ID_TAKEN", "Another customer or this one has this external id already.");
pub const EXTERNAL_ID_NOT_FOUND: Reason =
    reason(Code::NotFound, "EXTERNAL_ID_NOT_FOUND", "The customer does not have this external id.");
pub const TOO_MANY_EXTERNAL_IDS: Reason =
    reason(Code::FailedPrecondition, "TOO_MANY_EXTERNAL_IDS", "A customer has at most 50 external ids.");
pub const TOO_MANY_FACTS: Reason =
    reason(Code::FailedPrecondition, "TOO_MANY_FACTS", "Of more than 200 things in this list something was said.");
pub const TOO_MANY_IDENTITY_CHECKS: Reason = reason(
    Code::ResourceExhausted,
    "TOO_MANY_IDENTITY_CHECKS",
    "A customer's identity may be checked with wrong answers five times in a quarter of an hour.",
);
pub const ATTRIBUTE_FIXED: Reason =
    reason(Code::FailedPrecondition, "ATTRIBUTE_FIXED", "An attribute's type and category never change.");
pub const TOO_MANY_ATTRIBUTES: Reason =
    reason(Code::FailedPrecondition, "TOO_MANY_ATTRIBUTES", "At most 500 attributes can be defined.");
pub const QUERY_TOO_COMMON: Reason = reason(
    Code::FailedPrecondition,
    "QUERY_TOO_COMMON",
    "Each of these words is in too many names to search by; add a rarer one.",
);

pub const CONSTRAINTS: &[Constraint] =
    &[("profiles_pkey", CUSTOMER_EXISTS), ("external_ids_hash_key", EXTERNAL_ID_TAKEN)];
