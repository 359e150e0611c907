//! How long a change takes to be told of, and until no gateway's memory says anything older.

use std::time::{Duration, Instant, SystemTime};

use client::{Client, request_id};
use futures_util::future::join_all;
use hdrhistogram::Histogram;
use proto::{customer::v1::*, order_history::v1::*};
use tests::order;

use crate::{
    load::{histogram, micros},
    seed,
};

/// From the time that a change bears, which is read before the commit, to its delivery on `WatchCustomers`,
/// with so many writes a second, each of another customer.
pub async fn watch(client: &Client, customers: u64, per_second: f64, duration: Duration) -> Histogram<u64> {
    let mut stream = client.customer().watch_customers(WatchCustomersRequest::default()).await.unwrap().into_inner();
    // The first message comes once every service is followed.
    stream.message().await.unwrap();
    let writer = client.clone();
    let writes = tokio::spawn(async move {
        let (began, mut n) = (Instant::now(), 0);
        let mut running = tokio::task::JoinSet::new();
        while began.elapsed() < duration {
            tokio::time::sleep_until((began + Duration::from_secs_f64(n as f64 / per_second)).into()).await;
            n += 1;
            let (client, id) = (writer.clone(), seed::id(1 + n % customers).to_string());
            running.spawn(async move { record(&client, &id).await });
        }
        running.join_all().await.len() as u64
    });
    let mut times = histogram();
    let mut ended = None;
    loop {
        if let Ok(message) = tokio::time::timeout(Duration::from_millis(100), stream.message()).await {
            for change in message.unwrap().unwrap().changes {
                let occurred = SystemTime::try_from(change.occurred_time.unwrap()).unwrap();
                let took = SystemTime::now().duration_since(occurred).unwrap_or_default();
                times.record(took.as_micros().max(1) as u64).unwrap();
            }
        }
        if ended.is_none() && writes.is_finished() {
            ended = Some(Instant::now());
        }
        // A change that was not told of a second behind the last write would be missed by the count.
        if ended.is_some_and(|ended| ended.elapsed() > Duration::from_secs(1)) {
            assert_eq!(times.len(), writes.await.unwrap());
            return times;
        }
    }
}

/// From the answer to a write until all of the gateways' memories say what was written.
pub async fn invalidation(gateways: &[Client], writes: u64) -> Histogram<u64> {
    let mut times = histogram();
    for n in 1..=writes {
        let id = seed::id(n).to_string();
        let mut before = 0;
        // Once from Redis or the database, and then from memory.
        for _ in 0..3 {
            before = join_all(gateways.iter().map(|gateway| version(gateway, &id))).await[0];
        }
        record(&gateways[0], &id).await;
        let committed = Instant::now();
        while join_all(gateways.iter().map(|gateway| version(gateway, &id))).await.iter().any(|now| *now <= before) {}
        times.record(micros(committed)).unwrap();
    }
    times
}

async fn record(client: &Client, customer: &str) {
    let order = Some(order(customer, &request_id()));
    client.order_history().record_order(RecordOrderRequest { order }).await.unwrap();
}

async fn version(client: &Client, customer: &str) -> i64 {
    let request = GetCustomerRequest { customer_id: customer.to_owned(), ..Default::default() };
    let customer = client.customer().get_customer(request).await.unwrap().into_inner().customer.unwrap();
    let states = customer.section_states.iter();
    states.filter(|state| state.section() == SectionName::OrderHistory).map(|state| state.version).sum()
}
