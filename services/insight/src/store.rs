//! The SQL of insight.

mod bases;
mod demand;
mod interest;
mod items;
mod models;
pub mod purchases;
mod row;
mod tiers;
pub mod traits;

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use proto::insight::v1::FollowedFeed;
use serde::Deserialize;
use sqlx::types::Json;
use store::{Db, Result, sql, timestamp};
use uuid::Uuid;

pub use self::{
    demand::Line,
    interest::Interest,
    models::Model,
    row::{Base, Value, day_number},
};
use crate::holidays::Holidays;

#[derive(Clone)]
pub struct Store {
    pub db: Db,
    pub holidays: Arc<Holidays>,
}

/// What a section is made of.
pub struct SectionRow {
    pub customer_id: Uuid,
    pub version: i64,
    pub values: Json<Vec<Valued>>,
    pub total: i64,
}

/// A value with the newest model of its currency.
#[derive(Deserialize)]
pub struct Valued {
    #[serde(flatten)]
    pub value: Value,
    pub model: Option<Model>,
}

impl Store {
    /// What a section needs of each customer, by one statement.
    pub async fn section_rows(&self, ids: &[Uuid]) -> Result<Vec<SectionRow>> {
        let query = sqlx::query_as!(
            SectionRow,
            r#"
            select
                c.customer_id, c.version,
                (select coalesce(json_agg(to_json(v) order by v.currency), '[]') from (
                    select v.*, (
                        select to_json(m) from insight.lifetime_models m
                        where m.currency = v.currency order by m.as_of_day desc limit 1) as model
                    from insight.customer_values v where v.customer_id = c.customer_id order by v.currency limit 20
                ) v) as "values!: Json<Vec<Valued>>",
                (select count(*) from insight.customer_values where customer_id = c.customer_id) as "total!"
            from insight.customers c
            where c.customer_id = any ($1)
            "#,
            ids
        );
        sql("select insight.customer_values", query.fetch_all(&self.db)).await
    }

    /// How far each feed was followed.
    pub async fn progress(&self, service: &str) -> Result<Vec<FollowedFeed>> {
        let query =
            sqlx::query!("select feed, followed_at from insight.cursors where $1 in ('', feed) order by feed", service);
        let rows = sql("select cursors", query.fetch_all(&self.db)).await?;
        let feed =
            |(service, at): (String, Option<DateTime<Utc>>)| FollowedFeed { service, followed_time: at.map(timestamp) };
        Ok(rows.into_iter().map(|row| feed((row.feed, row.followed_at))).collect())
    }

    /// The edges that scores are kept by.
    pub async fn bases(&self) -> Result<BTreeMap<String, Base>> {
        Base::all(&self.db).await
    }
}
