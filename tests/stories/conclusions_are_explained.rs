//! What is concluded from purchases, and why: CDNOW's customers have the published tiers and predictions.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use client::Client;
use proto::{insight::v1::*, order_history::v1::*, profile::v1::*};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sqlx::{Connection, Executor, PgConnection};
use tests::{Fixture, Installation, Processes, binary, concluded, get, order, reason};
use uuid::Uuid;

fn services() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../services")
}

/// Customers of the sample by their number in it: their ids here.
fn customers() -> BTreeMap<String, String> {
    let sample = std::fs::read_to_string(services().join("clientele/data/cdnow_sample.txt")).unwrap();
    let ids = sample.lines().map(|row| {
        let mut columns = row.split_whitespace();
        let master = columns.next().unwrap();
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("cdnow:{master}").as_bytes());
        (columns.next().unwrap().trim_start_matches('0').to_owned(), id.to_string())
    });
    ids.collect()
}

async fn import(installation: &Installation, file: &Path) {
    let mut command = Command::new(binary("clientele"));
    command.args(["import", "cdnow"]).arg(file).arg("--state").arg(installation.state.path());
    command.env("CLIENTELE_URL", installation.url()).env("CLIENTELE_TOKEN", installation.token());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

async fn tiers(client: &Client, ids: &[String], as_of_day: &str) -> Vec<ValueTier> {
    let mut tiers = Vec::new();
    for ids in ids.chunks(250) {
        let request = BatchGetValueTiersRequest { customer_ids: ids.to_vec(), as_of_day: as_of_day.to_owned() };
        let reply = client.insight().batch_get_value_tiers(request).await.unwrap().into_inner();
        tiers.extend(reply.results.into_iter().map(|mut result| result.value_tiers.remove(0)));
    }
    tiers
}

async fn count(client: &Client, as_of_day: &str) -> CountValueTiersResponse {
    let request = CountValueTiersRequest { currency_code: "USD".into(), as_of_day: as_of_day.to_owned() };
    client.insight().count_value_tiers(request).await.unwrap().into_inner()
}

fn scores(tier: &ValueTier) -> [i32; 3] {
    [&tier.recency, &tier.frequency, &tier.monetary].map(|score| score.as_ref().unwrap().score)
}

/// Waits until what is derived equals a recount of what was recorded.
async fn settled(installation: &Installation) {
    let recorded =
        "select coalesce(sum(total_minor - refunded_minor), 0)::bigint from order_history.orders where state <> 3";
    let derived = "select coalesce(sum(net_minor), 0)::bigint from insight.customer_values";
    let open = "select count(*) from insight.recounts where seq < (select coalesce(max(seq), 0) from insight.changes)";
    for _ in 0..600 {
        let same = installation.count(recorded).await == installation.count(derived).await;
        if same && installation.count(open).await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("insight does not catch up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cdnow_has_the_published_scores_and_predictions_and_one_big_order_moves_a_customer() {
    let installation = Installation::start().await;
    let client = installation.client();
    import(&installation, &services().join("clientele/data/cdnow_sample.txt")).await;
    settled(&installation).await;

    let ids = customers();
    let golden = std::fs::read_to_string(services().join("insight/vectors/rfm_cdnow.tsv")).unwrap();
    let golden: Vec<Vec<&str>> =
        golden.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('\t').collect()).collect();
    assert_eq!((golden.len(), ids.len()), (2357, 2357));
    let in_order: Vec<String> = golden.iter().map(|row| ids[row[0]].clone()).collect();
    for (day, at) in [("1997-09-30", 1), ("1998-06-30", 5)] {
        for (row, tier) in golden.iter().zip(tiers(&client, &in_order, day).await) {
            let expected = [1, 2, 3].map(|column| row[at + column - 1].parse::<i32>().unwrap());
            assert_eq!(scores(&tier), expected, "customer {} on {day}", row[0]);
            let segment = tier.segment().as_str_name().trim_start_matches("VALUE_SEGMENT_").to_lowercase();
            assert_eq!(segment, row[at + 3], "customer {} on {day}", row[0]);
            assert_eq!(tier.as_of_day, day);
            explained(&tier);
        }
    }
    let counted = count(&client, "1997-09-30").await;
    let of: Vec<(Tier, i64)> = counted.tiers.iter().map(|count| (count.tier(), count.customer_count)).collect();
    assert_eq!(of, [(Tier::HighValue, 502), (Tier::Potential, 513), (Tier::ToBeNurtured, 1342)]);
    assert_eq!(counted.cells.iter().map(|cell| cell.customer_count).sum::<i64>(), 2357);
    let money: i64 = counted.cells.iter().map(|cell| cell.net_minor).sum();
    assert_eq!(money, counted.tiers.iter().map(|tier| tier.net_minor).sum::<i64>());

    // What is kept equals a count of everything; every customer's last purchase was before today.
    let today = "2026-01-01";
    for (kept, exact) in tiers(&client, &in_order, "").await.iter().zip(tiers(&client, &in_order, today).await) {
        assert_eq!((scores(kept), kept.segment), (scores(&exact), exact.segment));
        explained(kept);
    }

    predicted(&client, &golden.iter().map(|row| (row[0].to_owned(), ids[row[0]].clone())).collect()).await;

    // Someone who is to be nurtured buys for more than anyone has.
    let customer_id = &in_order[golden.iter().position(|row| row[5..] == ["1", "1", "1", "hibernating"]).unwrap()];
    let mut big = order(customer_id, "big");
    big.lines[0].unit_price_minor = Some(50_000_000);
    (big.lines[0].amount_minor, big.total_minor, big.currency_code) = (100_000_000, 100_000_000, "USD".into());
    client.order_history().record_order(RecordOrderRequest { order: Some(big) }).await.unwrap();
    let seen = until(&client, customer_id, |tier| scores(tier)[2] == 5).await;
    assert_eq!((scores(&seen)[0], seen.segment(), seen.tier()), (5, ValueSegment::PotentialLoyalists, Tier::Potential));
    let why = tiers(&client, std::slice::from_ref(customer_id), "").await.remove(0);
    assert_eq!((scores(&why), why.customer_count), (scores(&seen), 2357));
    explained(&why);
}

/// The model has the published parameters, and by it each customer is expected as computed apart from this project.
async fn predicted(client: &Client, ids: &BTreeMap<String, String>) {
    let close = |got: f64, expected: f64, part: f64| (got - expected).abs() <= part * expected.abs();
    let (currency_code, as_of_day) = ("USD".to_owned(), "1997-09-30".to_owned());
    let request = FitLifetimeModelRequest { currency_code: currency_code.clone(), as_of_day: as_of_day.clone() };
    let fitted = client.insight().fit_lifetime_model(request).await.unwrap().into_inner();
    // How often they came back, and how often by the model as computed apart from this project.
    let counts: Vec<i64> = fitted.repeat_counts.iter().map(|count| count.customer_count).collect();
    assert_eq!(counts, [1411, 439, 214, 100, 62, 38, 29, 64]);
    for (count, expected) in fitted.repeat_counts.iter().zip([
        1_407.684_346_591,
        460.323_463_042,
        192.461_413_962,
        101.164_196_227,
        59.847_078_798,
        38.119_705_469,
        25.549_108_014,
        71.850_687_897,
    ]) {
        assert!(close(count.expected_customer_count, expected, 1e-6), "{}", count.expected_customer_count);
    }
    let model = fitted.model.unwrap();
    assert_eq!((model.customer_count, model.repeat_customer_count), (2357, 946));
    let parameters = [&model.r, &model.alpha, &model.a, &model.b, &model.p, &model.q, &model.gamma];
    let published = [0.242_594_52, 4.413_602_02, 0.792_922_02, 2.425_906_78, 6.249_572_27, 3.744_224_67, 15.443_520_96];
    for (parameter, published) in parameters.into_iter().zip(published) {
        let parameter = parameter.as_ref().unwrap();
        assert!(close(parameter.value, published, 1e-7) && parameter.standard_error > 0.0, "{}", parameter.value);
    }
    assert!((model.log_likelihood + 9_582.429_206_67).abs() < 1e-4);
    assert!((model.spend_log_likelihood + 4_055.917_694_80).abs() < 1e-4);
    let request = GetLifetimeModelRequest { currency_code: currency_code.clone(), as_of_day: "1997-12-24".into() };
    assert!(client.insight().get_lifetime_model(request).await.unwrap().into_inner().model.unwrap() == model);

    let vectors = std::fs::read_to_string(services().join("insight/vectors/lifetime_cdnow.tsv")).unwrap();
    let rows: Vec<Vec<&str>> =
        vectors.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows.len(), 2357);
    for rows in rows.chunks(250) {
        let request = BatchGetPredictionsRequest {
            customer_ids: rows.iter().map(|row| ids[row[0]].clone()).collect(),
            currency_code: currency_code.clone(),
            as_of_day: as_of_day.clone(),
            horizon: Some(Horizon { days: 39 * 7, months: 12, monthly_discount: 0.01 }),
        };
        let reply = client.insight().batch_get_predictions(request).await.unwrap().into_inner();
        for (row, result) in rows.iter().zip(reply.results) {
            let number = |column: usize| row[column].parse::<f64>().unwrap();
            let expected = result.prediction.unwrap();
            let history = [expected.repeat_count, expected.last_days, expected.seen_days];
            assert_eq!(history.map(|n| n.to_string()), [row[1], row[2], row[3]], "customer {}", row[0]);
            assert!(close(expected.probability_alive, number(9), 1e-9), "customer {}", row[0]);
            assert!(close(expected.expected_purchases, number(10), 1e-9), "customer {}", row[0]);
            assert!(close(expected.expected_spend_minor.unwrap() / 100.0, number(11), 1e-9), "customer {}", row[0]);
            if row[0] == "1" {
                assert!(close(expected.lifetime_value_minor.unwrap() / 100.0, 36.273_978_106_348_88, 1e-8));
            }
        }
    }
    // Who bought nothing until then is not expected to; in the view is the newest model's.
    let mut request = BatchGetPredictionsRequest { as_of_day: "1997-12-24".into(), ..Default::default() };
    (request.customer_ids, request.currency_code) = (vec![Uuid::nil().to_string()], currency_code);
    let reply = client.insight().batch_get_predictions(request.clone()).await.unwrap().into_inner();
    assert!(reply.results[0].prediction.is_none());
    request.as_of_day = "1997-09-29".into();
    let failure = client.insight().batch_get_predictions(request).await.err().unwrap();
    assert_eq!(reason(&failure), "MODEL_NOT_FOUND");
    let request = FitLifetimeModelRequest { currency_code: "XTS".into(), ..Default::default() };
    assert_eq!(reason(&client.insight().fit_lifetime_model(request).await.err().unwrap()), "NO_MODEL");
    let customer = get(client, &ids["1"], Vec::new()).await.unwrap();
    let shown = customer.insight.unwrap().predictions.remove(0);
    assert!(shown.currency_code == "USD" && shown.probability_alive < 0.1 && shown.expected_purchases < 0.1);
}

/// Reads the customer until the tier is as expected.
async fn until(client: &Client, customer_id: &str, expected: impl Fn(&ValueTier) -> bool) -> ValueTier {
    for _ in 0..500 {
        let customer = get(client, customer_id, Vec::new()).await.unwrap();
        let tier = customer.insight.unwrap_or_default().value_tiers.into_iter().next();
        if let Some(tier) = tier.filter(|tier| expected(tier)) {
            return tier;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the tier does not move");
}

/// The numbers decide what they are said to decide.
fn explained(tier: &ValueTier) {
    let better = |score: &Option<Score>, is_better: fn(i64, i64) -> bool| {
        let score = score.as_ref().unwrap();
        assert_eq!(score.edges.len(), 4);
        assert_eq!(score.score as usize, 1 + score.edges.iter().filter(|edge| is_better(score.value, **edge)).count());
    };
    better(&tier.recency, |days, edge| days < edge);
    better(&tier.frequency, |days, edge| days > edge);
    better(&tier.monetary, |money, edge| money > edge);
}

/// Everything that was derived, as text.
async fn facts(sql: &mut PgConnection) -> String {
    sqlx::query_scalar(
        "select (select coalesce(string_agg(p::text, '|' order by order_id), '') from insight.purchases p)
             || (select coalesce(string_agg(v::text, '|' order by customer_id, currency), '') from insight.customer_values v)
             || (select coalesce(string_agg(concat_ws(',', order_id, line_number, sku, quantity, amount_minor), '|'
                                            order by order_id, line_number), '')
                 from insight.purchase_lines join insight.items using (item_id))
             || (select coalesce(string_agg(t::text, '|' order by customer_id, dimension), '') from insight.traits t)",
    )
    .fetch_one(sql)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_gives_what_following_gave_and_nothing_of_who_was_erased() {
    let installation = Installation::start().await;
    let client = installation.client();
    let (first, second) = (Fixture::create(&client).await, Fixture::create(&client).await);
    // Revised, returned, cancelled, moved to another day and currency.
    let record = async |order: Order| {
        client.order_history().record_order(RecordOrderRequest { order: Some(order) }).await.unwrap().into_inner()
    };
    let number = first.tag.as_str();
    let cancelled = |number: &str| Order { state: OrderState::Cancelled.into(), ..order(&first.customer_id, number) };
    record(order(&first.customer_id, "to be cancelled")).await;
    record(cancelled("to be cancelled")).await;
    record(cancelled("never")).await;
    let day = |number: &str, seconds| Order {
        placed_time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
        currency_code: "USD".into(),
        ..order(&first.customer_id, number)
    };
    record(order(&first.customer_id, "moved")).await;
    record(day("moved", 1_700_000_000)).await;
    // The last second of a day and the first of the next.
    record(day("late", 1_700_006_399)).await;
    record(day("early", 1_700_006_400)).await;
    let back = Return {
        order_id: first.order_id.clone(),
        refund_minor: 700,
        returned_time: Some(prost_types::Timestamp { seconds: 1_760_000_001, nanos: 0 }),
        ..Default::default()
    };
    let request = RecordReturnRequest { request_id: client::request_id(), r#return: Some(back) };
    client.order_history().record_return(request).await.unwrap();
    settled(&installation).await;
    let tiers = concluded(&client, &first.customer_id).await;
    let of = |tier: &ValueTier| {
        let (frequency, monetary) = (tier.frequency.clone().unwrap().value, tier.monetary.clone().unwrap().value);
        (tier.currency_code.clone(), frequency, monetary)
    };
    let expected = [("EUR".to_owned(), 1, 1300), ("USD".to_owned(), 2, 6000)];
    assert_eq!(tiers.iter().map(of).collect::<Vec<_>>(), expected, "{number}");

    installation.destroy_keys(&second.customer_id).await;
    let mut sql = installation.sql().await;
    settled_without(&installation, &second.customer_id).await;
    let followed = facts(&mut sql).await;
    assert!(followed.contains(&first.customer_id) && !followed.contains(&second.customer_id));
    let request = GetValueTierRequest { customer_id: second.customer_id.clone(), ..Default::default() };
    assert!(client.insight().get_value_tier(request).await.unwrap().into_inner().value_tiers.is_empty());

    // Some of it lost, some of it made up; the service forgets how far it was.
    sql.execute(
        "delete from insight.purchases where net_minor = 1300;
         insert into insight.purchases (order_id, customer_id, placed_at, currency, net_minor)
         select gen_random_uuid(), customer_id, now(), 'CHF', 1 from insight.customer_values;
         delete from insight.customer_values;
         update insight.traits set value = 'made up' where dimension <> 'hour';
         delete from insight.traits where dimension = 'hour';
         delete from insight.cursors",
    )
    .await
    .unwrap();
    for _ in 0..600 {
        if facts(&mut sql).await == followed {
            let progress =
                client.insight().get_progress(GetProgressRequest::default()).await.unwrap().into_inner().feeds;
            assert_eq!(progress.len(), 6);
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("a rebuild gives something else:\n{}\ninstead of\n{followed}", facts(&mut sql).await);
}

/// Waits until nothing is derived of somebody.
async fn settled_without(installation: &Installation, customer_id: &str) {
    let mut sql = installation.sql().await;
    for _ in 0..200 {
        if !facts(&mut sql).await.contains(customer_id) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("something of an erased customer stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_killed_at_any_moment_misses_nothing_and_counts_nothing_twice() {
    let processes = Processes::start(&[]).await;
    let client = processes.client();
    let seed = tests::seed();
    let mut chance = StdRng::seed_from_u64(seed);
    let profiles = (0..50).map(|_| CreateProfileRequest {
        request_id: client::request_id(),
        profile: Some(Profile::default()),
        ..Default::default()
    });
    let request = BatchCreateProfilesRequest { requests: profiles.collect() };
    let created = client.profile().batch_create_profiles(request).await.unwrap().into_inner().results;
    let customers: Vec<String> = created.into_iter().map(|result| result.customer_id).collect();

    // Somebody buys all the time, and every tenth order is revised right away.
    let over = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (client, over, customers) = (client.clone(), over.clone(), customers.clone());
        async move {
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                let mut orders = Vec::new();
                for _ in 0..100 {
                    number += 1;
                    let customer_id = &customers[number % customers.len()];
                    let mut new = order(customer_id, &format!("o{number}"));
                    new.placed_time.as_mut().unwrap().seconds += (number as i64 % 40) * 86_400;
                    orders.push(new.clone());
                    if number % 10 == 0 {
                        new.state = OrderState::Cancelled.into();
                        orders.push(new);
                    }
                }
                client.order_history().batch_record_orders(BatchRecordOrdersRequest { orders }).await.unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let revive = processes.kill("insight");
    for _ in 0..tests::soak("KILLS", 3) {
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..1500))).await;
        let id = revive().await;
        tokio::time::sleep(Duration::from_millis(chance.random_range(200..1500))).await;
        Processes::signal(id, "-KILL");
    }
    over.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    revive().await;
    let mut sql = PgConnection::connect(&processes.plan.database_url).await.unwrap();
    let recount = "
        with days as (
            select customer_id, currency, (placed_at at time zone 'UTC')::date as day, sum(total_minor - refunded_minor) as net
            from order_history.orders where state <> 3 group by 1, 2, 3),
        counted as (select customer_id, currency, min(day), max(day), count(*), sum(net)::bigint from days group by 1, 2),
        derived as (select customer_id, currency, first_day, last_day, days, net_minor from insight.customer_values)
        select (select count(*) from (table counted except table derived) x) + (select count(*) from (table derived except table counted) y)
             + (select count(*) from order_history.orders o join order_history.order_lines using (order_id) where state <> 3)
             - (select count(*) from insight.purchase_lines)";
    let mut differing = -1_i64;
    for _ in 0..600 {
        differing = sqlx::query_scalar(recount).fetch_one(&mut sql).await.unwrap();
        if differing == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(differing, 0, "seed {seed}");
    assert!(processes.stop().success());
}
