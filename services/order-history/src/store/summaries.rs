//! The totals of a customer, one row a currency.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use proto::order_history::v1::*;
use serde::Deserialize;
use store::{Result, Tx, sql, uuid};
use uuid::Uuid;

use super::Store;
use crate::summary::Summary;

impl Store {
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
    /// Counts a customer's totals anew from the orders.
    pub async fn summaries_recount(tx: &mut Tx, customer: Uuid) -> Result<()> {
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

    pub async fn summary_get(&self, request: &GetOrderSummaryRequest) -> Result<Vec<OrderSummary>> {
        self.db.require_of(request.consistency.as_ref(), &[uuid(&request.customer_id)?]).await?;
        let query = sqlx::query_as!(
            Summary,
            r#"
            select currency, order_count, gross_minor, refunded_minor, first_placed_at, last_placed_at
            from order_history.order_summaries where customer_id = $1 order by currency
            "#,
            uuid(&request.customer_id)?
        );
        let rows = sql("select order_history.order_summaries", query.fetch_all(&self.db)).await?;
        Ok(rows.into_iter().map(Summary::into_proto).collect())
    }
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
