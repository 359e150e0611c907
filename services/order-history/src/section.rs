use std::collections::HashMap;

use chrono::Utc;
use proto::{order_history::v1::OrderHistorySection, section::v1::Section};
use store::{Body, Result, in_order};
use uuid::Uuid;

use crate::{
    store::{Head, Store},
    summary::Summary,
};

/// The sections of up to 256 customers, by one query.
pub async fn load(store: Store, ids: Vec<Uuid>) -> Result<Vec<Section>> {
    let mut bodies = HashMap::new();
    for row in store.section_rows(&ids).await? {
        let summaries = row.summaries.0.into_iter().map(|summary| Summary::from(summary).into_proto());
        let section = OrderHistorySection {
            summaries: summaries.collect(),
            latest_orders: row.latest.0.into_iter().map(Head::into_proto).collect(),
            // `as`: a customer has fewer than two thousand million orders.
            total_size: row.total as i32,
        };
        bodies.insert(row.customer_id, Body::lasting(row.version, Ok(section)));
    }
    Ok(in_order(&ids, Utc::now(), &bodies))
}
