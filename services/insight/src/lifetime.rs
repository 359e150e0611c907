//! The heart of prediction: how often somebody will buy, by the BG/NBD model (Fader, Hardie and Lee, "Counting your customers"
//! the easy way, Marketing Science 24, 2005), and for how much, by the gamma–gamma model (Fader and Hardie, The
//! gamma-gamma model of monetary value, 2013). Purchases on one day are one; times are weeks, exact days divided by seven.

mod likelihood;
mod purchases;
mod spend;

pub use self::{
    likelihood::Fit,
    purchases::{History, PurchaseModel},
    spend::{SpendModel, Spending},
};

/// Days in a week.
pub const WEEK: f64 = 7.0;
/// Weeks in a month, 365.25 / 12 / 7 to three decimals, as the published values have it.
const MONTH: f64 = 4.345;

/// What a customer is worth over some months: each month's expected purchases at the expected spend of one, discounted at
/// its end.
pub fn value(model: &PurchaseModel, history: &History, spend: f64, months: u32, monthly_discount: f64) -> f64 {
    let (mut before, mut value, mut discount) = (0.0, 0.0, 1.0);
    for month in 1..=months {
        let until = model.expected_purchases(history, MONTH * f64::from(month));
        discount *= 1.0 + monthly_discount;
        value += spend * (until - before) / discount;
        before = until;
    }
    value
}

#[cfg(test)]
mod tests;
