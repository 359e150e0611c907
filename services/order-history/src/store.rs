//! The SQL of order-history. This is the one module that seals and opens its columns.

mod orders;
mod returns;
mod row;
mod summaries;

use chrono::{DateTime, Utc};
use proto::{order_history::v1::*, section::v1::Resolution, r#type::v1::Identifier};
use sqlx::types::Json;
use store::{Db, Page, Result, page_size, sql, uuid};
use uuid::Uuid;

pub use self::{
    orders::{NewOrder, Stored},
    row::Head,
};
use self::{row::Row, summaries::SummaryJson};
use crate::reason;

#[derive(Clone)]
pub struct Store {
    pub db: Db,
}

impl Store {
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
                let found = sql("select order_history.orders", query.fetch_optional(&self.db)).await?;
                found.ok_or(reason::ORDER_NOT_FOUND)?
            }
        };
        let mut rows = Row::select(&[order_id], &self.db).await?;
        let row = rows.pop().ok_or(reason::ORDER_NOT_FOUND)?;
        self.db.refuse_erased(&[row.customer_id()]).await?;
        let keys = self.db.unlock(row.sealed()).await?;
        row.open(&keys)
    }

    pub async fn order_list(&self, request: &ListOrdersRequest) -> Result<Page<Order>> {
        self.db.require_of(request.consistency.as_ref(), &[uuid(&request.customer_id)?]).await?;
        let size = page_size(request.page_size, 100);
        let listing = format!("ListOrders {}", request.customer_id);
        let after: Option<(DateTime<Utc>, Uuid)> = self.db.cursor(&listing, &request.page_token)?;
        let (placed_at, order_id) = after.unwrap_or((DateTime::<Utc>::MAX_UTC, Uuid::max()));
        // Postgres has no time as late as chrono's latest.
        let placed_at = placed_at.min(DateTime::from_timestamp(253_402_300_800, 0).unwrap_or_default());
        let customer = uuid(&request.customer_id)?;
        let rows = Head::list(customer, (placed_at, order_id), size + 1, &self.db).await?;
        let page = self.db.page(&listing, rows, size, |row| (row.placed_at, row.order_id));
        let items = page.items.into_iter().map(Head::into_proto).collect();
        Ok(Page { items, next_page_token: page.next_page_token })
    }

    /// The orders of customers.
    pub async fn order_ids(&self, customers: &[Uuid]) -> Result<Vec<Uuid>> {
        let query =
            sqlx::query_scalar!("select order_id from order_history.orders where customer_id = any ($1)", customers);
        sql("select order_history.orders", query.fetch_all(&self.db)).await
    }

    /// Orders without what is sealed. Nothing of who was erased is told.
    pub async fn purchases(&self, ids: &[Uuid]) -> Result<Vec<Order>> {
        let rows = Row::select(ids, &self.db).await?;
        let customers: Vec<Uuid> = rows.iter().map(Row::customer_id).collect();
        let erased = self.db.erased(&customers).await?;
        Ok(rows.into_iter().filter(|row| !erased.contains(&row.customer_id())).map(Row::shut).collect())
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
            join order_history.customers as c using (customer_id)
            where c.state <> 'erased'
            "#,
            &sources,
            &numbers
        );
        let rows = sql("select order_history.orders", query.fetch_all(&self.db)).await?;
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
                (select coalesce(json_agg(to_json(s) order by s.currency), '[]') from (
                    select currency, order_count, gross_minor, refunded_minor, first_placed_at, last_placed_at
                    from order_history.order_summaries where customer_id = c.customer_id order by currency limit 20
                ) s) as "summaries!: Json<Vec<SummaryJson>>",
                (select coalesce(json_agg(to_json(o) order by o.placed_at desc, o.order_id desc), '[]') from (
                    select order_id, customer_id, source, number, revision, placed_at, channel, store_id, state,
                           currency, discount_minor, shipping_minor, tax_minor, total_minor, refunded_minor, source_revision,
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
        sql("select order_history.orders", query.fetch_all(&self.db)).await
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
