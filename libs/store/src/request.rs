use std::{collections::HashMap, time::Duration};

use error::Failure;
use prost::Message;
use uuid::Uuid;
use vault::Place;

use crate::{Db, Result, Tx, sql};

/// Replies are kept for eight days, a day more than is promised.
const KEPT: &str = "8 days";
/// So many are deleted by one statement.
const PURGED_AT_ONCE: u64 = 10_000;

/// What makes a write repeatable: the method, the caller's id for the request, and what it said.
#[derive(Clone, Copy)]
pub struct Key {
    pub(crate) method: &'static str,
    pub(crate) request_id: Uuid,
    digest: [u8; 32],
}

impl Key {
    /// The caller's id for the request.
    pub fn request_id(&self) -> Uuid {
        self.request_id
    }
}

/// What is known of a request id.
pub enum Claim {
    /// Never seen: do the work, then settle.
    Fresh,
    /// Answered before with these bytes.
    Replay(Vec<u8>),
    /// Used before with other content.
    Reused,
}

impl Db {
    /// The key of a request. The digest is keyed, so the stored one tells nobody what was asked.
    pub fn key(&self, method: &'static str, request_id: &str, request: &impl Message) -> Result<Key> {
        let request_id = Uuid::parse_str(request_id).map_err(|_| Failure::invalid("request_id", "must be a UUID"))?;
        let digest = self.vault().index("requests.digest", &request.encode_to_vec());
        Ok(Key { method, request_id, digest })
    }
}

impl Tx {
    /// Claims request ids, in ascending order, and waits for a concurrent twin of any. The ids
    /// must be distinct.
    pub async fn claim(&mut self, method: &'static str, keys: &[Key]) -> Result<Vec<Claim>> {
        let caller = self.call.caller.subject.to_string();
        let ids: Vec<Uuid> = keys.iter().map(|key| key.request_id).collect();
        let digests: Vec<Vec<u8>> = keys.iter().map(|key| key.digest.to_vec()).collect();
        let fresh = sql(
            "insert requests",
            sqlx::query_scalar!(
                r#"
                insert into requests (caller, method, request_id, digest)
                select $1, $2, id, digest from unnest($3::uuid[], $4::bytea[]) as request (id, digest) order by id
                on conflict do nothing
                returning request_id
                "#,
                caller,
                method,
                &ids,
                &digests
            )
            .fetch_all(self.sql()),
        )
        .await?;
        if fresh.len() == keys.len() {
            return Ok(keys.iter().map(|_| Claim::Fresh).collect());
        }
        let known = sql(
            "select requests",
            sqlx::query!(
                r#"
                select request_id, digest, reply as "reply!" from requests
                where caller = $1 and method = $2 and request_id = any ($3) and reply is not null
                "#,
                caller,
                method,
                &ids
            )
            .fetch_all(self.sql()),
        )
        .await?;
        self.unlock(known.iter().map(|row| row.reply.as_slice())).await?;
        let mut known: HashMap<Uuid, _> = known.into_iter().map(|row| (row.request_id, row)).collect();
        keys.iter()
            .map(|key| match known.remove(&key.request_id) {
                None => Ok(Claim::Fresh),
                Some(row) if row.digest != key.digest => Ok(Claim::Reused),
                Some(row) => Ok(Claim::Replay(self.keys().open(place(&caller, method, key.request_id), &row.reply)?)),
            })
            .collect()
    }

    /// Stores the replies of claimed requests, sealed by their customer's key.
    pub async fn settle(&mut self, method: &'static str, replies: &[(Uuid, Vec<u8>, Option<Uuid>)]) -> Result<()> {
        let caller = self.call.caller.subject.to_string();
        let ids: Vec<Uuid> = replies.iter().map(|(id, ..)| *id).collect();
        // What is about nobody is the service's own.
        let owners: Vec<Uuid> = replies.iter().map(|(.., customer)| customer.unwrap_or_default()).collect();
        self.own_held(&owners).await?;
        let seal = |((id, reply, _), owner): (&(Uuid, Vec<u8>, _), &Uuid)| {
            self.keys().seal(*owner, place(&caller, method, *id), reply)
        };
        let sealed: Vec<Vec<u8>> = replies.iter().zip(&owners).map(seal).collect::<Result<_, _>>()?;
        let customers: Vec<Option<Uuid>> = replies.iter().map(|(.., customer)| *customer).collect();
        // Not a join with `unnest`: on a young table without statistics Postgres would begin it with all
        // of the caller's requests.
        sql(
            "update requests",
            sqlx::query!(
                r#"
                update requests
                set reply = ($4::bytea[])[array_position($3::uuid[], request_id)],
                    customer_id = ($5::uuid[])[array_position($3::uuid[], request_id)]
                where request_id = any ($3) and method = $2 and caller = $1
                "#,
                caller,
                method,
                &ids,
                &sealed,
                &customers as &[Option<Uuid>]
            )
            .execute(self.sql()),
        )
        .await?;
        Ok(())
    }
}

/// Deletes old replies, a little at a time, for as long as the process runs.
pub(crate) async fn purge(db: Db) {
    let mut hourly = tokio::time::interval(Duration::from_secs(3600));
    while !db.pool().is_closed() {
        hourly.tick().await;
        let mut left = true;
        while left {
            let purged = sqlx::query!(
                r#"
                delete from requests where ctid in
                (select ctid from requests where created_at < now() - $1::text::interval limit $2)
                "#,
                KEPT,
                PURGED_AT_ONCE as i64
            )
            .execute(db.pool())
            .await;
            left = purged.as_ref().is_ok_and(|purged| purged.rows_affected() == PURGED_AT_ONCE);
            if let Err(error) = purged {
                let code = error.as_database_error().and_then(|e| e.code());
                tracing::warn!(kind = ?code, "old replies could not be purged");
            }
        }
    }
}

/// The same id may be another caller's, or the same one's for another method.
fn place(caller: &str, method: &str, request_id: Uuid) -> Place {
    let row = Uuid::new_v5(&request_id, format!("{method} {caller}").as_bytes());
    Place { table: "requests", column: "reply", row }
}
