use chrono::{DateTime, TimeDelta, Utc};
use error::{Failure, Violations};
use prost_types::Timestamp;
use uuid::Uuid;

use crate::Result;

/// Reads an id that validation has let through.
pub fn uuid(text: &str) -> Result<Uuid> {
    Ok(Uuid::parse_str(text).map_err(|_| Failure::invalid(".", "an id is not a UUID"))?)
}

/// Checks a time: years 1 to 9999 and no finer than a microsecond, which is what is stored.
pub fn check_time(field: &str, time: Option<&Timestamp>, violations: &mut Violations) {
    let Some(time) = time else { return };
    let in_range = (-62_135_596_800..=253_402_300_799).contains(&time.seconds);
    if !in_range || !(0..1_000_000_000).contains(&time.nanos) {
        violations.add(field, "must lie between the years 1 and 9999");
    } else if time.nanos % 1000 != 0 {
        violations.add(field, "must not be finer than a microsecond");
    }
}

/// Checks the time of something that was observed: it lies before now, with some allowance for a clock that runs ahead.
pub fn check_past(field: &str, at: Option<&Timestamp>, violations: &mut Violations) {
    check_time(field, at, violations);
    if time(at.copied()).is_some_and(|at| at > Utc::now() + TimeDelta::minutes(1)) {
        violations.add(field, "must not be in the future");
    }
}

/// Reads a time that [`check_time`] has let through.
pub fn time(time: Option<Timestamp>) -> Option<DateTime<Utc>> {
    time.and_then(|time| DateTime::from_timestamp(time.seconds, time.nanos.try_into().ok()?))
}

/// Writes a time into a message.
pub fn timestamp(time: DateTime<Utc>) -> Timestamp {
    // `as`: the nanoseconds of a second fit.
    Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos() as i32 }
}
