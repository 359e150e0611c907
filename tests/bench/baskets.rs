//! How good recommendations are: the last basket of each customer with at least five is held out before anything is imported,
//! and what is recommended without it is compared with what lies in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use client::{Client, request_id};
use futures_util::{StreamExt, stream};
use proto::{consent::v1::*, insight::v1::*};
use serde_json::{Value, json};
use tests::{Processes, binary};

/// Who has bought less often is not asked about.
const BASKETS: usize = 5;
const FIRST: i32 = 10;

/// A customer's baskets: when and under which number.
type Baskets = BTreeMap<String, Vec<(String, String)>>;

/// The categories of a basket that is held out, and of what the customer bought before.
#[derive(Default)]
struct Held {
    basket: BTreeSet<String>,
    before: BTreeSet<String>,
}

/// Imports the orders of a file (NDJSON as `import ndjson` takes it) but for those held out, and prints how long that took, how long
/// until all was counted, and how often one of ten recommendations lay in what was held out.
pub async fn baskets(processes: &Processes, file: &Path) {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let (held, kept) = hold_out(file, folder.path());
    let began = Instant::now();
    import(processes, folder.path(), "customers.ndjson");
    import(processes, folder.path(), "orders.ndjson");
    println!("imported in {:.0} s", began.elapsed().as_secs_f64());
    let client = Client::new(&processes.url, &processes.token, "marketing").unwrap();
    let purpose = Purpose {
        purpose_id: "evaluation".into(),
        display_name: "Evaluation".into(),
        legal_basis: LegalBasis::LegitimateInterests.into(),
        notice_texts: vec![NoticeText { language: "en".into(), text: "We recommend.".into(), ..Default::default() }],
        ..Default::default()
    };
    let request = CreatePurposeRequest { request_id: request_id(), purpose: Some(purpose) };
    client.consent().create_purpose(request).await.unwrap();
    let known = held.values().find_map(|held| held.before.first()).unwrap();
    counted(&client, known, kept).await;
    println!("all baskets counted {:.0} s after the first customer was sent", began.elapsed().as_secs_f64());

    let (mut again, mut new) = (Vec::new(), Vec::new());
    let mut asked = stream::iter(&held).map(|(customer, held)| ask(&client, customer, held)).buffer_unordered(8);
    while let Some((is_again, is_new)) = asked.next().await {
        again.push(is_again);
        new.extend(is_new);
    }
    print("what is bought again", &again);
    print("what is bought for the first time", &new);
}

/// Splits a file into what is imported and what is not, and answers the categories of each basket that is not, and how many of
/// the others have any.
fn hold_out(file: &Path, folder: &Path) -> (BTreeMap<String, Held>, i64) {
    let rows = || BufReader::new(File::open(file).unwrap()).lines().map(Result::unwrap);
    let order = |row: &str| serde_json::from_str::<Value>(row).ok()?.get_mut("order").map(Value::take);
    let text = |order: &Value, field: &str| order[field].as_str().unwrap().to_owned();
    let mut baskets = Baskets::new();
    for order in rows().filter_map(|row| order(&row)) {
        let of = baskets.entry(text(&order, "customer_id")).or_default();
        of.push((text(&order, "placed_time"), text(&order, "number")));
    }
    write_customers(folder, baskets.keys());
    let last: BTreeMap<String, String> = baskets
        .into_iter()
        .filter(|(_, baskets)| baskets.len() >= BASKETS)
        .filter_map(|(customer, baskets)| Some((customer, baskets.into_iter().max()?.1)))
        .collect();
    let mut held: BTreeMap<String, Held> = last.keys().map(|customer| (customer.clone(), Held::default())).collect();
    let mut with_categories = 0;
    let mut kept = BufWriter::new(File::create(folder.join("orders.ndjson")).unwrap());
    for row in rows() {
        let Some(order) = order(&row) else { continue };
        let (customer, number) = (text(&order, "customer_id"), text(&order, "number"));
        let is_held = last.get(&customer) == Some(&number);
        if !is_held {
            writeln!(kept, "{row}").unwrap();
        }
        let paths = order["lines"].as_array().unwrap().iter().map(|line| line["category_path"].to_string());
        let paths: BTreeSet<String> = paths.filter(|path| path != "null").collect();
        with_categories += i64::from(!is_held && !paths.is_empty());
        let Some(of) = held.get_mut(&customer) else { continue };
        if is_held { of.basket.extend(paths) } else { of.before.extend(paths) }
    }
    kept.flush().unwrap();
    (held, with_categories)
}

/// Writes customers of whom nothing but the id is known.
pub fn write_customers<'a>(folder: &Path, ids: impl Iterator<Item = &'a String>) {
    let mut customers = BufWriter::new(File::create(folder.join("customers.ndjson")).unwrap());
    ids.for_each(|id| writeln!(customers, "{}", json!({"profile": {"customer_id": id}})).unwrap());
    customers.flush().unwrap();
}

pub fn import(processes: &Processes, folder: &Path, file: &str) {
    let import = Command::new(binary("clientele"))
        .args(["import", "ndjson"])
        .arg(folder.join(file))
        .args(["--url", &processes.url, "--token", &processes.token, "--state"])
        .arg(folder)
        .status()
        .unwrap();
    assert!(import.success(), "the import failed");
}

/// Waits until so many baskets are counted.
pub async fn counted(client: &Client, category: &str, baskets: i64) {
    let category_path: Vec<String> = serde_json::from_str(category).unwrap();
    loop {
        let request = ListRelatedItemsRequest { category_path: category_path.clone(), ..Default::default() };
        let related = client.insight().list_related_items(request).await;
        if related.is_ok_and(|related| related.into_inner().total_basket_count == baskets) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn request(customer: &str, kind: RecommendationKind) -> ListRecommendationsRequest {
    ListRecommendationsRequest {
        customer_id: customer.to_owned(),
        purpose_id: "evaluation".into(),
        level: ItemLevel::Category.into(),
        kinds: vec![kind.into()],
        limit: FIRST,
    }
}

/// Whether one of the first ten lay in the basket; of new ones only if there was anything new in it.
async fn ask(client: &Client, customer: &str, held: &Held) -> (bool, Option<bool>) {
    let listed = async |kind, limit| {
        let request = ListRecommendationsRequest { limit, ..request(customer, kind) };
        let listed = client.insight().list_recommendations(request).await.unwrap().into_inner().recommendations;
        let path = |recommendation: Recommendation| json!(recommendation.item.unwrap().category_path).to_string();
        listed.into_iter().map(path).collect::<Vec<_>>()
    };
    let again = listed(RecommendationKind::BuyAgain, FIRST).await;
    let similar = listed(RecommendationKind::Similar, FIRST).await;
    let hit = |paths: &[String]| paths.iter().any(|path| held.basket.contains(path));
    let anything_new = held.basket.iter().any(|path| !held.before.contains(path));
    (hit(&again), anything_new.then(|| hit(&similar)))
}

fn print(what: &str, hits: &[bool]) {
    let n = hits.len() as f64;
    let rate = hits.iter().filter(|hit| **hit).count() as f64 / n;
    let error = (rate * (1.0 - rate) / n).sqrt();
    println!("{what}: {rate:.3} of {} baskets hit by one of ten, standard error {error:.3}", hits.len());
}
