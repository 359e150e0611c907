//! Whether demand is what a file of orders comes to, to the cent, and how long it takes to tell.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
    time::Instant,
};

use client::Client;
use proto::insight::v1::*;
use serde_json::Value;
use tests::{Processes, followed};

use crate::baskets;

/// What is told of a month of one thing: money, customers, orders.
type Sums = (i64, HashSet<String>, HashSet<String>);

/// By month and name.
type Table = BTreeMap<(String, String), Sums>;

/// Imports the orders of a file (NDJSON as `import ndjson` takes it) and compares what is told of demand, by the widest category
/// and by store, with what the file comes to.
pub async fn demand(processes: &Processes, file: &Path) {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let (mut categories, mut stores) = (Table::new(), Table::new());
    let mut customers = HashSet::new();
    for row in BufReader::new(File::open(file).unwrap()).lines() {
        let row: Value = serde_json::from_str(&row.unwrap()).unwrap();
        let Some(order) = row.get("order") else { continue };
        let text = |field: &str| order[field].as_str().unwrap_or_default().to_owned();
        let (month, customer, number) = (text("placed_time")[..7].to_owned(), text("customer_id"), text("number"));
        for line in order["lines"].as_array().unwrap() {
            let category = line["category_path"][0].as_str().unwrap_or_default().to_owned();
            for (table, name) in [(&mut categories, category), (&mut stores, text("store_id"))] {
                let sums = table.entry((month.clone(), name)).or_default();
                sums.0 += line["amount_minor"].as_i64().unwrap();
                sums.1.insert(customer.clone());
                sums.2.insert(number.clone());
            }
        }
        customers.insert(customer);
    }
    let began = Instant::now();
    baskets::write_customers(folder.path(), customers.iter());
    baskets::import(processes, folder.path(), "customers.ndjson");
    let copied = folder.path().join("orders.ndjson");
    std::fs::copy(file, &copied).unwrap();
    baskets::import(processes, folder.path(), "orders.ndjson");
    println!("imported in {:.0} s", began.elapsed().as_secs_f64());
    let client = Client::new(&processes.url, &processes.token, "analytics").unwrap();

    let months: Vec<&String> = categories.keys().map(|(month, _)| month).collect();
    let (first, last) = ((*months.first().unwrap()).clone(), (*months.last().unwrap()).clone());
    let ask = async |division: DemandDivision| {
        let request = GetDemandRequest {
            currency_code: "USD".into(),
            division: division.into(),
            first_month: first.clone(),
            last_month: last.clone(),
            ..Default::default()
        };
        client.insight().get_demand(request).await.unwrap().into_inner()
    };
    let began = Instant::now();
    followed(&client).await;
    println!("followed {:.0} s after the import", began.elapsed().as_secs_f64());
    compare("category", &ask(DemandDivision::Item).await, &categories);
    compare("store", &ask(DemandDivision::Store).await, &stores);
    let began = Instant::now();
    let reply = ask(DemandDivision::Store).await;
    let seconds = began.elapsed().as_secs_f64();
    println!("{} months by store told in {seconds:.1} s", reply.demands[0].months.len());
}

/// Each number that is told is that of the file, and those that are merged come to the rest of their month.
fn compare(what: &str, reply: &GetDemandResponse, expected: &Table) {
    let (mut told, mut rest) = (0, BTreeMap::new());
    expected.iter().for_each(|((month, _), sums)| *rest.entry(month.clone()).or_insert(0) += sums.0);
    let mut merged = 0;
    for demand in &reply.demands {
        // What is in no category is a stock keeping unit of its own.
        let path = demand.item.as_ref().map(|item| item.category_path.first().cloned().unwrap_or_default());
        let sku_alone = demand.item.as_ref().is_some_and(|item| !item.sku.is_empty());
        for month in &demand.months {
            *rest.get_mut(&month.month).unwrap() -= month.net_minor;
            if demand.merged || sku_alone {
                merged += month.net_minor;
                continue;
            }
            let name = path.clone().unwrap_or_else(|| demand.value.clone());
            let (net, customers, orders) = &expected[&(month.month.clone(), name)];
            let numbers = (month.net_minor, month.customer_count as usize, month.basket_count as usize);
            assert_eq!(numbers, (*net, customers.len(), orders.len()), "{what} {} {}", demand.value, month.month);
            told += 1;
        }
    }
    assert!(rest.values().all(|cents| *cents == 0), "{rest:?}");
    let k = reply.min_group_size;
    println!(
        "by {what}, at least {k} customers each: {told} of {} numbers told, exact; {merged} minor units merged",
        expected.len()
    );
}
