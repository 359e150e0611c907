//! The heart: one customer's interactions as a line in time, newest first, read page by page
//! without gaps or doubles while more is written.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A place in a timeline: everything strictly older comes after it. Two interactions of the same
/// instant are told apart by their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    pub occurred_at: DateTime<Utc>,
    pub interaction_id: Uuid,
}

/// How long an interaction took, in milliseconds, of at most a day.
pub fn duration_ms(duration: &prost_types::Duration) -> Option<i64> {
    let ms = duration.seconds.checked_mul(1000)?.checked_add(i64::from(duration.nanos / 1_000_000))?;
    (0..=86_400_000).contains(&ms).then_some(ms).filter(|_| duration.nanos % 1_000_000 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_whole_milliseconds_of_at_most_a_day() {
        let duration = |seconds, nanos| prost_types::Duration { seconds, nanos };
        assert_eq!(duration_ms(&duration(90, 500_000_000)), Some(90_500));
        assert_eq!(duration_ms(&duration(86_400, 0)), Some(86_400_000));
        for wrong in [duration(-1, 0), duration(86_401, 0), duration(0, 1), duration(i64::MAX, 0)] {
            assert_eq!(duration_ms(&wrong), None);
        }
    }

    #[test]
    fn two_interactions_of_one_instant_have_an_order() {
        let position = |second, id| Position {
            occurred_at: DateTime::from_timestamp(second, 0).unwrap(),
            interaction_id: Uuid::from_u128(id),
        };
        let mut line = vec![position(1, 2), position(2, 1), position(1, 1)];
        line.sort_by(|a, b| b.cmp(a));
        assert_eq!(line, [position(2, 1), position(1, 2), position(1, 1)]);
    }
}
