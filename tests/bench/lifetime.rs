//! How long it takes to fit a model to all customers of a file, and to say what to expect of a million.

use std::{collections::BTreeSet, path::Path, process::Command, time::Instant};

use client::Client;
use futures_util::{StreamExt, stream};
use proto::insight::v1::*;
use tests::{Processes, binary, followed};
use uuid::Uuid;

/// So many customers are asked about by one call.
const BATCH: usize = 250;
const IN_FLIGHT: usize = 8;
const SCORED: usize = 1_000_000;

/// Imports a CDNOW master file, fits its model and asks what to expect of its customers, again and again until a million were
/// asked about.
pub async fn lifetime(processes: &Processes, file: &Path) {
    let state = tempfile::tempdir_in("/var/tmp").unwrap();
    let import = Command::new(binary("clientele"))
        .args(["import", "cdnow"])
        .arg(file)
        .args(["--url", &processes.url, "--token", &processes.token, "--state"])
        .arg(state.path())
        .status()
        .unwrap();
    assert!(import.success(), "the import failed");
    let client = Client::new(&processes.url, &processes.token, "analytics").unwrap();
    followed(&client).await;

    let request = FitLifetimeModelRequest { currency_code: "USD".into(), as_of_day: "1997-09-30".into() };
    for _ in 0..3 {
        let began = Instant::now();
        let fitted = client.insight().fit_lifetime_model(request.clone()).await.unwrap().into_inner();
        let model = fitted.model.unwrap();
        println!("{} customers fitted in {:.2} s", model.customer_count, began.elapsed().as_secs_f64());
    }

    let rows = std::fs::read_to_string(file).unwrap();
    let numbers: BTreeSet<&str> = rows.lines().filter_map(|row| row.split_whitespace().next()).collect();
    let id = |number: &&str| Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("cdnow:{number}").as_bytes()).to_string();
    let ids: Vec<String> = numbers.iter().filter(|number| number.parse::<u32>().is_ok()).map(id).collect();
    let batches = ids.chunks(BATCH).cycle().scan(0, |asked, ids| {
        let enough = *asked >= SCORED;
        *asked += ids.len();
        (!enough).then_some(ids)
    });
    let began = Instant::now();
    let ask = |ids: &[String]| {
        let request = BatchGetPredictionsRequest {
            customer_ids: ids.to_vec(),
            currency_code: "USD".into(),
            ..Default::default()
        };
        let client = client.clone();
        async move { client.insight().batch_get_predictions(request).await.unwrap().into_inner().results.len() }
    };
    let scored = stream::iter(batches).map(ask).buffer_unordered(IN_FLIGHT).fold(0, async |sum, n| sum + n).await;
    println!("{scored} customers scored in {:.1} s", began.elapsed().as_secs_f64());
}
