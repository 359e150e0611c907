//! Where demand goes, and what to expect of it.

use chrono::Months;
use proto::insight::v1::{DemandDirection as Direction, DemandForecast, DemandMonth, DemandTrend};
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::request::Span;

/// A trend is told of so many months at least.
const TREND: usize = 4;

/// The straight line through some points by least squares.
struct Line {
    count: f64,
    mean: (f64, f64),
    spread: f64,
    slope: f64,
    /// The points' variance around the line.
    variance: f64,
    /// By how many standard errors 95 % of Student's distribution lie around its middle.
    quantile: f64,
}

impl Line {
    fn through(points: &[(f64, f64)]) -> Option<Self> {
        if points.len() < TREND {
            return None;
        }
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let mean = (mean(|point| point.0), mean(|point| point.1));
        let spread: f64 = points.iter().map(|(x, _)| (x - mean.0).powi(2)).sum();
        let slope = points.iter().map(|(x, y)| (x - mean.0) * (y - mean.1)).sum::<f64>() / spread;
        let errors: f64 = points.iter().map(|(x, y)| (y - mean.1 - slope * (x - mean.0)).powi(2)).sum();
        let freedom = count - 2.0;
        let quantile = StudentsT::new(0.0, 1.0, freedom).ok()?.inverse_cdf(0.975);
        Some(Self { count, mean, spread, slope, variance: errors / freedom, quantile })
    }

    /// The half of the slope's interval.
    fn slope_half(&self) -> f64 {
        self.quantile * (self.variance / self.spread).sqrt()
    }

    /// What to expect at a place, and the half of the interval in which one more point will lie.
    fn at(&self, x: f64) -> (f64, f64) {
        let away = x - self.mean.0;
        let half = self.quantile * (self.variance * (1.0 + 1.0 / self.count + away.powi(2) / self.spread)).sqrt();
        (self.mean.1 + self.slope * away, half)
    }
}

/// A number of each month, by the month's number in the span.
fn points(months: &[DemandMonth], span: Span, of: fn(&DemandMonth) -> i64) -> Vec<(f64, f64)> {
    let numbered: Vec<String> = span.months().map(|month| month.format("%Y-%m").to_string()).collect();
    let point = |month: &DemandMonth| {
        let at = numbered.iter().position(|other| *other == month.month)?;
        Some((at as f64, of(month) as f64))
    };
    months.iter().filter_map(point).collect()
}

/// Where the money of some months goes.
pub fn trend(months: &[DemandMonth], span: Span) -> Option<DemandTrend> {
    let line = Line::through(&points(months, span, |month| month.net_minor))?;
    let (change, half) = (line.slope, line.slope_half());
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

/// How many pieces to expect in the month after the span.
pub fn forecast(months: &[DemandMonth], span: Span) -> Option<DemandForecast> {
    let line = Line::through(&points(months, span, |month| month.quantity))?;
    let (expected, half) = line.at(span.months().count() as f64);
    Some(DemandForecast {
        month: (span.last + Months::new(1)).format("%Y-%m").to_string(),
        quantity: expected.max(0.0),
        lower_quantity: (expected - half).max(0.0),
        upper_quantity: (expected + half).max(0.0),
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
            quantity: net_minor,
            ..Default::default()
        };
        let months = |nets: [i64; 6]| span.months().zip(nets).map(month).collect::<Vec<_>>();
        // R: confint(lm(c(10, 12, 15, 15, 19, 20) ~ I(0:5)))
        let rising = trend(&months([10, 12, 15, 15, 19, 20]), span).unwrap();
        assert!((rising.monthly_change_minor - 2.028_571_428_571_428_6).abs() < 1e-12);
        assert_eq!(rising.direction(), Direction::Rising);
        // By scipy: t.ppf(0.975, 4) * s * sqrt(1 + 1/6 + 3.5**2 / 17.5) around the line.
        let next = forecast(&months([10, 12, 15, 15, 19, 20]), span).unwrap();
        assert_eq!(next.month, "2026-07");
        for (told, exact) in [
            (next.quantity, 22.266666666667),
            (next.lower_quantity, 19.082148815867),
            (next.upper_quantity, 25.451184517467),
        ] {
            assert!((told - exact).abs() < 1e-9, "{told} {exact}");
        }
        let sold_out = forecast(&months([60, 50, 40, 30, 20, 1]), span).unwrap();
        assert_eq!((sold_out.lower_quantity, sold_out.upper_quantity > 0.0), (0.0, true));
        assert_eq!(trend(&months([10, 2, 15, 1, 19, 3]), span).unwrap().direction(), Direction::Steady);
        assert_eq!(trend(&months([60, 50, 40, 30, 20, 10]), span).unwrap().direction(), Direction::Falling);
        assert!(trend(&months([1, 2, 3, 4, 5, 6])[..3], span).is_none());
    }
}
