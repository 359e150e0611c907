use std::time::Duration;

use chrono::Utc;
use metrics::{METRICS, by};
use store::{Db, Result, sql};

/// So many changes are purged by one statement.
const AT_ONCE: i64 = 10_000;

/// Purges what is older than the retention, for as long as the pool is open.
pub async fn run(db: Db, retention: Duration) {
    let mut hourly = tokio::time::interval(Duration::from_secs(3600));
    while !db.pool().is_closed() {
        hourly.tick().await;
        loop {
            match purge(&db, retention).await {
                Ok(purged) if purged == AT_ONCE => (),
                Ok(_) => break,
                Err(fault) => {
                    tracing::warn!(reason = fault.into_failure().reason().name, "old changes could not be purged");
                    break;
                }
            }
        }
        if let Ok(age) = oldest(&db).await {
            METRICS.feed_oldest.get_or_create_owned(&by(db.service())).set(age);
        }
    }
}

/// The age of the oldest change in seconds; 0 without any.
async fn oldest(db: &Db) -> Result<f64> {
    let query = sqlx::query_scalar!(
        r#"
        select coalesce(extract(epoch from clock_timestamp() - occurred_at), 0)::float8 as "age!"
        from changes order by seq limit 1
        "#
    );
    Ok(sql("select changes", query.fetch_optional(db)).await?.unwrap_or_default())
}

/// Purges the oldest changes, ten thousand at most, and notes the greatest transaction among them in the same statement, so
/// that no cursor reads over the gap without a word.
pub async fn purge(db: &Db, retention: Duration) -> Result<i64> {
    let before = Utc::now() - retention;
    let query = sqlx::query_scalar!(
        r#"
        with oldest as (select seq, occurred_at from changes order by seq limit $2),
        purged as (
            delete from changes where seq in (select seq from oldest where occurred_at < $1) returning xid
        ),
        noted as (
            update feed set purged_xid = greatest(purged_xid, (select max(xid::text::bigint)::text::xid8 from purged))
            where exists (select 1 from purged)
        )
        select count(*) as "count!" from purged
        "#,
        before,
        AT_ONCE
    );
    sql("delete changes", query.fetch_one(db.pool())).await
}
