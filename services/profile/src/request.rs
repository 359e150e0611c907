//! What the contract's rules cannot say: checks of requests, and what an update mask changes.

use std::collections::HashSet;

use chrono::{NaiveDate, TimeDelta, Utc};
use error::{Failure, Violations};
use iso_currency::Currency;
use prost_types::FieldMask;
use proto::{profile::v1::*, section::v1::ResolveIdentifiersRequest, r#type::v1::PartialDate};
use store::{check_past, check_time, time};

use crate::{evidence, fact, filter::Filter, identity, name};

pub fn create(request: &CreateProfileRequest, violations: &mut Violations) {
    let Some(profile) = &request.profile else { return };
    facts("profile.", profile, violations);
    provenance("provenance.", request.provenance.as_ref(), violations);
    credit("profile.", profile, request.provenance.as_ref(), violations);
    let mut seen = HashSet::new();
    for (i, external_id) in profile.external_ids.iter().enumerate() {
        if !seen.insert((&external_id.system, &external_id.id)) {
            violations.add(format!("profile.external_ids[{i}]"), "is given twice");
        }
    }
}

pub fn update(request: &UpdateProfileRequest, violations: &mut Violations) {
    let Some(mask) = &request.update_mask else { return };
    if mask.paths.is_empty() {
        violations.add("update_mask", "must name at least one field");
    }
    paths("update_mask", mask, violations);
    if let Some(profile) = request.profile.as_ref().filter(|_| mask.paths.iter().any(|path| path == "credit")) {
        credit("profile.", profile, request.provenance.as_ref(), violations);
    }
    provenance("provenance.", request.provenance.as_ref(), violations);
}

pub fn observation(request: &RecordObservationRequest, violations: &mut Violations) {
    let Some(observation) = &request.observation else { return };
    if let Some(mask) = &observation.fields {
        if mask.paths.is_empty() {
            violations.add("observation.fields", "must name at least one field");
        }
        paths("observation.fields", mask, violations);
    }
    if let Some(profile) = &observation.profile {
        facts("observation.profile.", profile, violations);
        credit("observation.profile.", profile, observation.provenance.as_ref(), violations);
    }
    provenance("observation.provenance.", observation.provenance.as_ref(), violations);
}

pub fn get(request: &GetProfileRequest, violations: &mut Violations) {
    check_past("as_of_time", request.as_of_time.as_ref(), violations);
}

pub fn verify(request: &VerifyIdentityRequest, violations: &mut Violations) {
    let mut seen = HashSet::new();
    for (i, answer) in request.answers.iter().enumerate() {
        if !seen.insert(identity::kind(answer)) {
            violations.add(format!("answers[{i}]"), "is of a kind that is given twice");
        }
        if answer.birth_date.is_some_and(|date| date.year == 0 || !exists(&date)) {
            violations.add(format!("answers[{i}].birth_date"), "is not a day of the calendar with its year");
        }
    }
}

pub fn account(request: &SetAccountRequest, violations: &mut Violations) {
    let Some(account) = &request.account else { return };
    if !account.user_name.is_empty() && account.user_name.trim().is_empty() {
        violations.add("account.user_name", "is blank");
    }
    let mut seen = HashSet::new();
    for (i, subject) in account.federated_subjects.iter().enumerate() {
        if !seen.insert((&subject.issuer, &subject.subject)) {
            violations.add(format!("account.federated_subjects[{i}]"), "is given twice");
        }
    }
}

pub fn sign_in(request: &RecordSignInRequest, violations: &mut Violations) {
    check_past("sign_in_time", request.sign_in_time.as_ref(), violations);
}

pub fn device(request: &RecordDeviceRequest, violations: &mut Violations) {
    check_past("seen_time", request.seen_time.as_ref(), violations);
    let named = request.device.as_ref().is_some_and(|device| !device.device_id.is_empty());
    if !named && request.user_agent.is_empty() {
        violations.add("user_agent", "is needed where the device has no id");
    }
}

pub fn relation(request: &SetRelationRequest, violations: &mut Violations) {
    let other = request.relation.as_ref().map(|relation| relation.other_customer_id.to_lowercase());
    if other == Some(request.customer_id.to_lowercase()) {
        violations.add("relation.other_customer_id", "is the customer's own");
    }
}

pub fn define(request: &DefineAttributeRequest, violations: &mut Violations) {
    let Some(definition) = &request.definition else { return };
    if !definition.allowed_values.is_empty() && definition.r#type() != AttributeType::Text {
        violations.add("definition.allowed_values", "needs ATTRIBUTE_TYPE_TEXT");
    }
}

pub fn search(request: &SearchProfilesRequest, violations: &mut Violations) {
    let words = name::tokens([request.query.as_str()]).len();
    if words == 0 && !request.query.is_empty() {
        violations.add("query", "has no word");
    } else if words > 8 {
        violations.add("query", "has more than eight words");
    }
    if let Err(broken) = Filter::read(&request.query, &request.filter) {
        violations.add("filter", broken);
    }
}

/// What a search asks; the request was checked.
pub fn filter(request: &SearchProfilesRequest) -> Result<Filter, Failure> {
    Filter::read(&request.query, &request.filter).map_err(|broken| Failure::invalid("filter", broken))
}

fn paths(field: &str, mask: &FieldMask, violations: &mut Violations) {
    for path in &mask.paths {
        if evidence::fields(path).is_empty() {
            violations.add(field, "names a field that cannot be changed here");
        }
    }
}

fn provenance(prefix: &str, provenance: Option<&Provenance>, violations: &mut Violations) {
    let observed = provenance.and_then(|provenance| provenance.observed_time.as_ref());
    check_past(&format!("{prefix}observed_time"), observed, violations);
}

pub fn resolve(request: &ResolveIdentifiersRequest, violations: &mut Violations) {
    for (i, identifier) in request.identifiers.iter().enumerate() {
        let known = [
            !identifier.customer_id.is_empty(),
            identifier.external_id.is_some(),
            !identifier.user_name.is_empty(),
            identifier.federated_subject.is_some(),
        ];
        if !known.contains(&true) {
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
        "pronouns" => to.pronouns = from.pronouns.clone(),
        "marital_status" => to.marital_status = from.marital_status,
        "children" => to.children = from.children.clone(),
        "occupation" => to.occupation = from.occupation.clone(),
        "education" => to.education = from.education.clone(),
        "income" => to.income = from.income.clone(),
        "credit" => to.credit = from.credit.clone(),
        "preferences" => to.preferences = from.preferences.clone(),
        "traits" => to.traits = from.traits.clone(),
        "attributes" => to.attributes = from.attributes.clone(),
        "social_standings" => to.social_standings = from.social_standings.clone(),
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
    let PersonName { prefix: title, given_name, middle_name, family_name, suffix, preferred_name } =
        profile.name.clone().unwrap_or_default();
    for (part, text) in [
        ("prefix", title),
        ("given_name", given_name),
        ("middle_name", middle_name),
        ("family_name", family_name),
        ("suffix", suffix),
        ("preferred_name", preferred_name),
    ] {
        if name::is_invisible(&text) {
            violations.add(format!("{prefix}name.{part}"), "shows nothing");
        }
    }
    if !profile.time_zone.is_empty() && profile.time_zone.parse::<chrono_tz::Tz>().is_err() {
        violations.add(format!("{prefix}time_zone"), "is not an IANA time zone");
    }
    if !profile.gender_description.is_empty() && profile.gender() != Gender::SelfDescribed {
        violations.add(format!("{prefix}gender_description"), "needs GENDER_SELF_DESCRIBED");
    }
    if let Some(children) = &profile.children
        && children.age_bands.len() as i32 > children.count
    {
        violations.add(format!("{prefix}children.age_bands"), "are more than there are children");
    }
    if let Some(income) = &profile.income {
        check_time(&format!("{prefix}income.expire_time"), income.expire_time.as_ref(), violations);
        if income.upper_minor.is_some_and(|upper| upper <= income.lower_minor) {
            violations.add(format!("{prefix}income.upper_minor"), "must be above lower_minor");
        }
        if Currency::from_code(&income.currency_code).is_none() {
            violations.add(format!("{prefix}income.currency_code"), "is not a currency of ISO 4217");
        }
    }
    if let Some(credit) = &profile.credit {
        check_time(&format!("{prefix}credit.expire_time"), credit.expire_time.as_ref(), violations);
    }
    for list in fact::LISTS {
        let mut seen = HashSet::new();
        for (i, (key, _)) in fact::each(list, profile).into_iter().enumerate() {
            if !seen.insert(key) {
                violations.add(format!("{prefix}{list}[{i}]"), "is given twice");
            }
        }
    }
    for (i, attribute) in profile.attributes.iter().enumerate() {
        let Some(value) = &attribute.value else { continue };
        let field = format!("{prefix}attributes[{i}].value");
        check_time(&format!("{field}.time"), value.time.as_ref(), violations);
        if value.date.is_some_and(|date| !exists(&date)) {
            violations.add(format!("{field}.date"), "is not a day of the calendar");
        }
    }
}

/// A bureau's judgement grows old: it is told for a year after it was observed, at most.
fn credit(prefix: &str, profile: &Profile, by: Option<&Provenance>, violations: &mut Violations) {
    let observed_at = by.and_then(|by| time(by.observed_time)).unwrap_or_else(Utc::now);
    let end = profile.credit.as_ref().and_then(|credit| time(credit.expire_time));
    if end.is_some_and(|end| end > observed_at + TimeDelta::days(366)) {
        violations.add(format!("{prefix}credit.expire_time"), "must be within a year of the observation");
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
