//! How much to expect.

use chrono::Months;
use proto::insight::v1::{DemandForecast, DemandMonth};
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::request::Span;

/// A forecast is made of so many months at least.
const MONTHS: usize = 4;
/// The weights of the newest month that are tried: so many parts of one, from none to all.
const WEIGHTS: u32 = 20;

/// How many pieces to expect in the month after the span, by simple exponential smoothing (R. G. Brown, 1956; ETS(A,N,N) of
/// Hyndman and others): what is expected moves towards each month by a part of how far that was off, and the part is the one
/// with which the months themselves would have been expected best.
pub fn forecast(months: &[DemandMonth], span: Span) -> Option<DemandForecast> {
    let quantities: Vec<f64> = months.iter().map(|month| month.quantity as f64).collect();
    if quantities.len() < MONTHS {
        return None;
    }
    let tried = (0..=WEIGHTS).map(|part| smoothed(&quantities, f64::from(part) / f64::from(WEIGHTS)));
    let (expected, errors) = tried.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
    // There are errors of all months but the first, and one weight was chosen by them.
    let freedom = (quantities.len() - 2) as f64;
    let half = StudentsT::new(0.0, 1.0, freedom).ok()?.inverse_cdf(0.975) * (errors / freedom).sqrt();
    Some(DemandForecast {
        month: (span.last + Months::new(1)).format("%Y-%m").to_string(),
        quantity: expected.max(0.0),
        lower_quantity: (expected - half).max(0.0),
        upper_quantity: (expected + half).max(0.0),
    })
}

/// What is expected behind the last quantity, and the sum of the squares by which the others were missed.
fn smoothed(quantities: &[f64], weight: f64) -> (f64, f64) {
    let first = quantities.first().copied().unwrap_or_default();
    quantities.iter().skip(1).fold((first, 0.0), |(expected, errors), quantity| {
        let off = quantity - expected;
        (expected + weight * off, errors + off * off)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(quantities: &[i64]) -> Option<DemandForecast> {
        let span = Span { first: "2026-01-01".parse().unwrap(), last: "2026-06-01".parse().unwrap() };
        let month = |quantity: &i64| DemandMonth { quantity: *quantity, ..Default::default() };
        forecast(&quantities.iter().map(month).collect::<Vec<_>>(), span)
    }

    #[test]
    fn what_is_expected_follows_the_months_as_fast_as_they_deserve() {
        // Each by a computation of its own, in Python.
        for (quantities, expected, lower, upper) in [
            ([10, 12, 15, 15, 19, 20], 20.0000000, 12.3963919, 27.6036081),
            ([60, 20, 18, 22, 19, 21], 21.0000000, 0.0000000, 77.0986213),
            ([100, 3, 90, 8, 70, 4], 38.9490253, 0.0000000, 223.3319407),
        ] {
            let next = told(&quantities).unwrap();
            assert_eq!(next.month, "2026-07");
            let numbers = [next.quantity, next.lower_quantity, next.upper_quantity];
            for (told, exact) in numbers.into_iter().zip([expected, lower, upper]) {
                assert!((told - exact).abs() < 1e-6, "{quantities:?}: {numbers:?}");
            }
        }
        // A step up is followed at once, and what only wavers is not.
        assert_eq!(told(&[10, 10, 10, 50, 50, 50]).unwrap().quantity, 50.0);
        let wavering = told(&[30, 31, 29, 31, 29, 30]).unwrap().quantity;
        assert!((29.9..30.1).contains(&wavering), "{wavering}");
        let same = told(&[7, 7, 7, 7]).unwrap();
        assert_eq!((same.quantity, same.lower_quantity, same.upper_quantity), (7.0, 7.0, 7.0));
        assert!(told(&[1, 2, 3]).is_none());
    }
}
