//! Sections in Redis and in memory. A cache may be empty, never wrong.
//!
//! Beside each value stands a fence: the version that a section must have at least, and a number
//! drawn when the fence was made. A write raises the fence and deletes the value. Who is about to
//! read the database notes the fence's number first, making the fence if there is none, and may fill
//! only while that number stands and the fence is not above the version read. So whatever Redis
//! loses (a flush, a restart, an eviction), a load that began before it fills nothing after it.
//!
//! In memory, entries are invalidated by Redis' own broadcast of changed fences. An entry counts only
//! if nothing was invalidated between the beginning of its fetch and its insertion.

mod batch;
mod connection;
mod memory;
mod shared;
mod token;

pub use batch::Batcher;
pub use connection::{Event, Listener};
pub use memory::{Entry, Mark, Memory};
pub use shared::{Begun, Life, Shared, Want};
pub use token::Token;
