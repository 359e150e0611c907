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
pub const QUERY_TOO_COMMON: Reason = reason(
    Code::FailedPrecondition,
    "QUERY_TOO_COMMON",
    "Each of these words is in too many names to search by; add a rarer one.",
);

pub const CONSTRAINTS: &[Constraint] =
    &[("profiles_pkey", CUSTOMER_EXISTS), ("external_ids_hash_key", EXTERNAL_ID_TAKEN)];
