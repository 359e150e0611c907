//! The base as it is told, which follows what is known in steps of enough customers at once.

use std::collections::{BTreeMap, HashSet};

use access::Call;
use chrono::{DateTime, Utc};
use store::{Result, Tx, sql};
use uuid::Uuid;

use super::Store;

/// So many customers are looked at in one step.
const STEP: i64 = 50_000;

/// All customers by dimension and value, and when they were counted.
pub struct Counted {
    pub customer_count: i64,
    pub counted_at: DateTime<Utc>,
    pub counts: BTreeMap<String, BTreeMap<String, i64>>,
}

impl Store {
    /// Takes over what differs from what is told: who came and went when those are at least so many, and what changed in a dimension
    /// when it did of at least so many. The rest waits for more.
    pub async fn base_count(&self, call: &Call, k: i64) -> Result<()> {
        self.db
            .transact(&call.renewed(), move |tx| {
                Box::pin(async move {
                    let query = sqlx::query!("lock table insight.bases in exclusive mode");
                    sql("lock insight.bases", query.execute(tx.sql())).await?;
                    let query = sqlx::query!(
                        r#"
                        select customer_id, max(seq) as "seq!" from insight.base_changes group by customer_id
                        order by max(seq) limit $1
                        "#,
                        STEP
                    );
                    let seen = sql("select insight.base_changes", query.fetch_all(tx.sql())).await?;
                    let (ids, seqs): (Vec<Uuid>, Vec<i64>) =
                        seen.into_iter().map(|row| (row.customer_id, row.seq)).unzip();
                    if ids.is_empty() {
                        return Ok(());
                    }
                    let (moved, waiting) = come_and_gone(tx, &ids, k).await?;
                    let changed = changed(tx, &ids).await?;
                    let due = changed.iter().filter(|(_, of)| of.len() as i64 >= k).map(|(name, _)| name.clone());
                    let due: Vec<String> = due.collect();
                    take_over(tx, &ids, &due).await?;
                    if moved || !due.is_empty() {
                        sum_up(tx).await?;
                    }
                    let waits = changed.into_iter().filter(|(name, _)| !due.contains(name)).flat_map(|(_, of)| of);
                    let waiting: HashSet<Uuid> = waiting.into_iter().chain(waits).collect();
                    forget(tx, &ids, &seqs, &waiting).await
                })
            })
            .await
    }

    /// What is told; none until enough customers were there.
    pub async fn base(&self) -> Result<Option<Counted>> {
        let query = sqlx::query!(
            r#"
            select b.customer_count as total, b.counted_at, c.dimension as "dimension?", c.value as "value?",
                   c.customer_count as "count?"
            from insight.bases b left join insight.base_counts c on true
            "#
        );
        let rows = sql("select insight.bases", query.fetch_all(&self.db)).await?;
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

/// Takes over who came and went, if they are enough. Answers whether they were, and else those who wait.
async fn come_and_gone(tx: &mut Tx, ids: &[Uuid], k: i64) -> Result<(bool, Vec<Uuid>)> {
    let query = sqlx::query_scalar!(
        r#"
        select id as "id!"
        from unnest($1::uuid[]) as seen (id)
        left join insight.customers c on c.customer_id = id and c.state = 'live'
        left join insight.counted_customers b on b.customer_id = id
        where (c.customer_id is null) <> (b.customer_id is null)
        "#,
        ids
    );
    let moved: Vec<Uuid> = sql("select insight.counted_customers", query.fetch_all(tx.sql())).await?;
    if (moved.len() as i64) < k {
        return Ok((false, moved));
    }
    let query = sqlx::query!(
        r#"
        with gone as (
            delete from insight.counted_customers b
            where b.customer_id = any ($1) and not exists (
                select 1 from insight.customers c where c.customer_id = b.customer_id and c.state = 'live')
        )
        insert into insight.counted_customers (customer_id)
        select customer_id from insight.customers where customer_id = any ($1) and state = 'live'
        on conflict do nothing
        "#,
        &moved
    );
    sql("insert insight.counted_customers", query.execute(tx.sql())).await?;
    let query = sqlx::query!(
        r#"
        delete from insight.counted_traits t
        where not exists (select 1 from insight.counted_customers b where b.customer_id = t.customer_id)
        "#
    );
    sql("delete insight.counted_traits", query.execute(tx.sql())).await?;
    let query = sqlx::query!(
        r#"
        insert into insight.counted_traits (customer_id, dimension, value)
        select t.customer_id, t.dimension, t.value
        from insight.traits t join insight.counted_customers using (customer_id) where t.customer_id = any ($1)
        on conflict do nothing
        "#,
        &moved
    );
    sql("insert insight.counted_traits", query.execute(tx.sql())).await?;
    Ok((true, Vec::new()))
}

/// In which dimensions who is counted by another value than is known.
async fn changed(tx: &mut Tx, ids: &[Uuid]) -> Result<BTreeMap<String, Vec<Uuid>>> {
    let query = sqlx::query!(
        r#"
        select coalesce(t.dimension, b.dimension) as "dimension!", array_agg(coalesce(t.customer_id, b.customer_id)) as "of!"
        from (select * from insight.traits where customer_id = any ($1)) t
        full join (select * from insight.counted_traits where customer_id = any ($1)) b using (customer_id, dimension)
        where t.value is distinct from b.value
            and exists (select 1 from insight.counted_customers c where c.customer_id = coalesce(t.customer_id, b.customer_id))
        group by 1
        "#,
        ids
    );
    let rows = sql("select insight.counted_traits", query.fetch_all(tx.sql())).await?;
    Ok(rows.into_iter().map(|row| (row.dimension, row.of)).collect())
}

/// Counts customers by what is known, in some dimensions.
async fn take_over(tx: &mut Tx, ids: &[Uuid], dimensions: &[String]) -> Result<()> {
    if dimensions.is_empty() {
        return Ok(());
    }
    let query = sqlx::query!(
        "delete from insight.counted_traits where customer_id = any ($1) and dimension = any ($2)",
        ids,
        dimensions
    );
    sql("delete insight.counted_traits", query.execute(tx.sql())).await?;
    let query = sqlx::query!(
        r#"
        insert into insight.counted_traits (customer_id, dimension, value)
        select t.customer_id, t.dimension, t.value
        from insight.traits t join insight.counted_customers using (customer_id)
        where t.customer_id = any ($1) and t.dimension = any ($2)
        "#,
        ids,
        dimensions
    );
    sql("insert insight.counted_traits", query.execute(tx.sql())).await?;
    Ok(())
}

async fn sum_up(tx: &mut Tx) -> Result<()> {
    let query = sqlx::query!("delete from insight.base_counts");
    sql("delete insight.base_counts", query.execute(tx.sql())).await?;
    let query = sqlx::query!(
        r#"
        with base as (
            insert into insight.bases (customer_count) select count(*) from insight.counted_customers
            on conflict (singleton) do update set
                customer_count = excluded.customer_count, counted_at = clock_timestamp()
        )
        insert into insight.base_counts (dimension, value, customer_count)
        select dimension, value, count(*) from insight.counted_traits group by dimension, value
        "#
    );
    sql("insert insight.base_counts", query.execute(tx.sql())).await?;
    Ok(())
}

/// Forgets the changes that were seen, but for the last of each customer who waits.
async fn forget(tx: &mut Tx, ids: &[Uuid], seqs: &[i64], waiting: &HashSet<Uuid>) -> Result<()> {
    let last: Vec<i64> = ids.iter().zip(seqs).map(|(id, seq)| seq - i64::from(waiting.contains(id))).collect();
    let query = sqlx::query!(
        r#"
        delete from insight.base_changes b using unnest($1::uuid[], $2::bigint[]) as seen (customer_id, last)
        where b.customer_id = seen.customer_id and b.seq <= seen.last
        "#,
        ids,
        &last
    );
    sql("delete insight.base_changes", query.execute(tx.sql())).await?;
    Ok(())
}
