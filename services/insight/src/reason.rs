//! Every way in which insight refuses.

use error::{Reason, reason::reason};
use tonic::Code;

pub use error::reason::INTERNAL_ERROR;

pub const CONSENT_MISSING: Reason =
    reason(Code::FailedPrecondition, "CONSENT_MISSING", "The customer has not allowed this purpose.");
pub const HOLIDAYS_NOT_CONFIGURED: Reason =
    reason(Code::FailedPrecondition, "HOLIDAYS_NOT_CONFIGURED", "No calendar says which days are holidays.");
pub const ITEM_NOT_FOUND: Reason = reason(Code::NotFound, "ITEM_NOT_FOUND", "Nobody bought such an item.");
pub const NOT_COUNTED_YET: Reason =
    reason(Code::Unavailable, "NOT_COUNTED_YET", "The baskets are still being counted for the first time.");
pub const NO_MODEL: Reason = reason(
    Code::FailedPrecondition,
    "NO_MODEL",
    "The purchases have no most likely model: too few customers came back, or all are alike.",
);
pub const MODEL_NOT_FOUND: Reason =
    reason(Code::NotFound, "MODEL_NOT_FOUND", "No model was fitted for this currency until this day.");
pub const TOO_FEW_CUSTOMERS: Reason = reason(
    Code::FailedPrecondition,
    "TOO_FEW_CUSTOMERS",
    "So few customers were counted that nothing can be told of them without telling of each.",
);
