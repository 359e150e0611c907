//! The heart of recommendations: what all baskets together say about items. An item is a stock keeping unit or a category,
//! by the level that is asked for.
//!
//! Two items are similar by how many customers bought both: the cosine `n(a, b) / √(n(a) · n(b))` of the sets of their
//! customers, of which the 200 greatest are kept for each item, as far as two customers bought both. An item is consumed
//! if at least a tenth of its customers bought it on more than one day; otherwise who has it is done with it.

use std::collections::BTreeMap;

/// So many of the most similar items count.
const NEIGHBOURS: usize = 200;
/// An item is consumed if one in so many of its customers bought it again.
const CONSUMED: u32 = 10;

/// One purchase: whose, on which day, and what, each item once.
pub struct Basket {
    pub customer: u32,
    pub day: i32,
    pub items: Vec<u32>,
}

/// What is known of one item.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    /// Baskets that hold it.
    pub baskets: u32,
    /// Customers who bought it.
    pub customers: u32,
    /// Customers who bought it on more than one day.
    pub again: u32,
    /// Days between the first and the last purchase of those, and how many times they came back.
    days: u64,
    returns: u64,
}

/// Another item that goes with one.
#[derive(Clone, Copy)]
pub struct Companion {
    pub item: u32,
    /// Baskets or customers that have both.
    pub both: u32,
    pub similarity: f64,
}

/// Lists of numbers, one behind the other.
struct Lists {
    starts: Vec<u32>,
    entries: Vec<u32>,
}

/// All baskets, by basket, customer and item.
pub struct Market {
    counts: Vec<Counts>,
    baskets: Lists,
    of_basket: Vec<u32>,
    baskets_of_item: Lists,
    similar: Vec<Vec<Companion>>,
}

impl Lists {
    fn of(lists: impl Iterator<Item = Vec<u32>>) -> Self {
        let (mut starts, mut entries) = (vec![0], Vec::new());
        for list in lists {
            entries.extend(list);
            starts.push(entries.len() as u32);
        }
        Self { starts, entries }
    }

    /// Each entry's lists in place of each list's entries.
    fn turned(&self, entries: usize) -> Self {
        let mut lists = vec![Vec::new(); entries];
        for i in 0..self.starts.len() - 1 {
            self.get(i as u32).iter().for_each(|entry| lists[*entry as usize].push(i as u32));
        }
        Self::of(lists.into_iter())
    }

    fn get(&self, i: u32) -> &[u32] {
        &self.entries[self.starts[i as usize] as usize..self.starts[i as usize + 1] as usize]
    }
}

impl Counts {
    /// Whether it is something one buys again.
    pub fn consumed(&self) -> bool {
        self.again > 0 && self.again * CONSUMED >= self.customers
    }

    /// In how many days those come back who do, in the mean.
    pub fn gap(&self) -> Option<f64> {
        (self.returns > 0).then(|| self.days as f64 / self.returns as f64)
    }
}

impl Market {
    /// The market of some baskets, customer by customer, over so many items.
    pub fn of(items: usize, baskets: &[Basket]) -> Self {
        let mut counts = vec![Counts::default(); items];
        let by_customer = Lists::of(baskets.chunk_by(|a, b| a.customer == b.customer).map(|of_customer| {
            let bought = of_customer.iter().flat_map(|basket| basket.items.iter().map(|item| (*item, basket.day)));
            let mut bought: Vec<(u32, i32)> = bought.collect();
            bought.iter().for_each(|(item, _)| counts[*item as usize].baskets += 1);
            bought.sort_unstable();
            bought.dedup();
            let days = bought.chunk_by(|(a, _), (b, _)| a == b);
            days.map(|days| {
                let count = &mut counts[days[0].0 as usize];
                count.customers += 1;
                if let [(_, first), .., (_, last)] = days {
                    count.again += 1;
                    count.days += u64::from(last.abs_diff(*first));
                    count.returns += days.len() as u64 - 1;
                }
                days[0].0
            })
            .collect()
        }));
        let by_basket = Lists::of(baskets.iter().map(|basket| basket.items.clone()));
        let similar = similar(&counts, &by_customer);
        Self {
            baskets_of_item: by_basket.turned(items),
            baskets: by_basket,
            of_basket: baskets.iter().map(|basket| basket.customer).collect(),
            counts,
            similar,
        }
    }

    /// What is known of an item.
    pub fn counts(&self, item: u32) -> Counts {
        self.counts.get(item as usize).copied().unwrap_or_default()
    }

    /// How many baskets there are.
    pub fn baskets(&self) -> usize {
        self.of_basket.len()
    }

    /// The most similar items, the most similar first.
    pub fn similar(&self, item: u32) -> &[Companion] {
        self.similar.get(item as usize).map_or(&[], Vec::as_slice)
    }

    /// What lies in baskets with an item: with the number of baskets and the cosine of those, and the number of customers.
    pub fn together(&self, item: u32) -> Vec<(Companion, u32)> {
        if item as usize >= self.counts.len() {
            return Vec::new();
        }
        let mut both: BTreeMap<u32, (u32, u32, u32)> = BTreeMap::new();
        for basket in self.baskets_of_item.get(item) {
            // Baskets are in the order of customers.
            let customer = self.of_basket[*basket as usize];
            for other in self.baskets.get(*basket).iter().filter(|other| **other != item) {
                let (baskets, customers, last) = both.entry(*other).or_insert((0, 0, u32::MAX));
                *baskets += 1;
                *customers += u32::from(*last != customer);
                *last = customer;
            }
        }
        let of = f64::from(self.counts(item).baskets);
        let companion = |(other, (both, customers, _)): (u32, (u32, u32, u32))| {
            let similarity = f64::from(both) / (of * f64::from(self.counts(other).baskets)).sqrt();
            (Companion { item: other, both, similarity }, customers)
        };
        both.into_iter().map(companion).collect()
    }
}

/// The most similar items of each.
fn similar(counts: &[Counts], by_customer: &Lists) -> Vec<Vec<Companion>> {
    let customers_of = by_customer.turned(counts.len());
    let mut both = vec![0_u32; counts.len()];
    let of_item = |item: u32| {
        let mut touched = Vec::new();
        for customer in customers_of.get(item) {
            for other in by_customer.get(*customer) {
                if both[*other as usize] == 0 {
                    touched.push(*other);
                }
                both[*other as usize] += 1;
            }
        }
        let of = f64::from(counts[item as usize].customers);
        let mut companions = Vec::new();
        for other in touched {
            let count = std::mem::take(&mut both[other as usize]);
            if other != item && count > 1 {
                let similarity = f64::from(count) / (of * f64::from(counts[other as usize].customers)).sqrt();
                companions.push(Companion { item: other, both: count, similarity });
            }
        }
        let order = |a: &Companion, b: &Companion| b.similarity.total_cmp(&a.similarity).then(a.item.cmp(&b.item));
        if companions.len() > NEIGHBOURS {
            companions.select_nth_unstable_by(NEIGHBOURS, order);
            companions.truncate(NEIGHBOURS);
        }
        companions.sort_unstable_by(order);
        companions.shrink_to_fit();
        companions
    };
    (0..counts.len() as u32).map(of_item).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn baskets() -> impl Strategy<Value = Vec<(u32, i32, BTreeSet<u32>)>> {
        prop::collection::vec((0u32..6, 0i32..9, prop::collection::btree_set(0u32..8, 1..5)), 0..40)
    }

    proptest! {
        #[test]
        fn a_market_counts_what_is_in_its_baskets(mut bought in baskets()) {
            bought.sort_by_key(|(customer, ..)| *customer);
            let items = |items: BTreeSet<u32>| items.into_iter().collect();
            let basket = |(customer, day, bought)| Basket { customer, day, items: items(bought) };
            let baskets: Vec<Basket> = bought.into_iter().map(basket).collect();
            let market = Market::of(8, &baskets);
            let customers = |held: &dyn Fn(&Basket) -> bool| {
                let of: BTreeSet<u32> = baskets.iter().filter(|b| held(b)).map(|b| b.customer).collect();
                of.len() as u32
            };
            for a in 0..8 {
                let held = baskets.iter().filter(|basket| basket.items.contains(&a)).count();
                prop_assert_eq!(market.counts(a).baskets as usize, held);
                prop_assert_eq!(market.counts(a).customers, customers(&|basket| basket.items.contains(&a)));
                let together: BTreeMap<u32, (u32, u32)> =
                    market.together(a).into_iter().map(|(c, customers)| (c.item, (c.both, customers))).collect();
                for b in (0..8).filter(|b| *b != a) {
                    let both = |basket: &Basket| basket.items.contains(&a) && basket.items.contains(&b);
                    let count = baskets.iter().filter(|basket| both(basket)).count() as u32;
                    prop_assert_eq!(together.get(&b).copied().unwrap_or_default(), (count, customers(&both)));
                    let buys = |customer: u32, item: u32| {
                        baskets.iter().any(|basket| basket.customer == customer && basket.items.contains(&item))
                    };
                    let shared = (0..6).filter(|customer| buys(*customer, a) && buys(*customer, b)).count() as u32;
                    let similar = market.similar(a).iter().find(|companion| companion.item == b);
                    prop_assert_eq!(similar.map_or(0, |companion| companion.both), if shared > 1 { shared } else { 0 });
                }
            }
        }
    }

    #[test]
    fn coffee_is_consumed_and_a_phone_is_not() {
        let bought = |customer, day, items: &[u32]| Basket { customer, day, items: items.to_vec() };
        let (coffee, phone) = (0, 1);
        let market = Market::of(
            3,
            &[
                bought(1, 0, &[coffee]),
                bought(1, 10, &[coffee, phone]),
                bought(1, 14, &[coffee]),
                bought(2, 3, &[phone]),
            ],
        );
        assert!(market.counts(coffee).consumed() && !market.counts(phone).consumed() && !market.counts(2).consumed());
        assert_eq!((market.counts(coffee).gap(), market.counts(phone).gap()), (Some(7.0), None));
    }
}
