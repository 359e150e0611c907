//! Every way in which interaction refuses.

use error::{Reason, reason::reason};
use store::Constraint;
use tonic::Code;

pub use error::reason::INTERNAL_ERROR;

pub const INTERACTION_NOT_FOUND: Reason =
    reason(Code::NotFound, "INTERACTION_NOT_FOUND", "There is no such interaction.");
pub const VISITOR_LINKED: Reason =
    reason(Code::FailedPrecondition, "VISITOR_LINKED", "The visitor is linked to another customer.");
pub const CASE_NOT_FOUND: Reason = reason(Code::NotFound, "CASE_NOT_FOUND", "There is no such case.");
pub const CASE_CLOSED: Reason = reason(Code::FailedPrecondition, "CASE_CLOSED", "The case is closed already.");

pub const CONSTRAINTS: &[Constraint] = &[];
