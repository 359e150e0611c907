//! Ages as of a day. Pure; the day comes in as a parameter.

use chrono::{DateTime, Datelike, NaiveDate, TimeZone, Utc};
use proto::{profile::v1::AgeBand, r#type::v1::PartialDate};

/// The age in completed years; `None` when the year of birth is unknown or the day is before the birth.
pub fn age(birth: &PartialDate, on: NaiveDate) -> Option<i32> {
    let years = on.year() - birth.year;
    let years = if on < birthday(birth, on.year())? { years - 1 } else { years };
    (birth.year > 0 && years >= 0).then_some(years)
}

/// The span in which an age is.
pub fn band(age: i32) -> AgeBand {
    match age {
        ..0 => AgeBand::Unspecified,
        0..13 => AgeBand::Child,
        13..18 => AgeBand::Teen,
        18..25 => AgeBand::AgeBand1824,
        25..35 => AgeBand::AgeBand2534,
        35..45 => AgeBand::AgeBand3544,
        45..55 => AgeBand::AgeBand4554,
        55..65 => AgeBand::AgeBand5564,
        65.. => AgeBand::AgeBand65Plus,
    }
}

/// The day on which it is in a time zone; an unknown zone is UTC.
pub fn day(zone: &str, at: DateTime<Utc>) -> NaiveDate {
    at.with_timezone(&parsed(zone)).date_naive()
}

/// The first instant after one at which the age is another.
pub fn next_change(birth: &PartialDate, zone: &str, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if birth.year == 0 {
        return None;
    }
    let year = day(zone, after).year();
    let births = [year, year + 1].into_iter().filter_map(|year| birthday(birth, year));
    births.map(|birthday| midnight(birthday, zone)).find(|midnight| *midnight > after)
}

/// The birthday in a year; of 29 February it is 1 March where there is no such day.
fn birthday(birth: &PartialDate, year: i32) -> Option<NaiveDate> {
    let part = |n: i32| u32::try_from(n).unwrap_or(0);
    let (month, day) = (part(birth.month), part(birth.day));
    NaiveDate::from_ymd_opt(year, month, day).or_else(|| NaiveDate::from_ymd_opt(year, month + 1, 1))
}

/// When a day begins: where clocks go forward at midnight, an hour later; where they go forward by the whole day, as in
/// Samoa in 2011, with the next.
fn midnight(day: NaiveDate, zone: &str) -> DateTime<Utc> {
    let zone = parsed(zone);
    let days = [Some(day), day.succ_opt()].into_iter().flatten();
    let hours = days.flat_map(|day| (0..24).filter_map(move |hour| day.and_hms_opt(hour, 0, 0)));
    let begun = hours.filter_map(|hour| zone.from_local_datetime(&hour).earliest()).next();
    begun.map_or_else(|| day.and_time(chrono::NaiveTime::MIN).and_utc(), |begun| begun.to_utc())
}

fn parsed(zone: &str) -> chrono_tz::Tz {
    zone.parse().unwrap_or(chrono_tz::UTC)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn date(year: i32, month: i32, day: i32) -> PartialDate {
        PartialDate { year, month, day }
    }

    fn on(year: i32, month: u32, day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(year, month, day).unwrap()
    }

    #[test]
    fn a_year_is_completed_on_the_birthday() {
        for (birth, day, expected) in [
            (date(1990, 6, 15), on(2020, 6, 14), Some(29)),
            (date(1990, 6, 15), on(2020, 6, 15), Some(30)),
            (date(2000, 2, 29), on(2023, 2, 28), Some(22)),
            (date(2000, 2, 29), on(2023, 3, 1), Some(23)),
            (date(2000, 2, 29), on(2024, 2, 28), Some(23)),
            (date(2000, 2, 29), on(2024, 2, 29), Some(24)),
            (date(1999, 12, 31), on(2000, 1, 1), Some(0)),
            (date(0, 2, 29), on(2024, 2, 29), None),
            (date(2030, 1, 1), on(2024, 2, 29), None),
        ] {
            assert_eq!(age(&birth, day), expected, "{day}");
        }
    }

    #[test]
    fn a_birthday_begins_where_the_person_is() {
        let birth = date(1990, 6, 15);
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        for (zone, begins) in [
            ("Asia/Vladivostok", "2026-06-14T14:00:00Z"),
            ("America/Los_Angeles", "2026-06-15T07:00:00Z"),
            ("", "2026-06-15T00:00:00Z"),
        ] {
            let (before, after) = (at("2026-06-01T00:00:00Z"), at(begins));
            assert_eq!(next_change(&birth, zone, before), Some(after), "{zone}");
            let second = chrono::TimeDelta::seconds(1);
            assert_eq!(age(&birth, day(zone, after - second)), Some(35));
            assert_eq!(age(&birth, day(zone, after)), Some(36));
        }
        // Clocks went from midnight to one o'clock.
        let cairo = next_change(&date(1990, 4, 28), "Africa/Cairo", at("2023-01-01T00:00:00Z"));
        assert_eq!(cairo, Some(at("2023-04-27T22:00:00Z")));
        // There was no 30 December.
        let apia = next_change(&date(1970, 12, 30), "Pacific/Apia", at("2011-12-01T00:00:00Z"));
        assert_eq!(apia, Some(at("2011-12-30T10:00:00Z")));
    }

    proptest! {
        #[test]
        fn the_age_is_the_same_until_it_changes_by_one(
            days in 0..45_000i64, zone in prop::sample::select(vec!["UTC", "Asia/Tokyo", "America/New_York", "Pacific/Apia", "Africa/Cairo"]),
            seconds in 1_000_000_000i64..1_900_000_000,
        ) {
            let born = on(1900, 1, 1) + chrono::TimeDelta::days(days);
            let birth = date(born.year(), born.month() as i32, born.day() as i32);
            let now = DateTime::from_timestamp(seconds, 0).unwrap();
            let change = next_change(&birth, zone, now).unwrap();
            prop_assert!(change > now && change - now < chrono::TimeDelta::days(367));
            let before = age(&birth, day(zone, change - chrono::TimeDelta::seconds(1)));
            if let Some(now) = age(&birth, day(zone, now)) {
                prop_assert_eq!(before, Some(now));
                prop_assert_eq!(age(&birth, day(zone, change)), Some(now + 1));
            }
        }
    }
}
