//! Sections in Redis and in memory. A cache may be empty, never wrong.
//!
//! Beside each value stands a fence, the version that a section must have at least, and while somebody
//! reads the database a note, which is a number drawn for it. A write raises the fence and deletes value
//! and note. Who is about to read the database looks at the note first, making one if there is none, and
//! may fill only while it stands and the fence is not above the version read. So whatever Redis loses
//! (a flush, a restart, an eviction), a load that began before it fills nothing after it.
//!
//! In memory, entries are invalidated by Redis' own broadcast of changed fences. An entry counts only
//! if nothing was invalidated between the beginning of its fetch and its insertion.

mod batch;
mod connection;
mod memory;
mod nodes;
mod shared;
mod token;

pub use batch::Batcher;
pub use connection::{Event, Listener};
pub use memory::{Entry, Held, Mark, Memory};
pub use shared::{Begun, Life, Shared, Want};
pub use token::Token;
