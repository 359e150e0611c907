//! What to recommend to one customer: what they have and when they bought it, against the market.

use std::collections::{BTreeMap, BTreeSet};

use proto::insight::v1::RecommendationKind as Kind;

use crate::catalogue::Shelf;

/// A purchase counts half as much for each so many days since.
pub const HALF_LIFE_DAYS: f64 = 365.0;
/// What was bought on so many last days leads to what goes with it.
const LATELY: usize = 10;
/// An accessory costs at most so much of what it is for: one in so many.
const ACCESSORY: i64 = 2;
/// A better model costs at most so many times as much.
const BETTER: i64 = 3;

/// What a customer has: the days on which each item was bought, as days since 1970, each once and ascending.
pub type Bought = BTreeMap<u32, Vec<i32>>;

/// A recommendation.
#[derive(Clone)]
pub struct Suggestion {
    pub kind: Kind,
    pub item: u32,
    /// What it is recommended for.
    pub because: Option<u32>,
    pub score: f64,
    pub customers: u32,
    pub baskets: u32,
    pub due: Option<i32>,
    /// The customer's own shortest and longest time between two purchases, behind the last.
    pub interval: Option<(i32, i32)>,
}

/// Recommends at most so many of each kind, the strongest first. Nothing is recommended twice, and what a customer has is
/// only ever recommended to be bought again.
pub fn recommend(shelf: &Shelf, bought: &Bought, kinds: &[Kind], limit: usize) -> Vec<Suggestion> {
    let all = [Kind::BuyAgain, Kind::Accessory, Kind::BetterModel, Kind::BoughtTogether, Kind::Similar];
    let mut taken: BTreeSet<u32> = bought.keys().copied().collect();
    // Who has something lasting needs no other of the kind, but for a better one.
    let lasting: Vec<u32> = bought.keys().copied().filter(|item| lasts(shelf, bought, *item)).collect();
    let same_kind: BTreeSet<u32> = lasting.iter().flat_map(|item| of_category(shelf, *item)).copied().collect();
    let mut suggestions = Vec::new();
    for kind in all.into_iter().filter(|kind| kinds.is_empty() || kinds.contains(kind)) {
        let mut found = match kind {
            Kind::BuyAgain => again(shelf, bought),
            Kind::Accessory => accessories(shelf, &lasting),
            Kind::BetterModel => better(shelf, &lasting),
            Kind::BoughtTogether => together(shelf, bought),
            _ => similar(shelf, bought),
        };
        match kind {
            Kind::BuyAgain => (),
            Kind::BetterModel => found.retain(|s| !taken.contains(&s.item)),
            _ => found.retain(|s| !taken.contains(&s.item) && !same_kind.contains(&s.item)),
        }
        let customers = |s: &Suggestion| shelf.market.counts(s.item).customers;
        found.sort_by(|a, b| {
            b.score.total_cmp(&a.score).then_with(|| customers(b).cmp(&customers(a))).then(a.item.cmp(&b.item))
        });
        found.truncate(limit);
        taken.extend(found.iter().map(|s| s.item));
        suggestions.extend(found);
    }
    suggestions
}

/// Whether a customer is done with an item: it is not of those one buys again, and the customer did not.
fn lasts(shelf: &Shelf, bought: &Bought, item: u32) -> bool {
    bought[&item].len() < 2 && !shelf.market.counts(item).consumed()
}

fn of_category(shelf: &Shelf, item: u32) -> &[u32] {
    shelf.categories.get(&shelf.item(item).category_path).map_or(&[], Vec::as_slice)
}

fn again(shelf: &Shelf, bought: &Bought) -> Vec<Suggestion> {
    let newest = bought.values().filter_map(|days| days.last()).max().copied().unwrap_or_default();
    let consumed = bought.iter().filter(|(item, _)| !lasts(shelf, bought, **item));
    let suggest = |(item, days): (&u32, &Vec<i32>)| {
        let counts = shelf.market.counts(*item);
        let weight = |day: &i32| 0.5_f64.powf(f64::from(newest - day) / HALF_LIFE_DAYS);
        let (first, last) = (days[0], days[days.len() - 1]);
        let gaps = || days.windows(2).map(|pair| pair[1] - pair[0]);
        let own = (days.len() > 1).then(|| f64::from(last - first) / (days.len() - 1) as f64);
        Suggestion {
            kind: Kind::BuyAgain,
            item: *item,
            because: None,
            score: days.iter().map(weight).sum(),
            customers: counts.again,
            baskets: days.len() as u32,
            due: own.or(counts.gap()).map(|gap| last + gap.round() as i32),
            interval: gaps().min().zip(gaps().max()).map(|(shortest, longest)| (last + shortest, last + longest)),
        }
    };
    consumed.map(suggest).collect()
}

fn accessories(shelf: &Shelf, lasting: &[u32]) -> Vec<Suggestion> {
    let mut best = BTreeMap::new();
    for main in lasting {
        let (of, all) = (shelf.item(*main), shelf.market.baskets() as u64);
        for (companion, customers) in shelf.market.together(*main) {
            let other = shelf.item(companion.item);
            let goes_with = other.category_path != of.category_path
                && other.currency == of.currency
                && other.price_minor * ACCESSORY <= of.price_minor;
            let counts = [*main, companion.item].map(|item| u64::from(shelf.market.counts(item).baskets));
            let more_than_by_chance = u64::from(companion.both) * all > counts[0] * counts[1];
            if goes_with && more_than_by_chance {
                strongest(
                    &mut best,
                    suggestion(Kind::Accessory, companion.item, *main, companion.similarity, customers, companion.both),
                );
            }
        }
    }
    best.into_values().collect()
}

fn better(shelf: &Shelf, lasting: &[u32]) -> Vec<Suggestion> {
    let mut best = BTreeMap::new();
    for main in lasting {
        let of = shelf.item(*main);
        for other in of_category(shelf, *main) {
            let (item, counts) = (shelf.item(*other), shelf.market.counts(*other));
            let dearer = item.price_minor * 10 >= of.price_minor * 11 && item.price_minor <= of.price_minor * BETTER;
            if dearer && item.currency == of.currency {
                let score = f64::from(counts.customers);
                strongest(
                    &mut best,
                    suggestion(Kind::BetterModel, *other, *main, score, counts.customers, counts.baskets),
                );
            }
        }
    }
    best.into_values().collect()
}

fn together(shelf: &Shelf, bought: &Bought) -> Vec<Suggestion> {
    let days: BTreeSet<i32> = bought.values().flatten().copied().collect();
    let since = days.iter().rev().nth(LATELY - 1).copied().unwrap_or(i32::MIN);
    let mut best = BTreeMap::new();
    for main in bought.iter().filter(|(_, days)| days.iter().any(|day| *day >= since)).map(|(item, _)| *item) {
        for (companion, customers) in shelf.market.together(main) {
            let score = companion.similarity;
            strongest(
                &mut best,
                suggestion(Kind::BoughtTogether, companion.item, main, score, customers, companion.both),
            );
        }
    }
    best.into_values().collect()
}

fn similar(shelf: &Shelf, bought: &Bought) -> Vec<Suggestion> {
    let mut sums: BTreeMap<u32, (f64, Suggestion)> = BTreeMap::new();
    for main in bought.keys() {
        for companion in shelf.market.similar(*main) {
            let new = || suggestion(Kind::Similar, companion.item, *main, companion.similarity, companion.both, 0);
            let (sum, strongest) = sums.entry(companion.item).or_insert_with(|| (0.0, new()));
            *sum += companion.similarity;
            if companion.similarity > strongest.score {
                *strongest = new();
            }
        }
    }
    sums.into_values().map(|(score, suggestion)| Suggestion { score, ..suggestion }).collect()
}

fn suggestion(kind: Kind, item: u32, because: u32, score: f64, customers: u32, baskets: u32) -> Suggestion {
    Suggestion { kind, item, because: Some(because), score, customers, baskets, due: None, interval: None }
}

/// Of several reasons for an item the strongest.
fn strongest(best: &mut BTreeMap<u32, Suggestion>, suggestion: Suggestion) {
    let known = best.entry(suggestion.item).or_insert_with(|| suggestion.clone());
    if suggestion.score > known.score {
        *known = suggestion;
    }
}
