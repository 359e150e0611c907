//! Every way in which order-history refuses.

use error::{Reason, reason::reason};
use store::Constraint;
use tonic::Code;

pub use error::reason::WRITE_CONFLICT;

pub const ORDER_NOT_FOUND: Reason = reason(Code::NotFound, "ORDER_NOT_FOUND", "There is no such order.");
pub const ORDER_LINE_NOT_FOUND: Reason =
    reason(Code::NotFound, "ORDER_LINE_NOT_FOUND", "The order has no line with this number.");
pub const ORDER_OF_ANOTHER_CUSTOMER: Reason = reason(
    Code::FailedPrecondition,
    "ORDER_OF_ANOTHER_CUSTOMER",
    "The order with this number belongs to another customer.",
);
pub const RETURNED_LINE_CHANGED: Reason = reason(
    Code::FailedPrecondition,
    "RETURNED_LINE_CHANGED",
    "The revision takes away what was already returned or refunded.",
);
pub const RETURN_EXCEEDS_ORDER: Reason =
    reason(Code::FailedPrecondition, "RETURN_EXCEEDS_ORDER", "More would be returned or refunded than was ordered.");

/// A return and a revision break the same limits; the revision renames them to what it did.
pub const CONSTRAINTS: &[Constraint] = &[
    ("orders_refunded_check", RETURN_EXCEEDS_ORDER),
    ("order_lines_returned_check", RETURN_EXCEEDS_ORDER),
    ("return_lines_line_fkey", RETURNED_LINE_CHANGED),
];
