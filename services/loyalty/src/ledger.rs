//! The heart: what a transaction does to a member's lots. Pure; time comes in as a parameter.
//!
//! Every [`Posting`] is two entries, one on the member's account and its opposite on another, so a
//! transaction always adds up to nothing.

use chrono::{DateTime, Months, Utc};
use error::Reason;
use proto::loyalty::v1::Account;
use uuid::Uuid;

use crate::reason;

/// What is left of a lot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lot {
    pub lot_id: Uuid,
    pub remaining: i64,
    pub expires_at: Option<DateTime<Utc>>,
}

/// How a member stands: the sum of what is left of all lots, whether or not their time is over, and in the order of
/// expiry those lots whose time is over and those that are spent next.
pub struct Holding {
    pub total: i64,
    pub lots: Vec<Lot>,
}

/// A movement of a lot's points: into the member's account when positive, out of it when negative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posting {
    pub lot_id: Uuid,
    pub points: i64,
    /// The account on the other side.
    pub counter: Account,
}

impl Lot {
    /// Whether its time is over: an expiry instant belongs to the time after.
    pub fn is_expired(&self, at: DateTime<Utc>) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= at)
    }
}

/// When points given now expire. A month's end stays a month's end: 31 January and one month is 28
/// or 29 February.
pub fn expiry(at: DateTime<Utc>, months: i32) -> Option<DateTime<Utc>> {
    let months = u32::try_from(months).ok().filter(|months| *months > 0)?;
    at.checked_add_months(Months::new(months))
}

/// Orders lots as they are spent: what expires first goes first, what never expires goes last.
pub fn sort(lots: &mut [Lot]) {
    lots.sort_by_key(|lot| (lot.expires_at.is_none(), lot.expires_at, lot.lot_id));
}

impl Holding {
    /// The points that can be redeemed.
    pub fn points(&self, at: DateTime<Utc>) -> i64 {
        let expired = self.lots.iter().filter(|lot| lot.is_expired(at)).map(|lot| lot.remaining);
        self.total - expired.sum::<i64>()
    }

    /// What is spent next.
    pub fn live(&self, at: DateTime<Utc>) -> impl Iterator<Item = &Lot> {
        self.lots.iter().filter(move |lot| lot.remaining > 0 && !lot.is_expired(at))
    }

    /// The first instant at which the points are others without a write.
    pub fn next_expiry(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.live(at).next()?.expires_at
    }
}

/// Takes what has expired out of the lots.
pub fn expire(lots: &mut [Lot], at: DateTime<Utc>) -> Vec<Posting> {
    let expired = lots.iter_mut().filter(|lot| lot.is_expired(at) && lot.remaining > 0);
    expired
        .map(|lot| {
            let points = -std::mem::take(&mut lot.remaining);
            Posting { lot_id: lot.lot_id, points, counter: Account::Expired }
        })
        .collect()
}

/// Takes points out of lots in the order given, which expired ones have left.
pub fn redeem(lots: &mut [Lot], points: i64) -> Result<Vec<Posting>, Reason> {
    let mut wanted = points;
    let mut postings = Vec::new();
    for lot in lots.iter_mut().filter(|lot| lot.remaining > 0) {
        let taken = lot.remaining.min(wanted);
        if taken > 0 {
            lot.remaining -= taken;
            wanted -= taken;
            postings.push(Posting { lot_id: lot.lot_id, points: -taken, counter: Account::Redeemed });
        }
    }
    if wanted > 0 { Err(reason::INSUFFICIENT_POINTS) } else { Ok(postings) }
}

/// The exact opposite of what a transaction did, lot by lot.
pub fn reverse(postings: &[Posting]) -> Vec<Posting> {
    postings.iter().map(|posting| Posting { points: -posting.points, ..posting.clone() }).collect()
}

/// A card number: the serial in 15 digits and a check digit (ISO/IEC 7812-1, annex B).
pub fn member_number(serial: i64) -> String {
    let digits = format!("{serial:015}");
    let sum: u32 = digits
        .bytes()
        .rev()
        .map(|digit| u32::from(digit - b'0'))
        .enumerate()
        .map(|(i, digit)| if i % 2 == 0 { digit * 2 / 10 + digit * 2 % 10 } else { digit })
        .sum();
    format!("{digits}{}", (10 - sum % 10) % 10)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(days: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(days * 86_400, 0).unwrap()
    }

    fn lot(id: u128, remaining: i64, expires: Option<i64>) -> Lot {
        Lot { lot_id: Uuid::from_u128(id), remaining, expires_at: expires.map(at) }
    }

    /// How a member stands who has these lots.
    fn holding(lots: &[Lot], at: DateTime<Utc>) -> Holding {
        let total = lots.iter().map(|lot| lot.remaining).sum();
        let mut lots: Vec<Lot> = lots.iter().filter(|lot| lot.remaining > 0).cloned().collect();
        sort(&mut lots);
        // Of those whose time is not over the first is enough.
        lots.truncate(lots.iter().filter(|lot| lot.is_expired(at)).count() + 1);
        Holding { total, lots }
    }

    fn balance(lots: &[Lot], at: DateTime<Utc>) -> i64 {
        lots.iter().filter(|lot| !lot.is_expired(at)).map(|lot| lot.remaining).sum()
    }

    #[test]
    fn what_expires_first_is_spent_first() {
        let mut lots = vec![lot(1, 5, None), lot(2, 5, Some(30)), lot(3, 5, Some(10))];
        sort(&mut lots);
        let postings = redeem(&mut lots, 8).unwrap();
        let taken: Vec<_> = postings.iter().map(|p| (p.lot_id.as_u128(), p.points)).collect();
        assert_eq!(taken, [(3, -5), (2, -3)]);
        assert_eq!(redeem(&mut lots, 8), Err(reason::INSUFFICIENT_POINTS));
    }

    #[test]
    fn a_lot_is_gone_at_the_instant_it_expires() {
        let mut lots = vec![lot(1, 5, Some(10))];
        let stands = |at| (holding(&lots, at).points(at), holding(&lots, at).next_expiry(at));
        assert_eq!(stands(at(9)), (5, Some(at(10))));
        assert_eq!(stands(at(10)), (0, None));
        assert_eq!(expire(&mut lots, at(10)).len(), 1);
        assert!(expire(&mut lots, at(10)).is_empty());
    }

    #[test]
    fn a_month_after_the_end_of_january_is_the_end_of_february() {
        let january = DateTime::parse_from_rfc3339("2024-01-31T12:00:00Z").unwrap().to_utc();
        assert_eq!(expiry(january, 1).unwrap().to_rfc3339(), "2024-02-29T12:00:00+00:00");
        assert_eq!(expiry(january, 0), None);
    }

    #[test]
    fn a_member_number_ends_in_its_check_digit() {
        // The example of the standard's Luhn formula: 7992739871 has the check digit 3.
        assert_eq!(member_number(7_992_739_871), "0000079927398713");
    }

    proptest! {
        #[test]
        fn redeeming_and_reversing_leaves_every_lot_as_it_was(
            sizes in proptest::collection::vec((0i64..1000, proptest::option::of(1i64..100)), 0..20),
            points in 1i64..5000,
            today in 0i64..100,
        ) {
            let mut lots: Vec<Lot> = (1..).zip(&sizes).map(|(i, (n, e))| lot(i, *n, *e)).collect();
            sort(&mut lots);
            let total: i64 = lots.iter().map(|lot| lot.remaining).sum();
            let open = balance(&lots, at(today));
            let expired: i64 = expire(&mut lots, at(today)).iter().map(|p| p.points).sum();
            prop_assert_eq!(total + expired, open);
            let before = lots.clone();
            match redeem(&mut lots, points) {
                Err(_) => prop_assert!(points > open),
                Ok(postings) => {
                    prop_assert_eq!(balance(&lots, at(today)), open - points);
                    prop_assert!(lots.iter().all(|lot| lot.remaining >= 0));
                    for back in reverse(&postings) {
                        lots.iter_mut().find(|lot| lot.lot_id == back.lot_id).unwrap().remaining += back.points;
                    }
                    prop_assert_eq!(lots, before);
                }
            }
        }

        #[test]
        fn a_balance_holds_until_the_next_expiry(
            sizes in proptest::collection::vec((0i64..1000, proptest::option::of(1i64..100)), 0..20),
            today in 0i64..100,
        ) {
            let lots: Vec<Lot> = (1..).zip(&sizes).map(|(i, (n, e))| lot(i, *n, *e)).collect();
            let stands = holding(&lots, at(today));
            prop_assert_eq!(stands.points(at(today)), balance(&lots, at(today)));
            let until = stands.next_expiry(at(today));
            for day in today..101 {
                let same = balance(&lots, at(day)) == balance(&lots, at(today));
                prop_assert_eq!(same, until.is_none_or(|until| at(day) < until));
            }
        }
    }
}
