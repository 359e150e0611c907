//! Reading values over the whole base, and writing down what divides it.

use std::collections::BTreeMap;

use access::Call;
use chrono::NaiveDate;
use store::{Result, sql};
use uuid::Uuid;

use super::{
    Store, purchases,
    row::{Base, Value},
};

/// So many customers are read at once.
const PAGE: i64 = 5000;
/// So many customers move in one transaction.
const MOVED: usize = 500;

impl Store {
    /// The values of some customers by the scores that are kept.
    pub async fn values(&self, customers: &[Uuid]) -> Result<Vec<Value>> {
        let query = sqlx::query_as!(
            Value,
            "select * from insight.customer_values where customer_id = any ($1) order by customer_id, currency",
            customers
        );
        sql("select insight.customer_values", query.fetch_all(&self.db)).await
    }

    /// The next customers behind one.
    pub async fn customers(&self, after: Uuid) -> Result<Vec<Uuid>> {
        let query = sqlx::query_scalar!(
            "select customer_id from insight.customers where customer_id > $1 order by customer_id limit $2",
            after,
            PAGE
        );
        sql("select customers", query.fetch_all(&self.db)).await
    }

    /// Everybody's values: as they are kept, or counted until the evening of a day.
    pub async fn all_values(&self, until: Option<NaiveDate>) -> Result<Vec<Value>> {
        let (mut all, mut after) = (Vec::new(), Uuid::nil());
        loop {
            let page = self.customers(after).await?;
            let Some(last) = page.last() else { return Ok(all) };
            after = *last;
            all.extend(match until {
                None => self.values(&page).await?,
                Some(_) => Value::count(&page, until, &self.db).await?,
            });
        }
    }

    /// The newest change of what somebody bought or is worth; 0 when there is none.
    pub async fn newest(&self) -> Result<i64> {
        let query = sqlx::query_scalar!(
            r#"select coalesce(max(seq), 0) as "seq!" from insight.changes where type = 'value.counted'"#
        );
        sql("select changes", query.fetch_one(&self.db)).await
    }

    /// Whether anything has changed since the last recount, and up to what.
    pub async fn news(&self) -> Result<Option<i64>> {
        let newest = self.newest().await?;
        let query = sqlx::query_scalar!("select seq from insight.recounts");
        let counted = sql("select insight.recounts", query.fetch_one(&self.db)).await?;
        Ok((newest > counted).then_some(newest))
    }

    /// Counts the edges anew, and moves the customers whose scores are others by them. Answers how many have moved.
    pub async fn recount(&self, call: &Call, seq: i64) -> Result<usize> {
        let values = self.all_values(None).await?;
        let bases = Base::by_currency(&values);
        let written = bases.clone();
        self.db
            .transact(&call.renewed(), move |tx| {
                let bases = written.clone();
                Box::pin(async move {
                    let query = sqlx::query!("update insight.recounts set seq = $1", seq);
                    sql("update insight.recounts", query.execute(tx.sql())).await?;
                    let currencies: Vec<String> = bases.keys().cloned().collect();
                    let query = sqlx::query!("delete from insight.edges where currency <> all ($1)", &currencies);
                    sql("delete insight.edges", query.execute(tx.sql())).await?;
                    for (currency, base) in &bases {
                        let query = sqlx::query!(
                            r#"
                            insert into insight.edges (currency, recency, frequency, monetary, customer_count)
                            values ($1, $2, $3, $4, $5)
                            on conflict (currency) do update set
                                recency = excluded.recency, frequency = excluded.frequency,
                                monetary = excluded.monetary, customer_count = excluded.customer_count,
                                counted_at = excluded.counted_at
                            "#,
                            currency,
                            &base.recency,
                            &base.frequency,
                            &base.monetary,
                            base.customer_count
                        );
                        sql("insert insight.edges", query.execute(tx.sql())).await?;
                    }
                    Ok(())
                })
            })
            .await?;
        let moves = |value: &Value| value.clone().scored(&bases[&value.currency]) != *value;
        let mut moved: Vec<Uuid> = values.iter().filter(|value| moves(value)).map(|value| value.customer_id).collect();
        moved.dedup();
        for part in moved.chunks(MOVED) {
            self.refresh(call, part).await?;
        }
        Ok(moved.len())
    }

    /// Scores customers anew, as far as they were not erased meanwhile.
    async fn refresh(&self, call: &Call, customers: &[Uuid]) -> Result<()> {
        let erased = self.db.erased(customers).await?;
        let counts: BTreeMap<Uuid, i64> =
            customers.iter().filter(|customer| !erased.contains(customer)).map(|customer| (*customer, 1)).collect();
        self.db
            .transact(&call.renewed(), move |tx| {
                let counts = counts.clone();
                Box::pin(async move {
                    let versions = tx.raise_unsealed(&counts).await?;
                    let customers: Vec<Uuid> = counts.into_keys().collect();
                    purchases::refresh(tx, &customers, &versions).await
                })
            })
            .await
    }
}
