//! Whose value is shared, or not any more, because of others.

use std::collections::{BTreeMap, BTreeSet};

use proto::contact::v1::ContactPointKind;
use store::{Change, Result, Tx, sql};
use uuid::Uuid;

use super::change;

/// Waits until nobody else is changing who has these values, and keeps others waiting. It is done before a customer is locked, so
/// that nobody who is waited for here waits for that customer.
pub async fn lock(tx: &mut Tx, hashes: impl IntoIterator<Item = Vec<u8>>) -> Result<()> {
    let begins = |hash: Vec<u8>| hash.first_chunk().map(|begin| i64::from_be_bytes(*begin));
    let keys: BTreeSet<i64> = hashes.into_iter().filter_map(begins).collect();
    let keys: Vec<i64> = keys.into_iter().collect();
    let query = sqlx::query!("select pg_advisory_xact_lock(key) from unnest($1::bigint[]) as key", &keys);
    sql("lock contact.contact_points", query.fetch_all(tx.sql())).await?;
    Ok(())
}

/// The same for the value of a contact point, if it is there.
pub async fn lock_of(tx: &mut Tx, contact_point: Uuid) -> Result<()> {
    let query =
        sqlx::query_scalar!("select hash from contact.contact_points where contact_point_id = $1", contact_point);
    let hash = sql("select contact.contact_points", query.fetch_optional(tx.sql())).await?;
    lock(tx, hash).await
}

/// Tells of the customer who alone has one of these values beside those who write: from now on it is shared, or no longer is. Where
/// several others have it, nothing changes for them.
pub async fn changed(tx: &mut Tx, writers: &[Uuid], hashes: &[Vec<u8>]) -> Result<()> {
    let query = sqlx::query!(
        r#"
        select distinct on (p.customer_id) p.customer_id, p.contact_point_id, p.kind
        from contact.contact_points p join contact.customers c using (customer_id)
        where c.state = 'live' and p.hash = any ($2) and p.customer_id <> all ($1) and not exists (
            select 1 from contact.contact_points o
            where o.hash = p.hash and o.customer_id <> p.customer_id and o.customer_id <> all ($1))
        order by p.customer_id, p.contact_point_id
        "#,
        writers,
        hashes
    );
    let alone = sql("select contact.contact_points", query.fetch_all(tx.sql())).await?;
    let counts: BTreeMap<Uuid, i64> = alone.iter().map(|row| (row.customer_id, 1)).collect();
    let versions = tx.raise_many(&counts).await?;
    let told = alone.into_iter().map(|row| {
        let version = versions.get(&row.customer_id).copied().unwrap_or_default();
        let kind = ContactPointKind::try_from(row.kind).unwrap_or_default();
        change(row.customer_id, version, "contact_point.sharing_changed", row.contact_point_id, kind)
    });
    tx.changes(told.collect::<Vec<Change>>()).await
}
