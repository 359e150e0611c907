//! Answers about demand: what was bought month by month, divided by one of its sides, and where it goes.

mod forecast;
mod month;
mod trend;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    sync::Arc,
};

use chrono::{DateTime, Months, NaiveDate, NaiveTime, Utc};
use chrono_tz::Tz;
use proto::{
    insight::v1::{DemandDivision as Division, *},
    order_history::v1::SalesChannel,
};
use store::Result;
use tokio::sync::Semaphore;

use self::{
    forecast::forecast,
    month::{Month, Name, Sale, Step},
    trend::trend,
};
use crate::{
    catalogue::Item,
    holidays::Holidays,
    reason, recommendation,
    request::Span,
    store::{Line, Store},
    traits::{name, short},
};

/// So many are told apart at most.
const TOLD: usize = 1000;
/// A month of lines lies in memory while it is counted, so one call is answered after the other.
static ONE: Semaphore = Semaphore::const_new(1);

/// Answers what the demand was in the months of a span.
pub async fn get(store: &Store, request: &GetDemandRequest, span: Span, k: usize) -> Result<GetDemandResponse> {
    let _alone = ONE.acquire().await.map_err(|_| reason::INTERNAL_ERROR)?;
    let division = request.division();
    if division == Division::Holiday && store.holidays.is_empty() {
        return Err(reason::HOLIDAYS_NOT_CONFIGURED.into());
    }
    let items = Arc::new(store.items().await?);
    let way: Vec<Step> = match request.sku.as_str() {
        "" => request.category_path.iter().cloned().map(Step::Category).collect(),
        sku => {
            let item = items.values().find(|item| item.sku == sku).ok_or(reason::ITEM_NOT_FOUND)?;
            let path = item.category_path.iter().cloned().map(Step::Category);
            path.chain([Step::Sku(sku.to_owned())]).collect()
        }
    };
    let mut months = Vec::new();
    for month in span.months() {
        let (from, until) = (midnight(month), midnight(month + Months::new(1)));
        let (side, zone) = sides(division);
        let lines = store.lines(&request.currency_code, from, until, &side, &zone).await?;
        let (items, way, holidays) = (items.clone(), way.clone(), store.holidays.clone());
        let counted = tokio::task::spawn_blocking(move || {
            Month::of(&sales(&lines, &items, &holidays, division), &way, division, k)
        });
        months.push((month, counted.await.map_err(|_| reason::INTERNAL_ERROR)?));
    }
    merge_beyond(&mut months);

    let mut series: BTreeMap<Name, Vec<DemandMonth>> = BTreeMap::new();
    let mut merged = Vec::new();
    for (month, counted) in months {
        counted.told.into_iter().for_each(|(name, sums)| series.entry(name).or_default().push(sums.told(month)));
        if !counted.merged.is_empty() {
            merged.push(counted.merged.told(month));
        }
    }
    let by_sku: HashMap<&str, &Item> = items.values().map(|item| (item.sku.as_str(), item)).collect();
    let mut demands: Vec<Demand> = series
        .into_iter()
        .map(|((category_path, value), months)| {
            let sold = (division == Division::Item).then(|| match by_sku.get(value.as_str()) {
                Some(item) => recommendation::item(item),
                None => proto::insight::v1::Item { category_path, ..Default::default() },
            });
            let value = if sold.is_some() { String::new() } else { value };
            Demand {
                value,
                item: sold,
                merged: false,
                trend: trend(&months, span),
                forecast: forecast(&months, span),
                months,
            }
        })
        .collect();
    demands.sort_by_key(|demand| std::cmp::Reverse(demand.months.iter().map(|month| month.net_minor).sum::<i64>()));
    if !merged.is_empty() {
        demands.push(Demand { merged: true, months: merged, ..Default::default() });
    }
    Ok(GetDemandResponse { demands, min_group_size: k as i32 })
}

fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

/// What the store must say beside each line, and where the customer's clock is if that counts.
fn sides(division: Division) -> (String, String) {
    let side = match division {
        Division::Store => "store".to_owned(),
        Division::SalesChannel => "channel".to_owned(),
        Division::Region | Division::Holiday => name(Dimension::Region),
        Division::AgeBand => name(Dimension::AgeBand),
        Division::Gender => name(Dimension::Gender),
        Division::Unspecified | Division::Item | Division::Brand => String::new(),
    };
    let zone = (division == Division::Holiday).then(|| name(Dimension::TimeZone));
    (side, zone.unwrap_or_default())
}

fn sales<'a>(lines: &[Line], items: &'a BTreeMap<i32, Item>, holidays: &Holidays, division: Division) -> Vec<Sale<'a>> {
    let (mut customers, mut baskets) = (HashMap::new(), HashMap::new());
    let sale = |line: &Line| {
        let item = items.get(&line.item_id)?;
        let value = match division {
            Division::SalesChannel => {
                let channel = line.value.parse().ok().and_then(|number: i32| SalesChannel::try_from(number).ok());
                short(channel.unwrap_or_default().as_str_name(), "SALES_CHANNEL_")
            }
            Division::Brand => item.brand.clone(),
            Division::Holiday => {
                let zone = line.time_zone.parse().unwrap_or(Tz::UTC);
                holidays.on(&line.value, line.placed_at.with_timezone(&zone).date_naive()).to_owned()
            }
            _ => line.value.clone(),
        };
        let (quantity, net_minor) = (line.quantity, line.amount_minor);
        let (customer, basket) = (number(&mut customers, line.customer_id), number(&mut baskets, line.order_id));
        Some(Sale { customer, basket, item, value, quantity, net_minor })
    };
    lines.iter().filter_map(sale).collect()
}

/// The number of a key, which is the next one for a new key.
fn number<K: Eq + Hash>(numbers: &mut HashMap<K, u32>, key: K) -> u32 {
    let next = numbers.len() as u32;
    *numbers.entry(key).or_insert(next)
}

/// Merges what is beyond the greatest of all.
fn merge_beyond(months: &mut [(NaiveDate, Month)]) {
    let mut totals: BTreeMap<&Name, i64> = BTreeMap::new();
    for (name, sums) in months.iter().flat_map(|(_, month)| &month.told) {
        *totals.entry(name).or_default() += sums.net_minor;
    }
    let mut greatest: Vec<(&Name, i64)> = totals.into_iter().collect();
    greatest.sort_by_key(|(_, net)| std::cmp::Reverse(*net));
    let beyond: BTreeSet<Name> = greatest.into_iter().skip(TOLD).map(|(name, _)| name.clone()).collect();
    for (_, month) in months {
        for name in &beyond {
            month.told.remove(name).into_iter().for_each(|sums| month.merged.join(sums));
        }
    }
}
