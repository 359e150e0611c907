//! How many attempts there may be. Where most calls fail, repeating them is part of the trouble (gRFC A6).

use std::{
    sync::atomic::{AtomicI32, Ordering::Relaxed},
    time::Duration,
};

/// Thousandths of a token: a bucket holds a thousand, the most that gRFC A6 allows. A channel carries thousands of calls a
/// second, of which hundreds may fail in one moment; where they go on failing, the bucket is empty in the next.
const FULL: i32 = 1_000_000;
/// A failure takes one.
const FAILURE: i32 = 1_000;
/// A success gives a tenth.
const SUCCESS: i32 = 100;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The tokens of one channel. While at most half are left, nothing is repeated.
pub(crate) struct Budget(AtomicI32);

impl Budget {
    pub(crate) fn new() -> Self {
        Self(AtomicI32::new(FULL))
    }

    pub(crate) fn succeeded(&self) {
        // Nearly every call finds the bucket full and writes nothing that others share.
        if self.0.load(Relaxed) < FULL {
            let _ = self.0.fetch_update(Relaxed, Relaxed, |tokens| Some((tokens + SUCCESS).min(FULL)));
        }
    }

    /// Takes a failure, and answers whether there may be another attempt.
    pub(crate) fn failed(&self) -> bool {
        let taken = self.0.fetch_update(Relaxed, Relaxed, |tokens| Some((tokens - FAILURE).max(0)));
        taken.is_ok_and(|before| before - FAILURE > FULL / 2)
    }
}

/// The pause before the attempt with this number, the second being 1: up to 50 ms, doubled each time up to a second,
/// and by chance a fifth more or less, so that those who failed together do not come back together.
pub(crate) fn pause(attempt: u32) -> Duration {
    let pause = FIRST_PAUSE.saturating_mul(1 << (attempt - 1).min(10)).min(LONGEST_PAUSE);
    pause.mul_f64(0.8 + 0.4 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_most_fails_nothing_is_repeated() {
        let budget = Budget::new();
        let repeated = (0..1000).filter(|_| budget.failed()).count();
        assert_eq!(repeated, 499, "of a thousand failures in a row");
        // Ten successes make good one failure.
        (0..5000).for_each(|_| budget.succeeded());
        assert!(!budget.failed());
        (0..30).for_each(|_| budget.succeeded());
        assert!(budget.failed());
        (0..100_000).for_each(|_| budget.succeeded());
        assert_eq!((0..1000).filter(|_| budget.failed()).count(), 499, "the bucket does not overflow");
    }

    #[test]
    fn pauses_grow_and_differ() {
        for (attempt, least, most) in [(1, 40, 60), (2, 80, 120), (3, 160, 240), (30, 800, 1200)] {
            let pauses: Vec<_> = (0..100).map(|_| pause(attempt)).collect();
            assert!(pauses.iter().all(|p| (least..=most).contains(&p.as_millis())), "{pauses:?}");
            assert!(pauses.iter().any(|p| *p != pauses[0]));
        }
    }
}
