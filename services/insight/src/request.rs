//! What the contract's rules cannot say.

use chrono::NaiveDate;
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
