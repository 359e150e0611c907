//! Every way in which loyalty refuses.

use error::{Reason, reason::reason};
use store::Constraint;
use tonic::Code;

pub const PROGRAMME_EXISTS: Reason =
    reason(Code::AlreadyExists, "PROGRAMME_EXISTS", "A programme with this id exists already.");
pub const PROGRAMME_NOT_FOUND: Reason = reason(Code::NotFound, "PROGRAMME_NOT_FOUND", "There is no such programme.");
pub const ALREADY_ENROLLED: Reason =
    reason(Code::AlreadyExists, "ALREADY_ENROLLED", "The customer is a member of this programme already.");
pub const MEMBER_NOT_FOUND: Reason = reason(Code::NotFound, "MEMBER_NOT_FOUND", "There is no such member.");
pub const TRANSACTION_NOT_FOUND: Reason =
    reason(Code::NotFound, "TRANSACTION_NOT_FOUND", "There is no such transaction.");
pub const INSUFFICIENT_POINTS: Reason =
    reason(Code::FailedPrecondition, "INSUFFICIENT_POINTS", "The member does not have these points any more.");
pub const BALANCE_LIMIT_EXCEEDED: Reason =
    reason(Code::FailedPrecondition, "BALANCE_LIMIT_EXCEEDED", "A member holds at most 1,000,000,000,000 points.");
pub const ALREADY_REVERSED: Reason =
    reason(Code::FailedPrecondition, "ALREADY_REVERSED", "The transaction has been reversed already.");
pub const NOT_REVERSIBLE: Reason =
    reason(Code::FailedPrecondition, "NOT_REVERSIBLE", "Only accruals and redemptions can be reversed.");

pub const CONSTRAINTS: &[Constraint] = &[
    ("programmes_pkey", PROGRAMME_EXISTS),
    ("members_programme_id_fkey", PROGRAMME_NOT_FOUND),
    ("members_customer_programme_key", ALREADY_ENROLLED),
    ("members_balance_check", INSUFFICIENT_POINTS),
    ("members_balance_limit_check", BALANCE_LIMIT_EXCEEDED),
    ("lots_remaining_check", INSUFFICIENT_POINTS),
    ("transactions_reverses_id_key", ALREADY_REVERSED),
];
