//! What was bought in one month.

use chrono::{DateTime, Utc};
use store::{Result, sql};
use uuid::Uuid;

use super::Store;

/// One line of a purchase.
pub struct Line {
    pub order_id: Uuid,
    pub customer_id: Uuid,
    pub item_id: i32,
    pub quantity: i64,
    pub amount_minor: i64,
    /// The store, the number of the channel, or the customer's value of a dimension.
    pub value: String,
    pub placed_at: DateTime<Utc>,
    /// The customer's, if it was asked for.
    pub time_zone: String,
}

impl Store {
    /// Everything that was bought in a currency from one moment until before another. Each with the value of `side`: `store`,
    /// `channel`, or a dimension of customers; and with the customer's value of another one, `zone`.
    pub async fn lines(
        &self,
        currency: &str,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
        side: &str,
        zone: &str,
    ) -> Result<Vec<Line>> {
        let query = sqlx::query_as!(
            Line,
            r#"
            select
                p.order_id, p.customer_id, l.item_id, l.quantity, l.amount_minor,
                coalesce(case $4 when 'store' then p.store_id when 'channel' then p.channel::text else t.value end, '')
                    as "value!",
                p.placed_at, coalesce(z.value, '') as "time_zone!"
            from insight.purchases p
            join insight.purchase_lines l using (order_id)
            left join insight.traits t on t.customer_id = p.customer_id and t.dimension = $4
            left join insight.traits z on z.customer_id = p.customer_id and z.dimension = $5
            where p.currency = $1 and p.placed_at >= $2 and p.placed_at < $3
            "#,
            currency,
            from,
            until,
            side,
            zone
        );
        sql("select insight.purchase_lines", query.fetch_all(&self.db)).await
    }
}
