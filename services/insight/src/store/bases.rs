//! The base as it was counted last.

use std::collections::BTreeMap;

use access::Call;
use chrono::{DateTime, Utc};
use store::{Result, sql};

use super::Store;

/// All customers by dimension and value, and when they were counted.
pub struct Counted {
    pub customer_count: i64,
    pub counted_at: DateTime<Utc>,
    pub counts: BTreeMap<String, BTreeMap<String, i64>>,
}

impl Store {
    /// Counts the base anew when so many customers came, went or changed. Answers whether it did.
    pub async fn base_count(&self, call: &Call, k: i64) -> Result<bool> {
        self.db
            .transact(&call.renewed(), move |tx| {
                Box::pin(async move {
                    let query = sqlx::query!("lock table insight.bases in exclusive mode");
                    sql("lock insight.bases", query.execute(tx.sql())).await?;
                    let query = sqlx::query_scalar!(
                        r#"select count(distinct customer_id) as "count!" from insight.base_changes"#
                    );
                    if sql("select insight.base_changes", query.fetch_one(tx.sql())).await? < k {
                        return Ok(false);
                    }
                    let query = sqlx::query!("delete from insight.base_counts");
                    sql("delete insight.base_counts", query.execute(tx.sql())).await?;
                    // One statement sees one moment: what is counted, and what it was counted for.
                    let query = sqlx::query!(
                        r#"
                        with seen as (delete from insight.base_changes),
                        base as (
                            insert into insight.bases (customer_count)
                            select count(*) from insight.customers where state = 'live'
                            on conflict (singleton) do update set
                                customer_count = excluded.customer_count, counted_at = clock_timestamp()
                        )
                        insert into insight.base_counts (dimension, value, customer_count)
                        select dimension, value, count(*) from insight.traits group by dimension, value
                        "#
                    );
                    sql("insert insight.base_counts", query.execute(tx.sql())).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// The last count; none until there was one.
    pub async fn base(&self) -> Result<Option<Counted>> {
        let query = sqlx::query!(
            r#"
            select b.customer_count as total, b.counted_at, c.dimension as "dimension?", c.value as "value?",
                   c.customer_count as "count?"
            from insight.bases b left join insight.base_counts c on true
            "#
        );
        let rows = sql("select insight.bases", query.fetch_all(self.db.pool())).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let (customer_count, counted_at) = (first.total, first.counted_at);
        let mut counts: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
        for row in rows {
            let (Some(dimension), Some(value), Some(count)) = (row.dimension, row.value, row.count) else { continue };
            counts.entry(dimension).or_default().insert(value, count);
        }
        Ok(Some(Counted { customer_count, counted_at, counts }))
    }
}
