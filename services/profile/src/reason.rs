//! Every way in which profile refuses.

use error::{Reason, reason::reason};
use store::Constraint;
use tonic::Code;

pub use error::reason::{CUSTOMER_NOT_FOUND, ETAG_MISMATCH, INTERNAL_ERROR};

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
pub const PROFILE_TOO_LARGE: Reason =
    reason(Code::FailedPrecondition, "PROFILE_TOO_LARGE", "All that is said of a customer takes more than 32 KiB.");
pub const TOO_MANY_IDENTITY_CHECKS: Reason = reason(
    Code::ResourceExhausted,
    "TOO_MANY_IDENTITY_CHECKS",
    "A customer's identity may be checked with wrong answers five times in a quarter of an hour.",
);
pub const ACCOUNT_NOT_FOUND: Reason = reason(Code::NotFound, "ACCOUNT_NOT_FOUND", "The customer has no account.");
pub const ACCOUNT_NAME_TAKEN: Reason = reason(
    Code::AlreadyExists,
    "ACCOUNT_NAME_TAKEN",
    "The user name or a federated subject leads to another customer's account.",
);
pub const ACCOUNT_LOCKED: Reason =
    reason(Code::ResourceExhausted, "ACCOUNT_LOCKED", "There were too many wrong passwords; none is looked at now.");
pub const PASSWORD_NOT_SET: Reason =
    reason(Code::FailedPrecondition, "PASSWORD_NOT_SET", "The account has no password.");
pub const TOO_MANY_DEVICES: Reason =
    reason(Code::FailedPrecondition, "TOO_MANY_DEVICES", "A customer has at most 100 devices.");
pub const IN_ANOTHER_HOUSEHOLD: Reason =
    reason(Code::FailedPrecondition, "IN_ANOTHER_HOUSEHOLD", "The customer is in another household; leave it first.");
pub const NOT_IN_HOUSEHOLD: Reason =
    reason(Code::FailedPrecondition, "NOT_IN_HOUSEHOLD", "The customer is in no household.");
pub const HOUSEHOLD_FULL: Reason =
    reason(Code::FailedPrecondition, "HOUSEHOLD_FULL", "A household has at most 30 members.");
pub const TOO_MANY_RELATIONS: Reason =
    reason(Code::FailedPrecondition, "TOO_MANY_RELATIONS", "A customer has at most 5000 relations.");
pub const ATTRIBUTE_FIXED: Reason =
    reason(Code::FailedPrecondition, "ATTRIBUTE_FIXED", "An attribute's type and category never change.");
pub const TOO_MANY_ATTRIBUTES: Reason =
    reason(Code::FailedPrecondition, "TOO_MANY_ATTRIBUTES", "At most 500 attributes can be defined.");
pub const QUERY_TOO_COMMON: Reason = reason(
    Code::FailedPrecondition,
    "QUERY_TOO_COMMON",
    "Each of these words is in too many names to search by; add a rarer one.",
);

pub const CONSTRAINTS: &[Constraint] = &[
    ("profiles_pkey", CUSTOMER_EXISTS),
    ("external_ids_hash_key", EXTERNAL_ID_TAKEN),
    ("account_names_pkey", ACCOUNT_NAME_TAKEN),
];
