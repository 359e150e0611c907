//! The heart of demand: what may be told of one month. It is looked at from everything down to what is asked about, one level
//! after the other, so that nothing is told of which the levels above and beside tell too much.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use chrono::NaiveDate;
use proto::insight::v1::{DemandDivision as Division, DemandMonth};

use crate::{
    anonymity::{self, Cell, Customers, Table},
    catalogue::Item,
};

/// What is directly below a category: a narrower one, or a stock keeping unit that is in none.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Category(String),
    Sku(String),
}

/// What demand is told of: the category path and stock keeping unit of an item, or nothing and a value.
pub type Name = (Vec<String>, String);

/// A line of a purchase, with its customer and order by number.
pub struct Sale<'a> {
    pub customer: u32,
    pub basket: u32,
    pub item: &'a Item,
    pub value: String,
    pub quantity: i64,
    pub net_minor: i64,
}

/// What some sales come to.
#[derive(Clone, Default)]
pub struct Sums {
    quantity: i64,
    pub net_minor: i64,
    customers: HashSet<u32>,
    baskets: HashSet<u32>,
}

/// One month's demand: what may be told apart, and what is merged.
#[derive(Default)]
pub struct Month {
    pub told: BTreeMap<Name, Sums>,
    pub merged: Sums,
}

impl Sale<'_> {
    /// The next step from so many steps of the item's path.
    fn step(&self, depth: usize) -> Step {
        match self.item.category_path.get(depth) {
            Some(category) => Step::Category(category.clone()),
            None => Step::Sku(self.item.sku.clone()),
        }
    }
}

impl Sums {
    fn add(&mut self, sale: &Sale) {
        self.quantity += sale.quantity;
        self.net_minor += sale.net_minor;
        self.customers.insert(sale.customer);
        self.baskets.insert(sale.basket);
    }

    pub fn join(&mut self, other: Self) {
        self.quantity += other.quantity;
        self.net_minor += other.net_minor;
        self.customers.extend(other.customers);
        self.baskets.extend(other.baskets);
    }

    /// Nothing was sold.
    pub fn is_empty(&self) -> bool {
        self.baskets.is_empty()
    }

    pub fn told(self, month: NaiveDate) -> DemandMonth {
        DemandMonth {
            month: month.format("%Y-%m").to_string(),
            quantity: self.quantity,
            net_minor: self.net_minor,
            customer_count: self.customers.len() as i64,
            basket_count: self.baskets.len() as i64,
        }
    }
}

/// What must not be told when sales are parted.
fn untold<T: Ord + Clone>(sales: &[&Sale], part: impl Fn(&Sale) -> T, k: usize) -> BTreeSet<T> {
    let mut customers: Customers<T> = BTreeMap::new();
    for sale in sales {
        customers.entry(part(sale)).or_default().insert(sale.customer);
    }
    anonymity::untold(&customers, k)
}

/// The values that must not be told of what one step leads to, since of others beside it too much would follow.
fn untold_beside(
    sales: &[&Sale],
    depth: usize,
    step: &Step,
    untold_steps: &BTreeSet<Step>,
    untold_values: &BTreeSet<String>,
    k: usize,
) -> BTreeSet<String> {
    // In the order of names, so that the same sales are told the same way each time.
    let steps = numbered(sales.iter().map(|sale| sale.step(depth)));
    let values = numbered(sales.iter().map(|sale| sale.value.clone()));
    let mut customers: Customers<Cell> = BTreeMap::new();
    for sale in sales {
        customers.entry((steps[&sale.step(depth)], values[&sale.value])).or_default().insert(sale.customer);
    }
    let untold_rows = untold_steps.iter().map(|step| steps[step]).collect();
    let untold_columns = untold_values.iter().filter_map(|value| values.get(value).copied()).collect();
    let table = Table { customers: &customers, untold_rows: &untold_rows, untold_columns: &untold_columns, k };
    let (told, row) = (table.told(), steps.get(step).copied());
    values
        .into_iter()
        .filter(|(_, column)| !row.is_some_and(|row| told.contains(&(row, *column))))
        .map(|(value, _)| value)
        .collect()
}

fn numbered<T: Ord>(names: impl Iterator<Item = T>) -> BTreeMap<T, u32> {
    names.collect::<BTreeSet<T>>().into_iter().zip(0..).collect()
}

impl Month {
    /// What may be told of one thing in some sales, and what is merged. Nothing where too little of it was sold to be told from
    /// what is beside it.
    pub fn of(sales: &[Sale], way: &[Step], division: Division, k: usize) -> Self {
        let mut sales: Vec<&Sale> = sales.iter().collect();
        let buyers: HashSet<u32> = sales.iter().map(|sale| sale.customer).collect();
        if buyers.len() < k {
            return Self::default();
        }
        let mut untold_values = untold(&sales, |sale| sale.value.clone(), k);
        for (depth, step) in way.iter().enumerate() {
            let untold_steps = untold(&sales, |sale| sale.step(depth), k);
            if untold_steps.contains(step) {
                return Self::default();
            }
            untold_values = untold_beside(&sales, depth, step, &untold_steps, &untold_values, k);
            sales.retain(|sale| sale.step(depth) == *step);
        }
        let below = |sale: &Sale| sale.step(way.len());
        let untold_steps = if division == Division::Item { untold(&sales, below, k) } else { BTreeSet::new() };
        let mut month = Self::default();
        for sale in sales {
            let name = match (division, below(sale)) {
                (Division::Unspecified, _) => Some((Vec::new(), String::new())),
                (Division::Item, step) if untold_steps.contains(&step) => None,
                (Division::Item, Step::Sku(sku)) => Some((Vec::new(), sku)),
                (Division::Item, Step::Category(_)) => {
                    Some((sale.item.category_path[..=way.len()].to_vec(), String::new()))
                }
                _ => (!untold_values.contains(&sale.value)).then(|| (Vec::new(), sale.value.clone())),
            };
            match name {
                Some(name) => month.told.entry(name).or_default().add(sale),
                None => month.merged.add(sale),
            }
        }
        month
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(sku: &str, path: &[&str]) -> Item {
        Item {
            sku: sku.to_owned(),
            title: String::new(),
            category_path: path.iter().map(|category| (*category).to_owned()).collect(),
            brand: String::new(),
            price_minor: 100,
            currency: "EUR".to_owned(),
        }
    }

    fn sale<'a>(customer: u32, item: &'a Item, value: &str) -> Sale<'a> {
        Sale { customer, basket: customer, item, value: value.to_owned(), quantity: 1, net_minor: 100 }
    }

    fn told(month: &Month) -> Vec<(String, usize)> {
        let name = |(path, value): &Name| path.iter().chain([value]).cloned().collect::<Vec<_>>().join("/");
        month.told.iter().map(|(of, sums)| (name(of), sums.customers.len())).collect()
    }

    /// Ten buy cups and one buys a bowl in Lisbon; ten buy cups and ten bowls in Porto.
    #[test]
    fn what_one_customer_bought_is_not_the_difference_of_two_answers() {
        let (cup, bowl) = (item("CUP", &["Home"]), item("BOWL", &["Home"]));
        let mut sales: Vec<Sale> = (0..10).map(|customer| sale(customer, &cup, "PT-11")).collect();
        sales.push(sale(10, &bowl, "PT-11"));
        sales.extend((20..30).map(|customer| sale(customer, &cup, "PT-13")));
        sales.extend((30..40).map(|customer| sale(customer, &bowl, "PT-13")));
        let home = [Step::Category("Home".to_owned())];
        let of = |way: &[Step], division| Month::of(&sales, way, division, 5);
        assert_eq!(told(&of(&home, Division::Region)), [("PT-11".to_owned(), 11), ("PT-13".to_owned(), 20)]);
        assert_eq!(told(&of(&home, Division::Item)), [("BOWL".to_owned(), 11), ("CUP".to_owned(), 20)]);
        // The cups of Lisbon would tell who bought the bowl there; and without them the others', what they are.
        let cups = [home[0].clone(), Step::Sku("CUP".to_owned())];
        let by_region = of(&cups, Division::Region);
        assert_eq!((told(&by_region), by_region.merged.customers.len()), (Vec::new(), 20));
        assert_eq!(told(&of(&cups, Division::Unspecified)), [("/".trim_matches('/').to_owned(), 20)]);
        // With everybody free to be told, everything is.
        assert_eq!(told(&Month::of(&sales, &cups, Division::Region, 1)).len(), 2);
        // Too few altogether.
        assert!(told(&Month::of(&sales, &home, Division::Item, 100)).is_empty());
    }
}
