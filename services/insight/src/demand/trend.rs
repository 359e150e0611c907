//! Where demand goes.

use proto::insight::v1::{DemandDirection as Direction, DemandMonth, DemandTrend};
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::request::Span;

/// A trend is told of so many months at least.
const TREND: usize = 4;

/// The straight line through some months.
pub fn trend(months: &[DemandMonth], span: Span) -> Option<DemandTrend> {
    let numbered: Vec<String> = span.months().map(|month| month.format("%Y-%m").to_string()).collect();
    let point = |month: &DemandMonth| {
        let at = numbered.iter().position(|other| *other == month.month)?;
        Some((at as f64, month.net_minor as f64))
    };
    let points: Vec<(f64, f64)> = months.iter().filter_map(point).collect();
    let n = points.len();
    if n < TREND {
        return None;
    }
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n as f64;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let change = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / spread;
    let errors: f64 = points.iter().map(|(x, y)| (y - mean_y - change * (x - mean_x)).powi(2)).sum();
    let freedom = (n - 2) as f64;
    let quantile = StudentsT::new(0.0, 1.0, freedom).ok()?.inverse_cdf(0.975);
    let half = quantile * (errors / freedom / spread).sqrt();
    let direction = match (change - half, change + half) {
        (lower, _) if lower > 0.0 => Direction::Rising,
        (_, upper) if upper < 0.0 => Direction::Falling,
        _ => Direction::Steady,
    };
    Some(DemandTrend {
        direction: direction.into(),
        monthly_change_minor: change,
        lower_minor: change - half,
        upper_minor: change + half,
    })
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::*;

    #[test]
    fn a_trend_has_the_interval_of_the_line_through_the_months() {
        let first: NaiveDate = "2026-01-01".parse().unwrap();
        let span = Span { first, last: "2026-06-01".parse().unwrap() };
        let month = |(month, net_minor): (NaiveDate, i64)| DemandMonth {
            month: month.format("%Y-%m").to_string(),
            net_minor,
            ..Default::default()
        };
        let months = |nets: [i64; 6]| span.months().zip(nets).map(month).collect::<Vec<_>>();
        // R: confint(lm(c(10, 12, 15, 15, 19, 20) ~ I(0:5)))
        let rising = trend(&months([10, 12, 15, 15, 19, 20]), span).unwrap();
        assert!((rising.monthly_change_minor - 2.028_571_428_571_428_6).abs() < 1e-12);
        assert_eq!(rising.direction(), Direction::Rising);
        assert_eq!(trend(&months([10, 2, 15, 1, 19, 3]), span).unwrap().direction(), Direction::Steady);
        assert_eq!(trend(&months([60, 50, 40, 30, 20, 10]), span).unwrap().direction(), Direction::Falling);
        assert!(trend(&months([1, 2, 3, 4, 5, 6])[..3], span).is_none());
    }
}
