//! Writing orders: many at once, or one anew.

use chrono::{DateTime, Utc};
use prost::Message;
use proto::order_history::v1::*;
use store::{Fault, Result, Tx, sql};
use uuid::Uuid;
use vault::{Keys, Unreadable};

use super::{
    Store,
    row::{Row, place, seal},
};
use crate::{reason, record::StoredOrders};

/// Category paths travel to SQL as one text; names cannot hold a control character.
const SEPARATOR: &str = "\u{1f}";
/// An order about to be recorded.
pub struct NewOrder {
    pub order_id: Uuid,
    pub customer_id: Uuid,
    pub content: Vec<u8>,
    pub placed_at: DateTime<Utc>,
    pub order: Order,
}

/// What is known of an order that is stored already.
pub struct Stored {
    pub order_id: Uuid,
    pub customer_id: Uuid,
    pub customer_version: i64,
    pub revision: i32,
    pub source_revision: i64,
    pub content: Vec<u8>,
    /// Whether it says what is asked about, now or in an earlier revision.
    pub said: bool,
}

impl Stored {
    pub async fn select(tx: &mut Tx, orders: &[NewOrder]) -> Result<StoredOrders> {
        let (sources, numbers): (Vec<String>, Vec<String>) = orders.iter().map(NewOrder::key).unzip();
        let contents: Vec<Vec<u8>> = orders.iter().map(|order| order.content.clone()).collect();
        let query = sqlx::query!(
            r#"
            select o.source, o.number, o.order_id, o.customer_id, c.version as customer_version, o.revision,
                   o.source_revision, o.content,
                   o.content = asked.content or exists (
                       select 1 from order_history.order_revisions r
                       where r.order_id = o.order_id and r.content = asked.content) as "said!"
            from unnest($1::text[], $2::text[], $3::bytea[]) as asked (source, number, content)
            join order_history.orders o using (source, number)
            join order_history.customers c using (customer_id)
            "#,
            &sources,
            &numbers,
            &contents
        );
        let rows = sql("select order_history.orders", query.fetch_all(tx.sql())).await?;
        let stored = rows.into_iter().map(|row| {
            let stored = Stored {
                order_id: row.order_id,
                customer_id: row.customer_id,
                customer_version: row.customer_version,
                revision: row.revision,
                source_revision: row.source_revision,
                content: row.content,
                said: row.said,
            };
            ((row.source, row.number), stored)
        });
        Ok(stored.collect())
    }

    /// Whether an order brings nothing new: a repetition, or one that was overtaken.
    pub fn outdates(&self, order: &NewOrder) -> bool {
        self.said || order.order.source_revision < self.source_revision
    }
}

impl Store {
    /// Inserts orders with their lines and payments, three statements for all of them.
    pub async fn orders_insert(tx: &mut Tx, orders: &[&NewOrder]) -> Result<()> {
        if orders.is_empty() {
            return Ok(());
        }
        let mut c = OrderColumns::default();
        for order in orders {
            c.push(tx.keys(), order)?;
        }
        let query = sqlx::query!(
            r#"
            insert into order_history.orders (
                order_id, customer_id, source, number, content, placed_at, channel, store_id, state, currency,
                discount_minor, shipping_minor, tax_minor, total_minor,
                delivery_method, delivery_carrier, delivery_state, sealed, source_revision)
            select order_id, customer_id, source, number, content, placed_at, channel, store_id, state, currency,
                discount_minor, shipping_minor, tax_minor, total_minor,
                delivery_method, delivery_carrier, delivery_state, sealed, source_revision
            from unnest(
                $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bytea[], $6::timestamptz[], $7::integer[],
                $8::text[], $9::integer[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[],
                $15::text[], $16::text[], $17::integer[], $18::bytea[], $19::bigint[]) as new (
                order_id, customer_id, source, number, content, placed_at, channel, store_id, state, currency,
                discount_minor, shipping_minor, tax_minor, total_minor,
                delivery_method, delivery_carrier, delivery_state, sealed, source_revision)
            order by source, number
            on conflict (source, number) do nothing
            "#,
            &c.order_id,
            &c.customer_id,
            &c.source,
            &c.number,
            &c.content,
            &c.placed_at,
            &c.channel,
            &c.store_id,
            &c.state,
            &c.currency,
            &c.discount_minor,
            &c.shipping_minor,
            &c.tax_minor,
            &c.total_minor,
            &c.delivery_method as &[Option<String>],
            &c.delivery_carrier,
            &c.delivery_state,
            &c.sealed as &[Option<Vec<u8>>],
            &c.source_revision
        );
        let inserted = sql("insert order_history.orders", query.execute(tx.sql())).await?;
        if inserted.rows_affected() < orders.len() as u64 {
            return Err(reason::WRITE_CONFLICT.into());
        }
        let orders: Vec<(Uuid, &Order)> = orders.iter().map(|new| (new.order_id, &new.order)).collect();
        lines_put(tx, &orders).await?;
        payments_insert(tx, &orders).await
    }

    /// Replaces an order by its next revision and keeps what it was.
    pub async fn order_revise(tx: &mut Tx, stored: &Stored, new: &NewOrder) -> Result<()> {
        let order_id = stored.order_id;
        let mut rows = Row::select(&[order_id], tx.sql()).await?;
        let before = rows.pop().ok_or(reason::WRITE_CONFLICT)?;
        tx.unlock(before.sealed()).await?;
        let before = before.open(tx.keys())?;
        if before.revision != stored.revision {
            return Err(reason::WRITE_CONFLICT.into());
        }
        let has_returns = !before.returns.is_empty();
        if has_returns && before.currency_code != new.order.currency_code {
            return Err(reason::RETURNED_LINE_CHANGED.into());
        }
        let row = Uuid::new_v5(&order_id, &stored.revision.to_be_bytes());
        let sealed = tx.keys().seal(stored.customer_id, place("order_revisions", row), &before.encode_to_vec())?;
        let query = sqlx::query!(
            "insert into order_history.order_revisions (order_id, revision, sealed, content) values ($1, $2, $3, $4)",
            order_id,
            stored.revision,
            sealed,
            stored.content
        );
        sql("insert order_history.order_revisions", query.execute(tx.sql())).await?;
        order_overwrite(tx, order_id, new).await.map_err(takes_back)?;
        lines_put(tx, &[(order_id, &new.order)]).await.map_err(takes_back)?;
        let numbers: Vec<i32> = new.order.lines.iter().map(|line| line.line_number).collect();
        let query = sqlx::query!(
            "delete from order_history.order_lines where order_id = $1 and line_number <> all ($2)",
            order_id,
            &numbers
        );
        sql("delete order_history.order_lines", query.execute(tx.sql())).await.map_err(takes_back)?;
        let query = sqlx::query!("delete from order_history.payments where order_id = $1", order_id);
        sql("delete order_history.payments", query.execute(tx.sql())).await?;
        payments_insert(tx, &[(order_id, &new.order)]).await?;
        // A revision may take away the first or last order, which no difference can express.
        Store::summaries_recount(tx, stored.customer_id).await
    }
}

/// The columns of orders about to be inserted, side by side for `unnest`.
#[derive(Default)]
struct OrderColumns {
    order_id: Vec<Uuid>,
    customer_id: Vec<Uuid>,
    source: Vec<String>,
    number: Vec<String>,
    content: Vec<Vec<u8>>,
    placed_at: Vec<DateTime<Utc>>,
    channel: Vec<i32>,
    store_id: Vec<String>,
    state: Vec<i32>,
    currency: Vec<String>,
    discount_minor: Vec<i64>,
    shipping_minor: Vec<i64>,
    tax_minor: Vec<i64>,
    total_minor: Vec<i64>,
    delivery_method: Vec<Option<String>>,
    delivery_carrier: Vec<String>,
    delivery_state: Vec<i32>,
    sealed: Vec<Option<Vec<u8>>>,
    source_revision: Vec<i64>,
}

impl OrderColumns {
    fn push(&mut self, keys: &Keys, new: &NewOrder) -> Result<(), Unreadable> {
        let order = &new.order;
        let delivery = order.delivery.as_ref();
        self.order_id.push(new.order_id);
        self.customer_id.push(new.customer_id);
        self.source.push(order.source.clone());
        self.number.push(order.number.clone());
        self.content.push(new.content.clone());
        self.placed_at.push(new.placed_at);
        self.channel.push(order.channel);
        self.store_id.push(order.store_id.clone());
        self.state.push(order.state);
        self.currency.push(order.currency_code.clone());
        self.discount_minor.push(order.discount_minor);
        self.shipping_minor.push(order.shipping_minor);
        self.tax_minor.push(order.tax_minor);
        self.total_minor.push(order.total_minor);
        self.delivery_method.push(delivery.map(|d| d.method.clone()));
        self.delivery_carrier.push(delivery.map(|d| d.carrier.clone()).unwrap_or_default());
        self.delivery_state.push(delivery.map_or(0, |d| d.state));
        self.sealed.push(seal(keys, new.customer_id, new.order_id, order)?);
        self.source_revision.push(order.source_revision);
        Ok(())
    }
}

async fn order_overwrite(tx: &mut Tx, order_id: Uuid, new: &NewOrder) -> Result<()> {
    let order = &new.order;
    let delivery = order.delivery.clone();
    let sealed = seal(tx.keys(), new.customer_id, order_id, order)?;
    let query = sqlx::query!(
        r#"
        update order_history.orders set
            revision = revision + 1, content = $2, placed_at = $3, channel = $4, store_id = $5, state = $6,
            currency = $7, discount_minor = $8, shipping_minor = $9, tax_minor = $10, total_minor = $11,
            delivery_method = $12, delivery_carrier = $13, delivery_state = $14, sealed = $15,
            source_revision = $16, updated_at = clock_timestamp()
        where order_id = $1
        "#,
        order_id,
        new.content,
        new.placed_at,
        order.channel,
        order.store_id,
        order.state,
        order.currency_code,
        order.discount_minor,
        order.shipping_minor,
        order.tax_minor,
        order.total_minor,
        delivery.as_ref().map(|d| d.method.clone()),
        delivery.as_ref().map(|d| d.carrier.clone()).unwrap_or_default(),
        delivery.as_ref().map_or(0, |d| d.state),
        sealed,
        order.source_revision
    );
    sql("update order_history.orders", query.execute(tx.sql())).await?;
    Ok(())
}

/// Inserts the lines of orders, or overwrites those that are there but for what was returned.
async fn lines_put(tx: &mut Tx, orders: &[(Uuid, &Order)]) -> Result<()> {
    let lines = || orders.iter().flat_map(|(id, order)| order.lines.iter().map(move |line| (*id, line)));
    let order_ids: Vec<Uuid> = lines().map(|(id, _)| id).collect();
    let numbers: Vec<i32> = lines().map(|(_, line)| line.line_number).collect();
    let skus: Vec<String> = lines().map(|(_, line)| line.sku.clone()).collect();
    let titles: Vec<String> = lines().map(|(_, line)| line.title.clone()).collect();
    let categories: Vec<String> = lines().map(|(_, line)| line.category_path.join(SEPARATOR)).collect();
    let brands: Vec<String> = lines().map(|(_, line)| line.brand.clone()).collect();
    let quantities: Vec<i64> = lines().map(|(_, line)| line.quantity).collect();
    let prices: Vec<Option<i64>> = lines().map(|(_, line)| line.unit_price_minor).collect();
    let discounts: Vec<i64> = lines().map(|(_, line)| line.discount_minor).collect();
    let taxes: Vec<i64> = lines().map(|(_, line)| line.tax_minor).collect();
    let amounts: Vec<i64> = lines().map(|(_, line)| line.amount_minor).collect();
    let query = sqlx::query!(
        r#"
        insert into order_history.order_lines (
            order_id, line_number, sku, title, category_path, brand, quantity,
            unit_price_minor, discount_minor, tax_minor, amount_minor)
        select order_id, line_number, sku, title, string_to_array(category_path, $12), brand, quantity,
               unit_price_minor, discount_minor, tax_minor, amount_minor
        from unnest(
            $1::uuid[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],
            $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[]) as new (
            order_id, line_number, sku, title, category_path, brand, quantity,
            unit_price_minor, discount_minor, tax_minor, amount_minor)
        on conflict (order_id, line_number) do update set
            sku = excluded.sku, title = excluded.title, category_path = excluded.category_path,
            brand = excluded.brand, quantity = excluded.quantity, unit_price_minor = excluded.unit_price_minor,
            discount_minor = excluded.discount_minor, tax_minor = excluded.tax_minor,
            amount_minor = excluded.amount_minor
        "#,
        &order_ids,
        &numbers,
        &skus,
        &titles,
        &categories,
        &brands,
        &quantities,
        &prices as &[Option<i64>],
        &discounts,
        &taxes,
        &amounts,
        SEPARATOR
    );
    sql("insert order_history.order_lines", query.execute(tx.sql())).await?;
    Ok(())
}

async fn payments_insert(tx: &mut Tx, orders: &[(Uuid, &Order)]) -> Result<()> {
    let payments =
        || orders.iter().flat_map(|(id, order)| (1..).zip(&order.payments).map(move |(i, payment)| (*id, i, payment)));
    if payments().next().is_none() {
        return Ok(());
    }
    let order_ids: Vec<Uuid> = payments().map(|(id, ..)| id).collect();
    let positions: Vec<i32> = payments().map(|(_, position, _)| position).collect();
    let methods: Vec<String> = payments().map(|(.., payment)| payment.method.clone()).collect();
    let amounts: Vec<i64> = payments().map(|(.., payment)| payment.amount_minor).collect();
    let states: Vec<i32> = payments().map(|(.., payment)| payment.state).collect();
    let query = sqlx::query!(
        r#"
        insert into order_history.payments (order_id, position, method, amount_minor, state)
        select * from unnest($1::uuid[], $2::integer[], $3::text[], $4::bigint[], $5::integer[])
        "#,
        &order_ids,
        &positions,
        &methods,
        &amounts,
        &states
    );
    sql("insert order_history.payments", query.execute(tx.sql())).await?;
    Ok(())
}

/// What a revision breaks is what was returned already.
fn takes_back(fault: Fault) -> Fault {
    let violated = match &fault {
        Fault::Database(sqlx::Error::Database(error)) => error.constraint().unwrap_or_default(),
        _ => return fault,
    };
    match violated {
        "orders_refunded_check" | "order_lines_returned_check" => reason::RETURNED_LINE_CHANGED.into(),
        _ => fault,
    }
}
