use access::Call;
use error::{Failure, reason};
use metrics::{METRICS, by};
use proto::keys::v1::DestroyKeysResponse;
use serde_json::json;
use uuid::Uuid;

use crate::{Change, Db, Fault, Result, Tx, sql, timestamp, uuid};

impl Db {
    /// Destroys a customer's keys in this service. What they sealed cannot be opened any more, here or in
    /// any copy of the database.
    pub async fn destroy_keys(&self, call: &Call, customer_id: &str) -> Result<DestroyKeysResponse> {
        let customer = uuid(customer_id)?;
        if customer.is_nil() {
            return Err(Failure::invalid("customer_id", "is nobody's").into());
        }
        self.journal().append(customer).await.map_err(|error| {
            tracing::error!(%error, "an erasure could not be written into the journal");
            Fault::from(reason::JOURNAL_UNAVAILABLE)
        })?;
        self.erase(call, customer).await
    }

    /// The same without a word in the journal, where it is already.
    pub(crate) async fn erase(&self, call: &Call, customer: Uuid) -> Result<DestroyKeysResponse> {
        let (version, destroyed) = self
            .transact(call, move |tx| {
                Box::pin(async move {
                    if let Some(version) = tx.mark_erased(customer).await? {
                        let change = Change {
                            customer_id: customer,
                            version,
                            resource: "customer",
                            kind: "customer.erased",
                            payload: json!({}),
                        };
                        tx.changes(vec![change]).await?;
                    }
                    tx.forget(customer).await?;
                    tx.keys_destroy(customer).await?;
                    let query = sqlx::query!("delete from requests where customer_id = $1", customer);
                    let replies = sql("delete requests", query.execute(tx.sql())).await?;
                    let query = sqlx::query!(
                        r#"
                    select (select count(*) from data_keys where owner_id = $1) as "keys!",
                           coalesce((select min(occurred_at) from changes
                                     where aggregateid = $1 and type = 'customer.erased'),
                                    (select max(destroyed_at) from data_keys where owner_id = $1)) as erased_at
                    "#,
                        customer
                    );
                    let erased = sql("select data_keys", query.fetch_one(tx.sql())).await?;
                    let destroyed = DestroyKeysResponse {
                        destroyed_key_count: erased.keys as i32,
                        deleted_reply_count: replies.rows_affected() as i32,
                        erase_time: erased.erased_at.map(timestamp),
                    };
                    Ok((tx.raised.get(&customer).copied(), destroyed))
                })
            })
            .await?;
        // Unlike another write it is told only once the caches were told too, if they can be reached.
        if let (Some(cache), Some(version)) = (self.cache(), version) {
            cache.raise(self.service(), self.epoch(), &[(customer, version)]).await;
        }
        METRICS.erasures.get_or_create_owned(&by(self.service())).inc();
        Ok(destroyed)
    }

    /// Fails if any of these customers was erased. Who reads by another id asks before opening anything:
    /// another process may have destroyed a key that is still open here.
    pub async fn refuse_erased(&self, customers: &[Uuid]) -> Result<()> {
        if self.erased(customers).await?.is_empty() { Ok(()) } else { Err(reason::CUSTOMER_ERASED.into()) }
    }

    /// Which of these customers were erased. It is asked behind a read: nobody comes back from erasure.
    pub async fn erased(&self, customers: &[Uuid]) -> Result<Vec<Uuid>> {
        let query = sqlx::query_scalar!(
            "select customer_id from customers where customer_id = any ($1) and state = 'erased'",
            customers
        );
        sql("select customers", query.fetch_all(self)).await
    }
}

impl Tx {
    /// Marks a customer as erased, with or without data here, and answers the version; `None` when it was.
    async fn mark_erased(&mut self, customer: Uuid) -> Result<Option<i64>> {
        let query = sqlx::query_scalar!(
            r#"
            insert into customers (customer_id, version, state) values ($1, 1, 'erased')
            on conflict (customer_id) do update set version = customers.version + 1, state = 'erased'
            where customers.state <> 'erased'
            returning version
            "#,
            customer
        );
        let version = sql("insert customers", query.fetch_optional(self.sql())).await?;
        self.raised.extend(version.map(|version| (customer, version)));
        Ok(version)
    }

    /// Removes what leads to the customer: nobody is found by an address that nobody can read any more.
    async fn forget(&mut self, customer: Uuid) -> Result<()> {
        for statement in self.db.0.forget {
            sql("delete", sqlx::query(*statement).bind(customer).execute(self.sql())).await?;
        }
        Ok(())
    }
}
