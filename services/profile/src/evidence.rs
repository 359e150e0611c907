//! The heart: which of several sources is believed. Pure. A profile is the greatest of what was said of each of
//! its fields, so no order and no repetition changes it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use prost::Message;
use proto::profile::v1::{Profile, Provenance, Source};
use serde::{Deserialize, Serialize};

use crate::{fact, request};

/// The fields that are believed apart from each other. What a gender is described as goes with it; of a list each
/// fact is believed by itself.
pub const FIELDS: [&str; 22] = [
    "name.prefix",
    "name.given_name",
    "name.middle_name",
    "name.family_name",
    "name.suffix",
    "name.preferred_name",
    "birth_date",
    "gender",
    "pronouns",
    "marital_status",
    "children",
    "occupation",
    "education",
    "language",
    "time_zone",
    "region",
    "income",
    "credit",
    "preferences",
    "traits",
    "attributes",
    "social_standings",
];

/// Who says something. Of two weights the greater one is believed: the better source, then the later, then the
/// surer, and last, so that there is always one, a keyed hash of the value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Weight {
    pub source: i32,
    pub observed_us: i64,
    pub confidence: i32,
    pub tie: i64,
}

/// The weight of what a profile says, by field, and in a list by a keyed hash of what a fact speaks of:
/// `preferences.9f86d081884c7d65`. That of which nothing was ever said has none.
pub type Weights = BTreeMap<String, Weight>;

/// What one source says.
pub struct Said {
    pub fields: BTreeSet<&'static str>,
    pub profile: Profile,
    pub provenance: Provenance,
    pub observed_at: DateTime<Utc>,
}

impl Said {
    /// What a request says. What it leaves open is said by the customer, now and for sure.
    pub fn new(fields: BTreeSet<&'static str>, profile: &Profile, by: Option<&Provenance>, now: DateTime<Utc>) -> Self {
        let mut provenance = by.cloned().unwrap_or_default();
        if provenance.source() == Source::Unspecified {
            provenance.set_source(Source::Self_);
        }
        if provenance.confidence_percent == 0 {
            provenance.confidence_percent = 100;
        }
        // The database keeps microseconds.
        let now = DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now);
        let observed_at = store::time(provenance.observed_time).unwrap_or(now);
        provenance.observed_time = Some(store::timestamp(observed_at));
        let mut said = Profile::default();
        fields.iter().for_each(|field| copy(field, profile, &mut said));
        fact::sign(&mut said, Some(&provenance));
        Self { fields, profile: said, provenance, observed_at }
    }

    /// What it says, one by one: what is spoken of, as weights name it, and a profile that says nothing else.
    pub fn parts(&self, field: &str, tie: impl Fn(&[u8]) -> i64) -> Vec<(String, Profile)> {
        let facts = if fact::LISTS.contains(&field) { fact::each(field, &self.profile) } else { Vec::new() };
        // That there is nothing in a list is said of the list.
        if facts.is_empty() {
            return vec![(field.to_owned(), only(field, &self.profile))];
        }
        let named = |(key, value): (String, Profile)| (format!("{field}.{:016x}", tie(key.as_bytes())), value);
        facts.into_iter().map(named).collect()
    }

    /// How much it weighs where it says a value.
    pub fn weight(&self, value: &Profile, tie: impl Fn(&[u8]) -> i64) -> Weight {
        Weight {
            source: self.provenance.source,
            observed_us: self.observed_at.timestamp_micros(),
            confidence: self.provenance.confidence_percent,
            // A retention that was changed since says nothing new.
            tie: tie(&fact::timeless(value.clone()).encode_to_vec()),
        }
    }

    /// Takes over into a profile what weighs more there, and answers those fields.
    pub fn merge(&self, profile: &mut Profile, weights: &mut Weights, tie: impl Fn(&[u8]) -> i64) -> Vec<&'static str> {
        let mut prevailing = Vec::new();
        for field in &self.fields {
            for (part, value) in self.parts(field, &tie) {
                let weight = self.weight(&value, &tie);
                if weights.get(&part).is_none_or(|other| weight > *other) {
                    weights.insert(part, weight);
                    put(field, &value, profile);
                    prevailing.push(*field);
                }
            }
        }
        prevailing.dedup();
        prevailing
    }

    /// Whether all that it says in a field is what weighs most.
    pub fn prevails(&self, field: &str, weights: &Weights, tie: impl Fn(&[u8]) -> i64) -> bool {
        let parts = self.parts(field, &tie);
        parts.into_iter().all(|(part, value)| weights.get(&part) == Some(&self.weight(&value, &tie)))
    }

    /// The fields in which a profile says something else.
    pub fn outweighed(&self, profile: &Profile) -> Vec<&'static str> {
        let (said, profile) = (fact::unsigned(self.profile.clone()), fact::unsigned(profile.clone()));
        let disagrees = |field: &&str| {
            let mut after = profile.clone();
            put(field, &said, &mut after);
            after != profile
        };
        self.fields.iter().copied().filter(disagrees).collect()
    }
}

/// The list of which more was spoken than a profile has room for.
pub fn overfull(weights: &Weights) -> Option<&'static str> {
    let keys = |list: &str| weights.keys().filter(|part| part.starts_with(&format!("{list}."))).count();
    fact::LISTS.into_iter().find(|list| keys(list) > fact::MAX_KEYS)
}

/// When it is: by the clock, and later than all that was said of these fields, so that what is said now is not
/// outweighed by what the same source said before, whatever the clocks.
pub fn now(clock: DateTime<Utc>, weights: &Weights, fields: &BTreeSet<&'static str>) -> DateTime<Utc> {
    let of = |part: &str| fields.contains(part) || part.split_once('.').is_some_and(|(list, _)| fields.contains(list));
    let before = weights.iter().filter(|(part, _)| of(part)).map(|(_, weight)| weight.observed_us).max();
    before.and_then(|before| DateTime::from_timestamp_micros(before + 1)).map_or(clock, |after| after.max(clock))
}

/// The fields that a mask speaks of; none for a path that is no field.
pub fn fields(path: &str) -> Vec<&'static str> {
    let path = if path == "gender_description" { "gender" } else { path };
    let below = format!("{path}.");
    FIELDS.into_iter().filter(|field| *field == path || field.starts_with(&below)).collect()
}

/// The fields in which a profile says anything.
pub fn filled(profile: &Profile) -> BTreeSet<&'static str> {
    FIELDS.into_iter().filter(|field| only(field, profile) != Profile::default()).collect()
}

/// A profile that says nothing but one field.
fn only(field: &str, profile: &Profile) -> Profile {
    let mut value = Profile::default();
    copy(field, profile, &mut value);
    value
}

/// Takes over a field, or of a list the facts that are given.
fn put(field: &str, from: &Profile, to: &mut Profile) {
    if fact::LISTS.contains(&field) { fact::put(&only(field, from), to) } else { copy(field, from, to) }
}

fn copy(field: &str, from: &Profile, to: &mut Profile) {
    request::apply(field, from, to);
    if field == "gender" {
        request::apply("gender_description", from, to);
    }
    // A name without any part is none.
    to.name.take_if(|name| *name == Default::default());
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::subsequence};
    use proto::{profile::v1::*, r#type::v1::PartialDate};

    use super::*;

    fn tie(value: &[u8]) -> i64 {
        value.iter().fold(7, |tie: i64, byte| tie.wrapping_mul(31).wrapping_add(i64::from(*byte)))
    }

    /// What is said, as values that can be printed: fields, texts and a year, and by whom.
    type Raw = (Vec<&'static str>, (&'static str, &'static str, i32), (i32, i64, i32));

    fn raw() -> impl Strategy<Value = Vec<Raw>> {
        let text = || prop::sample::select(vec!["", "a", "b"]);
        let raw =
            (subsequence(FIELDS.to_vec(), 1..FIELDS.len()), (text(), text(), 0..3i32), (1..4i32, 0..3i64, 1..3i32));
        prop::collection::vec(raw, 1..12)
    }

    fn preference(value: &str, polarity: i32) -> Preference {
        Preference { dimension: "color".into(), value: value.to_owned(), polarity: polarity + 1, ..Default::default() }
    }

    fn said((fields, (given, description, year), (source, seconds, confidence_percent)): &Raw) -> Said {
        let gender = if description.is_empty() { Gender::Female } else { Gender::SelfDescribed };
        let profile = Profile {
            name: Some(PersonName { given_name: (*given).to_owned(), ..Default::default() }),
            birth_date: (*year > 0).then_some(PartialDate { year: *year, month: 1, day: 1 }),
            gender: gender.into(),
            gender_description: (*description).to_owned(),
            preferences: [*given, *description].into_iter().map(|value| preference(value, *year)).collect(),
            traits: vec![Trait { name: (*given).to_owned(), score_percent: *year, ..Default::default() }],
            ..Default::default()
        };
        let observed_time = Some(prost_types::Timestamp { seconds: *seconds, nanos: 0 });
        let by = Provenance {
            source: *source,
            confidence_percent: *confidence_percent,
            observed_time,
            ..Default::default()
        };
        Said::new(fields.iter().copied().collect(), &profile, Some(&by), Utc::now())
    }

    fn fold<'a>(said: impl IntoIterator<Item = &'a Said>) -> (Profile, Weights) {
        let (mut profile, mut weights) = Default::default();
        said.into_iter().for_each(|said| drop(said.merge(&mut profile, &mut weights, tie)));
        (profile, weights)
    }

    proptest! {
        #[test]
        fn no_order_and_no_repetition_changes_what_is_believed(
            (raw, order) in raw().prop_flat_map(|raw| {
                let twice: Vec<usize> = (0..raw.len() * 2).collect();
                (Just(raw), Just(twice).prop_shuffle())
            })
        ) {
            let said: Vec<Said> = raw.iter().map(said).collect();
            prop_assert!(fold(&said) == fold(order.iter().map(|i| &said[i % said.len()])));
        }
    }

    #[test]
    fn the_better_source_is_believed_then_the_later_then_the_surer() {
        let said = |source: Source, seconds, confidence_percent, region: &str| {
            let observed_time = Some(prost_types::Timestamp { seconds, nanos: 0 });
            let by = Provenance { source: source.into(), observed_time, confidence_percent, ..Default::default() };
            let profile = Profile { region: region.into(), ..Default::default() };
            Said::new(BTreeSet::from(["region"]), &profile, Some(&by), Utc::now())
        };
        let all = [
            said(Source::Inferred, 9, 100, "AT"),
            said(Source::Self_, 5, 100, "DE"),
            said(Source::Self_, 6, 50, "FR"),
            said(Source::Self_, 6, 60, "PT"),
            said(Source::Agent, 9, 100, "ES"),
        ];
        assert_eq!(fold(&all).0.region, "PT");
        let document = said(Source::Document, 1, 1, "");
        assert_eq!(fold(all.iter().chain([&document])).0.region, "", "that there is none can be said too");
    }

    /// Without `..Default::default()`, so that a new field is missed here first.
    fn full() -> Profile {
        let text = || "x".to_owned();
        let name = PersonName {
            prefix: text(),
            given_name: text(),
            middle_name: text(),
            family_name: text(),
            suffix: text(),
            preferred_name: text(),
        };
        Profile {
            name: Some(name),
            birth_date: Some(PartialDate::default()),
            gender: Gender::SelfDescribed.into(),
            gender_description: text(),
            language: text(),
            time_zone: text(),
            region: text(),
            pronouns: text(),
            marital_status: MaritalStatus::Single.into(),
            children: Some(Children::default()),
            occupation: Some(Occupation::default()),
            education: Some(Education::default()),
            income: Some(Income::default()),
            credit: Some(Credit::default()),
            preferences: vec![Preference { polarity: Polarity::Like.into(), ..Default::default() }],
            traits: vec![Trait { score_percent: 1, ..Default::default() }],
            attributes: vec![Attribute { value: Some(AttributeValue::default()), ..Default::default() }],
            social_standings: vec![SocialStanding { fan_count: Some(1), ..Default::default() }],
            // Not what a source says.
            customer_id: String::new(),
            external_ids: Vec::new(),
            create_time: None,
            update_time: None,
            etag: String::new(),
            name_forms: None,
            age: None,
            age_band: 0,
        }
    }

    #[test]
    fn whatever_a_source_can_say_is_taken_over() {
        assert_eq!(filled(&full()), BTreeSet::from(FIELDS));
        let said = Said::new(BTreeSet::from(FIELDS), &full(), None, Utc::now());
        let (profile, weights) = fold(&[Said::new(BTreeSet::from(FIELDS), &full(), None, said.observed_at)]);
        let mut signed = full();
        fact::sign(&mut signed, Some(&said.provenance));
        assert!(profile == signed && weights.len() == FIELDS.len());
    }

    #[test]
    fn every_field_that_can_be_changed_is_believed_apart() {
        for path in ["name", "gender_description", "credit", "name.suffix"] {
            assert!(!fields(path).is_empty(), "{path}");
        }
        assert_eq!(fields("name").len(), 6);
        for path in ["", "nam", "external_ids", "name.", "age"] {
            assert!(fields(path).is_empty(), "{path}");
        }
    }
}
