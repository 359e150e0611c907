use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use access::{Call, Caller, InternalKey, Purpose};
use client::{Peer, request_id};
use clientele::database;
use futures_util::future::join_all;
use proto::{customer::v1::*, feed::v1::Change, loyalty::v1::*};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sqlx::{Connection, PgConnection, Row};
use tests::{Fixture, Installation, Processes, accrue, reason};
use uuid::Uuid;

const WRITERS: usize = 16;
const CUSTOMERS: usize = 300;

/// So many changes.
fn changes_wanted() -> usize {
    tests::soak("CHANGES", 20_000) as usize
}

fn rng(seed: u8) -> StdRng {
    StdRng::seed_from_u64(tests::seed() + u64::from(seed))
}

/// What a reader got, in the order in which it got it.
type Heard = Vec<(Uuid, i64)>;

/// How many of the changes a reader missed, got twice, and got out of a customer's order.
fn judge(heard: &Heard, written: &HashMap<Uuid, i64>) -> (i64, i64, i64) {
    let mut last: HashMap<Uuid, i64> = HashMap::new();
    let mut times: HashMap<(Uuid, i64), i64> = HashMap::new();
    let mut disordered = 0;
    for (customer, version) in heard {
        *times.entry((*customer, *version)).or_default() += 1;
        let before = last.insert(*customer, *version).unwrap_or(0);
        disordered += i64::from(*version <= before);
    }
    let lost = written.iter().map(|(customer, newest)| {
        (1..=*newest).filter(|version| !times.contains_key(&(*customer, *version))).count() as i64
    });
    let doubled = times.values().map(|times| times - 1).sum();
    (lost.sum(), doubled, disordered)
}

/// Commits transactions over several customers, slow and fast ones side by side, so that they commit
/// in another order than they draw their numbers.
async fn write(url: String, customers: Arc<Vec<Uuid>>, transactions: usize, seed: u8) {
    let mut sql = PgConnection::connect(&url).await.unwrap();
    let mut rng = rng(seed);
    for _ in 0..transactions {
        let count = rng.random_range(1..20);
        let mut chosen: Vec<Uuid> = (0..count).map(|_| customers[rng.random_range(0..CUSTOMERS)]).collect();
        chosen.sort();
        chosen.dedup();
        let mut transaction = sql.begin().await.unwrap();
        sqlx::query(
            "with raised as (
                 update loyalty.customers set version = version + 1 where customer_id = any (array(
                     select customer_id from loyalty.customers where customer_id = any ($1)
                     order by customer_id for update))
                 returning customer_id, version)
             insert into loyalty.changes (id, aggregatetype, aggregateid, type, payload, customer_version, traceparent)
             select gen_random_uuid(), 'ledger', customer_id, 'ledger.posted', '{}', version, '' from raised",
        )
        .bind(&chosen)
        .execute(&mut *transaction)
        .await
        .unwrap();
        if rng.random_range(0..20) == 0 {
            sqlx::query("select pg_sleep($1)")
                .bind(rng.random_range(0.0..0.03))
                .execute(&mut *transaction)
                .await
                .unwrap();
        }
        if rng.random_range(0..10) == 0 {
            transaction.rollback().await.unwrap();
        } else {
            transaction.commit().await.unwrap();
        }
    }
}

/// Reads the loyalty changes from a token on, and is cut off again and again at random.
async fn read(client: client::Client, token: String, done: Arc<AtomicBool>, seed: u8) -> Heard {
    let (mut token, mut heard, mut rng) = (token, Heard::new(), rng(seed));
    let mut quiet = Instant::now();
    while !(done.load(Ordering::Relaxed) && quiet.elapsed() > Duration::from_secs(2)) {
        let request = WatchCustomersRequest { resume_token: token.clone(), ..Default::default() };
        let mut messages = client.customer().watch_customers(request).await.unwrap().into_inner();
        for _ in 0..rng.random_range(1..40) {
            let Ok(message) = tokio::time::timeout(Duration::from_secs(3), messages.message()).await else { break };
            let message = message.unwrap().unwrap();
            token = message.resume_token;
            for change in message.changes {
                quiet = Instant::now();
                heard.push((change.customer_id.parse().unwrap(), change.customer_version));
            }
        }
    }
    heard
}

/// The reader that everybody writes first: what has a higher number than the last.
async fn read_by_number(url: String, done: Arc<AtomicBool>) -> Heard {
    let mut sql = PgConnection::connect(&url).await.unwrap();
    let (mut last, mut heard) = (0_i64, Heard::new());
    loop {
        let over = done.load(Ordering::Relaxed);
        let query = "select seq, aggregateid, customer_version from loyalty.changes where seq > $1 order by seq";
        for row in sqlx::query(query).bind(last).fetch_all(&mut sql).await.unwrap() {
            last = row.get(0);
            heard.push((row.get(1), row.get(2)));
        }
        if over {
            return heard;
        }
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
}

async fn begin(client: &client::Client, sections: Vec<i32>) -> String {
    let request = WatchCustomersRequest { sections, ..Default::default() };
    let mut messages = client.customer().watch_customers(request).await.unwrap().into_inner();
    messages.message().await.unwrap().unwrap().resume_token
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_are_cut_off_at_random_get_every_change_once_and_in_order() {
    let installation = Installation::start().await;
    let client = installation.client();
    let customers: Arc<Vec<Uuid>> = Arc::new((0..CUSTOMERS).map(|_| Uuid::now_v7()).collect());
    sqlx::query("insert into loyalty.customers (customer_id, version) select unnest($1::uuid[]), 0")
        .bind(&*customers)
        .execute(&mut installation.sql().await)
        .await
        .unwrap();
    // A transaction that stays open in another database of the cluster holds nobody up.
    let elsewhere = std::env::var("CLIENTELE_TEST_DATABASE_URL").unwrap();
    let mut elsewhere = PgConnection::connect(&elsewhere).await.unwrap();
    let mut open = elsewhere.begin().await.unwrap();
    sqlx::query("select pg_current_xact_id()").execute(&mut *open).await.unwrap();

    let token = begin(&client, vec![SectionName::Loyalty.into()]).await;
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> =
        (0..3).map(|seed| tokio::spawn(read(client.clone(), token.clone(), done.clone(), seed))).collect();
    let url = installation.plan.database_url.clone();
    let wrong = tokio::spawn(read_by_number(url.clone(), done.clone()));
    // A transaction changes ten customers on average, and one in ten is rolled back.
    let transactions = changes_wanted() / WRITERS / 9 + 1;
    join_all((0..WRITERS).map(|i| write(url.clone(), customers.clone(), transactions, 100 + i as u8))).await;
    done.store(true, Ordering::Relaxed);

    let rows = sqlx::query("select customer_id, version from loyalty.customers");
    let rows = rows.fetch_all(&mut installation.sql().await).await.unwrap();
    let written: HashMap<Uuid, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let changes: i64 = written.values().sum();
    assert!(changes as usize > changes_wanted() / 2, "{changes}");
    for (seed, reader) in readers.into_iter().enumerate() {
        let judged = judge(&reader.await.unwrap(), &written);
        assert_eq!(judged, (0, 0, 0), "lost, doubled, out of order, of {changes} by the reader with seed {seed}");
    }
    // The same judge finds out the wrong cursor, so it would have found out ours.
    assert!(judge(&wrong.await.unwrap(), &written).0 > 0, "the wrong cursor lost nothing");
    open.rollback().await.unwrap();
}

#[tokio::test]
async fn behind_an_open_transaction_a_poll_reads_new_rows_alone() {
    let installation = Installation::start().await;
    let mut slow = installation.sql().await;
    let mut open = slow.begin().await.unwrap();
    sqlx::query("select pg_current_xact_id()").execute(&mut *open).await.unwrap();
    let mut sql = installation.sql().await;
    let insert = "insert into loyalty.changes (id, aggregatetype, aggregateid, type, payload, customer_version, traceparent)
        select gen_random_uuid(), 'ledger', gen_random_uuid(), 'ledger.posted', '{}', 1, '' from generate_series(1, $1)";
    sqlx::query(insert).bind(100_000).execute(&mut sql).await.unwrap();
    let seen: String = sqlx::query_scalar("select pg_current_snapshot()::text").fetch_one(&mut sql).await.unwrap();
    sqlx::query(insert).bind(20).execute(&mut sql).await.unwrap();
    for setting in [
        "set search_path = loyalty",
        "set plan_cache_mode = force_generic_plan",
        "set enable_hashjoin = off",
        "set enable_mergejoin = off",
        "set enable_seqscan = off",
        "set jit = off",
    ] {
        sqlx::query(setting).execute(&mut sql).await.unwrap();
    }
    let page = include_str!("../../libs/feed/queries/unseen.sql");
    let explain = format!("explain (analyze, buffers, format json) {page}");
    let plan: serde_json::Value =
        sqlx::query_scalar(sqlx::AssertSqlSafe(explain)).bind(seen).bind(1001_i64).fetch_one(&mut sql).await.unwrap();
    let plan = &plan[0]["Plan"];
    assert_eq!(plan["Actual Rows"], 20);
    assert_eq!(rows_of_scans(plan), 20, "{plan:#}");
    open.rollback().await.unwrap();
}

/// How many rows of `changes` were touched.
fn rows_of_scans(plan: &serde_json::Value) -> i64 {
    let below = plan["Plans"].as_array().into_iter().flatten().map(rows_of_scans).sum::<i64>();
    let scan = plan["Relation Name"] == "changes";
    let removed = plan["Rows Removed by Filter"].as_i64().unwrap_or(0);
    below + if scan { plan["Actual Rows"].as_i64().unwrap() + removed } else { 0 }
}

async fn refused(client: &client::Client, resume_token: &str) -> String {
    let request = WatchCustomersRequest { resume_token: resume_token.to_owned(), ..Default::default() };
    let mut messages = match client.customer().watch_customers(request).await {
        Ok(messages) => messages.into_inner(),
        Err(failure) => return reason(&failure),
    };
    loop {
        match messages.message().await {
            Ok(message) => assert!(message.unwrap().changes.is_empty()),
            Err(failure) => return reason(&failure),
        }
    }
}

#[tokio::test]
async fn a_token_whose_changes_were_purged_is_refused() {
    let installation = Installation::start().await;
    let client = installation.client();
    let old = begin(&client, vec![SectionName::Loyalty.into()]).await;
    let mut slow = installation.sql().await;
    let mut open = slow.begin().await.unwrap();
    let own = "select pg_current_xact_id()::text::bigint";
    let own: i64 = sqlx::query_scalar(own).fetch_one(&mut *open).await.unwrap();
    Fixture::create(&client).await;
    let db = installation.db("loyalty").await;
    // Of another transaction of the cluster that is older than a change, and ends behind a token, nobody knows that it
    // left nothing that was purged; so those of other tests have to end first.
    let older = "select exists (select from pg_snapshot_xip(pg_current_snapshot()) as xid where xid::text::bigint <> $1
        and xid::text::bigint < (select max(xid::text::bigint) from loyalty.changes))";
    let mut sql = installation.sql().await;
    while sqlx::query_scalar(older).bind(own).fetch_one(&mut sql).await.unwrap() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The purge spares what is young, and so it does no harm to a token.
    assert_eq!(feed::purge(&db, Duration::from_secs(60)).await.unwrap(), 0);
    let kept = begin(&client, vec![SectionName::Loyalty.into()]).await;
    let purged = feed::purge(&db, Duration::ZERO).await.unwrap();
    assert_eq!(installation.count("select count(*) from loyalty.changes").await, 0);
    assert!(purged > 0);
    assert_eq!(refused(&client, &old).await, "RESUME_TOKEN_EXPIRED");
    // Who had seen what was purged misses nothing, and who begins now does begin, even though a
    // transaction is open that began before all that was purged.
    let request = WatchCustomersRequest { resume_token: kept, ..Default::default() };
    client.customer().watch_customers(request).await.unwrap().into_inner().message().await.unwrap();
    begin(&client, vec![SectionName::Loyalty.into()]).await;
    assert_eq!(refused(&client, "bm9uc2Vuc2U").await, "RESUME_TOKEN_INVALID");
    open.rollback().await.unwrap();
}

#[tokio::test]
async fn after_a_restore_old_tokens_are_refused_and_a_new_beginning_has_everything() {
    let installation = Installation::start().await;
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    let old = begin(&client, vec![SectionName::Loyalty.into()]).await;
    let Installation { suite, plan, state: _state } = installation;
    suite.stop().await.unwrap();
    database::finish_restore(&plan.database_url).await.unwrap();
    let suite = clientele::suite::Suite::start(&plan).await.unwrap();
    let client =
        client::Client::new(&format!("http://{}", suite.address), &plan.keys.token("x", &[], 1).unwrap(), "service");
    let client = client.unwrap();
    assert_eq!(refused(&client, &old).await, "RESUME_TOKEN_EXPIRED");
    let consistency_tokens = fixture.tokens.clone();
    let consistency = Some(proto::r#type::v1::Consistency { consistency_tokens, fully_consistent: false });
    let request = GetBalanceRequest { member_id: fixture.member_id.clone(), consistency };
    assert_eq!(reason(&client.loyalty().get_balance(request).await.err().unwrap()), "CONSISTENCY_TOKEN_EXPIRED");

    let request = WatchCustomersRequest { initial_state: true, ..Default::default() };
    let mut messages = client.customer().watch_customers(request).await.unwrap().into_inner();
    let mut states = BTreeMap::new();
    while states.len() < 7 {
        let message = messages.message().await.unwrap().unwrap();
        for state in message.states.iter().filter(|state| state.customer_id == fixture.customer_id) {
            states.insert(state.section_states[0].section, state.section_states[0].version);
        }
    }
    // What is written from now on follows behind the states.
    let request =
        AccruePointsRequest { request_id: request_id(), member_id: fixture.member_id, points: 7, cause: "test".into() };
    client.loyalty().accrue_points(request).await.unwrap();
    // Insight, which follows, begins anew too.
    let mut change = next_change(&mut messages).await;
    while change.service != "loyalty" {
        change = next_change(&mut messages).await;
    }
    assert_eq!(change.customer_version, states[&SectionName::Loyalty.into()] + 1);
    let payload: serde_json::Value = serde_json::from_str(&change.payload).unwrap();
    assert_eq!((payload["points"].as_i64(), change.r#type.as_str()), (Some(7), "ledger.posted"));
}

async fn next_change(messages: &mut tonic::Streaming<WatchCustomersResponse>) -> Change {
    loop {
        let message = messages.message().await.unwrap().unwrap();
        if let Some(change) = message.changes.into_iter().next() {
            return change;
        }
    }
}

/// Who is far behind reads page by page what was there when it began, and only then what came meanwhile.
#[tokio::test]
async fn what_is_written_while_a_slow_reader_catches_up_is_not_missed() {
    let installation = Installation::start().await;
    let fixture = Fixture::create(&installation.client()).await;
    let customer: Uuid = fixture.customer_id.parse().unwrap();
    let mut sql = installation.sql().await;
    let mut written = async |from: i64, to: i64| {
        let insert = "insert into loyalty.changes
                (id, aggregatetype, aggregateid, type, payload, customer_version, traceparent)
            select gen_random_uuid(), 'ledger', $1, 'ledger.posted', '{}', n, '' from generate_series($2, $3) n";
        sqlx::query(insert).bind(customer).bind(from).bind(to).execute(&mut sql).await.unwrap();
    };
    let key = access::InternalKey::read("gateway", &installation.plan.keys.internal_key_file()).unwrap();
    let loyalty = clientele::suite::SERVICES.iter().position(|service| *service == "loyalty").unwrap();
    let channel = client::channel(&format!("http://{}", installation.suite.services[loyalty])).unwrap();
    let peer = client::Peer::new(channel, key);
    let purpose = access::Purpose::parse("service").unwrap();
    let caller = access::Caller { subject: "x".into(), purpose };
    let call = access::Call { caller, deadline: Instant::now() + Duration::from_secs(60), traceparent: "".into() };
    let watch = async |resume_token: String| {
        let request = proto::feed::v1::WatchChangesRequest { resume_token, ..Default::default() };
        peer.feed.clone().watch_changes(peer.request(&call, request)).await.unwrap().into_inner()
    };
    let begun = watch(String::new()).await.message().await.unwrap().unwrap().resume_token;

    // More than the windows between the two take, so that it is told no faster than it is read.
    written(1001, 31_000).await;
    let mut messages = watch(begun).await;
    let mut heard = Vec::new();
    let mut paused = false;
    while heard.len() < 30_010 {
        let message = tokio::time::timeout(Duration::from_secs(5), messages.message()).await.unwrap().unwrap().unwrap();
        heard.extend(message.changes.iter().map(|change| change.customer_version));
        assert!(!message.changes.is_empty() || heard.len() < 1000, "{} were heard, and no more come", heard.len());
        if !paused && !heard.is_empty() {
            paused = true;
            written(31_001, 31_010).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    assert!(heard.into_iter().eq(1001..=31_010));
}

#[tokio::test]
async fn a_stream_hears_of_what_it_asked_for() {
    let installation = Installation::start().await;
    let client = installation.client();
    let (mine, _other) = (Fixture::create(&client).await, Fixture::create(&client).await);
    let request = WatchCustomersRequest {
        customer_ids: vec![mine.customer_id.to_uppercase()],
        types: vec!["ledger.posted".into()],
        ..Default::default()
    };
    let mut messages = client.customer().watch_customers(request).await.unwrap().into_inner();
    messages.message().await.unwrap();
    Fixture::create(&client).await;
    for fixture in [&_other, &mine] {
        accrue(&client, &fixture.member_id).await;
        let order = tests::order(&fixture.customer_id, &request_id());
        let order = proto::order_history::v1::RecordOrderRequest { order: Some(order) };
        client.order_history().record_order(order).await.unwrap();
    }
    let change = next_change(&mut messages).await;
    assert_eq!((change.customer_id, change.service.as_str()), (mine.customer_id, "loyalty"));
    assert!(change.traceparent.is_empty() || change.traceparent.starts_with("00-"));
}

#[tokio::test]
async fn a_service_that_is_down_is_named_while_the_others_go_on() {
    let processes = Processes::start(&[]).await;
    let client = processes.client();
    let mut messages = client.customer().watch_customers(WatchCustomersRequest::default()).await.unwrap().into_inner();
    messages.message().await.unwrap();
    Processes::signal(processes.ids["loyalty"], "-KILL");
    loop {
        let message = messages.message().await.unwrap().unwrap();
        if let [down] = message.unavailable.as_slice() {
            assert_eq!((down.section(), down.reason.as_str()), (SectionName::Loyalty, "SERVICE_UNAVAILABLE"));
            break;
        }
    }
    let profile = proto::profile::v1::Profile { language: "en".into(), ..Default::default() };
    let request = proto::profile::v1::CreateProfileRequest {
        request_id: request_id(),
        profile: Some(profile),
        ..Default::default()
    };
    client.profile().create_profile(request).await.unwrap();
    assert_eq!(next_change(&mut messages).await.r#type, "profile.created");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_follower_derives_equals_a_recount_however_often_it_is_killed() {
    let installation = Installation::start().await;
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    let mut sql = installation.sql().await;
    for statement in [
        "create table interaction.heard (customer_id uuid primary key, posted bigint not null)",
        "grant all on interaction.heard to interaction",
    ] {
        sqlx::query(statement).execute(&mut sql).await.unwrap();
    }
    let db = installation.db("interaction").await;
    let loyalty = format!("http://{}", installation.suite.services[4]);
    let key = InternalKey::read("interaction", &installation.plan.keys.internal_key_file()).unwrap();
    let peer = Peer::new(client::channel(&loyalty).unwrap(), key);
    let call = Call {
        caller: Caller { subject: "interaction".into(), purpose: Purpose::parse("service").unwrap() },
        deadline: Instant::now() + Duration::from_secs(60),
        traceparent: "".into(),
    };
    let spawn = || {
        let (db, peer, call) = (db.clone(), peer.clone(), call.clone());
        tokio::spawn(async move {
            let read = async |message| Ok(message);
            feed::follow(
                &db,
                &peer,
                &call,
                "loyalty",
                read,
                |tx, message: Arc<proto::feed::v1::WatchChangesResponse>| {
                    Box::pin(async move {
                        for change in message.changes.iter().filter(|change| change.r#type == "ledger.posted") {
                            let customer: Uuid = change.customer_id.parse().unwrap();
                            sqlx::query(
                                "insert into interaction.heard values ($1, 1)
                             on conflict (customer_id) do update set posted = heard.posted + 1",
                            )
                            .bind(customer)
                            .execute(tx.sql())
                            .await?;
                        }
                        Ok(())
                    })
                },
            )
            .await
        })
    };
    let mut follower = spawn();
    // Its beginning is the state; what follows is counted.
    while installation.count("select count(*) from interaction.cursors").await == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut rng = rng(7);
    for i in 0..200 {
        accrue(&client, &fixture.member_id).await;
        if i % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..30))).await;
            follower.abort();
            follower = spawn();
        }
    }
    let heard = "select coalesce(sum(posted), 0)::bigint from interaction.heard";
    for _ in 0..200 {
        if installation.count(heard).await == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(installation.count(heard).await, 200);
    follower.abort();
}
