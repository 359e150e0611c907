//! Whether what lies in baskets together is what was counted apart from this project.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use client::Client;
use futures_util::{StreamExt, TryStreamExt, stream};
use proto::insight::v1::*;
use serde::Deserialize;
use serde_json::Value;
use tests::Processes;

use crate::baskets;

/// A companion as it was counted apart from this project.
#[derive(Deserialize)]
struct Companion {
    item: String,
    n_ab: i64,
    n_b: i64,
    value: f64,
}

/// The companions of one item by each measure, the strongest first.
#[derive(Deserialize)]
struct Table {
    n_a: i64,
    by_count: Vec<Companion>,
    by_cosine: Vec<Companion>,
    by_jaccard: Vec<Companion>,
    by_lift_min100: Vec<Companion>,
}

#[derive(Deserialize)]
struct Rule {
    a: String,
    b: String,
    n_ab: i64,
}

#[derive(Deserialize)]
struct Counted {
    baskets: i64,
    items: usize,
    tables: BTreeMap<String, Table>,
    rules_support_ge_1pct_confidence_ge_30pct: Vec<Rule>,
}

/// Item a and item b: baskets with both, with a, with b, and all.
type Measure = fn(f64, f64, f64, f64) -> f64;

/// Imports the orders of a file (NDJSON as `import ndjson` takes it) and compares what lies in baskets together with a file that
/// counts that, by categories of one step.
pub async fn companions(processes: &Processes, file: &Path, counts: &Path) {
    let (mut customers, mut categories) = (BTreeSet::new(), BTreeSet::new());
    for row in BufReader::new(File::open(file).unwrap()).lines() {
        let row: Value = serde_json::from_str(&row.unwrap()).unwrap();
        let Some(order) = row.get("order") else { continue };
        customers.insert(order["customer_id"].as_str().unwrap().to_owned());
        let lines = order["lines"].as_array().unwrap();
        categories.extend(lines.iter().filter_map(|line| Some(line["category_path"][0].as_str()?.to_owned())));
    }
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    baskets::write_customers(folder.path(), customers.iter());
    baskets::import(processes, folder.path(), "customers.ndjson");
    std::fs::copy(file, folder.path().join("orders.ndjson")).unwrap();
    baskets::import(processes, folder.path(), "orders.ndjson");
    let client = Client::new(&processes.url, &processes.token, "analytics").unwrap();
    let counted: Counted = serde_json::from_slice(&std::fs::read(counts).unwrap()).unwrap();
    let categories: Vec<Vec<String>> = categories.into_iter().map(|category| vec![category]).collect();
    baskets::counted(&client, &serde_json::json!(categories[0]).to_string(), counted.baskets).await;
    let asked = &client;
    let ask = |category_path: &Vec<String>| {
        let request = ListRelatedItemsRequest { category_path: category_path.clone(), ..Default::default() };
        async move { asked.insight().list_related_items(request).await.map(|reply| reply.into_inner()) }
    };
    let related: Vec<ListRelatedItemsResponse> =
        stream::iter(&categories).map(ask).buffer_unordered(8).try_collect().await.unwrap();
    let name = |item: &Option<Item>| item.as_ref().unwrap().category_path.join("/");
    let of: BTreeMap<String, ListRelatedItemsResponse> =
        related.into_iter().map(|reply| (name(&reply.item), reply)).collect();
    assert_eq!((of.len(), of.values().next().unwrap().total_basket_count), (counted.items, counted.baskets));

    let all = counted.baskets as f64;
    let measures: [(Measure, i64); 4] = [
        (|both, _, _, _| both, 0),
        (|both, a, b, _| both / (a * b).sqrt(), 0),
        (|both, a, b, _| both / (a + b - both), 0),
        (|both, a, b, all| both * all / (a * b), 100),
    ];
    for (item, table) in &counted.tables {
        let reply = &of[item];
        assert_eq!(reply.basket_count, table.n_a, "{item}");
        let expected = [&table.by_count, &table.by_cosine, &table.by_jaccard, &table.by_lift_min100];
        for (expected, (measure, least)) in expected.into_iter().zip(measures) {
            let companions = reply.related.iter().filter(|other| other.together_basket_count >= least);
            let mut companions: Vec<(f64, String, i64, i64)> = companions
                .map(|other| {
                    let (both, b) = (other.together_basket_count, other.basket_count);
                    let value = measure(both as f64, table.n_a as f64, b as f64, all);
                    (value, name(&other.item), both, b)
                })
                .collect();
            companions.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
            for (got, expected) in companions.iter().zip(expected) {
                assert_eq!((&got.1, got.2, got.3), (&expected.item, expected.n_ab, expected.n_b), "beside {item}");
                assert!((got.0 - expected.value).abs() <= 1e-12 * expected.value, "{} beside {item}", got.1);
            }
        }
    }

    let mut rules = BTreeMap::new();
    for (a, reply) in &of {
        for other in &reply.related {
            let both = other.together_basket_count;
            if both as f64 >= 0.01 * all && both as f64 >= 0.3 * reply.basket_count as f64 {
                rules.insert((a.clone(), name(&other.item)), both);
            }
        }
    }
    let expected = counted.rules_support_ge_1pct_confidence_ge_30pct;
    let expected: BTreeMap<(String, String), i64> =
        expected.into_iter().map(|rule| ((rule.a, rule.b), rule.n_ab)).collect();
    assert_eq!(rules, expected);
    println!("the companions of {} categories and {} rules are those of the file", counted.tables.len(), rules.len());
}
