//! The base at a glance: all customers by one dimension at a time, told so that nobody stands out.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use access::Call;
use proto::insight::v1::*;
use store::{Result, timestamp};

use crate::{anonymity, reason, store::Store, traits};

/// Two counts are at least so far apart.
const PAUSE: Duration = Duration::from_secs(1);
/// And so many times as long as one takes.
const SHARE: u32 = 50;

/// Counts the base whenever enough has changed, for as long as the pool is open.
pub async fn keep(store: Store, call: Call, k: i64) {
    while !store.db.pool().is_closed() {
        let began = Instant::now();
        if let Err(fault) = store.base_count(&call, k).await {
            tracing::warn!(reason = fault.into_failure().reason().name, "customers could not be counted");
        }
        tokio::time::sleep(PAUSE.max(began.elapsed() * SHARE)).await;
    }
}

/// What may be told of the last count.
pub async fn count(store: &Store, request: &CountCustomersRequest, k: i64) -> Result<CountCustomersResponse> {
    let counted = store.base().await?.filter(|counted| counted.customer_count >= k);
    let mut counted = counted.ok_or(reason::TOO_FEW_CUSTOMERS)?;
    let all = request.dimensions.is_empty() || request.dimensions().any(|asked| asked == Dimension::Unspecified);
    let asked = |dimension: &Dimension| all || request.dimensions().any(|asked| asked == *dimension);
    let dimensions = (1..).map_while(|number| Dimension::try_from(number).ok());
    let counts = dimensions.filter(asked).map(|dimension| {
        let mut counts = counted.counts.remove(&traits::name(dimension)).unwrap_or_default();
        let unknown = counted.customer_count - counts.values().sum::<i64>();
        if unknown > 0 {
            counts.insert(String::new(), unknown);
        }
        DimensionCount { dimension: dimension.into(), values: told(&counts, k) }
    });
    Ok(CountCustomersResponse {
        counts: counts.collect(),
        customer_count: counted.customer_count,
        counted_time: Some(timestamp(counted.counted_at)),
        min_group_size: k as i32,
    })
}

fn told(counts: &BTreeMap<String, i64>, k: i64) -> Vec<ValueCount> {
    let told = anonymity::values(counts, k);
    let (mut values, mut merged) = (Vec::new(), 0);
    for (value, customer_count) in counts {
        if told.contains(value.as_str()) {
            values.push(ValueCount { value: value.clone(), merged: false, customer_count: *customer_count });
        } else {
            merged += customer_count;
        }
    }
    values.sort_by_key(|value| std::cmp::Reverse(value.customer_count));
    if merged > 0 {
        values.push(ValueCount { value: String::new(), merged: true, customer_count: merged });
    }
    values
}
