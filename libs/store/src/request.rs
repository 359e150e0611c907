use std::{collections::HashMap, time::Duration};

use error::Failure;
use prost::Message;
use uuid::Uuid;
use vault::Place;

use crate::{Db, Fault, Result, Tx, sql};

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
pub(crate) enum Known {
    /// Never answered: do the work, then keep the reply.
    Fresh,
    /// Answered before with these bytes.
    Replay(Vec<u8>),
    /// Used before with other content.
    Reused,
}

/// A reply, the key it answers, and the customer whose erasure deletes it.
pub(crate) type Answer = (Key, Vec<u8>, Option<Uuid>);

impl Db {
    /// The key of a request. The digest is keyed, so the stored one tells nobody what was asked.
    pub fn key(&self, method: &'static str, request_id: &str, request: &impl Message) -> Result<Key> {
        let request_id = Uuid::parse_str(request_id).map_err(|_| Failure::invalid("request_id", "must be a UUID"))?;
        let digest = self.vault().index("requests.digest", &request.encode_to_vec());
        Ok(Key { method, request_id, digest })
    }
}

impl Tx {
    /// What is known of requests to one method.
    pub(crate) async fn recall(&mut self, keys: &[Key]) -> Result<Vec<Known>> {
        let caller = self.call.caller.subject.to_string();
        let method = keys.first().map_or("", |key| key.method);
        let ids: Vec<Uuid> = keys.iter().map(|key| key.request_id).collect();
        let known = sql(
            "select requests",
            sqlx::query!(
                r#"
                select request_id, digest, reply as "reply!" from requests
                where caller = $1 and method = $2 and request_id = any ($3)
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
                None => Ok(Known::Fresh),
                Some(row) if row.digest != key.digest => Ok(Known::Reused),
                Some(row) => Ok(Known::Replay(self.keys().open(place(&caller, method, key.request_id), &row.reply)?)),
            })
            .collect()
    }

    /// Keeps the replies of requests to one method, sealed by their customers' keys, in ascending order of the ids,
    /// which must be distinct. It waits for a concurrent twin of any, and fails with `Answered` if one has committed.
    pub(crate) async fn keep(&mut self, answers: &[Answer]) -> Result<()> {
        let Some((Key { method, .. }, ..)) = answers.first() else { return Ok(()) };
        let caller = self.call.caller.subject.to_string();
        let (ids, digests): (Vec<Uuid>, Vec<Vec<u8>>) =
            answers.iter().map(|(key, ..)| (key.request_id, key.digest.to_vec())).unzip();
        let customers: Vec<Option<Uuid>> = answers.iter().map(|(.., customer)| *customer).collect();
        // What is about nobody is the service's own.
        let owners: Vec<Uuid> = customers.iter().map(|customer| customer.unwrap_or_default()).collect();
        self.own_held(&owners).await?;
        let seal = |((key, reply, _), owner): (&Answer, &Uuid)| {
            self.keys().seal(*owner, place(&caller, method, key.request_id), reply)
        };
        let sealed: Vec<Vec<u8>> = answers.iter().zip(&owners).map(seal).collect::<Result<_, _>>()?;
        let query = sqlx::query!(
            r#"
            insert into requests (caller, method, request_id, digest, reply, customer_id)
            select $1, $2, answer.* from unnest($3::uuid[], $4::bytea[], $5::bytea[], $6::uuid[])
            as answer (id, digest, reply, customer_id) order by id
            on conflict do nothing
            "#,
            caller,
            method,
            &ids,
            &digests,
            &sealed,
            &customers as &[Option<Uuid>]
        );
        let kept = sql("insert requests", query.execute(self.sql())).await?.rows_affected();
        if kept < answers.len() as u64 { Err(Fault::Answered) } else { Ok(()) }
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
