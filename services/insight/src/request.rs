//! What the contract's rules cannot say.

use chrono::{Datelike, Months, NaiveDate, Utc};
use error::{Failure, Violations};
use proto::{insight::v1::*, section::v1::ResolveIdentifiersRequest};

/// No identifier leads to a customer by what is concluded.
pub fn resolve(request: &ResolveIdentifiersRequest, violations: &mut Violations) {
    for i in 0..request.identifiers.len() {
        violations.add(format!("identifiers[{i}]"), "is of a kind that insight does not know");
    }
}

pub fn get_value_tier(request: &GetValueTierRequest, violations: &mut Violations) {
    check_day(&request.as_of_day, violations);
}

pub fn batch_get_value_tiers(request: &BatchGetValueTiersRequest, violations: &mut Violations) {
    check_day(&request.as_of_day, violations);
}

pub fn count_value_tiers(request: &CountValueTiersRequest, violations: &mut Violations) {
    check_day(&request.as_of_day, violations);
}

pub fn fit_lifetime_model(request: &FitLifetimeModelRequest, violations: &mut Violations) {
    check_day(&request.as_of_day, violations);
}

pub fn get_lifetime_model(request: &GetLifetimeModelRequest, violations: &mut Violations) {
    check_day(&request.as_of_day, violations);
}

pub fn batch_get_predictions(request: &BatchGetPredictionsRequest, violations: &mut Violations) {
    check_day(&request.as_of_day, violations);
}

fn check_day(text: &str, violations: &mut Violations) {
    if !text.is_empty() && text.parse::<NaiveDate>().is_err() {
        violations.add("as_of_day", "is not a day");
    }
}

/// A day that was checked; `None` for the present.
pub fn day(text: &str) -> Result<Option<NaiveDate>, Failure> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| Failure::invalid("as_of_day", "is not a day")),
    }
}

/// Months that have ended, from the first to the last, by their first days.
#[derive(Clone, Copy)]
pub struct Span {
    pub first: NaiveDate,
    pub last: NaiveDate,
}

/// So many months are told at once.
const MONTHS: usize = 24;

impl Span {
    pub fn of(request: &GetDemandRequest) -> Self {
        let day = |month: &str| format!("{month}-01").parse::<NaiveDate>().ok();
        let newest = newest_month();
        let last = day(&request.last_month).unwrap_or(newest);
        let year = last.checked_sub_months(Months::new(11)).unwrap_or(last);
        Self { first: day(&request.first_month).unwrap_or(year), last }
    }

    pub fn months(self) -> impl Iterator<Item = NaiveDate> {
        let next = |month: &NaiveDate| month.checked_add_months(Months::new(1));
        std::iter::successors(Some(self.first), next).take_while(move |month| *month <= self.last)
    }
}

/// The last month that has ended.
fn newest_month() -> NaiveDate {
    let today = Utc::now().date_naive();
    today.with_day(1).and_then(|first| first.checked_sub_months(Months::new(1))).unwrap_or(today)
}

pub fn get_demand(request: &GetDemandRequest, violations: &mut Violations) {
    let span = Span::of(request);
    if span.last > newest_month() {
        violations.add("last_month", "has not ended");
    }
    if span.first > span.last {
        violations.add("first_month", "is after the last");
    } else if span.months().nth(MONTHS).is_some() {
        violations.add("first_month", "is more than 23 months before the last");
    }
}
