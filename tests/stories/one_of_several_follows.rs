//! Of several processes of insight one follows the feeds, and another goes on when it ends.

use std::time::Duration;

use client::Client;
use proto::{insight::v1::GetValueTierRequest, order_history::v1::RecordOrderRequest};
use tests::{Fixture, Processes, order};

/// How often a stream of profile's changes was begun.
async fn begun(processes: &Processes) -> u64 {
    let text = processes.metrics("profile").await;
    let calls = text.lines().filter(|line| line.starts_with("rpc_server_call_duration_seconds_count"));
    let calls = calls.filter(|line| line.contains("FeedService/WatchChanges"));
    calls.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

/// Records one more order and waits until so many of the customer are counted.
async fn ordered(client: &Client, fixture: &Fixture, count: i64) {
    let order = order(&fixture.customer_id, &format!("followed-{count}"));
    client.order_history().record_order(RecordOrderRequest { order: Some(order) }).await.unwrap();
    for _ in 0..600 {
        let request = GetValueTierRequest { customer_id: fixture.customer_id.clone(), ..Default::default() };
        // A process that was killed a moment ago may be asked.
        if let Ok(answer) = client.insight().get_value_tier(request).await
            && answer
                .into_inner()
                .value_tiers
                .iter()
                .any(|tier| tier.monetary.as_ref().is_some_and(|spent| spent.value == 2000 * count))
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nobody counts the {count} orders");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_follows_and_another_goes_on_when_it_ends() {
    let processes = Processes::start(&[]).await;
    let mut second = processes.replica("insight", &[]);
    second.ready().await;
    let both = format!("{},{}", processes.service_url("insight"), second.address);
    let (url, _) = processes.gateway(&[("CLIENTELE_INSIGHT_URL", &both)]).await;
    let client = Client::new(&url, &processes.token, "service").unwrap();
    let fixture = Fixture::create(&client).await;
    ordered(&client, &fixture, 2).await;

    let before = begun(&processes).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(begun(&processes).await, before, "they take the feed from each other");

    let again = processes.kill("insight");
    ordered(&client, &fixture, 3).await;
    again().await;
    second.end("-TERM").await;
    ordered(&client, &fixture, 4).await;
    processes.stop();
}
