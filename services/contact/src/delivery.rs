//! The heart: whether a contact point can be reached, by all that was ever heard of it. Pure. What is kept is, by kind
//! and day, the first and the last event, so no order and no repetition of events changes it.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use proto::contact::v1::{DeliverabilityState as State, DeliveryEventKind as Kind};

/// So many days with a bounce that may pass make a state.
const SOFT_BOUNCE_DAYS: usize = 3;

/// What was heard: the first and the last event of each kind and day.
#[derive(Default)]
#[cfg_attr(test, derive(Clone, Debug, PartialEq))]
pub struct Heard(BTreeMap<(i32, NaiveDate), (DateTime<Utc>, DateTime<Utc>)>);

impl Heard {
    /// Adds events of a kind between two times of a day.
    pub fn add(&mut self, kind: i32, first: DateTime<Utc>, last: DateTime<Utc>) {
        let of_day = self.0.entry((kind, first.date_naive())).or_insert((first, last));
        *of_day = (of_day.0.min(first), of_day.1.max(last));
    }

    /// What is kept, by kind.
    pub fn days(&self) -> impl Iterator<Item = (i32, NaiveDate, DateTime<Utc>, DateTime<Utc>)> {
        self.0.iter().map(|((kind, day), (first, last))| (*kind, *day, *first, *last))
    }

    /// The state, and since when it is so.
    pub fn state(&self) -> (State, Option<DateTime<Utc>>) {
        let reached = [Kind::Delivered, Kind::Opened, Kind::Clicked, Kind::Replied];
        let reached = reached.into_iter().flat_map(|kind| self.of(kind)).map(|(_, last)| last).max();
        let since = |event: &DateTime<Utc>| reached.is_none_or(|reached| *event > reached);
        if let Some(first) = self.of(Kind::Complained).map(|(first, _)| first).min() {
            return (State::Complained, Some(first));
        }
        if let Some(first) = self.of(Kind::Unsubscribed).map(|(first, _)| first).min() {
            return (State::Unsubscribed, Some(first));
        }
        // Of a day on which something arrived between two bounces the last one counts.
        let after = |kind| self.of(kind).filter_map(move |(first, last)| [first, last].into_iter().find(since));
        if let Some(first) = after(Kind::HardBounced).min() {
            return (State::Unreachable, Some(first));
        }
        let soft: Vec<_> = after(Kind::SoftBounced).collect();
        if soft.len() >= SOFT_BOUNCE_DAYS {
            return (State::SoftBouncing, soft.into_iter().min());
        }
        (if reached.is_some() { State::Deliverable } else { State::Unspecified }, reached)
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = (DateTime<Utc>, DateTime<Utc>)> {
        self.0.iter().filter(move |((of, _), _)| *of == kind as i32).map(|(_, times)| *times)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn heard(events: &[(Kind, i64)]) -> Heard {
        let mut heard = Heard::default();
        for (kind, hour) in events {
            let at = DateTime::from_timestamp(hour * 3600, 0).unwrap();
            heard.add(*kind as i32, at, at);
        }
        heard
    }

    #[test]
    fn the_latest_word_counts_but_for_those_that_are_final() {
        use Kind::*;
        for (events, state, since) in [
            (vec![], State::Unspecified, None),
            (vec![(Delivered, 1), (Opened, 2)], State::Deliverable, Some(2)),
            (vec![(Delivered, 1), (HardBounced, 2)], State::Unreachable, Some(2)),
            (vec![(HardBounced, 2), (Replied, 3)], State::Deliverable, Some(3)),
            // Something arrived between two bounces of a day.
            (vec![(HardBounced, 2), (Delivered, 3), (HardBounced, 4)], State::Unreachable, Some(4)),
            (vec![(SoftBounced, 1), (SoftBounced, 2), (SoftBounced, 3)], State::Unspecified, None),
            (vec![(SoftBounced, 1), (SoftBounced, 25), (SoftBounced, 49)], State::SoftBouncing, Some(1)),
            (
                vec![(SoftBounced, 1), (Delivered, 24), (SoftBounced, 25), (SoftBounced, 49)],
                State::Deliverable,
                Some(24),
            ),
            (vec![(Unsubscribed, 5), (Clicked, 9), (HardBounced, 7)], State::Unsubscribed, Some(5)),
            (vec![(Unsubscribed, 5), (Complained, 6), (Replied, 9)], State::Complained, Some(6)),
        ] {
            let since = since.map(|hour: i64| DateTime::from_timestamp(hour * 3600, 0).unwrap());
            assert_eq!(heard(&events).state(), (state, since), "{events:?}");
        }
    }

    proptest! {
        #[test]
        fn no_order_and_no_repetition_changes_what_is_heard(
            (events, order) in prop::collection::vec((1..=8i32, 0..100i64), 0..30).prop_flat_map(|events| {
                let twice: Vec<usize> = (0..events.len() * 2).collect();
                (Just(events), Just(twice).prop_shuffle())
            })
        ) {
            let events: Vec<_> = events.into_iter().map(|(kind, hour)| (Kind::try_from(kind).unwrap(), hour)).collect();
            let again: Vec<_> = order.into_iter().map(|i| events[i % events.len()]).collect();
            prop_assert_eq!(heard(&events), heard(&again));
            // What an earlier state was does not matter either.
            if let Some((last, rest)) = events.split_last() {
                let mut after = heard(rest);
                let _ = after.state();
                after.add(last.0 as i32, DateTime::from_timestamp(last.1 * 3600, 0).unwrap(), DateTime::from_timestamp(last.1 * 3600, 0).unwrap());
                prop_assert_eq!(after.state(), heard(&events).state());
            }
        }
    }
}
