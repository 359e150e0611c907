use std::time::{Duration, Instant};

use clientele::suite::Suite;
use proto::{contact::v1::ListContactPointsRequest, customer::v1::*};
use tests::{Fixture, Installation, Postgres, accrue, get, reason};

async fn refused(client: &client::Client, resume_token: &str) -> Option<String> {
    let request = WatchCustomersRequest { resume_token: resume_token.to_owned(), ..Default::default() };
    let mut messages = match client.customer().watch_customers(request).await {
        Ok(messages) => messages.into_inner(),
        Err(status) => return Some(reason(&status)),
    };
    let message = tokio::time::timeout(Duration::from_secs(2), messages.message()).await.ok()?;
    message.err().map(|status| reason(&status))
}

async fn until<F: Future<Output = bool>>(what: &str, mut is: impl FnMut() -> F) {
    let began = Instant::now();
    while !is().await {
        assert!(began.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_refused_and_once_it_has_taken_over_old_tokens_are() {
    let postgres = Postgres::start();
    let (mut plan, state) = tests::plan_on(&postgres.url()).await;
    let primary_url = plan.database_url.clone();
    let suite = Suite::start(&plan).await.unwrap();

    // Nothing is served from a standby, whose snapshots omit what is in progress.
    let database = primary_url.rsplit_once('/').unwrap().1.to_owned();
    let (standby, _) = postgres.standby_url().rsplit_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    plan.database_url = format!("{standby}/{database}");
    let failure = Suite::start(&plan).await.err().expect("a service has started on a standby");
    assert!(format!("{failure:#}").contains("standby"), "{failure:#}");
    plan.database_url = primary_url;

    let installation = Installation { suite, plan, state };
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    let request = WatchCustomersRequest { initial_state: true, ..Default::default() };
    let mut messages = client.customer().watch_customers(request).await.unwrap().into_inner();
    let mut resume_token = String::new();
    while resume_token.is_empty() {
        resume_token = messages.message().await.unwrap().unwrap().resume_token;
    }
    drop(messages);
    let token = accrue(&client, &fixture.member_id).await;
    assert_eq!(refused(&client, &resume_token).await, None);
    // Let the standby hear of everything; it follows, but does not wait.
    tokio::time::sleep(Duration::from_secs(1)).await;
    get(&client, &fixture.customer_id, Vec::new()).await.unwrap();
    // An erasure that the standby has not heard of: only the journal knows.
    let lost = Fixture::create(&client).await.customer_id;
    let journal = installation.plan.erasure_journal.join("contact/of-a-lost-process.ndjson");
    std::fs::write(journal, format!("{{\"customer_id\":\"{lost}\",\"time\":\"2026-01-01T00:00:00Z\"}}\n")).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;

    postgres.fail_over();
    until("a customer is read whole from the new primary", || async {
        let request = GetCustomerRequest {
            customer_id: fixture.customer_id.clone(),
            consistency: Some(proto::r#type::v1::Consistency { fully_consistent: true, ..Default::default() }),
            ..Default::default()
        };
        let customer = client.customer().get_customer(request).await.map(|reply| reply.into_inner().customer.unwrap());
        customer.is_ok_and(|customer| customer.unavailable.is_empty())
    })
    .await;
    // What was acknowledged by the one is no promise of the other.
    until("the old token of a write is refused", || async {
        let customer = get(&client, &fixture.customer_id, vec![token.clone()]).await;
        customer.is_ok_and(|customer| {
            customer.unavailable.len() == 1 && customer.unavailable[0].reason == "CONSISTENCY_TOKEN_EXPIRED"
        })
    })
    .await;
    until("the running service has erased whom the journal names", || async {
        let request = ListContactPointsRequest { customer_id: lost.clone(), ..Default::default() };
        client.contact().list_contact_points(request).await.is_err_and(|status| reason(&status) == "CUSTOMER_ERASED")
    })
    .await;
    assert_eq!(refused(&client, &resume_token).await.as_deref(), Some("RESUME_TOKEN_EXPIRED"));
    let token = accrue(&client, &fixture.member_id).await;
    let customer = get(&client, &fixture.customer_id, vec![token]).await.unwrap();
    assert_eq!(customer.loyalty.unwrap().memberships[0].balance.as_ref().unwrap().points, 102);
}
