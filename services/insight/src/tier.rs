//! The heart of value tiers: recency, frequency and money, each scored by fifths of all customers. The score of a
//! customer is `1 + ⌊5 · (number who do worse) / (number of all)⌋`, so equal customers share the lower score, in
//! integers. Whoever is better than the `⌈s · n / 5⌉`-th from below has at least the score `s + 1`; those four values are the
//! edges, and by them a customer is scored alone.

use proto::insight::v1::{Tier, ValueSegment};

/// What divides a base into fifths: the `⌈s · n / 5⌉`-th value from below for s from 1 to 4.
pub type Edges = [i64; 4];

/// The edges of some values. Nobody is better than nobody: without values every score is 1.
pub fn edges(mut values: Vec<i64>) -> Edges {
    values.sort_unstable();
    let n = values.len();
    [1, 2, 3, 4].map(|s| if n == 0 { i64::MAX } else { values[(s * n).div_ceil(5) - 1] })
}

/// The score of a value, 1 to 5.
pub fn score(edges: &Edges, value: i64) -> i32 {
    edges.iter().fold(1, |score, edge| score + i32::from(value > *edge))
}

/// The segment of a pair of scores.
pub fn segment(recency: i32, frequency: i32) -> ValueSegment {
    match (recency, frequency) {
        (5, 4 | 5) => ValueSegment::Champions,
        (3 | 4, 4 | 5) => ValueSegment::LoyalCustomers,
        (4 | 5, 2 | 3) => ValueSegment::PotentialLoyalists,
        (5, _) => ValueSegment::NewCustomers,
        (4, _) => ValueSegment::Promising,
        (3, 3) => ValueSegment::NeedAttention,
        (3, _) => ValueSegment::AboutToSleep,
        (_, 5) => ValueSegment::CantLose,
        (_, 3 | 4) => ValueSegment::AtRisk,
        _ => ValueSegment::Hibernating,
    }
}

/// The tier of a segment.
pub fn tier(segment: ValueSegment) -> Tier {
    match segment {
        ValueSegment::Unspecified => Tier::Unspecified,
        ValueSegment::Champions | ValueSegment::LoyalCustomers | ValueSegment::CantLose => Tier::HighValue,
        ValueSegment::PotentialLoyalists
        | ValueSegment::NewCustomers
        | ValueSegment::Promising
        | ValueSegment::NeedAttention => Tier::Potential,
        ValueSegment::AboutToSleep | ValueSegment::AtRisk | ValueSegment::Hibernating => Tier::ToBeNurtured,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn edges_score_as_the_rule_says(values in prop::collection::vec(-20i64..20, 1..60), other in -25i64..25) {
            let (base, n) = (edges(values.clone()), values.len());
            for value in values.iter().copied().chain([other]) {
                let worse = values.iter().filter(|other| **other < value).count();
                let rule = (5 * worse / n + 1).min(5);
                prop_assert_eq!(score(&base, value) as usize, rule);
            }
        }
    }

    /// The quantile of type 7 of R, whose next greater value begins the score above.
    fn quantile(sorted: &[i64], fifth: usize) -> f64 {
        let place = (sorted.len() - 1) as f64 * fifth as f64 / 5.0;
        let (below, part) = (sorted[place as usize], place.fract());
        below as f64 + part * (sorted[(place as usize + 1).min(sorted.len() - 1)] - below) as f64
    }

    /// The package divides otherwise: one more than a quantile is the least value of the score above. By its edges the scores here
    /// are its published ones.
    #[test]
    fn by_the_edges_of_another_package_the_scores_are_the_published_ones() {
        let vectors = include_str!("../vectors/rfm_package.tsv");
        let rows: Vec<Vec<i64>> = vectors
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split('\t').map(|number| number.parse().unwrap()).collect())
            .collect();
        assert_eq!(rows.len(), 995);
        let edges_of = |column: usize| {
            let mut values: Vec<i64> = rows.iter().map(|row| row[column]).collect();
            values.sort_unstable();
            [1, 2, 3, 4].map(|fifth| quantile(&values, fifth) + 1.0)
        };
        let [recency, orders, amount] = [0, 1, 2].map(edges_of);
        // What is at least an edge is greater than the whole number below it.
        let upwards = |edges: [f64; 4]| edges.map(|edge| edge.ceil() as i64 - 1);
        let downwards = |edges: [f64; 4]| edges.map(|edge| (-edge).floor() as i64);
        for row in &rows {
            let scores =
                [score(&downwards(recency), -row[0]), score(&upwards(orders), row[1]), score(&upwards(amount), row[2])];
            assert_eq!(scores.map(i64::from), [row[3], row[4], row[5]], "{row:?}");
        }
    }

    #[test]
    fn nobody_is_better_than_nobody() {
        assert_eq!(score(&edges(Vec::new()), i64::MAX), 1);
        assert_eq!(score(&edges(vec![7]), 7), 1);
        assert_eq!(score(&edges(vec![7; 1000]), 7), 1);
    }

    #[test]
    fn every_pair_of_scores_has_a_segment_and_a_tier() {
        use ValueSegment::*;
        let grid = [
            [Hibernating, Hibernating, AtRisk, AtRisk, CantLose],
            [Hibernating, Hibernating, AtRisk, AtRisk, CantLose],
            [AboutToSleep, AboutToSleep, NeedAttention, LoyalCustomers, LoyalCustomers],
            [Promising, PotentialLoyalists, PotentialLoyalists, LoyalCustomers, LoyalCustomers],
            [NewCustomers, PotentialLoyalists, PotentialLoyalists, Champions, Champions],
        ];
        for (r, row) in (1..).zip(grid) {
            for (f, expected) in (1..).zip(row) {
                assert_eq!(segment(r, f), expected, "R{r} F{f}");
                assert_ne!(tier(expected), Tier::Unspecified);
            }
        }
    }
}
