//! Every way in which consent refuses.

use error::{Reason, reason::reason};
use store::Constraint;
use tonic::Code;

pub const PURPOSE_EXISTS: Reason =
    reason(Code::AlreadyExists, "PURPOSE_EXISTS", "A purpose with this id exists already.");
pub const PURPOSE_NOT_FOUND: Reason = reason(Code::NotFound, "PURPOSE_NOT_FOUND", "There is no such purpose.");
pub const NOTICE_NOT_FOUND: Reason =
    reason(Code::NotFound, "NOTICE_NOT_FOUND", "The purpose's notice has no such version.");

pub const CONSTRAINTS: &[Constraint] = &[
    ("purposes_pkey", PURPOSE_EXISTS),
    ("records_purpose_id_fkey", PURPOSE_NOT_FOUND),
    ("records_notice_fkey", NOTICE_NOT_FOUND),
];
