use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use client::{Client, request_id};
use proto::customer::v1::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tests::{Fixture, Installation, Processes, Redis, accrue, get};

fn sources(customer: &Customer) -> Vec<SectionSource> {
    customer.section_states.iter().map(SectionState::source).collect()
}

/// Reads until every section comes from there.
async fn until_from(client: &Client, customer_id: &str, source: SectionSource) -> Customer {
    for _ in 0..200 {
        let customer = get(client, customer_id, Vec::new()).await.unwrap();
        if sources(&customer) == [source; 7] {
            return customer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the sections never come from {source:?}");
}

#[tokio::test]
async fn a_customer_is_read_from_the_database_then_from_redis_then_from_memory() {
    let redis = Redis::start();
    let installation = Installation::on_redis(Some(&redis)).await;
    let (client, other) = (installation.client(), installation.second_gateway().await);
    let fixture = Fixture::create(&client).await;
    let id = &fixture.customer_id;
    let fresh = until_from(&client, id, SectionSource::Memory).await;
    // Another gateway finds in Redis what the first one's read has left there.
    let seen = until_from(&other, id, SectionSource::Memory).await;
    assert!(fresh.profile == seen.profile && fresh.loyalty == seen.loyalty && fresh.consent == seen.consent);
    // A write takes its section out of both, and nobody else's.
    let token = accrue(&client, &fixture.member_id).await;
    for gateway in [&client, &other] {
        let customer = get(gateway, id, vec![token.clone()]).await.unwrap();
        assert_eq!(customer.loyalty.unwrap().memberships[0].balance.as_ref().unwrap().points, 101);
    }
    let began = Instant::now();
    let points = |customer: Customer| customer.loyalty.unwrap().memberships[0].balance.as_ref().unwrap().points;
    accrue(&client, &fixture.member_id).await;
    while points(get(&other, id, Vec::new()).await.unwrap()) != 102 {
        assert!(began.elapsed() < Duration::from_secs(2), "the other gateway does not hear of a write");
    }
    // What is in Redis tells nobody who anyone is.
    let keys = redis.cli(&["--scan"]);
    assert!(keys.contains(&format!("clientele:section:{{{id}}}:profile:")), "{keys}");
    for key in keys.lines() {
        let value = redis.cli(&["get", key]);
        for plain in ["Lovelace", fixture.tag.as_str(), "Parcel is late"] {
            assert!(!value.contains(plain) && !key.contains(plain));
        }
    }
}

#[tokio::test]
async fn a_service_answers_sections_from_the_cache_too() {
    use access::{Caller, InternalKey, Purpose};
    use proto::section::v1::{BatchGetSectionsRequest, section_service_client::SectionServiceClient};
    let redis = Redis::start();
    let installation = Installation::on_redis(Some(&redis)).await;
    let fixture = Fixture::create(&installation.client()).await;
    let caller = Caller { subject: "x".into(), purpose: Purpose::parse("service").unwrap() };
    let key = InternalKey::read("gateway", &installation.plan.keys.internal_key_file()).unwrap();
    for (i, service) in clientele::suite::SERVICES.into_iter().enumerate() {
        let url = format!("http://{}", installation.suite.services[i]);
        let mut sections = SectionServiceClient::new(client::channel(&url).unwrap());
        let ask = || {
            let customer_ids = vec![fixture.customer_id.clone()];
            let mut request = tonic::Request::new(BatchGetSectionsRequest { customer_ids, ..Default::default() });
            request.metadata_mut().insert("authorization", key.authorization(&caller));
            request
        };
        let first = sections.batch_get_sections(ask()).await.unwrap().into_inner();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let calls = |name: &str| {
            let stats = redis.cli(&["info", "commandstats"]);
            let line = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{name}:"))).unwrap_or_default();
            line.split(['=', ',']).nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0)
        };
        let (got, set) = (calls("mget"), calls("set"));
        let second = sections.batch_get_sections(ask()).await.unwrap().into_inner();
        assert!(first == second, "{service}");
        // Computed at the same time: it was not read from the database again.
        assert_eq!((calls("mget"), calls("set")), (got + 1, set), "{service}");
    }
}

#[tokio::test]
async fn without_redis_everything_comes_from_the_database() {
    let installation = Installation::on_redis(None).await;
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    for _ in 0..3 {
        let customer = get(&client, &fixture.customer_id, fixture.tokens.clone()).await.unwrap();
        assert_eq!(sources(&customer), [SectionSource::Database; 7]);
    }
}

#[tokio::test]
async fn a_section_is_not_served_past_the_end_of_its_validity() {
    let redis = Redis::start();
    let installation = Installation::on_redis(Some(&redis)).await;
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    let end = std::time::SystemTime::now() + Duration::from_secs(2);
    let end = prost_types::Timestamp { nanos: 0, ..prost_types::Timestamp::from(end) };
    let request = proto::consent::v1::GrantConsentRequest {
        request_id: request_id(),
        customer_id: fixture.customer_id.clone(),
        purpose_id: format!("m{}", fixture.tag),
        evidence: Some(tests::evidence()),
        expire_time: Some(end),
        ..Default::default()
    };
    let token = client.consent().grant_consent(request).await.unwrap().into_inner().consistency_token;
    let granted = get(&client, &fixture.customer_id, vec![token.clone()]).await.unwrap().consent.unwrap();
    assert_eq!(granted.decisions.len(), 1);
    until_from(&client, &fixture.customer_id, SectionSource::Memory).await;
    tokio::time::sleep(Duration::from_millis(2200)).await;
    let lapsed = get(&client, &fixture.customer_id, vec![token]).await.unwrap().consent.unwrap();
    assert_eq!(lapsed.decisions.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_redis_under_load_is_no_flood_for_postgres() {
    let redis = Redis::start();
    let installation = Installation::on_redis(Some(&redis)).await;
    let client = installation.client();
    let mut customers = Vec::new();
    for _ in 0..60 {
        customers.push(Fixture::create(&client).await.customer_id);
    }
    let (customers, over) = (Arc::new(customers), Arc::new(AtomicBool::new(false)));
    let readers: Vec<_> = (0..64)
        .map(|i| {
            let (client, customers, over) = (client.clone(), customers.clone(), over.clone());
            tokio::spawn(async move {
                let mut rng = StdRng::seed_from_u64(tests::seed() + i);
                while !over.load(Ordering::Relaxed) {
                    let customer_id = &customers[rng.random_range(0..customers.len())];
                    let customer = get(&client, customer_id, Vec::new()).await.unwrap();
                    assert!(customer.unavailable.is_empty());
                }
            })
        })
        .collect();
    // However many callers miss, each service is asked for one batch at a time by each gateway.
    let mut sql = installation.sql().await;
    let active = "select count(*) from pg_stat_activity
        where datname = current_database() and state = 'active' and pid <> pg_backend_pid() and query like '%any%'";
    let mut most = 0;
    for _ in 0..20 {
        redis.cli(&["flushall"]);
        for _ in 0..20 {
            let now: i64 = sqlx::query_scalar(active).fetch_one(&mut sql).await.unwrap();
            most = most.max(now);
        }
    }
    over.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    assert!(most <= 14, "{most} queries at once for seven services");
    until_from(&client, &customers[0], SectionSource::Memory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_dies_between_commit_and_fence_leaves_nothing_stale() {
    let redis = Redis::start();
    let (mut plan, state) = tests::plan().await;
    plan.redis_url = Some(redis.url());
    let processes = Processes::start_as(plan, state, &[]).await;
    let client = processes.client();
    let fixture = Fixture::create(&client).await;
    let id = &fixture.customer_id;
    until_from(&client, id, SectionSource::Memory).await;
    let points =
        |customer: &Customer| customer.loyalty.as_ref().unwrap().memberships[0].balance.as_ref().unwrap().points;
    assert_eq!(points(&get(&client, id, Vec::new()).await.unwrap()), 100);
    // Redis takes no writes for a while, so the fence of this one waits; then nobody is there to raise it.
    redis.cli(&["client", "pause", "2000", "write"]);
    let token = accrue(&client, &fixture.member_id).await;
    let revive = processes.kill("loyalty");
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let before = get(&client, id, Vec::new()).await.unwrap();
    assert_eq!(points(&before), 100, "the fence was raised after all, so this test shows nothing");
    revive().await;
    // Who has the token never sees the old section, and soon nobody does.
    let (began, mut fresh) = (Instant::now(), 0);
    while fresh < 100 {
        let demanded = get(&client, id, vec![token.clone()]).await.unwrap();
        assert!(demanded.loyalty.is_none() || points(&demanded) == 101);
        let seen = get(&client, id, Vec::new()).await.unwrap();
        fresh = if seen.loyalty.is_some() && points(&seen) == 101 { fresh + 1 } else { 0 };
        assert!(began.elapsed() < Duration::from_secs(8), "the follower of changes does not raise the fence");
    }
    assert!(processes.stop().success());
}
