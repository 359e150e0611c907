//! How long it takes until a customer's view says the tier by what was just bought.

use std::time::{Duration, Instant};

use client::{Client, request_id};
use futures_util::{StreamExt, stream};
use hdrhistogram::Histogram;
use proto::{customer::v1::GetCustomerRequest, order_history::v1::*, profile::v1::*};
use tests::{Processes, followed, order};
use tokio::task::JoinSet;

use crate::load::{histogram, micros};

const BATCH: u64 = 250;
/// One of so many orders is waited for; looking for each would be most of the load.
const LOOKED_FOR: u64 = 50;

/// Creates customers with an order each, then records so many more orders a second, each of another customer, and prints how long it
/// takes from each call until the view tells the sum with it.
pub async fn moves(processes: &Processes, customers: u64, per_second: f64, duration: Duration) {
    let client = Client::new(&processes.url, &processes.token, "analytics").unwrap();
    let create = |_| {
        let client = client.clone();
        async move {
            let profile = || CreateProfileRequest {
                request_id: request_id(),
                profile: Some(Profile::default()),
                ..Default::default()
            };
            let request = BatchCreateProfilesRequest { requests: (0..BATCH).map(|_| profile()).collect() };
            let created = client.profile().batch_create_profiles(request).await.unwrap().into_inner().results;
            let ids: Vec<String> = created.into_iter().map(|result| result.customer_id).collect();
            let orders = ids.iter().map(|id| order(id, &request_id())).collect();
            client.order_history().batch_record_orders(BatchRecordOrdersRequest { orders }).await.unwrap();
            ids
        }
    };
    let made: Vec<Vec<String>> = stream::iter(0..customers / BATCH).map(create).buffer_unordered(4).collect().await;
    let ids: Vec<String> = made.into_iter().flatten().collect();
    let began = Instant::now();
    followed(&client).await;
    println!("{} customers followed {:.0} s after the last was made", ids.len(), began.elapsed().as_secs_f64());

    let (began, mut running) = (Instant::now(), JoinSet::new());
    let mut n: u64 = 0;
    while began.elapsed() < duration {
        tokio::time::sleep_until((began + Duration::from_secs_f64(n as f64 / per_second)).into()).await;
        let (client, id) = (client.clone(), ids[n as usize % ids.len()].clone());
        let look = n.is_multiple_of(LOOKED_FOR);
        running.spawn(async move { told(&client, &id, look).await });
        n += 1;
    }
    let mut times: Histogram<u64> = histogram();
    running.join_all().await.into_iter().flatten().for_each(|took| times.record(took).unwrap());
    let at = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
    println!(
        "{n} orders at {per_second} a second; {} looked for: p50 {:.0} ms, p99 {:.0} ms, longest {:.0} ms",
        times.len(),
        at(0.5),
        at(0.99),
        times.max() as f64 / 1000.0
    );
}

/// Records an order and answers after how many microseconds the view tells it.
async fn told(client: &Client, id: &str, look: bool) -> Option<u64> {
    let began = Instant::now();
    let request = RecordOrderRequest { order: Some(order(id, &request_id())) };
    let record = || async { client.order_history().record_order(request.clone()).await };
    record().await.unwrap();
    if !look {
        return None;
    }
    loop {
        let request = GetCustomerRequest { customer_id: id.to_owned(), ..Default::default() };
        let get = || async { client.customer().get_customer(request.clone()).await };
        let customer = get().await.unwrap().into_inner().customer.unwrap();
        let tiers = customer.insight.unwrap_or_default().value_tiers;
        if tiers.first().is_some_and(|tier| tier.monetary.as_ref().is_some_and(|score| score.value > 2000)) {
            return Some(micros(began));
        }
        assert!(began.elapsed() < Duration::from_secs(60), "the view does not tell the order");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
