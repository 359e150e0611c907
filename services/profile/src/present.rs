//! What a profile says at an instant beyond what is stored: the name in its order, the age, and no more of what has
//! expired.

use chrono::{DateTime, Utc};
use proto::profile::v1::Profile;
use store::time;

use crate::{age, name};

/// The profile as it is told at an instant.
pub fn present(mut profile: Profile, at: DateTime<Utc>) -> Profile {
    profile.name_forms = profile.name.as_ref().and_then(|parts| name::forms(parts, &profile.language));
    profile.age = profile.birth_date.as_ref().and_then(|birth| age::age(birth, age::day(&profile.time_zone, at)));
    profile.age_band = profile.age.map_or(0, |age| age::band(age).into());
    expire(profile, at)
}

/// The profile without what has expired.
pub fn expire(mut profile: Profile, at: DateTime<Utc>) -> Profile {
    profile.income.take_if(|income| time(income.expire_time).is_some_and(|end| end <= at));
    profile.credit.take_if(|credit| time(credit.expire_time).is_none_or(|end| end <= at));
    profile.attributes.retain(|attribute| time(attribute.expire_time).is_none_or(|end| end > at));
    profile
}

/// The first instant after one at which it is told differently.
pub fn valid_until(profile: &Profile, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let birthday = profile.birth_date.as_ref().and_then(|birth| age::next_change(birth, &profile.time_zone, after));
    let ends = [
        profile.income.as_ref().and_then(|income| time(income.expire_time)),
        profile.credit.as_ref().and_then(|credit| time(credit.expire_time)),
    ];
    let attributes = profile.attributes.iter().map(|attribute| time(attribute.expire_time));
    ends.into_iter().chain(attributes).flatten().filter(|end| *end > after).chain(birthday).min()
}
