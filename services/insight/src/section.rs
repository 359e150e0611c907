use std::collections::HashMap;

use chrono::{Days, NaiveTime, Utc};
use prost::Message;
use proto::{
    insight::v1::{AffinityKind, Horizon, InsightSection},
    section::v1::Section,
};
use store::{Body, Result, in_order};
use uuid::Uuid;

use crate::{
    habit, prediction,
    store::{Store, Valued, traits::habits},
};

/// So many categories are shown.
const SHOWN: usize = 3;

/// The sections of up to 256 customers, by two statements. They hold until the end of the day: another day is another recency.
pub async fn load(store: Store, ids: Vec<Uuid>) -> Result<Vec<Section>> {
    let as_of = Utc::now();
    let today = as_of.date_naive();
    let tomorrow = today.checked_add_days(Days::new(1)).map(|day| day.and_time(NaiveTime::MIN).and_utc());
    let mut bodies = HashMap::new();
    let rows = store.section_rows(&ids).await?;
    // Read behind the versions, so that none is ever told with less than it stands for.
    let mut habits = habits(&ids, habit::LATELY, true, &store.holidays, &store.db).await?;
    for row in rows {
        let mut section = InsightSection { value_tier_total_size: row.total as i32, ..Default::default() };
        for Valued { value, model } in row.values.0 {
            if let Some(model) = model {
                section.predictions.push(prediction::prediction(&model, &value, today, &Horizon::default())?);
            }
            section.value_tiers.push(value.into_proto(today));
        }
        if let Some(habits) = habits.remove(&row.customer_id) {
            section.affinities = habits.affinities(|kind| if kind == AffinityKind::Category { SHOWN } else { 1 });
            section.next_purchases = habits.next(SHOWN);
        }
        let body = Ok(section.encode_to_vec());
        bodies.insert(row.customer_id, Body { version: row.version, valid_until: tomorrow, body });
    }
    Ok(in_order(&ids, as_of, &bodies))
}
