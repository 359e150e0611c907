//! Demand: what was bought month by month, divided by one of its sides. A month is looked at from everything down to what is
//! asked about, one level after the other, so that nothing is told of which the levels above and beside tell too much.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::Hash,
    sync::Arc,
};

use chrono::{DateTime, Months, NaiveDate, NaiveTime, Utc};
use proto::{
    insight::v1::{DemandDirection as Direction, DemandDivision as Division, *},
    order_history::v1::SalesChannel,
};
use statrs::distribution::{ContinuousCDF, StudentsT};
use store::Result;
use tokio::sync::Semaphore;

use crate::{
    anonymity::{self, Cell, Customers, Table},
    catalogue::Item,
    reason, recommendation,
    request::Span,
    store::{Line, Store},
    traits::{name, short},
};

/// So many are told apart at most.
const TOLD: usize = 1000;
/// A trend is told of so many months at least.
const TREND: usize = 4;
/// A month of lines lies in memory while it is counted, so one call is answered after the other.
static ONE: Semaphore = Semaphore::const_new(1);

/// What is directly below a category: a narrower one, or a stock keeping unit that is in none.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Category(String),
    Sku(String),
}

/// What demand is told of: the category path and stock keeping unit of an item, or nothing and a value.
type Name = (Vec<String>, String);

/// A line of a purchase, with its customer and order by number.
struct Sale<'a> {
    customer: u32,
    basket: u32,
    item: &'a Item,
    value: String,
    quantity: i64,
    net_minor: i64,
}

/// What some sales come to.
#[derive(Clone, Default)]
struct Sums {
    quantity: i64,
    net_minor: i64,
    customers: HashSet<u32>,
    baskets: HashSet<u32>,
}

/// One month's demand: what may be told apart, and what is merged.
#[derive(Default)]
struct Month {
    told: BTreeMap<Name, Sums>,
    merged: Sums,
}

/// Answers what the demand was in the months of a span.
pub async fn get(store: &Store, request: &GetDemandRequest, span: Span, k: usize) -> Result<GetDemandResponse> {
    let _alone = ONE.acquire().await.map_err(|_| reason::INTERNAL_ERROR)?;
    let items = Arc::new(store.items().await?);
    let division = request.division();
    let way: Vec<Step> = match request.sku.as_str() {
        "" => request.category_path.iter().cloned().map(Step::Category).collect(),
        sku => {
            let item = items.values().find(|item| item.sku == sku).ok_or(reason::ITEM_NOT_FOUND)?;
            let path = item.category_path.iter().cloned().map(Step::Category);
            path.chain([Step::Sku(sku.to_owned())]).collect()
        }
    };
    let mut months = Vec::new();
    for month in span.months() {
        let (from, until) = (midnight(month), midnight(month + Months::new(1)));
        let lines = store.lines(&request.currency_code, from, until, &side(division)).await?;
        let (items, way) = (items.clone(), way.clone());
        let counted =
            tokio::task::spawn_blocking(move || Month::of(&sales(&lines, &items, division), &way, division, k));
        months.push((month, counted.await.map_err(|_| reason::INTERNAL_ERROR)?));
    }
    merge_beyond(&mut months);

    let mut series: BTreeMap<Name, Vec<DemandMonth>> = BTreeMap::new();
    let mut merged = Vec::new();
    for (month, counted) in months {
        counted.told.into_iter().for_each(|(name, sums)| series.entry(name).or_default().push(sums.told(month)));
        if !counted.merged.baskets.is_empty() {
            merged.push(counted.merged.told(month));
        }
    }
    let by_sku: HashMap<&str, &Item> = items.values().map(|item| (item.sku.as_str(), item)).collect();
    let mut demands: Vec<Demand> = series
        .into_iter()
        .map(|((category_path, value), months)| {
            let sold = (division == Division::Item).then(|| match by_sku.get(value.as_str()) {
                Some(item) => recommendation::item(item),
                None => proto::insight::v1::Item { category_path, ..Default::default() },
            });
            let value = if sold.is_some() { String::new() } else { value };
            Demand { value, item: sold, merged: false, trend: trend(&months, span), months }
        })
        .collect();
    demands.sort_by_key(|demand| std::cmp::Reverse(demand.months.iter().map(|month| month.net_minor).sum::<i64>()));
    if !merged.is_empty() {
        demands.push(Demand { merged: true, months: merged, ..Default::default() });
    }
    Ok(GetDemandResponse { demands, min_group_size: k as i32 })
}

fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

/// What the store must say beside each line.
fn side(division: Division) -> String {
    match division {
        Division::Store => "store".to_owned(),
        Division::SalesChannel => "channel".to_owned(),
        Division::Region => name(Dimension::Region),
        Division::AgeBand => name(Dimension::AgeBand),
        Division::Gender => name(Dimension::Gender),
        Division::Unspecified | Division::Item => String::new(),
    }
}

fn sales<'a>(lines: &[Line], items: &'a BTreeMap<i32, Item>, division: Division) -> Vec<Sale<'a>> {
    let (mut customers, mut baskets) = (HashMap::new(), HashMap::new());
    let sale = |line: &Line| {
        let item = items.get(&line.item_id)?;
        let value = match division {
            Division::SalesChannel => {
                let channel = line.value.parse().ok().and_then(|number: i32| SalesChannel::try_from(number).ok());
                short(channel.unwrap_or_default().as_str_name(), "SALES_CHANNEL_")
            }
            _ => line.value.clone(),
        };
        let (quantity, net_minor) = (line.quantity, line.amount_minor);
        let (customer, basket) = (number(&mut customers, line.customer_id), number(&mut baskets, line.order_id));
        Some(Sale { customer, basket, item, value, quantity, net_minor })
    };
    lines.iter().filter_map(sale).collect()
}

/// The number of a key, which is the next one for a new key.
fn number<K: Eq + Hash>(numbers: &mut HashMap<K, u32>, key: K) -> u32 {
    let next = numbers.len() as u32;
    *numbers.entry(key).or_insert(next)
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

    fn join(&mut self, other: Self) {
        self.quantity += other.quantity;
        self.net_minor += other.net_minor;
        self.customers.extend(other.customers);
        self.baskets.extend(other.baskets);
    }

    fn told(self, month: NaiveDate) -> DemandMonth {
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
    fn of(sales: &[Sale], way: &[Step], division: Division, k: usize) -> Self {
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

/// Merges what is beyond the greatest of all.
fn merge_beyond(months: &mut [(NaiveDate, Month)]) {
    let mut totals: BTreeMap<&Name, i64> = BTreeMap::new();
    for (name, sums) in months.iter().flat_map(|(_, month)| &month.told) {
        *totals.entry(name).or_default() += sums.net_minor;
    }
    let mut greatest: Vec<(&Name, i64)> = totals.into_iter().collect();
    greatest.sort_by_key(|(_, net)| std::cmp::Reverse(*net));
    let beyond: BTreeSet<Name> = greatest.into_iter().skip(TOLD).map(|(name, _)| name.clone()).collect();
    for (_, month) in months {
        for name in &beyond {
            month.told.remove(name).into_iter().for_each(|sums| month.merged.join(sums));
        }
    }
}

/// The straight line through some months.
fn trend(months: &[DemandMonth], span: Span) -> Option<DemandTrend> {
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
