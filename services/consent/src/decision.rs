//! The heart: which record decides, and the chain that proves that none was taken away. Pure; time
//! comes in as a parameter.
//!
//! The rule: of the records about a purpose, those count that were made at or before the time asked
//! and speak of the channel or of every channel. The newest decides. A question about every channel
//! is decided by the last word about each channel together: one that does not allow decides.

use aws_lc_rs::digest;
use chrono::{DateTime, Utc};
use proto::consent::v1::{ConsentChannel, Decision, LegalBasis};
use uuid::Uuid;

/// What a decision looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub record_id: Uuid,
    pub version: i64,
    pub channel: ConsentChannel,
    pub decision: Decision,
    pub recorded_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
}

/// The answer, and the record that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub allowed: bool,
    pub deciding: Option<Uuid>,
}

/// Decides whether a customer may be addressed by a channel at a time. Without any record, consent
/// was never given; what rests on another ground is allowed until the customer objects.
pub fn decide(records: &[Record], basis: LegalBasis, channel: ConsentChannel, at: DateTime<Utc>) -> Answer {
    let silent = Answer { allowed: basis != LegalBasis::Consent, deciding: None };
    let every = ConsentChannel::Unspecified;
    if channel != every {
        return match newest(records, at, |record| [every, channel].contains(&record.channel)) {
            Some(record) => answer(record, basis, at),
            None => silent,
        };
    }
    let words = last_words(records, at);
    let refusing = words.iter().rev().map(|record| answer(record, basis, at)).find(|answer| !answer.allowed);
    let general = words.iter().find(|record| record.channel == every).map(|record| answer(record, basis, at));
    refusing.or(general).unwrap_or(silent)
}

/// Now, but never before a record that was made: the database that dated it may run ahead of this
/// clock, and a withdrawal counts from the moment it is acknowledged.
pub fn now(records: &[Record]) -> DateTime<Utc> {
    records.iter().map(|record| record.recorded_at).fold(Utc::now(), DateTime::max)
}

/// The records in force: the last words but for grants that have lapsed.
pub fn in_force(records: &[Record], at: DateTime<Utc>) -> Vec<&Record> {
    let lapsed = |record: &Record| record.expires_at.is_some_and(|expires_at| expires_at <= at);
    last_words(records, at).into_iter().filter(|record| !lapsed(record)).collect()
}

/// The first instant at which the records in force read differently without a write.
pub fn next_lapse(records: &[Record], at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    in_force(records, at).into_iter().filter_map(|record| record.expires_at).filter(|lapse| *lapse > at).min()
}

/// The hash of a record: over the hash before it and what it says, each part with its length, so
/// that no two records can read alike. Keyed hashes stand for what is sealed.
pub fn chain(previous: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [previous].iter().chain(parts) {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    context.finish().as_ref().to_vec()
}

/// Of each channel the newest record that no later record of every channel replaced, oldest first.
fn last_words(records: &[Record], at: DateTime<Utc>) -> Vec<&Record> {
    let made = || records.iter().filter(|record| record.recorded_at <= at);
    let general = newest(records, at, |record| record.channel == ConsentChannel::Unspecified);
    let since = general.map_or(0, |record| record.version);
    let replaced = |record: &Record| made().any(|o| o.channel == record.channel && o.version > record.version);
    let mut words: Vec<&Record> = made().filter(|record| record.version >= since && !replaced(record)).collect();
    words.sort_by_key(|record| record.version);
    words
}

fn newest(records: &[Record], at: DateTime<Utc>, of: impl Fn(&Record) -> bool) -> Option<&Record> {
    records.iter().filter(|record| record.recorded_at <= at && of(record)).max_by_key(|record| record.version)
}

fn answer(record: &Record, basis: LegalBasis, at: DateTime<Utc>) -> Answer {
    let lapsed = record.expires_at.is_some_and(|expires_at| expires_at <= at);
    let allowed = match record.decision {
        Decision::Granted => !lapsed || basis != LegalBasis::Consent,
        _ => false,
    };
    Answer { allowed, deciding: Some(record.record_id) }
}

#[cfg(test)]
mod tests {
    use ConsentChannel::{Email, Phone, Sms, Unspecified};
    use Decision::{Granted, Refused, Withdrawn};

    use super::*;

    fn at(day: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(day * 86_400, 0).unwrap()
    }

    /// Channel, decision, and the day on which it lapses.
    type Said = (ConsentChannel, Decision, Option<i64>);

    fn records(said: &[Said]) -> Vec<Record> {
        (1..)
            .zip(said)
            .map(|(day, (channel, decision, expires))| Record {
                record_id: Uuid::from_u128(day as u128),
                version: day,
                channel: *channel,
                decision: *decision,
                recorded_at: at(day),
                expires_at: expires.map(at),
            })
            .collect()
    }

    #[test]
    fn the_newest_word_about_a_channel_decides() {
        let cases: &[(&[Said], ConsentChannel, bool, Option<u128>)] = &[
            (&[], Email, false, None),
            (&[(Email, Granted, None)], Email, true, Some(1)),
            (&[(Email, Granted, None)], Phone, false, None),
            (&[(Unspecified, Granted, None)], Phone, true, Some(1)),
            (&[(Unspecified, Granted, None), (Sms, Withdrawn, None)], Email, true, Some(1)),
            (&[(Unspecified, Granted, None), (Sms, Withdrawn, None)], Sms, false, Some(2)),
            (&[(Email, Granted, None), (Unspecified, Withdrawn, None)], Email, false, Some(2)),
            (&[(Unspecified, Refused, None), (Email, Granted, None)], Email, true, Some(2)),
            (&[(Email, Granted, Some(5))], Email, false, Some(1)),
            // A question about every channel: one that does not allow decides.
            (&[(Unspecified, Granted, None)], Unspecified, true, Some(1)),
            (&[(Unspecified, Granted, None), (Sms, Withdrawn, None)], Unspecified, false, Some(2)),
            (&[(Unspecified, Granted, None), (Sms, Withdrawn, None), (Sms, Granted, None)], Unspecified, true, Some(1)),
            (&[(Email, Granted, None)], Unspecified, false, None),
            (&[(Email, Refused, None)], Unspecified, false, Some(1)),
            // Who took a refusal back is not held to it.
            (&[(Email, Refused, None), (Email, Granted, None)], Unspecified, false, None),
        ];
        for (said, channel, allowed, deciding) in cases {
            let answer = decide(&records(said), LegalBasis::Consent, *channel, at(10));
            let expected = Answer { allowed: *allowed, deciding: deciding.map(Uuid::from_u128) };
            assert_eq!(answer, expected, "{said:?} {channel:?}");
        }
    }

    #[test]
    fn what_was_true_then_is_answered_for_then() {
        let records = records(&[(Email, Granted, None), (Email, Withdrawn, None)]);
        let on = |day| decide(&records, LegalBasis::Consent, Email, at(day)).allowed;
        assert_eq!((on(0), on(1), on(2)), (false, true, false));
    }

    #[test]
    fn another_legal_ground_holds_until_the_customer_objects() {
        let basis = LegalBasis::LegitimateInterests;
        assert!(decide(&[], basis, Email, at(1)).allowed);
        assert!(!decide(&records(&[(Email, Withdrawn, None)]), basis, Email, at(5)).allowed);
        let granted_again = records(&[(Email, Withdrawn, None), (Email, Granted, None)]);
        assert!(decide(&granted_again, basis, Unspecified, at(5)).allowed);
    }

    #[test]
    fn a_general_word_replaces_those_of_single_channels() {
        let records = records(&[(Email, Granted, None), (Unspecified, Refused, None), (Sms, Granted, Some(9))]);
        let versions: Vec<i64> = in_force(&records, at(5)).iter().map(|record| record.version).collect();
        assert_eq!(versions, [2, 3]);
        assert_eq!(next_lapse(&records, at(5)), Some(at(9)));
        assert_eq!(next_lapse(&records, at(9)), None);
        // What lapsed is not in force, and nothing older comes back in its place.
        let versions: Vec<i64> = in_force(&records, at(9)).iter().map(|record| record.version).collect();
        assert_eq!(versions, [2]);
    }

    #[test]
    fn a_record_dated_by_a_clock_that_runs_ahead_counts_at_once() {
        let mut records = records(&[(Email, Granted, None), (Email, Withdrawn, None)]);
        records[1].recorded_at = Utc::now() + chrono::TimeDelta::seconds(5);
        assert!(!decide(&records, LegalBasis::Consent, Email, now(&records)).allowed);
    }

    #[test]
    fn no_two_records_hash_alike() {
        assert_ne!(chain(b"", &[b"ab", b"c"]), chain(b"", &[b"a", b"bc"]));
        assert_ne!(chain(b"x", &[b"a"]), chain(b"y", &[b"a"]));
    }
}
