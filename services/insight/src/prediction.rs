//! Answers about what to expect: from the model of a currency and from when and for how much a customer bought.

use std::{collections::BTreeMap, time::Duration};

use access::Call;
use chrono::{Days, NaiveDate, Utc};
use iso_currency::Currency;
use proto::insight::v1::*;
use store::{Fault, Result, uuid};
use uuid::Uuid;

use crate::{
    lifetime::{self, History, PurchaseModel, SpendModel, Spending, WEEK},
    reason,
    store::{Model, Store, Value},
};

/// It is looked so often whether a model should be fitted.
const LOOK: Duration = Duration::from_secs(60);

/// So many repeats are told apart in what a model makes of the past.
const REPEATS: usize = 7;

/// Fits the model of a currency to what was bought until the evening of a day, and stores it. Answers it with what it makes of
/// that.
pub async fn fit(store: &Store, call: &Call, currency: &str, day: NaiveDate) -> Result<(Model, Vec<RepeatCount>)> {
    let mut values = store.all_values(Some(day)).await?;
    values.retain(|value| value.currency == currency);
    let unit = unit(currency);
    let histories: Vec<History> = values.iter().map(|value| value.history(day)).collect();
    let spendings: Vec<Spending> = values.iter().map(|value| value.spending(unit)).collect();
    let repeats = histories.iter().filter(|history| history.repeats > 0.0).count();
    // It keeps a core busy, which no other call should wait for.
    let fitted = tokio::task::spawn_blocking(move || {
        let purchases = PurchaseModel::fit(&histories)?;
        let counts = repeat_counts(&PurchaseModel::of(&purchases.parameters), &histories);
        Some((purchases, counts, SpendModel::fit(&spendings)))
    });
    let (purchases, counts, spend) = fitted.await.map_err(|_| reason::INTERNAL_ERROR)?.ok_or(reason::NO_MODEL)?;
    let customers = (values.len() as i64, repeats as i64);
    let model = store.model_put(&call.renewed(), Model::new(currency, day, customers, purchases, spend)).await?;
    Ok((model, counts))
}

/// How often customers came back, and how often they would have by the model.
fn repeat_counts(model: &PurchaseModel, histories: &[History]) -> Vec<RepeatCount> {
    // Many were seen for as long.
    let mut seen: BTreeMap<u64, f64> = BTreeMap::new();
    let mut customers = [0; REPEATS + 1];
    for history in histories {
        *seen.entry(history.seen.to_bits()).or_default() += 1.0;
        customers[(history.repeats as usize).min(REPEATS)] += 1;
    }
    let mut expected = [0.0; REPEATS + 1];
    for (weeks, n) in seen {
        let probabilities = model.probabilities(f64::from_bits(weeks), REPEATS);
        expected.iter_mut().zip(probabilities).for_each(|(sum, probability)| *sum += n * probability);
    }
    let count = |(repeat_count, (customer_count, expected_customer_count))| RepeatCount {
        repeat_count,
        customer_count,
        expected_customer_count,
    };
    (0..).zip(customers.into_iter().zip(expected)).map(count).collect()
}

/// Fits a model for each currency once a day, and again on a day on which the customers have doubled; for as long as the
/// pool is open.
pub async fn keep_fitted(store: Store, call: Call) {
    let mut tried: BTreeMap<String, (NaiveDate, i64)> = BTreeMap::new();
    while !store.db.pool().is_closed() {
        let bases = store.bases().await.unwrap_or_default();
        let yesterday = yesterday();
        for (currency, base) in bases {
            let due = |(day, count): &(NaiveDate, i64)| *day < yesterday || base.customer_count >= 2 * count;
            if !tried.get(&currency).is_none_or(due) {
                continue;
            }
            tried.insert(currency.clone(), (yesterday, base.customer_count));
            match fit(&store, &call, &currency, yesterday).await {
                Ok(_) => tracing::info!(currency, customers = base.customer_count, "a model was fitted"),
                Err(Fault::Refused(failure)) if failure.reason() == reason::NO_MODEL => (),
                Err(fault) => {
                    tracing::warn!(currency, reason = fault.into_failure().reason().name, "no model could be fitted");
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What is expected of customers, in the order of their ids.
pub async fn predict(
    store: &Store,
    request: &BatchGetPredictionsRequest,
    as_of: Option<NaiveDate>,
) -> Result<Vec<PredictionResult>> {
    let ids = request.customer_ids.iter().map(|id| uuid(id)).collect::<Result<Vec<_>>>()?;
    let (currency, horizon) = (&request.currency_code, request.horizon.unwrap_or_default());
    let model = store.model(currency, as_of).await?;
    let day = as_of.unwrap_or_else(|| Utc::now().date_naive());
    let values = match as_of {
        None => store.values(&ids).await?,
        Some(day) => Value::count(&ids, Some(day), &store.db).await?,
    };
    let of_currency = values.iter().filter(|value| value.currency == *currency);
    let predictions = of_currency.map(|value| Ok((value.customer_id, prediction(&model, value, day, &horizon)?)));
    let predictions = predictions.collect::<Result<BTreeMap<Uuid, Prediction>>>()?;
    Ok(ids.iter().map(|id| PredictionResult { prediction: predictions.get(id).cloned() }).collect())
}

/// What is expected of one customer from the day on.
pub fn prediction(model: &Model, value: &Value, day: NaiveDate, horizon: &Horizon) -> Result<Prediction> {
    let (purchases, unit) = (model.purchases()?, unit(&value.currency));
    let (history, spending) = (value.history(day), value.spending(unit));
    let or = |number: i32, default: i32| if number == 0 { default } else { number };
    let (days, months) = (or(horizon.days, 365), or(horizon.months, 12));
    let spend = model.spend().and_then(|spend| spend.expected_spend(&spending));
    let worth =
        |spend| lifetime::value(&purchases, &history, spend, months.unsigned_abs(), horizon.monthly_discount) * unit;
    Ok(Prediction {
        currency_code: value.currency.clone(),
        as_of_day: day.to_string(),
        model_day: model.as_of_day.to_string(),
        repeat_count: value.days - 1,
        last_days: (value.last_day - value.first_day).num_days(),
        seen_days: (day - value.first_day).num_days(),
        mean_repeat_minor: spending.mean * unit,
        probability_alive: purchases.probability_alive(&history),
        expected_purchases: purchases.expected_purchases(&history, f64::from(days) / WEEK),
        expected_spend_minor: spend.map(|spend| spend * unit),
        lifetime_value_minor: spend.map(worth),
    })
}

/// The last day that is over.
pub fn yesterday() -> NaiveDate {
    Utc::now().date_naive() - Days::new(1)
}

/// How many minor units a whole one has.
fn unit(currency: &str) -> f64 {
    let exponent = Currency::from_code(currency).and_then(|currency| currency.exponent()).unwrap_or(2);
    10_f64.powi(exponent.into())
}

impl Value {
    /// When the customer bought, seen until the evening of a day.
    fn history(&self, day: NaiveDate) -> History {
        let weeks = |days: i64| days as f64 / WEEK;
        History {
            repeats: (self.days - 1) as f64,
            last: weeks((self.last_day - self.first_day).num_days()),
            // Who buys ahead of the clock was seen until then.
            seen: weeks((day.max(self.last_day) - self.first_day).num_days()),
        }
    }

    /// What the customer spent on days after the first, in whole units.
    fn spending(&self, unit: f64) -> Spending {
        let repeats = (self.days - 1) as f64;
        let spent = (self.net_minor - self.first_day_minor) as f64 / unit;
        Spending { repeats, mean: if repeats > 0.0 { spent / repeats } else { 0.0 } }
    }
}
