//! What is sold, with what all baskets say about it, at the level of stock keeping units and of categories. It is counted from
//! what is stored, whenever anything has changed, and kept in memory.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use proto::insight::v1::ItemLevel;
use store::Result;
use tokio::sync::watch;

use crate::{
    market::{Basket, Market},
    store::Store,
};

/// Two counts are at least so far apart.
const PAUSE: Duration = Duration::from_secs(1);
/// What has not changed for so long is counted.
const QUIET: Duration = Duration::from_secs(3);
/// While changes go on, two counts are so many times as far apart as one takes.
const SHARE: u32 = 9;

/// Something that is sold, as the order describes it that was followed last.
#[derive(Clone)]
pub struct Item {
    pub sku: String,
    pub title: String,
    pub category_path: Vec<String>,
    pub brand: String,
    pub price_minor: i64,
    pub currency: String,
}

/// The items of one level and their market.
pub struct Shelf {
    pub items: Vec<Item>,
    pub market: Market,
    /// Items by what they are called here.
    of: HashMap<Vec<String>, u32>,
    /// The numbers on this shelf of what is stored.
    numbers: BTreeMap<i32, u32>,
    /// The items of each category.
    pub categories: HashMap<Vec<String>, Vec<u32>>,
}

/// Both shelves.
pub struct Catalogue {
    skus: Shelf,
    categories: Shelf,
    pub counted_at: DateTime<Utc>,
}

/// The newest catalogue; none until the first was counted.
pub type Newest = watch::Receiver<Option<Arc<Catalogue>>>;

impl Shelf {
    fn of(items: &BTreeMap<i32, Item>, baskets: &[(u32, i32, Vec<i32>)], name: fn(&Item) -> Option<Item>) -> Self {
        let (mut shelf, mut of, mut numbers) = (Vec::new(), HashMap::new(), BTreeMap::new());
        for (id, item) in items {
            let Some(item) = name(item) else { continue };
            let number = *of.entry(key(&item)).or_insert_with(|| {
                shelf.push(item);
                shelf.len() as u32 - 1
            });
            numbers.insert(*id, number);
        }
        let basket = |(customer, day, items): &(u32, i32, Vec<i32>)| {
            let mut items: Vec<u32> = items.iter().filter_map(|id| numbers.get(id).copied()).collect();
            items.sort_unstable();
            items.dedup();
            Basket { customer: *customer, day: *day, items }
        };
        let baskets: Vec<Basket> = baskets.iter().map(basket).filter(|basket| !basket.items.is_empty()).collect();
        let mut categories: HashMap<Vec<String>, Vec<u32>> = HashMap::new();
        for (number, item) in (0..).zip(&shelf) {
            categories.entry(item.category_path.clone()).or_default().push(number);
        }
        categories.remove(&Vec::new());
        Self { market: Market::of(shelf.len(), &baskets), items: shelf, of, numbers, categories }
    }

    /// An item's number, by stock keeping unit or category path.
    pub fn find(&self, key: &[String]) -> Option<u32> {
        self.of.get(key).copied()
    }

    /// The number of what is stored; none for what is newer than the shelf.
    pub fn number(&self, item_id: i32) -> Option<u32> {
        self.numbers.get(&item_id).copied()
    }

    /// What is stored under some numbers, with what is said of those.
    pub fn ids(&self, of: &HashMap<u32, f64>) -> Vec<(i32, f64)> {
        self.numbers.iter().filter_map(|(id, number)| Some((*id, *of.get(number)?))).collect()
    }

    pub fn item(&self, number: u32) -> &Item {
        &self.items[number as usize]
    }
}

fn key(item: &Item) -> Vec<String> {
    if item.sku.is_empty() { item.category_path.clone() } else { vec![item.sku.clone()] }
}

impl Catalogue {
    /// The shelf of a level.
    pub fn shelf(&self, level: ItemLevel) -> &Shelf {
        match level {
            ItemLevel::Category => &self.categories,
            ItemLevel::Unspecified | ItemLevel::Sku => &self.skus,
        }
    }

    async fn count(store: &Store) -> Result<Self> {
        let counted_at = Utc::now();
        let (items, baskets) = (store.items().await?, store.baskets().await?);
        // It keeps a core busy for as long as there are baskets, which no other call should wait for.
        let count = move || {
            let skus = Shelf::of(&items, &baskets, |item| Some(item.clone()));
            let categories = Shelf::of(&items, &baskets, |item| {
                let category_path = item.category_path.clone();
                let (sku, title, brand, currency) = Default::default();
                let category = Item { category_path, sku, title, brand, currency, price_minor: 0 };
                (!category.category_path.is_empty()).then_some(category)
            });
            Self { skus, categories, counted_at }
        };
        Ok(tokio::task::spawn_blocking(count).await.map_err(|_| crate::reason::INTERNAL_ERROR)?)
    }
}

/// Counts whenever something has changed, for as long as somebody listens.
pub fn keep(store: Store) -> Newest {
    let (sender, newest) = watch::channel(None);
    tokio::spawn(async move {
        let mut rhythm = Rhythm { counted: None, seen: None, changed: Instant::now(), next: Instant::now() };
        while !sender.is_closed() && !store.db.pool().is_closed() {
            match rhythm.again(&store).await {
                Ok(Some(catalogue)) => drop(sender.send(Some(Arc::new(catalogue)))),
                Ok(None) => (),
                Err(fault) => {
                    tracing::warn!(reason = fault.into_failure().reason().name, "baskets could not be counted");
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    newest
}

/// When to count.
struct Rhythm {
    /// Up to which change baskets were counted.
    counted: Option<i64>,
    /// Up to which there are any, since when.
    seen: Option<i64>,
    changed: Instant,
    /// When they are counted though they go on changing.
    next: Instant,
}

impl Rhythm {
    /// Counts if something has changed and it is time to.
    async fn again(&mut self, store: &Store) -> Result<Option<Catalogue>> {
        let newest = Some(store.newest().await?);
        let began = Instant::now();
        if std::mem::replace(&mut self.seen, newest) != newest {
            self.changed = began;
        }
        if self.counted == newest || began < self.next.min(self.changed + QUIET) {
            return Ok(None);
        }
        let catalogue = Catalogue::count(store).await?;
        self.counted = newest;
        self.next = Instant::now() + began.elapsed() * SHARE;
        Ok(Some(catalogue))
    }
}
