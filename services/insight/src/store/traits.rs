//! What customers are counted by, customer by customer.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use proto::insight::v1::Dimension;
use serde_json::json;
use store::{Change, Result, Tx, sql};
use uuid::Uuid;

use super::{Store, items::SEPARATOR};
use crate::{
    habit::{self, Habits, Purchase},
    holidays::Holidays,
    traits::{Traits, name},
};

/// What is said of customers: their values by dimension.
type Said = BTreeMap<Uuid, BTreeMap<String, String>>;

/// Takes over what another service says of customers now.
pub async fn put(tx: &mut Tx, said: &[(Uuid, Traits)]) -> Result<()> {
    let ids: Vec<Uuid> = said.iter().map(|(customer, _)| *customer).collect();
    let query = sqlx::query!("select customer_id, state from insight.customers where customer_id = any ($1)", &ids);
    let rows = sql("select customers", query.fetch_all(tx.sql())).await?;
    let states: BTreeMap<Uuid, String> = rows.into_iter().map(|row| (row.customer_id, row.state)).collect();
    let live = |customer: &Uuid| states.get(customer).is_none_or(|state| state == "live");
    let live = said.iter().filter(|(customer, _)| live(customer)).cloned().collect();
    let mut differs = differing(tx, live).await?;
    for new in ids.iter().filter(|customer| !states.contains_key(customer)) {
        differs.entry(*new).or_default();
    }
    let versions = tx.raise_unsealed(&differs.keys().map(|customer| (*customer, 1)).collect()).await?;
    write(tx, &differs).await?;
    let change = |(customer, traits): (&Uuid, &BTreeMap<String, String>)| Change {
        customer_id: *customer,
        version: versions.get(customer).copied().unwrap_or_default(),
        resource: "traits",
        kind: "traits.changed",
        payload: json!({ "dimensions": traits.keys().collect::<Vec<_>>() }),
    };
    tx.changes(differs.iter().map(change).collect()).await?;
    // By another clock purchases are of other hours and days.
    let zone = name(Dimension::TimeZone);
    let moved = differs.into_iter().filter(|(_, traits)| traits.contains_key(&zone));
    refresh(tx, &moved.map(|(customer, _)| customer).collect::<Vec<_>>()).await
}

/// Counts customers' habits anew as far as all customers are counted by them. Their versions are raised already.
pub async fn refresh(tx: &mut Tx, customers: &[Uuid]) -> Result<()> {
    if customers.is_empty() {
        return Ok(());
    }
    // By holidays nobody is counted.
    let none = Holidays::default();
    let mut habits = habits(customers, habit::LATELY, false, &none, tx.sql()).await?;
    let said = customers.iter().map(|customer| (*customer, habits.remove(customer).unwrap_or_default().traits()));
    let differs = differing(tx, said.collect()).await?;
    write(tx, &differs).await
}

/// What is said that differs from what is known.
async fn differing(tx: &mut Tx, said: Vec<(Uuid, Traits)>) -> Result<Said> {
    let ids: Vec<Uuid> = said.iter().map(|(customer, _)| *customer).collect();
    let query = sqlx::query!("select * from insight.traits where customer_id = any ($1)", &ids);
    let rows = sql("select insight.traits", query.fetch_all(tx.sql())).await?;
    let known: BTreeMap<(Uuid, String), String> =
        rows.into_iter().map(|row| ((row.customer_id, row.dimension), row.value)).collect();
    let mut differs = Said::new();
    for (customer, traits) in said {
        for (dimension, value) in traits {
            let key = (customer, name(dimension));
            if known.get(&key).map_or("", String::as_str) != value {
                differs.entry(customer).or_default().insert(key.1, value);
            }
        }
    }
    Ok(differs)
}

async fn write(tx: &mut Tx, differs: &Said) -> Result<()> {
    let (mut customers, mut dimensions, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for (customer, traits) in differs {
        for (dimension, value) in traits {
            customers.push(*customer);
            dimensions.push(dimension.clone());
            values.push(value.clone());
        }
    }
    let query = sqlx::query!(
        r#"
        with said as (
            select * from unnest($1::uuid[], $2::text[], $3::text[]) as said (customer_id, dimension, value)
        ),
        forgotten as (
            delete from insight.traits t using said
            where (t.customer_id, t.dimension) = (said.customer_id, said.dimension) and said.value = ''
        ),
        learned as (
            insert into insight.traits (customer_id, dimension, value) select * from said where value <> ''
            on conflict (customer_id, dimension) do update set value = excluded.value
        )
        insert into insight.base_changes (customer_id) select unnest($4::uuid[])
        "#,
        &customers,
        &dimensions,
        &values,
        &differs.keys().copied().collect::<Vec<_>>()
    );
    sql("insert insight.traits", query.execute(tx.sql())).await?;
    Ok(())
}

/// The habits of customers by so many of their newest purchases, with what was in them or without.
pub async fn habits(
    customers: &[Uuid],
    purchases: i64,
    with_items: bool,
    holidays: &Holidays,
    executor: impl sqlx::PgExecutor<'_>,
) -> Result<BTreeMap<Uuid, Habits>> {
    let query = sqlx::query_file!("queries/purchases.sql", customers, purchases, with_items, SEPARATOR);
    let rows = sql("select insight.purchases", query.fetch_all(executor)).await?;
    let mut habits: BTreeMap<Uuid, Habits> = BTreeMap::new();
    for row in rows {
        let of = habits.entry(row.customer_id).or_default();
        of.zone = row.time_zone.parse().unwrap_or(Tz::UTC);
        let day = row.placed_at.with_timezone(&of.zone).date_naive();
        of.purchases.push(Purchase {
            placed_at: row.placed_at,
            holiday: holidays.on(&row.region, day).to_owned(),
            channel: row.channel,
            store_id: row.store_id,
            payment_method: row.payment_method,
            currency: row.currency,
            net_minor: row.net_minor,
            discount_minor: row.discount_minor,
            quantity: row.quantity,
            categories: row.categories.iter().map(|path| path.split(SEPARATOR).map(str::to_owned).collect()).collect(),
            brands: row.brands,
        });
    }
    Ok(habits)
}

impl Store {
    /// The habits of one customer.
    pub async fn habits(&self, customer: Uuid, purchases: i64) -> Result<Habits> {
        let mut habits = habits(&[customer], purchases, true, &self.holidays, &self.db).await?;
        Ok(habits.remove(&customer).unwrap_or_default())
    }
}
