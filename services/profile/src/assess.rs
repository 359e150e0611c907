//! The heart of the assessment: how complete a profile is, what to ask next and what to ask again. Pure.

use chrono::{DateTime, TimeDelta, Utc};
use proto::profile::v1::{AssessProfileResponse, StaleField};
use store::timestamp;

use crate::evidence::Weights;

/// What is worth knowing: how much of a hundred, and for how many years it holds once it was said.
const WORTH: [(&str, i32, Option<i64>); 11] = [
    ("name.given_name", 15, None),
    ("name.family_name", 15, None),
    ("birth_date", 12, None),
    ("language", 12, None),
    ("region", 10, Some(2)),
    ("occupation", 8, Some(2)),
    ("preferences", 8, Some(1)),
    ("time_zone", 5, None),
    ("marital_status", 5, Some(2)),
    ("children", 5, Some(2)),
    ("education", 5, Some(5)),
];

/// The assessment at an instant. Of a list the latest that was said counts.
pub fn assess(weights: &Weights, now: DateTime<Utc>) -> AssessProfileResponse {
    let mut assessment = AssessProfileResponse::default();
    let mut stale = Vec::new();
    for (field, worth, years) in WORTH {
        let of = |part: &str| part == field || part.split_once('.').is_some_and(|(list, _)| list == field);
        let said = weights.iter().filter(|(part, _)| of(part)).map(|(_, weight)| weight.observed_us).max();
        let Some(observed) = said.and_then(DateTime::from_timestamp_micros) else {
            assessment.missing_fields.push(field.to_owned());
            continue;
        };
        assessment.completeness_percent += worth;
        let overdue = years.map(|years| now - observed - TimeDelta::days(365 * years));
        stale.extend(overdue.filter(|overdue| *overdue > TimeDelta::zero()).map(|overdue| (overdue, field, observed)));
    }
    stale.sort_by_key(|(overdue, ..)| std::cmp::Reverse(*overdue));
    let field = |(_, field, observed): (_, &str, _)| StaleField {
        field: field.to_owned(),
        observed_time: Some(timestamp(observed)),
    };
    assessment.stale_fields = stale.into_iter().map(field).collect();
    assessment
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{FIELDS, Weight};

    fn said(fields: &[(&str, i64)], now: DateTime<Utc>) -> Weights {
        let weight = |days: i64| {
            let observed_us = (now - TimeDelta::days(days)).timestamp_micros();
            Weight { source: 5, observed_us, confidence: 100, tie: 0 }
        };
        fields.iter().map(|(field, days)| ((*field).to_owned(), weight(*days))).collect()
    }

    #[test]
    fn everything_is_a_hundred_and_nothing_is_none() {
        let now = Utc::now();
        assert_eq!(assess(&Weights::new(), now).completeness_percent, 0);
        let all: Vec<(&str, i64)> = FIELDS.into_iter().map(|field| (field, 0)).collect();
        let assessment = assess(&said(&all, now), now);
        assert_eq!(assessment.completeness_percent, 100);
        assert!(assessment.missing_fields.is_empty() && assessment.stale_fields.is_empty());
        assert!(WORTH.is_sorted_by_key(|(_, worth, _)| std::cmp::Reverse(*worth)));
        assert!(WORTH.into_iter().all(|(field, ..)| FIELDS.contains(&field)));
    }

    #[test]
    fn what_was_said_long_ago_is_asked_again_the_most_overdue_first() {
        let now = Utc::now();
        let weights = said(&[("region", 731), ("preferences.1", 400), ("preferences.2", 500), ("language", 9999)], now);
        let assessment = assess(&weights, now);
        let stale: Vec<&str> = assessment.stale_fields.iter().map(|stale| stale.field.as_str()).collect();
        assert_eq!((assessment.completeness_percent, stale), (30, vec!["preferences", "region"]));
        assert_eq!(assessment.missing_fields[0], "name.given_name");
    }
}
