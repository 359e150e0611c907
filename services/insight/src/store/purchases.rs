//! The facts: what was bought, and what it comes to.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use proto::order_history::v1::{Order, OrderState, PaymentState};
use serde_json::json;
use store::{Change, Result, Tx, sql, time, uuid};
use uuid::Uuid;

use super::{
    items,
    row::{Base, Value},
    traits,
};
use crate::tier;

/// Takes over orders as they are now. Of the customers in `whole`, what is not among them is there no more.
pub async fn put(tx: &mut Tx, whole: &[Uuid], orders: &[Order]) -> Result<()> {
    let buyers = orders.iter().map(|order| uuid(&order.customer_id)).collect::<Result<BTreeSet<_>>>()?;
    let whole: BTreeSet<Uuid> = whole.iter().copied().collect();
    let customers = known(tx, &whole, &buyers).await?;
    let versions = tx.raise_unsealed(&customers.iter().map(|customer| (*customer, 1)).collect()).await?;
    let customers: Vec<Uuid> = customers.into_iter().collect();

    let (mut gone, mut rows) = (Vec::new(), Rows::default());
    for order in orders {
        let (order_id, customer_id) = (uuid(&order.order_id)?, uuid(&order.customer_id)?);
        match time(order.placed_time) {
            Some(placed_at) if order.state() != OrderState::Cancelled && versions.contains_key(&customer_id) => {
                rows.push(order_id, customer_id, placed_at, order);
            }
            _ => gone.push(order_id),
        }
    }
    let whole: Vec<Uuid> = whole.into_iter().collect();
    let query = sqlx::query!(
        r#"
        with gone as (
            delete from insight.purchases
            where order_id = any ($1) or (customer_id = any ($2) and order_id <> all ($3))
            returning order_id
        )
        delete from insight.purchase_lines using gone where purchase_lines.order_id = gone.order_id
        "#,
        &gone,
        &whole,
        &rows.order_id
    );
    sql("delete insight.purchases", query.execute(tx.sql())).await?;
    rows.insert(tx).await?;
    let kept: BTreeSet<Uuid> = rows.order_id.into_iter().collect();
    let bought = orders.iter().filter(|order| uuid(&order.order_id).is_ok_and(|id| kept.contains(&id)));
    items::put(tx, &bought.collect::<Vec<_>>()).await?;
    traits::refresh(tx, &customers).await?;
    refresh(tx, &customers, &versions).await
}

/// Counts what customers' purchases come to and scores it by the present edges. Their versions are raised already.
pub async fn refresh(tx: &mut Tx, customers: &[Uuid], versions: &BTreeMap<Uuid, i64>) -> Result<()> {
    let bases = Base::all(tx.sql()).await?;
    let empty = Base::empty();
    let counted = Value::count(customers, None, tx.sql()).await?;
    let values: Vec<Value> = counted
        .into_iter()
        .map(|value| {
            let base = bases.get(&value.currency).unwrap_or(&empty);
            value.scored(base)
        })
        .collect();
    let query = sqlx::query!("delete from insight.customer_values where customer_id = any ($1)", customers);
    sql("delete insight.customer_values", query.execute(tx.sql())).await?;
    insert(tx, &values).await?;
    let mut of: BTreeMap<Uuid, Vec<&Value>> = BTreeMap::new();
    values.iter().for_each(|value| of.entry(value.customer_id).or_default().push(value));
    let change = |customer: &Uuid| Change {
        customer_id: *customer,
        version: versions.get(customer).copied().unwrap_or_default(),
        resource: "value",
        kind: "value.counted",
        payload: json!({ "values": of.get(customer).into_iter().flatten().map(|value| payload(value)).collect::<Vec<_>>() }),
    };
    tx.changes(customers.iter().map(change).collect()).await
}

fn payload(value: &Value) -> serde_json::Value {
    let segment = tier::segment(value.recency_score, value.frequency_score);
    json!({
        "currency": value.currency, "days": value.days, "net_minor": value.net_minor, "last_day": value.last_day,
        "scores": [value.recency_score, value.frequency_score, value.monetary_score],
        "segment": segment.as_str_name(), "tier": tier::tier(segment).as_str_name(),
    })
}

/// Of some customers, those who bought something or of whom something is known, and who were not erased.
async fn known(tx: &mut Tx, whole: &BTreeSet<Uuid>, buyers: &BTreeSet<Uuid>) -> Result<BTreeSet<Uuid>> {
    let all: Vec<Uuid> = whole.union(buyers).copied().collect();
    let query = sqlx::query!("select customer_id, state from insight.customers where customer_id = any ($1)", &all);
    let rows = sql("select customers", query.fetch_all(tx.sql())).await?;
    let states: BTreeMap<Uuid, String> = rows.into_iter().map(|row| (row.customer_id, row.state)).collect();
    let live = |customer: &Uuid| match states.get(customer) {
        Some(state) => state == "live",
        None => buyers.contains(customer),
    };
    Ok(all.into_iter().filter(|customer| live(customer)).collect())
}

/// Purchases side by side for `unnest`.
#[derive(Default)]
struct Rows {
    order_id: Vec<Uuid>,
    customer_id: Vec<Uuid>,
    placed_at: Vec<DateTime<Utc>>,
    currency: Vec<String>,
    net_minor: Vec<i64>,
    channel: Vec<i32>,
    store_id: Vec<String>,
    payment_method: Vec<String>,
    discount_minor: Vec<i64>,
}

impl Rows {
    fn push(&mut self, order_id: Uuid, customer_id: Uuid, placed_at: DateTime<Utc>, order: &Order) {
        self.order_id.push(order_id);
        self.customer_id.push(customer_id);
        self.placed_at.push(placed_at);
        self.currency.push(order.currency_code.clone());
        self.net_minor.push(order.total_minor - order.refunded_minor);
        self.channel.push(order.channel);
        self.store_id.push(order.store_id.clone());
        let most =
            order.payments.iter().filter(|paid| paid.state() != PaymentState::Failed).max_by_key(|p| p.amount_minor);
        self.payment_method.push(most.map(|paid| paid.method.clone()).unwrap_or_default());
        let of_lines: i64 = order.lines.iter().map(|line| line.discount_minor).sum();
        self.discount_minor.push(order.discount_minor + of_lines);
    }

    async fn insert(&self, tx: &mut Tx) -> Result<()> {
        let query = sqlx::query!(
            r#"
            insert into insight.purchases (
                order_id, customer_id, placed_at, currency, net_minor, channel, store_id, payment_method, discount_minor)
            select * from unnest(
                $1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::bigint[],
                $6::integer[], $7::text[], $8::text[], $9::bigint[])
            on conflict (order_id) do update set
                customer_id = excluded.customer_id, placed_at = excluded.placed_at, currency = excluded.currency,
                net_minor = excluded.net_minor, channel = excluded.channel, store_id = excluded.store_id,
                payment_method = excluded.payment_method, discount_minor = excluded.discount_minor
            "#,
            &self.order_id,
            &self.customer_id,
            &self.placed_at,
            &self.currency,
            &self.net_minor,
            &self.channel,
            &self.store_id,
            &self.payment_method,
            &self.discount_minor
        );
        sql("insert insight.purchases", query.execute(tx.sql())).await?;
        Ok(())
    }
}

async fn insert(tx: &mut Tx, values: &[Value]) -> Result<()> {
    let ids: Vec<Uuid> = values.iter().map(|value| value.customer_id).collect();
    let currencies: Vec<String> = values.iter().map(|value| value.currency.clone()).collect();
    let days = |day: fn(&Value) -> NaiveDate| values.iter().map(day).collect::<Vec<_>>();
    let numbers = |number: fn(&Value) -> i64| values.iter().map(number).collect::<Vec<_>>();
    let scores = |score: fn(&Value) -> i32| values.iter().map(score).collect::<Vec<_>>();
    let query = sqlx::query!(
        r#"
        insert into insight.customer_values (
            customer_id, currency, first_day, last_day, days, net_minor, first_day_minor,
            recency_score, frequency_score, monetary_score)
        select * from unnest(
            $1::uuid[], $2::text[], $3::date[], $4::date[], $5::bigint[], $6::bigint[], $7::bigint[],
            $8::integer[], $9::integer[], $10::integer[])
        "#,
        &ids,
        &currencies,
        &days(|value| value.first_day),
        &days(|value| value.last_day),
        &numbers(|value| value.days),
        &numbers(|value| value.net_minor),
        &numbers(|value| value.first_day_minor),
        &scores(|value| value.recency_score),
        &scores(|value| value.frequency_score),
        &scores(|value| value.monetary_score)
    );
    sql("insert insight.customer_values", query.execute(tx.sql())).await?;
    Ok(())
}
