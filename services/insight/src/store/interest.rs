//! Who bought some items.

use chrono::NaiveDate;
use store::{Result, sql};
use uuid::Uuid;

use super::Store;

/// What a customer bought of some items, and how strongly that speaks for the customer's interest.
pub struct Interest {
    pub customer_id: Uuid,
    pub score: f64,
    /// The item that counts most, on how many days and when last.
    pub item_id: i32,
    pub days: i64,
    pub last_day: NaiveDate,
}

impl Store {
    /// The customers who bought items that are like something, but none of `had`: the strongest first, at most so many. Likeness is given for each item; a day counts half as much for each `half_life` days before the newest of all.
    pub async fn interests(
        &self,
        items: &[i32],
        likeness: &[f64],
        half_life: f64,
        had: &[i32],
        limit: i64,
    ) -> Result<Vec<Interest>> {
        let query = sqlx::query_file_as!(Interest, "queries/interests.sql", items, likeness, half_life, had, limit);
        sql("select insight.purchase_lines", query.fetch_all(&self.db)).await
    }
}
