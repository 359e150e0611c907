//! Every way in which contact refuses.

use error::{Reason, reason::reason};
use store::Constraint;
use tonic::Code;

pub use error::reason::{ETAG_MISMATCH, INTERNAL_ERROR};

pub const CONTACT_POINT_NOT_FOUND: Reason =
    reason(Code::NotFound, "CONTACT_POINT_NOT_FOUND", "There is no such contact point.");
pub const CONTACT_POINT_EXISTS: Reason =
    reason(Code::AlreadyExists, "CONTACT_POINT_EXISTS", "The customer has this contact point already.");
pub const CONTACT_POINT_KIND_FIXED: Reason =
    reason(Code::FailedPrecondition, "CONTACT_POINT_KIND_FIXED", "The kind of a contact point cannot change.");
pub const TOO_MANY_CONTACT_POINTS: Reason =
    reason(Code::FailedPrecondition, "TOO_MANY_CONTACT_POINTS", "A customer has at most 100 contact points.");
pub const VERIFICATION_NOT_FOUND: Reason =
    reason(Code::NotFound, "VERIFICATION_NOT_FOUND", "There is no such verification, or it is over for an hour.");
pub const TOO_MANY_VERIFICATIONS: Reason = reason(
    Code::ResourceExhausted,
    "TOO_MANY_VERIFICATIONS",
    "A contact point is verified at most five times an hour, a customer's twenty times.",
);

pub const CONSTRAINTS: &[Constraint] = &[("contact_points_value_key", CONTACT_POINT_EXISTS)];
