//! The change feed of one service, read from its outbox without a broker.
//!
//! A cursor is a Postgres snapshot: what it has not seen is `xid >= xmax or xid in xip`. A cursor
//! on `seq` would lose what a slow transaction commits behind it, and waiting for the oldest
//! transaction would stop while any is open anywhere in the cluster. `seq` only orders what one
//! snapshot added to another: it is drawn after the customer is locked, so it rises with the
//! customer's versions.

mod cursor;
mod fences;
mod follow;
mod page;
mod purge;
mod service;
mod snapshot;
mod tailer;
mod watch;

pub use follow::{begin_anew, follow, let_go};
pub use purge::purge;
pub use service::Feed;

/// A page of the feed has at most so many changes.
pub(crate) const PAGE: usize = 1000;
