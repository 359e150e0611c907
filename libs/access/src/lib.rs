//! Who calls, what for, and how they prove it. Callers from outside bring a JWT to the gateway;
//! inside, processes prove themselves to each other with a short-lived signed token.

mod call;
mod deadline;
mod external;
mod internal;

pub use call::{Call, Caller, PURPOSE_HEADER, PURPOSES, Purpose};
pub use deadline::{TIMEOUT_HEADER, timeout, timeout_value};
pub use external::{Authority, Jwks};
pub use internal::{INTERNAL_AUDIENCE, InternalKey};
