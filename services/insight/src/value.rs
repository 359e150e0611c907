//! Answers about value tiers: from the scores that are kept, or from a count of the whole base as of a day.

use std::collections::BTreeMap;

use chrono::{NaiveDate, Utc};
use proto::insight::v1::*;
use store::Result;
use uuid::Uuid;

use crate::{
    store::{Base, Store, Value},
    tier,
};

/// The tiers of customers, in the order of their ids.
pub async fn tiers(store: &Store, ids: &[Uuid], as_of: Option<NaiveDate>) -> Result<Vec<GetValueTierResponse>> {
    let (values, bases) = match as_of {
        None => (store.values(ids).await?, store.bases().await?),
        Some(_) => {
            let (values, bases) = counted(store, as_of).await?;
            (values.into_iter().filter(|value| ids.contains(&value.customer_id)).collect(), bases)
        }
    };
    let (today, empty) = (as_of.unwrap_or_else(|| Utc::now().date_naive()), Base::empty());
    let mut tiers: BTreeMap<Uuid, Vec<ValueTier>> = BTreeMap::new();
    for value in values {
        let (customer, base) = (value.customer_id, bases.get(&value.currency).unwrap_or(&empty));
        tiers.entry(customer).or_default().push(value.explained(base, today));
    }
    let answer = |id: &Uuid| GetValueTierResponse { value_tiers: tiers.get(id).cloned().unwrap_or_default() };
    Ok(ids.iter().map(answer).collect())
}

/// How many customers are in each tier and cell of a currency.
pub async fn count(store: &Store, currency: &str, as_of: Option<NaiveDate>) -> Result<CountValueTiersResponse> {
    let values = match as_of {
        None => store.all_values(None).await?,
        Some(_) => counted(store, as_of).await?.0,
    };
    let mut cells: BTreeMap<(i32, i32), (i64, i64)> = BTreeMap::new();
    for value in values.iter().filter(|value| value.currency == currency) {
        let (count, net) = cells.entry((value.recency_score, value.frequency_score)).or_default();
        (*count, *net) = (*count + 1, *net + value.net_minor);
    }
    let mut reply = CountValueTiersResponse::default();
    let mut tiers: BTreeMap<Tier, (i64, i64)> = BTreeMap::new();
    for ((recency_score, frequency_score), (customer_count, net_minor)) in cells {
        let segment = tier::segment(recency_score, frequency_score);
        let (count, net) = tiers.entry(tier::tier(segment)).or_default();
        (*count, *net) = (*count + customer_count, *net + net_minor);
        reply.customer_count += customer_count;
        let segment = segment.into();
        reply.cells.push(ValueCell { recency_score, frequency_score, segment, customer_count, net_minor });
    }
    let tier =
        |(tier, (customer_count, net_minor)): (Tier, _)| TierCount { tier: tier.into(), customer_count, net_minor };
    reply.tiers = tiers.into_iter().map(tier).collect();
    Ok(reply)
}

/// Everybody as of a day, with the scores of that day.
async fn counted(store: &Store, as_of: Option<NaiveDate>) -> Result<(Vec<Value>, BTreeMap<String, Base>)> {
    let values = store.all_values(as_of).await?;
    let bases = Base::by_currency(&values);
    let scored = values.into_iter().map(|value| {
        let base = &bases[&value.currency];
        value.scored(base)
    });
    Ok((scored.collect(), bases))
}
