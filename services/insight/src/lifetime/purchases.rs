//! BG/NBD: while alive a customer buys by chance at a rate of their own, and after each purchase may leave with a probability
//! of their own. Rates differ between customers by a gamma distribution (r, α), probabilities by a beta distribution (a, b).

use std::collections::HashMap;

use statrs::function::gamma::{digamma, ln_gamma};

use super::likelihood::{Fit, maximise};

/// When somebody bought, as far as it matters: the number of days with a purchase after the first, and in weeks the time
/// from the first purchase to the last and to the end of what was seen.
#[derive(Clone, Copy)]
pub struct History {
    pub repeats: f64,
    pub last: f64,
    pub seen: f64,
}

/// The parameters of the model. Rates are per week.
#[derive(Clone, Copy)]
pub struct PurchaseModel {
    pub r: f64,
    pub alpha: f64,
    pub a: f64,
    pub b: f64,
}

/// What the likelihood needs of all customers with the same number of repeats.
#[derive(Clone, Copy)]
struct Counts {
    log: f64,
    gradient: [f64; 4],
}

impl PurchaseModel {
    /// The parameters under which the histories are most likely. `None` when nobody came back, or when no
    /// parameters are more likely than all others.
    pub fn fit(histories: &[History]) -> Option<Fit<4>> {
        if histories.iter().all(|history| history.repeats == 0.0) {
            return None;
        }
        // Many customers have the same history; each is worked out once.
        let mut alike: HashMap<[u64; 3], (History, f64)> = HashMap::new();
        for history in histories {
            let key = [history.repeats, history.last, history.seen].map(f64::to_bits);
            alike.entry(key).or_insert((*history, 0.0)).1 += 1.0;
        }
        let mut alike: Vec<(History, f64)> = alike.into_values().collect();
        // The same sum whatever the order they came in.
        alike.sort_by(|(one, _), (other, _)| {
            let key = |history: &History| [history.repeats, history.last, history.seen];
            key(one).partial_cmp(&key(other)).expect("times are numbers")
        });
        let weeks = histories.iter().map(|history| history.seen).sum::<f64>() / histories.len() as f64;
        maximise([1.0, weeks.max(1.0), 1.0, 1.0], |parameters| {
            let model = Self::of(parameters);
            let mut by_repeats: HashMap<u64, Counts> = HashMap::new();
            let (mut log, mut gradient) = (0.0, [0.0; 4]);
            for (history, weight) in &alike {
                let counts =
                    *by_repeats.entry(history.repeats.to_bits()).or_insert_with(|| model.counts(history.repeats));
                let (one, slope) = model.likelihood(history, counts);
                log += weight * one;
                (0..4).for_each(|i| gradient[i] += weight * slope[i]);
            }
            (log, gradient)
        })
    }

    /// The model with these parameters: r, α, a, b.
    pub fn of(&[r, alpha, a, b]: &[f64; 4]) -> Self {
        Self { r, alpha, a, b }
    }

    /// The logarithm of the likelihood of a history.
    #[cfg(test)]
    pub fn log_likelihood(&self, history: &History) -> f64 {
        self.likelihood(history, self.counts(history.repeats)).0
    }

    /// The factors of the likelihood in which no time is.
    fn counts(&self, x: f64) -> Counts {
        let Self { r, alpha, a, b } = *self;
        let log = ln_gamma(r + x) - ln_gamma(r) + r * alpha.ln() + ln_gamma(a + b) + ln_gamma(b + x)
            - ln_gamma(b)
            - ln_gamma(a + b + x);
        let leaving = digamma(a + b) - digamma(a + b + x);
        let gradient =
            [digamma(r + x) - digamma(r) + alpha.ln(), r / alpha, leaving, leaving + digamma(b + x) - digamma(b)];
        Counts { log, gradient }
    }

    /// The logarithm of the likelihood and its gradient: still alive, or gone after the last purchase.
    fn likelihood(&self, history: &History, counts: Counts) -> (f64, [f64; 4]) {
        let Self { r, alpha, a, b } = *self;
        let History { repeats: x, last, seen } = *history;
        let (log_seen, log_last) = ((alpha + seen).ln(), (alpha + last).ln());
        let alive = -(r + x) * log_seen;
        let mut slope = counts.gradient;
        if x == 0.0 {
            slope[0] -= log_seen;
            slope[1] -= r / (alpha + seen);
            return (counts.log + alive, slope);
        }
        let gone = (a / (b + x - 1.0)).ln() - (r + x) * log_last;
        let greatest = alive.max(gone);
        let sum = greatest + ((alive - greatest).exp() + (gone - greatest).exp()).ln();
        let (alive, gone) = ((alive - sum).exp(), (gone - sum).exp());
        slope[0] -= alive * log_seen + gone * log_last;
        slope[1] -= (r + x) * (alive / (alpha + seen) + gone / (alpha + last));
        slope[2] += gone / a;
        slope[3] -= gone / (b + x - 1.0);
        (counts.log + sum, slope)
    }

    /// How much likelier it is that somebody has left than that they are alive.
    fn odds_of_having_left(&self, history: &History) -> f64 {
        let Self { r, alpha, a, b } = *self;
        let History { repeats: x, last, seen } = *history;
        // Who never came back had no occasion to leave.
        if x == 0.0 { 0.0 } else { a / (b + x - 1.0) * ((r + x) * ((alpha + seen) / (alpha + last)).ln()).exp() }
    }

    /// The probability that somebody still is a customer.
    pub fn probability_alive(&self, history: &History) -> f64 {
        1.0 / (1.0 + self.odds_of_having_left(history))
    }

    /// The probabilities that somebody comes back so many times within some weeks from the first purchase: for 0, 1 and so on, below
    /// `most`, and for all the rest together.
    pub fn probabilities(&self, weeks: f64, most: usize) -> Vec<f64> {
        let Self { r, alpha, a, b } = *self;
        let (coming, log_not) = (weeks / (alpha + weeks), r * (alpha / (alpha + weeks)).ln());
        let ln_beta = |a: f64, b: f64| ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b);
        // Fewer purchases than so many by somebody who never leaves.
        let mut fewer = 0.0;
        let mut probabilities: Vec<f64> = (0..most)
            .map(|count| {
                let x = count as f64;
                let by_chance = (ln_gamma(r + x) - ln_gamma(r) - ln_gamma(x + 1.0) + log_not).exp() * coming.powf(x);
                let stays = (ln_beta(a, b + x) - ln_beta(a, b)).exp() * by_chance;
                let leaves = if count == 0 {
                    0.0
                } else {
                    (ln_beta(a + 1.0, b + x - 1.0) - ln_beta(a, b)).exp() * (1.0 - fewer)
                };
                fewer += by_chance;
                stays + leaves
            })
            .collect();
        probabilities.push(1.0 - probabilities.iter().sum::<f64>());
        probabilities
    }

    /// How many purchases are expected within some weeks.
    ///
    /// The published form, `(a+b+x−1)/(a−1) · [1 − (1−z)^(r+x) · ₂F₁(r+x, b+x; a+b+x−1; z)]` with `z = t/(α+T+t)`, is 0/0
    /// where a is 1. By Euler's transformation it is `C/ε · [1 − (1−z)^ε · ₂F₁(ε, D; C; z)]` with `ε = a−1`,
    /// `C = a+b+x−1` and `D = a+b−1−r`; the series without its first term has ε as a factor, so nothing is divided by
    /// it, and written with C taken in nothing is divided by that either.
    pub fn expected_purchases(&self, history: &History, weeks: f64) -> f64 {
        let Self { r, alpha, a, b } = *self;
        let History { repeats: x, seen, .. } = *history;
        let z = weeks / (alpha + seen + weeks);
        let (e, c, d) = (a - 1.0, a + b + x - 1.0, a + b - 1.0 - r);
        let log = (-z).ln_1p();
        let (mut term, mut sum, mut n) = (d * z, d * z, 1.0);
        while term.abs() > 1e-17 * sum.abs() && n < 1e6 {
            term *= (e + n) * (d + n) / ((c + n) * (n + 1.0)) * z;
            sum += term;
            n += 1.0;
        }
        let rest = if e == 0.0 { log } else { (e * log).exp_m1() / e };
        (-c * rest - (e * log).exp() * sum) / (1.0 + self.odds_of_having_left(history))
    }
}
