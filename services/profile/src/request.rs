//! What the contract's rules cannot say: checks of requests, and what an update mask changes.

use std::collections::HashSet;

use chrono::NaiveDate;
use error::Violations;
use proto::{profile::v1::*, section::v1::ResolveIdentifiersRequest, r#type::v1::PartialDate};

pub fn create(request: &CreateProfileRequest, violations: &mut Violations) {
    let Some(profile) = &request.profile else { return };
    facts("profile.", profile, violations);
    let mut seen = HashSet::new();
    for (i, external_id) in profile.external_ids.iter().enumerate() {
        if !seen.insert((&external_id.system, &external_id.id)) {
            violations.add(format!("profile.external_ids[{i}]"), "is given twice");
        }
    }
}

pub fn update(request: &UpdateProfileRequest, violations: &mut Violations) {
    let (Some(profile), Some(mask)) = (&request.profile, &request.update_mask) else { return };
    if mask.paths.is_empty() {
        violations.add("update_mask", "must name at least one field");
    }
    for path in &mask.paths {
        if !apply(path, profile, &mut Profile::default()) {
            violations.add("update_mask", "names a field that cannot be changed here");
        }
    }
}

pub fn resolve(request: &ResolveIdentifiersRequest, violations: &mut Violations) {
    for (i, identifier) in request.identifiers.iter().enumerate() {
        if identifier.customer_id.is_empty() && identifier.external_id.is_none() {
            violations.add(format!("identifiers[{i}]"), "is of a kind that profile does not know");
        }
    }
}

/// Copies the field that a mask's path names. False when there is no such field to change.
pub fn apply(path: &str, from: &Profile, to: &mut Profile) -> bool {
    if let Some(part) = path.strip_prefix("name.") {
        let from = from.name.clone().unwrap_or_default();
        return apply_name(part, from, to.name.get_or_insert_default());
    }
    match path {
        "name" => to.name = from.name.clone(),
        "birth_date" => to.birth_date = from.birth_date,
        "gender" => to.gender = from.gender,
        "gender_description" => to.gender_description = from.gender_description.clone(),
        "language" => to.language = from.language.clone(),
        "time_zone" => to.time_zone = from.time_zone.clone(),
        "region" => to.region = from.region.clone(),
        _ => return false,
    }
    true
}

fn apply_name(part: &str, from: PersonName, to: &mut PersonName) -> bool {
    match part {
        "prefix" => to.prefix = from.prefix,
        "given_name" => to.given_name = from.given_name,
        "middle_name" => to.middle_name = from.middle_name,
        "family_name" => to.family_name = from.family_name,
        "suffix" => to.suffix = from.suffix,
        "preferred_name" => to.preferred_name = from.preferred_name,
        _ => return false,
    }
    true
}

/// Whether the facts agree with each other, in a request and again once an update is applied.
pub fn facts(prefix: &str, profile: &Profile, violations: &mut Violations) {
    if let Some(date) = &profile.birth_date
        && !exists(date)
    {
        violations.add(format!("{prefix}birth_date"), "is not a day of the calendar");
    }
    if !profile.time_zone.is_empty() && profile.time_zone.parse::<chrono_tz::Tz>().is_err() {
        violations.add(format!("{prefix}time_zone"), "is not an IANA time zone");
    }
    if !profile.gender_description.is_empty() && profile.gender() != Gender::SelfDescribed {
        violations.add(format!("{prefix}gender_description"), "needs GENDER_SELF_DESCRIBED");
    }
}

/// An unknown year may be a leap year, so 29 February is a day of it.
fn exists(date: &PartialDate) -> bool {
    let year = if date.year == 0 { 2000 } else { date.year };
    let part = |n: i32| u32::try_from(n).unwrap_or(0);
    NaiveDate::from_ymd_opt(year, part(date.month), part(date.day)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_birthday_on_29_february_needs_a_leap_year_or_none() {
        for (year, month, day, expected) in
            [(0, 2, 29, true), (2024, 2, 29, true), (2023, 2, 29, false), (1900, 2, 29, false), (1990, 13, 1, false)]
        {
            assert_eq!(exists(&PartialDate { year, month, day }), expected, "{year}-{month}-{day}");
        }
    }

    #[test]
    fn a_mask_changes_only_what_it_names() {
        let name = PersonName { given_name: "Ada".into(), family_name: "Lovelace".into(), ..Default::default() };
        let from = Profile { name: Some(name), language: "en".into(), ..Default::default() };
        let mut to = Profile { region: "GB".into(), ..Default::default() };
        assert!(apply("name.given_name", &from, &mut to));
        let name = to.name.unwrap();
        assert_eq!((name.given_name.as_str(), name.family_name.as_str()), ("Ada", ""));
        assert_eq!((to.language.as_str(), to.region.as_str()), ("", "GB"));
        for fixed in ["customer_id", "external_ids", "etag", "name.nickname", ""] {
            assert!(!apply(fixed, &from, &mut Profile::default()), "{fixed}");
        }
    }
}
