//! Values and edges as Postgres gives them.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use proto::insight::v1::{Score, ValueTier};
use serde::Deserialize;
use store::{Result, sql, timestamp};
use uuid::Uuid;

use crate::tier::{self, Edges};

/// What a customer's purchases in one currency come to.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Value {
    pub customer_id: Uuid,
    pub currency: String,
    pub first_day: NaiveDate,
    pub last_day: NaiveDate,
    pub days: i64,
    pub net_minor: i64,
    pub first_day_minor: i64,
    pub recency_score: i32,
    pub frequency_score: i32,
    pub monetary_score: i32,
}

/// The customers who bought in one currency, divided into fifths.
#[derive(Clone)]
pub struct Base {
    pub recency: Edges,
    pub frequency: Edges,
    pub monetary: Edges,
    pub customer_count: i64,
    pub counted_at: DateTime<Utc>,
}

impl Value {
    /// Counts values from purchases until the evening of a day, or from all. They have no scores yet.
    pub async fn count(
        customers: &[Uuid],
        until: Option<NaiveDate>,
        executor: impl sqlx::PgExecutor<'_>,
    ) -> Result<Vec<Self>> {
        let query = sqlx::query_file_as!(Self, "queries/count.sql", customers, until);
        sql("select insight.purchases", query.fetch_all(executor)).await
    }

    /// The last purchase, as a number that is greater when it is later.
    fn recency(&self) -> i64 {
        day_number(self.last_day)
    }

    /// The same value with the scores that a base gives it.
    pub fn scored(mut self, base: &Base) -> Self {
        self.recency_score = tier::score(&base.recency, self.recency());
        self.frequency_score = tier::score(&base.frequency, self.days);
        self.monetary_score = tier::score(&base.monetary, self.net_minor);
        self
    }

    /// As it is shown in a view: edges change without the customer, so they are left out.
    pub fn into_proto(self, today: NaiveDate) -> ValueTier {
        let segment = tier::segment(self.recency_score, self.frequency_score);
        let score = |score, value| Some(Score { score, value, edges: Vec::new() });
        ValueTier {
            as_of_day: today.to_string(),
            tier: tier::tier(segment).into(),
            segment: segment.into(),
            recency: score(self.recency_score, day_number(today) - self.recency()),
            frequency: score(self.frequency_score, self.days),
            monetary: score(self.monetary_score, self.net_minor),
            customer_count: 0,
            counted_time: None,
            currency_code: self.currency,
        }
    }

    /// As it is explained, with the numbers that decided.
    pub fn explained(self, base: &Base, today: NaiveDate) -> ValueTier {
        let mut tier = self.into_proto(today);
        // A base without customers has no edges.
        let edges = |edges: &Edges| edges.iter().copied().filter(|edge| *edge < i64::MAX).collect::<Vec<_>>();
        let put = |score: &mut Option<Score>, edges| score.as_mut().map(|score| score.edges = edges);
        put(&mut tier.recency, edges(&base.recency).into_iter().map(|edge| day_number(today) - edge).collect());
        put(&mut tier.frequency, edges(&base.frequency));
        put(&mut tier.monetary, edges(&base.monetary));
        tier.customer_count = base.customer_count;
        tier.counted_time = Some(timestamp(base.counted_at));
        tier
    }
}

impl Base {
    /// The base that some values make.
    pub fn of(values: &[&Value]) -> Self {
        Self {
            recency: tier::edges(values.iter().map(|value| value.recency()).collect()),
            frequency: tier::edges(values.iter().map(|value| value.days).collect()),
            monetary: tier::edges(values.iter().map(|value| value.net_minor).collect()),
            customer_count: values.len() as i64,
            counted_at: Utc::now(),
        }
    }

    /// The bases of values, by currency.
    pub fn by_currency(values: &[Value]) -> BTreeMap<String, Self> {
        let mut of: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        values.iter().for_each(|value| of.entry(&value.currency).or_default().push(value));
        of.into_iter().map(|(currency, values)| (currency.to_owned(), Self::of(&values))).collect()
    }

    /// The bases that were counted last, by currency.
    pub async fn all(executor: impl sqlx::PgExecutor<'_>) -> Result<BTreeMap<String, Self>> {
        let query = sqlx::query!("select * from insight.edges");
        let rows = sql("select insight.edges", query.fetch_all(executor)).await?;
        // A constraint says that there are four.
        let four = |edges: Vec<i64>| edges.try_into().unwrap_or([i64::MAX; 4]);
        let bases = rows.into_iter().map(|row| {
            let base = Self {
                recency: four(row.recency),
                frequency: four(row.frequency),
                monetary: four(row.monetary),
                customer_count: row.customer_count,
                counted_at: row.counted_at,
            };
            (row.currency, base)
        });
        Ok(bases.collect())
    }

    /// What is scored in a currency that was never counted: everybody is the first.
    pub fn empty() -> Self {
        Self::of(&[])
    }
}

/// Days since 1970-01-01.
pub fn day_number(day: NaiveDate) -> i64 {
    day.signed_duration_since(NaiveDate::default()).num_days()
}
