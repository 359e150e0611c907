use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use error::{Failure, reason};
use serde::{Deserialize, Serialize};
use store::Db;
use uuid::Uuid;

use crate::snapshot::Snapshot;

const MAC: usize = 16;

/// How far a reader is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cursor {
    /// In the initial state, behind a customer; changes follow from the snapshot.
    State(Snapshot, Uuid),
    /// Behind all that a snapshot sees.
    Behind(Snapshot),
    /// Within a batch: what the second snapshot adds to the first, behind a `seq`.
    Within(Snapshot, Snapshot, i64),
}

impl Cursor {
    /// What was seen for certain.
    pub fn seen(&self) -> &Snapshot {
        match self {
            Cursor::State(seen, _) | Cursor::Behind(seen) | Cursor::Within(seen, ..) => seen,
        }
    }

    /// The cursor as a token of the life of the database in which it was read.
    pub fn token(&self, db: &Db, epoch: [u8; 8]) -> String {
        let body = serde_json::to_vec(&(epoch, self)).expect("snapshots and numbers are JSON");
        let mac = hmac::sign(db.resume_key(), &body);
        BASE64_URL_SAFE_NO_PAD.encode([&mac.as_ref()[..MAC], &body].concat())
    }

    /// Reads a token.
    pub fn of_token(token: &str, db: &Db) -> Result<Self, Failure> {
        let read = || {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
            let (mac, body) = bytes.split_at_checked(MAC)?;
            verify_slices_are_equal(&hmac::sign(db.resume_key(), body).as_ref()[..MAC], mac).ok()?;
            serde_json::from_slice::<([u8; 8], Cursor)>(body).ok()
        };
        let (epoch, cursor) = read().ok_or(reason::RESUME_TOKEN_INVALID)?;
        if epoch == db.epoch() { Ok(cursor) } else { Err(reason::RESUME_TOKEN_EXPIRED.into()) }
    }
}
