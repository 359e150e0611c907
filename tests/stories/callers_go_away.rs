use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use proto::{contact::v1::ListContactPointsRequest, customer::v1::*, r#type::v1::Consistency};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sqlx::Executor;
use tests::{Fixture, Installation, accrue, followed, soak};
use tonic::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_go_away_leave_no_connection_behind() {
    let installation = Installation::start().await;
    let client = installation.client();
    let mut fixtures = Vec::new();
    for _ in 0..8 {
        fixtures.push(Fixture::create(&client).await);
    }
    let calls = soak("CANCELLATIONS", 2000);
    let call = |i: u64| {
        let (client, fixture) = (client.clone(), &fixtures[i as usize % fixtures.len()]);
        async move {
            if i.is_multiple_of(2) {
                accrue(&client, &fixture.member_id).await;
                return;
            }
            // Past every cache, so that each service's pool is used.
            let consistency = Some(Consistency { fully_consistent: true, ..Default::default() });
            let customer_id = fixture.customer_id.clone();
            let request = GetCustomerRequest { customer_id, consistency, ..Default::default() };
            let customer = client.customer().get_customer(request).await.unwrap().into_inner().customer.unwrap();
            assert!(customer.unavailable.is_empty());
        }
    };
    let impatient = stream::iter(0..calls).map(|i| {
        let patience = StdRng::seed_from_u64(tests::seed() + i).random_range(0..8000);
        let call = call(i);
        async move { tokio::time::timeout(Duration::from_micros(patience), call).await.is_err() }
    });
    let gone = impatient.buffer_unordered(32).filter(|gone| std::future::ready(*gone)).count().await;
    assert!(gone > calls as usize / 10, "only {gone} of {calls} went away");
    stream::iter(0..calls).map(call).buffer_unordered(32).count().await;

    // Insight has its own transactions for as long as it follows what was written.
    followed(&client).await;
    let open = "select count(*) from pg_stat_activity
        where datname = current_database() and state like 'idle in transaction%' and pid <> pg_backend_pid()";
    for _ in 0..250 {
        if installation.count(open).await == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(installation.count(open).await, 0, "a transaction was left open");
    // What was given up in the middle happened whole or not at all.
    let torn = "select count(*) from loyalty.members m where balance <>
        (select sum(points) from loyalty.entries e where e.member_id = m.member_id and account = 1)";
    let told = "select count(*) from loyalty.customers c where version <>
        (select max(customer_version) from loyalty.changes where aggregateid = c.customer_id)";
    assert_eq!((installation.count(torn).await, installation.count(told).await), (0, 0));
}

/// A read that waits for a lock would do so for the 30 seconds of its connection's `statement_timeout`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_waits_for_any_more_ends_in_the_database_too() {
    let installation = Installation::start().await;
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    let mut sql = installation.sql().await;
    sql.execute("begin; lock table contact.contact_points in access exclusive mode").await.unwrap();

    let waiting =
        "select count(*) from pg_stat_activity where application_name = 'contact' and wait_event_type = 'Lock'";
    for _ in 0..16 {
        let request = ListContactPointsRequest { customer_id: fixture.customer_id.clone(), ..Default::default() };
        let mut request = tonic::Request::new(request);
        request.set_timeout(Duration::from_millis(200));
        let status = client.contact().list_contact_points(request).await.map(drop).unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    }
    let begun = Instant::now();
    while installation.count(waiting).await > 0 {
        assert!(begun.elapsed() < Duration::from_secs(5), "reads go on that nobody waits for");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    sql.execute("commit").await.unwrap();
    let request = ListContactPointsRequest { customer_id: fixture.customer_id.clone(), ..Default::default() };
    client.contact().list_contact_points(request).await.unwrap();
}
