//! The heart of affinities: what a customer's purchases have in common. A habit is as strong as the part of the purchases
//! that have it; of two that are as strong, the later one counts more.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Days, NaiveDate, Timelike, Utc};
use chrono_tz::Tz;
use proto::{
    insight::v1::{Affinity, AffinityKind as Kind, BasketHabit, Dimension, NextPurchase},
    order_history::v1::SalesChannel,
};

use crate::traits::{Traits, short};

/// In a customer's view so many of the newest purchases are looked at, and for what customers are counted by.
pub const LATELY: i64 = 20;

/// A purchase, as far as it shows habits.
pub struct Purchase {
    pub placed_at: DateTime<Utc>,
    /// The holiday on which it was, empty on any other day.
    pub holiday: String,
    pub channel: i32,
    pub store_id: String,
    pub payment_method: String,
    pub currency: String,
    pub net_minor: i64,
    pub discount_minor: i64,
    pub quantity: i64,
    pub categories: Vec<Vec<String>>,
    pub brands: Vec<String>,
}

/// Purchases of one customer, and where the customer's clock is.
#[derive(Default)]
pub struct Habits {
    pub zone: Tz,
    pub purchases: Vec<Purchase>,
}

/// How often, and when last.
type Count = (usize, NaiveDate);

impl Habits {
    /// The habits by kind, the strongest first, of each kind at most so many.
    pub fn affinities(&self, limit: impl Fn(Kind) -> usize) -> Vec<Affinity> {
        let mut counts: BTreeMap<(Kind, Vec<String>), Count> = BTreeMap::new();
        for purchase in &self.purchases {
            let day = purchase.placed_at.date_naive();
            for habit in self.shown_by(purchase) {
                let (count, last) = counts.entry(habit).or_insert((0, day));
                (*count, *last) = (*count + 1, day.max(*last));
            }
        }
        let mut strongest: Vec<((Kind, Vec<String>), Count)> = counts.into_iter().collect();
        // What is equal stays in the order of names.
        strongest.sort_by_key(|((kind, _), (count, last))| (*kind, std::cmp::Reverse((*count, *last))));
        let kinds = strongest.chunk_by(|((a, _), _), ((b, _), _)| a == b);
        kinds.flat_map(|of_kind| of_kind.iter().take(limit(of_kind[0].0.0))).map(|habit| self.affinity(habit)).collect()
    }

    fn affinity(&self, ((kind, name), (count, last)): &((Kind, Vec<String>), Count)) -> Affinity {
        let (value, category_path) = match kind {
            Kind::Category => (String::new(), name.clone()),
            _ => (name.concat(), Vec::new()),
        };
        Affinity {
            kind: (*kind).into(),
            value,
            category_path,
            purchase_count: *count as i64,
            share: *count as f64 / self.purchases.len() as f64,
            last_day: last.to_string(),
            lift: None,
        }
    }

    /// The habits that one purchase shows, each once.
    fn shown_by(&self, purchase: &Purchase) -> BTreeSet<(Kind, Vec<String>)> {
        let local = purchase.placed_at.with_timezone(&self.zone);
        let channel = SalesChannel::try_from(purchase.channel).unwrap_or_default();
        let named = [
            (Kind::SalesChannel, short(channel.as_str_name(), "SALES_CHANNEL_")),
            (Kind::Store, purchase.store_id.clone()),
            (Kind::Hour, local.hour().to_string()),
            (Kind::Weekday, local.format("%A").to_string().to_lowercase()),
            (Kind::PaymentMethod, purchase.payment_method.clone()),
            (Kind::Holiday, purchase.holiday.clone()),
        ];
        let named = named.into_iter().filter(|(_, name)| !name.is_empty()).map(|(kind, name)| (kind, vec![name]));
        let brands = purchase.brands.iter().map(|brand| (Kind::Brand, vec![brand.clone()]));
        let categories = purchase.categories.iter().map(|path| (Kind::Category, path.clone()));
        named.chain(brands).chain(categories).collect()
    }

    /// The strongest habit of each kind that all customers are counted by.
    pub fn traits(&self) -> Traits {
        let affinities = self.affinities(|_| 1);
        let of = |kind: Kind| affinities.iter().find(|a| a.kind() == kind).map(|a| a.value.clone()).unwrap_or_default();
        vec![
            (Dimension::SalesChannel, of(Kind::SalesChannel)),
            (Dimension::PaymentMethod, of(Kind::PaymentMethod)),
            (Dimension::Hour, of(Kind::Hour)),
            (Dimension::Weekday, of(Kind::Weekday)),
        ]
    }

    /// What baskets are like, by currency.
    pub fn baskets(&self) -> Vec<BasketHabit> {
        let mut of: BTreeMap<&str, Vec<&Purchase>> = BTreeMap::new();
        self.purchases.iter().for_each(|purchase| of.entry(&purchase.currency).or_default().push(purchase));
        let habit = |(currency, purchases): (&str, Vec<&Purchase>)| {
            let n = purchases.len() as f64;
            let sum = |amount: fn(&Purchase) -> i64| purchases.iter().map(|p| amount(p) as f64).sum::<f64>();
            let (net, off) = (sum(|p| p.net_minor), sum(|p| p.discount_minor));
            BasketHabit {
                currency_code: currency.to_owned(),
                purchase_count: purchases.len() as i64,
                mean_minor: net / n,
                mean_quantity: sum(|p| p.quantity) / n,
                discounted_share: purchases.iter().filter(|p| p.discount_minor > 0).count() as f64 / n,
                discount_rate: if off > 0.0 { off / (net + off) } else { 0.0 },
            }
        };
        of.into_iter().map(habit).collect()
    }

    /// The categories that were bought on two days at least, by when they are due.
    pub fn next(&self, limit: usize) -> Vec<NextPurchase> {
        let mut days: BTreeMap<&[String], BTreeSet<NaiveDate>> = BTreeMap::new();
        for purchase in &self.purchases {
            for path in &purchase.categories {
                days.entry(path).or_default().insert(purchase.placed_at.date_naive());
            }
        }
        let mut next: Vec<NextPurchase> = days.into_iter().filter_map(|(path, days)| due(path, &days)).collect();
        next.sort_by(|a, b| (&a.due_day, &a.category_path).cmp(&(&b.due_day, &b.category_path)));
        next.truncate(limit);
        next
    }
}

fn due(path: &[String], days: &BTreeSet<NaiveDate>) -> Option<NextPurchase> {
    let (first, last) = (days.first()?, days.last()?);
    let gaps: Vec<i64> = days.iter().zip(days.iter().skip(1)).map(|(a, b)| (*b - *a).num_days()).collect();
    let (shortest, longest) = (*gaps.iter().min()?, *gaps.iter().max()?);
    let mean = (*last - *first).num_days() as f64 / gaps.len() as f64;
    let after = |gap: i64| Some((*last + Days::new(gap.unsigned_abs())).to_string());
    Some(NextPurchase {
        category_path: path.to_vec(),
        due_day: after(mean.round() as i64)?,
        earliest_day: after(shortest)?,
        latest_day: after(longest)?,
        day_count: days.len() as i64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purchase(at: &str, channel: SalesChannel, category: &str, discount_minor: i64) -> Purchase {
        Purchase {
            placed_at: at.parse().unwrap(),
            holiday: String::new(),
            channel: channel.into(),
            store_id: String::new(),
            payment_method: "card".into(),
            currency: "EUR".into(),
            net_minor: 1000,
            discount_minor,
            quantity: 2,
            categories: vec![vec!["Food".to_owned(), category.to_owned()]],
            brands: Vec::new(),
        }
    }

    #[test]
    fn habits_are_what_purchases_have_in_common() {
        let purchases = vec![
            purchase("2026-01-02T23:30:00Z", SalesChannel::Web, "Coffee", 0),
            purchase("2026-01-12T23:30:00Z", SalesChannel::Web, "Coffee", 250),
            purchase("2026-01-16T12:00:00Z", SalesChannel::Store, "Tea", 0),
            purchase("2026-01-26T23:59:59Z", SalesChannel::Unspecified, "Coffee", 0),
        ];
        let habits = Habits { zone: "Europe/Berlin".parse().unwrap(), purchases };
        let strongest: Vec<(Kind, String, i64)> = habits
            .affinities(|_| 1)
            .into_iter()
            .map(|a| (a.kind(), a.category_path.last().cloned().unwrap_or(a.value), a.purchase_count))
            .collect();
        let told = |kind, value: &str, count| (kind, value.to_owned(), count);
        // It was after midnight in Berlin; on a Tuesday twice, and more lately than on a Saturday.
        assert_eq!(
            strongest,
            [
                told(Kind::Category, "Coffee", 3),
                told(Kind::SalesChannel, "web", 2),
                told(Kind::Hour, "0", 3),
                told(Kind::Weekday, "tuesday", 2),
                told(Kind::PaymentMethod, "card", 4),
            ]
        );
        let basket = habits.baskets().remove(0);
        assert_eq!((basket.mean_minor, basket.mean_quantity, basket.discounted_share), (1000.0, 2.0, 0.25));
        assert!((basket.discount_rate - 250.0 / 4250.0).abs() < 1e-12);
        let next = habits.next(3);
        assert_eq!(next.len(), 1);
        let days = [&next[0].earliest_day, &next[0].due_day, &next[0].latest_day];
        assert_eq!(days, ["2026-02-05", "2026-02-07", "2026-02-09"]);
    }
}
