//! Gamma–gamma: what a purchase costs varies around a mean of the customer's own (shape p), and means differ between
//! customers (q, γ). It supposes that how much is spent has nothing to do with how often.

use statrs::function::gamma::{digamma, ln_gamma};

use super::likelihood::{Fit, maximise};

/// What somebody spent: on how many days after the first, and how much on one of them in the mean.
#[derive(Clone, Copy)]
pub struct Spending {
    pub repeats: f64,
    pub mean: f64,
}

/// The parameters of the model; γ is an amount of money.
#[derive(Clone, Copy)]
pub struct SpendModel {
    pub p: f64,
    pub q: f64,
    pub gamma: f64,
}

impl SpendModel {
    /// The parameters under which the spending of those who came back and paid is most likely. `None` when there are none, or
    /// no parameters are more likely than all others.
    pub fn fit(spendings: &[Spending]) -> Option<Fit<3>> {
        let paid: Vec<Spending> = spendings.iter().copied().filter(|s| s.repeats > 0.0 && s.mean > 0.0).collect();
        if paid.is_empty() {
            return None;
        }
        let mean = paid.iter().map(|spending| spending.mean).sum::<f64>() / paid.len() as f64;
        maximise([2.0, 2.0, mean], |parameters| {
            let model = Self::of(parameters);
            let (mut log, mut gradient) = (0.0, [0.0; 3]);
            for spending in &paid {
                let (one, slope) = model.likelihood(spending);
                log += one;
                (0..3).for_each(|i| gradient[i] += slope[i]);
            }
            (log, gradient)
        })
    }

    /// The model with these parameters: p, q, γ.
    pub fn of(&[p, q, gamma]: &[f64; 3]) -> Self {
        Self { p, q, gamma }
    }

    fn likelihood(&self, spending: &Spending) -> (f64, [f64; 3]) {
        let Self { p, q, gamma } = *self;
        let Spending { repeats: x, mean: m } = *spending;
        let all = (gamma + m * x).ln();
        let log = ln_gamma(p * x + q) - ln_gamma(p * x) - ln_gamma(q)
            + q * gamma.ln()
            + (p * x - 1.0) * m.ln()
            + p * x * x.ln()
            - (p * x + q) * all;
        let both = digamma(p * x + q);
        let slope = [
            x * (both - digamma(p * x) + m.ln() + x.ln() - all),
            both - digamma(q) + gamma.ln() - all,
            q / gamma - (p * x + q) / (gamma + m * x),
        ];
        (log, slope)
    }

    /// What a purchase of a customer is expected to cost: between what they spent and what everybody spends. `None` where
    /// the model has no mean, which is for q up to 1 and somebody who never came back.
    pub fn expected_spend(&self, spending: &Spending) -> Option<f64> {
        let Self { p, q, gamma } = *self;
        let Spending { repeats: x, mean } = *spending;
        let divisor = p * x + q - 1.0;
        (divisor > 0.0).then(|| p * (gamma + mean * x) / divisor)
    }
}
