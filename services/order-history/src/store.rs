//! The SQL of order-history. This is the one module that seals and opens its columns.

use std::collections::BTreeMap;

use access::Call;
use chrono::{DateTime, Utc};
use error::Failure;
use prost::Message;
use proto::{order_history::v1::*, section::v1::Resolution, r#type::v1::Identifier};
use serde::Deserialize;
use serde_json::json;
use sqlx::types::Json;
use store::{Change, Db, Fault, Page, Result, Tx, Written, page_size, sql, time, timestamp, uuid};
use uuid::Uuid;
use vault::{Place, Vault};

use crate::{reason, record::StoredOrders, summary::Summary};

/// Category paths travel to SQL as one text; names cannot hold a control character.
const SEPARATOR: &str = "\u{1f}";

#[derive(Clone)]
pub struct Store {
    pub db: Db,
}

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
    pub content: Vec<u8>,
}

impl Stored {
    pub async fn select(tx: &mut Tx, orders: &[NewOrder]) -> Result<StoredOrders> {
        let (sources, numbers): (Vec<String>, Vec<String>) = orders.iter().map(NewOrder::key).unzip();
        let query = sqlx::query!(
            r#"
            select o.source, o.number, o.order_id, o.customer_id, c.version as customer_version, o.revision, o.content
            from unnest($1::text[], $2::text[]) as asked (source, number)
            join order_history.orders o using (source, number)
            join order_history.customers c using (customer_id)
            "#,
            &sources,
            &numbers
        );
        let rows = sql("select order_history.orders", query.fetch_all(tx.sql())).await?;
        let stored = rows.into_iter().map(|row| {
            let stored = Stored {
                order_id: row.order_id,
                customer_id: row.customer_id,
                customer_version: row.customer_version,
                revision: row.revision,
                content: row.content,
            };
            ((row.source, row.number), stored)
        });
        Ok(stored.collect())
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
            c.push(tx.vault(), order);
        }
        let query = sqlx::query!(
            r#"
            insert into order_history.orders (
                order_id, customer_id, source, number, content, placed_at, channel, store_id, state, currency,
                discount_minor, shipping_minor, tax_minor, total_minor,
                delivery_method, delivery_carrier, delivery_state, sealed)
            select * from unnest(
                $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bytea[], $6::timestamptz[], $7::integer[],
                $8::text[], $9::integer[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[],
                $15::text[], $16::text[], $17::integer[], $18::bytea[]) as new (
                order_id, customer_id, source, number, content, placed_at, channel, store_id, state, currency,
                discount_minor, shipping_minor, tax_minor, total_minor,
                delivery_method, delivery_carrier, delivery_state, sealed)
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
            &c.sealed as &[Option<Vec<u8>>]
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
        let before = rows.pop().ok_or(reason::WRITE_CONFLICT)?.open(tx.vault())?;
        if before.revision != stored.revision {
            return Err(reason::WRITE_CONFLICT.into());
        }
        let has_returns = !before.returns.is_empty();
        if has_returns && before.currency_code != new.order.currency_code {
            return Err(reason::RETURNED_LINE_CHANGED.into());
        }
        let sealed = tx.vault().seal(place("order_revisions", order_id), &before.encode_to_vec());
        let query = sqlx::query!(
            "insert into order_history.order_revisions (order_id, revision, sealed) values ($1, $2, $3)",
            order_id,
            stored.revision,
            sealed
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
        summaries_recount(tx, stored.customer_id).await
    }

    /// Adds the totals of new orders.
    pub async fn summaries_add(tx: &mut Tx, sums: &BTreeMap<(Uuid, String), Summary>) -> Result<()> {
        if sums.is_empty() {
            return Ok(());
        }
        let customers: Vec<Uuid> = sums.keys().map(|(customer, _)| *customer).collect();
        let currencies: Vec<String> = sums.keys().map(|(_, currency)| currency.clone()).collect();
        let counts: Vec<i64> = sums.values().map(|sum| sum.order_count).collect();
        let gross: Vec<i64> = sums.values().map(|sum| sum.gross_minor).collect();
        let first: Vec<DateTime<Utc>> = sums.values().map(|sum| sum.first_placed_at).collect();
        let last: Vec<DateTime<Utc>> = sums.values().map(|sum| sum.last_placed_at).collect();
        let query = sqlx::query!(
            r#"
            insert into order_history.order_summaries as s
                (customer_id, currency, order_count, gross_minor, refunded_minor, first_placed_at, last_placed_at)
            select customer_id, currency, order_count, gross_minor, 0, first_placed_at, last_placed_at
            from unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::timestamptz[], $6::timestamptz[])
                as new (customer_id, currency, order_count, gross_minor, first_placed_at, last_placed_at)
            on conflict (customer_id, currency) do update set
                order_count = s.order_count + excluded.order_count,
                gross_minor = s.gross_minor + excluded.gross_minor,
                first_placed_at = least(s.first_placed_at, excluded.first_placed_at),
                last_placed_at = greatest(s.last_placed_at, excluded.last_placed_at)
            "#,
            &customers,
            &currencies,
            &counts,
            &gross,
            &first,
            &last
        );
        sql("insert order_history.order_summaries", query.execute(tx.sql())).await?;
        Ok(())
    }

    pub async fn return_record(
        &self,
        call: &Call,
        request: RecordReturnRequest,
    ) -> Result<Written<RecordReturnResponse>> {
        let key = self.db.key("RecordReturn", &request.request_id, &request)?;
        let back = request.r#return.unwrap_or_default();
        let return_id = Uuid::now_v7();
        self.db
            .write(call, key, move |tx| {
                let back = Return { return_id: return_id.to_string(), ..back.clone() };
                Box::pin(async move {
                    let (customer_id, version) = return_insert(tx, return_id, &back).await?;
                    let payload = json!({
                        "order_id": back.order_id, "return_id": return_id, "refund_minor": back.refund_minor,
                        "reason": back.reason,
                    });
                    let change = Change { customer_id, version, resource: "order", kind: "order.returned", payload };
                    tx.changes(vec![change]).await?;
                    let consistency_token = tx.token(customer_id, version);
                    Ok(RecordReturnResponse { r#return: Some(back), consistency_token })
                })
            })
            .await
    }

    pub async fn order_get(&self, request: &GetOrderRequest) -> Result<Order> {
        self.db.require(request.consistency.as_ref()).await?;
        let order_id = match &request.order_number {
            None => uuid(&request.order_id)?,
            Some(by) => {
                let query = sqlx::query_scalar!(
                    "select order_id from order_history.orders where source = $1 and number = $2",
                    by.source,
                    by.number
                );
                let found = sql("select order_history.orders", query.fetch_optional(self.db.pool())).await?;
                found.ok_or(reason::ORDER_NOT_FOUND)?
            }
        };
        let mut rows = Row::select(&[order_id], self.db.pool()).await?;
        rows.pop().ok_or(reason::ORDER_NOT_FOUND)?.open(self.db.vault())
    }

    pub async fn order_list(&self, request: &ListOrdersRequest) -> Result<Page<Order>> {
        self.db.require(request.consistency.as_ref()).await?;
        let size = page_size(request.page_size, 100);
        let listing = format!("ListOrders {}", request.customer_id);
        let after: Option<(DateTime<Utc>, Uuid)> = self.db.cursor(&listing, &request.page_token)?;
        let (placed_at, order_id) = after.unwrap_or((DateTime::<Utc>::MAX_UTC, Uuid::max()));
        // Postgres has no time as late as chrono's latest.
        let placed_at = placed_at.min(DateTime::from_timestamp(253_402_300_800, 0).unwrap_or_default());
        let query = sqlx::query_as!(
            Head,
            r#"
            select order_id, customer_id, source, number, revision, placed_at, channel, store_id, state, currency,
                   discount_minor, shipping_minor, tax_minor, total_minor, refunded_minor,
                   delivery_method, delivery_carrier, delivery_state, created_at, updated_at
            from order_history.orders
            where customer_id = $1 and (placed_at, order_id) < ($2, $3)
            order by placed_at desc, order_id desc
            limit $4
            "#,
            uuid(&request.customer_id)?,
            placed_at,
            order_id,
            size + 1
        );
        let rows = sql("select order_history.orders", query.fetch_all(self.db.pool())).await?;
        let page = self.db.page(&listing, rows, size, |row| (row.placed_at, row.order_id));
        let items = page.items.into_iter().map(Head::into_proto).collect();
        Ok(Page { items, next_page_token: page.next_page_token })
    }

    pub async fn summary_get(&self, request: &GetOrderSummaryRequest) -> Result<Vec<OrderSummary>> {
        self.db.require(request.consistency.as_ref()).await?;
        let query = sqlx::query_as!(
            Summary,
            r#"
            select currency, order_count, gross_minor, refunded_minor, first_placed_at, last_placed_at
            from order_history.order_summaries where customer_id = $1 order by currency
            "#,
            uuid(&request.customer_id)?
        );
        let rows = sql("select order_history.order_summaries", query.fetch_all(self.db.pool())).await?;
        Ok(rows.into_iter().map(Summary::into_proto).collect())
    }

    /// The customers behind order numbers, in the order asked.
    pub async fn identifier_resolve(&self, identifiers: &[Identifier]) -> Result<Vec<Resolution>> {
        let numbers = identifiers.iter().filter_map(|identifier| identifier.order_number.clone());
        let (sources, numbers): (Vec<String>, Vec<String>) = numbers.map(|n| (n.source, n.number)).unzip();
        let query = sqlx::query!(
            r#"
            select asked.position as "position!", found.customer_id
            from unnest($1::text[], $2::text[]) with ordinality as asked (source, number, position)
            join order_history.orders as found using (source, number)
            "#,
            &sources,
            &numbers
        );
        let rows = sql("select order_history.orders", query.fetch_all(self.db.pool())).await?;
        let mut found = vec![Resolution::default(); identifiers.len()];
        for row in rows {
            found[row.position as usize - 1].customer_ids.push(row.customer_id.to_string());
        }
        Ok(found)
    }

    /// What a section needs of each customer, by one statement.
    pub async fn section_rows(&self, ids: &[Uuid]) -> Result<Vec<SectionRow>> {
        let query = sqlx::query_as!(
            SectionRow,
            r#"
            select
                c.customer_id, c.version,
                (select coalesce(jsonb_agg(to_jsonb(s) order by s.currency), '[]') from (
                    select currency, order_count, gross_minor, refunded_minor, first_placed_at, last_placed_at
                    from order_history.order_summaries where customer_id = c.customer_id order by currency limit 20
                ) s) as "summaries!: Json<Vec<SummaryJson>>",
                (select coalesce(jsonb_agg(to_jsonb(o) order by o.placed_at desc, o.order_id desc), '[]') from (
                    select order_id, customer_id, source, number, revision, placed_at, channel, store_id, state,
                           currency, discount_minor, shipping_minor, tax_minor, total_minor, refunded_minor,
                           delivery_method, delivery_carrier, delivery_state, created_at, updated_at
                    from order_history.orders where customer_id = c.customer_id
                    order by placed_at desc, order_id desc limit 10
                ) o) as "latest!: Json<Vec<Head>>",
                (select count(*) from order_history.orders where customer_id = c.customer_id) as "total!"
            from order_history.customers c
            where c.customer_id = any ($1)
            "#,
            ids
        );
        sql("select order_history.orders", query.fetch_all(self.db.pool())).await
    }
}

/// What a section is made of.
pub struct SectionRow {
    pub customer_id: Uuid,
    pub version: i64,
    pub summaries: Json<Vec<SummaryJson>>,
    pub latest: Json<Vec<Head>>,
    pub total: i64,
}

/// A summary as it comes inside a section's row.
#[derive(Deserialize)]
pub struct SummaryJson {
    currency: String,
    order_count: i64,
    gross_minor: i64,
    refunded_minor: i64,
    first_placed_at: DateTime<Utc>,
    last_placed_at: DateTime<Utc>,
}

impl From<SummaryJson> for Summary {
    fn from(row: SummaryJson) -> Self {
        let SummaryJson { currency, order_count, gross_minor, refunded_minor, first_placed_at, last_placed_at } = row;
        Summary { currency, order_count, gross_minor, refunded_minor, first_placed_at, last_placed_at }
    }
}

/// An order without what hangs on it, as listings and sections show it.
#[derive(Deserialize)]
pub struct Head {
    order_id: Uuid,
    customer_id: Uuid,
    source: String,
    number: String,
    revision: i32,
    placed_at: DateTime<Utc>,
    channel: i32,
    store_id: String,
    state: i32,
    currency: String,
    discount_minor: i64,
    shipping_minor: i64,
    tax_minor: i64,
    total_minor: i64,
    refunded_minor: i64,
    delivery_method: Option<String>,
    delivery_carrier: String,
    delivery_state: i32,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl Head {
    pub fn into_proto(self) -> Order {
        let delivery = self.delivery_method.map(|method| Delivery {
            method,
            carrier: self.delivery_carrier,
            state: self.delivery_state,
            ..Default::default()
        });
        Order {
            order_id: self.order_id.to_string(),
            customer_id: self.customer_id.to_string(),
            source: self.source,
            number: self.number,
            revision: self.revision,
            placed_time: Some(timestamp(self.placed_at)),
            channel: self.channel,
            store_id: self.store_id,
            state: self.state,
            currency_code: self.currency,
            discount_minor: self.discount_minor,
            shipping_minor: self.shipping_minor,
            tax_minor: self.tax_minor,
            total_minor: self.total_minor,
            refunded_minor: self.refunded_minor,
            delivery,
            create_time: Some(timestamp(self.created_at)),
            update_time: Some(timestamp(self.updated_at)),
            ..Default::default()
        }
    }
}

/// A whole order.
struct Row {
    head: Json<Head>,
    sealed: Option<Vec<u8>>,
    order_id: Uuid,
    lines: Json<Vec<LineJson>>,
    payments: Json<Vec<PaymentJson>>,
    returns: Json<Vec<ReturnJson>>,
}

#[derive(Deserialize)]
struct LineJson {
    line_number: i32,
    sku: String,
    title: String,
    category_path: Vec<String>,
    brand: String,
    quantity: i64,
    quantity_returned: i64,
    unit_price_minor: Option<i64>,
    discount_minor: i64,
    tax_minor: i64,
    amount_minor: i64,
}

#[derive(Deserialize)]
struct PaymentJson {
    method: String,
    amount_minor: i64,
    state: i32,
}

#[derive(Deserialize)]
struct ReturnJson {
    return_id: Uuid,
    refund_minor: i64,
    reason: String,
    returned_at: DateTime<Utc>,
    lines: Vec<ReturnLineJson>,
}

#[derive(Deserialize)]
struct ReturnLineJson {
    line_number: i32,
    quantity: i64,
}

impl Row {
    async fn select(ids: &[Uuid], executor: impl sqlx::PgExecutor<'_>) -> Result<Vec<Self>> {
        let query = sqlx::query_file_as!(Row, "queries/order.sql", ids);
        sql("select order_history.orders", query.fetch_all(executor)).await
    }

    fn open(self, vault: &Vault) -> Result<Order> {
        let sealed = match &self.sealed {
            Some(sealed) => Order::decode(vault.open(place("orders", self.order_id), sealed)?.as_slice())?,
            None => Order::default(),
        };
        let mut order = self.head.0.into_proto();
        if let (Some(delivery), Some(sealed)) = (&mut order.delivery, sealed.delivery) {
            delivery.address = sealed.address;
            delivery.tracking_number = sealed.tracking_number;
        }
        let mut told_apart = sealed.payments.into_iter();
        order.payments = self.payments.0.into_iter().map(|row| row.into_proto(told_apart.next())).collect();
        order.lines = self.lines.0.into_iter().map(LineJson::into_proto).collect();
        order.returns = self.returns.0.into_iter().map(|row| row.into_proto(self.order_id)).collect();
        Ok(order)
    }
}

impl LineJson {
    fn into_proto(self) -> OrderLine {
        OrderLine {
            line_number: self.line_number,
            sku: self.sku,
            title: self.title,
            category_path: self.category_path,
            brand: self.brand,
            quantity: self.quantity,
            quantity_returned: self.quantity_returned,
            unit_price_minor: self.unit_price_minor,
            discount_minor: self.discount_minor,
            tax_minor: self.tax_minor,
            amount_minor: self.amount_minor,
        }
    }
}

impl PaymentJson {
    fn into_proto(self, sealed: Option<Payment>) -> Payment {
        let sealed = sealed.unwrap_or_default();
        Payment { method: self.method, amount_minor: self.amount_minor, state: self.state, ..sealed }
    }
}

impl ReturnJson {
    fn into_proto(self, order_id: Uuid) -> Return {
        let lines = self.lines.into_iter();
        Return {
            return_id: self.return_id.to_string(),
            order_id: order_id.to_string(),
            refund_minor: self.refund_minor,
            reason: self.reason,
            returned_time: Some(timestamp(self.returned_at)),
            lines: lines.map(|l| ReturnLine { line_number: l.line_number, quantity: l.quantity }).collect(),
        }
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
}

impl OrderColumns {
    fn push(&mut self, vault: &Vault, new: &NewOrder) {
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
        self.sealed.push(seal(vault, new.order_id, order));
    }
}

async fn order_overwrite(tx: &mut Tx, order_id: Uuid, new: &NewOrder) -> Result<()> {
    let order = &new.order;
    let delivery = order.delivery.clone();
    let sealed = seal(tx.vault(), order_id, order);
    let query = sqlx::query!(
        r#"
        update order_history.orders set
            revision = revision + 1, content = $2, placed_at = $3, channel = $4, store_id = $5, state = $6,
            currency = $7, discount_minor = $8, shipping_minor = $9, tax_minor = $10, total_minor = $11,
            delivery_method = $12, delivery_carrier = $13, delivery_state = $14, sealed = $15, updated_at = now()
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
        sealed
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

/// Counts a customer's totals anew from the orders.
async fn summaries_recount(tx: &mut Tx, customer: Uuid) -> Result<()> {
    let query = sqlx::query!("delete from order_history.order_summaries where customer_id = $1", customer);
    sql("delete order_history.order_summaries", query.execute(tx.sql())).await?;
    let query = sqlx::query!(
        r#"
        insert into order_history.order_summaries
            (customer_id, currency, order_count, gross_minor, refunded_minor, first_placed_at, last_placed_at)
        select customer_id, currency, count(*), sum(total_minor)::bigint, sum(refunded_minor)::bigint,
               min(placed_at), max(placed_at)
        from order_history.orders
        where customer_id = $1 and state <> $2
        group by customer_id, currency
        "#,
        customer,
        OrderState::Cancelled as i32
    );
    sql("insert order_history.order_summaries", query.execute(tx.sql())).await?;
    Ok(())
}

/// Writes a return down, line by line, and answers whose it is.
async fn return_insert(tx: &mut Tx, return_id: Uuid, back: &Return) -> Result<(Uuid, i64)> {
    let order_id = uuid(&back.order_id)?;
    let query = sqlx::query_scalar!("select customer_id from order_history.orders where order_id = $1", order_id);
    let customer = sql("select order_history.orders", query.fetch_optional(tx.sql())).await?;
    let customer = customer.ok_or(reason::ORDER_NOT_FOUND)?;
    let version = tx.raise(customer).await?;

    let query = sqlx::query!(
        r#"
        update order_history.orders set refunded_minor = refunded_minor + $2, updated_at = now()
        where order_id = $1 returning currency, state
        "#,
        order_id,
        back.refund_minor
    );
    let order = sql("update order_history.orders", query.fetch_one(tx.sql())).await?;
    let numbers: Vec<i32> = back.lines.iter().map(|line| line.line_number).collect();
    let quantities: Vec<i64> = back.lines.iter().map(|line| line.quantity).collect();
    let query = sqlx::query!(
        r#"
        update order_history.order_lines as line set quantity_returned = quantity_returned + back.quantity
        from unnest($2::integer[], $3::bigint[]) as back (line_number, quantity)
        where line.order_id = $1 and line.line_number = back.line_number
        "#,
        order_id,
        &numbers,
        &quantities
    );
    let updated = sql("update order_history.order_lines", query.execute(tx.sql())).await?;
    if updated.rows_affected() < numbers.len() as u64 {
        return Err(reason::ORDER_LINE_NOT_FOUND.into());
    }
    let returned_at =
        time(back.returned_time).ok_or_else(|| Failure::invalid("return.returned_time", "is not a time"))?;
    let query = sqlx::query!(
        r#"
        insert into order_history.returns (return_id, order_id, refund_minor, reason, returned_at)
        values ($1, $2, $3, $4, $5)
        "#,
        return_id,
        order_id,
        back.refund_minor,
        back.reason,
        returned_at
    );
    sql("insert order_history.returns", query.execute(tx.sql())).await?;
    let query = sqlx::query!(
        r#"
        insert into order_history.return_lines (return_id, order_id, line_number, quantity)
        select $1, $2, line_number, quantity
        from unnest($3::integer[], $4::bigint[]) as back (line_number, quantity)
        "#,
        return_id,
        order_id,
        &numbers,
        &quantities
    );
    sql("insert order_history.return_lines", query.execute(tx.sql())).await?;
    if order.state != OrderState::Cancelled as i32 {
        let query = sqlx::query!(
            r#"
            update order_history.order_summaries set refunded_minor = refunded_minor + $3
            where customer_id = $1 and currency = $2
            "#,
            customer,
            order.currency,
            back.refund_minor
        );
        sql("update order_history.order_summaries", query.execute(tx.sql())).await?;
    }
    Ok((customer, version))
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

/// Seals an order with nothing but where it goes and what tells its payments apart.
fn seal(vault: &Vault, order_id: Uuid, order: &Order) -> Option<Vec<u8>> {
    let personal = Order {
        delivery: order.delivery.as_ref().map(|delivery| Delivery {
            address: delivery.address.clone(),
            tracking_number: delivery.tracking_number.clone(),
            ..Default::default()
        }),
        payments: order
            .payments
            .iter()
            .map(|p| Payment { scheme: p.scheme.clone(), last_four: p.last_four.clone(), ..Default::default() })
            .collect(),
        ..Default::default()
    };
    let empty = personal.delivery.is_none() && personal.payments.is_empty();
    (!empty).then(|| vault.seal(place("orders", order_id), &personal.encode_to_vec()))
}

fn place(table: &'static str, order_id: Uuid) -> Place {
    Place { table, column: "sealed", row: order_id }
}
