//! All customers are counted and what they buy is told month by month: equal to a recount, and so that nobody stands out.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use client::{Client, request_id};
use proto::{consent::v1::*, contact::v1::*, insight::v1::*, interaction::v1::*, order_history::v1::*, profile::v1::*};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sqlx::Executor;
use tests::{Installation, MIN_GROUP_SIZE, evidence, followed, order, reason};

const K: i64 = MIN_GROUP_SIZE as i64;

/// What a demand is told of.
type Named = fn(&Demand) -> String;

async fn create(client: &Client, profiles: Vec<Profile>) -> Vec<String> {
    let request =
        |profile| CreateProfileRequest { request_id: request_id(), profile: Some(profile), ..Default::default() };
    let request = BatchCreateProfilesRequest { requests: profiles.into_iter().map(request).collect() };
    let created = client.profile().batch_create_profiles(request).await.unwrap().into_inner().results;
    created.into_iter().map(|result| result.customer_id).collect()
}

async fn count(client: &Client, dimensions: &[Dimension]) -> CountCustomersResponse {
    let dimensions = dimensions.iter().map(|dimension| (*dimension).into()).collect();
    client.insight().count_customers(CountCustomersRequest { dimensions }).await.unwrap().into_inner()
}

/// The counts of one dimension as text; what is merged is `*`.
fn told(counted: &CountCustomersResponse, dimension: Dimension) -> Vec<(String, i64)> {
    let count = counted.counts.iter().find(|count| count.dimension() == dimension).unwrap();
    let name = |value: &ValueCount| if value.merged { "*".to_owned() } else { value.value.clone() };
    count.values.iter().map(|value| (name(value), value.customer_count)).collect()
}

fn is(expected: &[(&str, i64)]) -> Vec<(String, i64)> {
    expected.iter().map(|(value, count)| ((*value).to_owned(), *count)).collect()
}

/// What changes is looked at every second.
const LOOK: Duration = Duration::from_millis(2500);

/// Waits until so many customers are counted.
async fn counted(client: &Client, customers: i64) {
    for _ in 0..300 {
        let reply = client.insight().count_customers(CountCustomersRequest::default()).await;
        if reply.is_ok_and(|reply| reply.into_inner().customer_count == customers) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the base is not counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn customers_are_counted_by_what_every_service_says_and_no_two_answers_differ_by_few() {
    let installation = Installation::start().await;
    let client = installation.client();
    let failure = client.insight().count_customers(CountCustomersRequest::default()).await.err().unwrap();
    assert_eq!(reason(&failure), "TOO_FEW_CUSTOMERS");

    // Twelve customers; six from Portugal, five from Germany and one from France.
    let profile = |i: i32| Profile {
        gender: if i < 7 { Gender::Female } else { Gender::Male }.into(),
        region: ["PT", "DE", "FR"][(i / 6 + i / 11) as usize].into(),
        language: "en".into(),
        time_zone: if i == 0 { "Asia/Tokyo" } else { "" }.into(),
        birth_date: Some(proto::r#type::v1::PartialDate { year: 1990, month: 5, day: 17 }),
        occupation: Some(Occupation { isco_code: "2512".into(), ..Default::default() }),
        ..Default::default()
    };
    let customers = create(&client, (0..12).map(profile).collect()).await;
    let agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36";
    let purpose = Purpose {
        purpose_id: "news".into(),
        display_name: "News".into(),
        legal_basis: LegalBasis::Consent.into(),
        notice_texts: vec![NoticeText { language: "en".into(), text: "We write.".into(), ..Default::default() }],
        ..Default::default()
    };
    let request = CreatePurposeRequest { request_id: request_id(), purpose: Some(purpose) };
    client.consent().create_purpose(request).await.unwrap();
    for customer_id in &customers[..6] {
        let customer_id = customer_id.clone();
        let request = RecordDeviceRequest {
            request_id: request_id(),
            customer_id: customer_id.clone(),
            device: Some(Device::default()),
            user_agent: agent.into(),
            ..Default::default()
        };
        client.profile().record_device(request).await.unwrap();
        let preferences =
            ContactPreferences { channels: vec![proto::contact::v1::Channel::Sms.into()], ..Default::default() };
        let request = SetContactPreferencesRequest {
            request_id: request_id(),
            customer_id: customer_id.clone(),
            preferences: Some(preferences),
        };
        client.contact().set_contact_preferences(request).await.unwrap();
        let interaction = Interaction {
            customer_id: customer_id.clone(),
            occurred_time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            channel: proto::interaction::v1::Channel::Chat.into(),
            direction: Direction::Inbound.into(),
            ..Default::default()
        };
        let request = RecordInteractionRequest { request_id: request_id(), interaction: Some(interaction) };
        client.interaction().record_interaction(request).await.unwrap();
        let request = GrantConsentRequest {
            request_id: request_id(),
            customer_id: customer_id.clone(),
            purpose_id: "news".into(),
            evidence: Some(evidence()),
            ..Default::default()
        };
        client.consent().grant_consent(request).await.unwrap();
        let payment = Payment {
            method: "card".into(),
            amount_minor: 2000,
            state: PaymentState::Captured.into(),
            ..Default::default()
        };
        // At 08:53 of a Thursday, when it was late afternoon in Tokyo.
        let order =
            Order { channel: SalesChannel::Web.into(), payments: vec![payment], ..order(&customer_id, &customer_id) };
        client.order_history().record_order(RecordOrderRequest { order: Some(order) }).await.unwrap();
    }
    followed(&client).await;
    create(&client, vec![Profile { language: "en".into(), ..Default::default() }; K as usize]).await;
    followed(&client).await;
    // From the beginning, since what few did last may still wait for others.
    let mut sql = installation.sql().await;
    let anew = "truncate insight.counted_customers, insight.counted_traits;
                insert into insight.base_changes (customer_id) select customer_id from insight.customers";
    sql.execute(anew).await.unwrap();
    tokio::time::sleep(LOOK).await;
    counted(&client, 17).await;
    let reply = count(&client, &[]).await;
    assert_eq!((reply.counts.len(), i64::from(reply.min_group_size)), (19, K));
    for count in &reply.counts {
        assert_eq!(count.values.iter().map(|value| value.customer_count).sum::<i64>(), 17);
        assert!(count.values.iter().all(|value| value.customer_count >= K));
    }
    // One Frenchman would be the difference of all and the others, so five of whom nothing is known are told with him.
    assert_eq!(told(&reply, Dimension::Region), is(&[("PT", 6), ("DE", 5), ("*", 6)]));
    assert_eq!(told(&reply, Dimension::Gender), is(&[("female", 7), ("", 5), ("male", 5)]));
    assert_eq!(told(&reply, Dimension::Language), is(&[("en", 17)]));
    assert_eq!(told(&reply, Dimension::AgeBand), is(&[("35_44", 12), ("", 5)]));
    assert_eq!(told(&reply, Dimension::Occupation), is(&[("2", 12), ("", 5)]));
    assert_eq!(told(&reply, Dimension::MaritalStatus), is(&[("", 17)]));
    for (dimension, value) in [
        (Dimension::DeviceType, "computer"),
        (Dimension::OperatingSystem, "Linux"),
        (Dimension::Browser, "Chrome"),
        (Dimension::PreferredChannel, "sms"),
        (Dimension::ContactChannel, "chat"),
        (Dimension::Consent, "given"),
        (Dimension::SalesChannel, "web"),
        (Dimension::PaymentMethod, "card"),
        (Dimension::Weekday, "thursday"),
    ] {
        assert_eq!(told(&reply, dimension), is(&[("", 11), (value, 6)]), "{}", dimension.as_str_name());
    }
    // One of six bought at another hour of the day where she lives.
    assert_eq!(told(&reply, Dimension::Hour), is(&[("", 11), ("*", 6)]));

    // It equals a recount of what the services store.
    let recount = "select count(*) from profile.profiles where gender = 1";
    assert_eq!(installation.count(recount).await, 7);

    // Who comes alone or changes alone is not the difference of two answers, whatever others do meanwhile.
    create(&client, vec![Profile { language: "fr".into(), ..Default::default() }; K as usize - 1]).await;
    let update = async |customer_id: &String, profile: Profile, path: &str| {
        let request = UpdateProfileRequest {
            request_id: request_id(),
            customer_id: customer_id.clone(),
            profile: Some(profile),
            update_mask: Some(prost_types::FieldMask { paths: vec![path.to_owned()] }),
            ..Default::default()
        };
        client.profile().update_profile(request).await.unwrap();
    };
    update(&customers[0], Profile { gender: Gender::Male.into(), ..Default::default() }, "gender").await;
    for customer in &customers[..6] {
        update(customer, Profile { language: "ja".into(), ..Default::default() }, "language").await;
    }
    followed(&client).await;
    tokio::time::sleep(LOOK).await;
    let after = count(&client, &[]).await;
    for (before, after) in reply.counts.iter().zip(&after.counts) {
        let is_language = before.dimension() == Dimension::Language;
        assert!(is_language || before == after, "{}", before.dimension().as_str_name());
    }
    // Who came with them could be the sixth: five or six are told, and the one who is not waits for others.
    assert!(told(&after, Dimension::Language).iter().all(|(_, customers)| *customers >= K));
    installation.destroy_keys(&customers[11]).await;
    counted(&client, 20).await;
    let after = count(&client, &[Dimension::Region, Dimension::Gender]).await;
    assert_eq!(after.counts.len(), 2);
    assert_eq!(told(&after, Dimension::Region), is(&[("", 9), ("PT", 6), ("DE", 5)]));
    // She is counted as she was: nobody else changed with her.
    assert_eq!(told(&after, Dimension::Gender), is(&[("", 9), ("*", 11)]));
}

/// What was bought by month, counted from the orders themselves.
async fn recount(installation: &Installation, key: &str) -> BTreeMap<(String, String), (i64, i64, i64, i64)> {
    let query = format!(
        "select to_char(o.placed_at at time zone 'UTC', 'YYYY-MM'), {key}, sum(l.quantity)::bigint, sum(l.amount_minor)::bigint,
                count(distinct o.customer_id), count(distinct o.order_id)
         from order_history.orders o join order_history.order_lines l using (order_id)
         where o.state <> 3 group by 1, 2"
    );
    let mut sql = installation.sql().await;
    let rows: Vec<(String, String, i64, i64, i64, i64)> =
        sqlx::query_as(sqlx::AssertSqlSafe(query)).fetch_all(&mut sql).await.unwrap();
    rows.into_iter().map(|row| ((row.0, row.1), (row.2, row.3, row.4, row.5))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn demand_equals_a_recount_to_the_cent_and_nothing_is_told_of_few() {
    let installation = Installation::start().await;
    let client = installation.client();
    let mut chance = StdRng::seed_from_u64(tests::seed());
    // At midnight of UTC it is still the day before for them, and 3 March is a holiday of one half.
    let region = |i| if i < 20 { "PT-11" } else { "" };
    let profile = |i| Profile { region: region(i).into(), time_zone: "America/New_York".into(), ..Default::default() };
    let customers = create(&client, (0..40).map(profile).collect()).await;
    let mut orders = Vec::new();
    for number in 0..400 {
        let month = chance.random_range(0..6);
        let mut bought = order(&customers[chance.random_range(0..40)], &format!("demand-{number}"));
        bought.placed_time = Some(prost_types::Timestamp { seconds: 1_735_689_600 + month * 2_678_400, nanos: 0 });
        bought.store_id = format!("s{}", chance.random_range(0..8u32).min(chance.random_range(0..8)));
        let line = |line_number: i32, chance: &mut StdRng| {
            let sku = chance.random_range(0..9u32).min(chance.random_range(0..9));
            let amount_minor = chance.random_range(1..5000);
            OrderLine {
                line_number,
                sku: format!("sku-{sku}"),
                category_path: vec!["all".into(), format!("c{}", sku % 3)],
                brand: if sku < 4 { "A" } else { "B" }.into(),
                quantity: chance.random_range(1..4),
                amount_minor,
                ..Default::default()
            }
        };
        bought.lines = (1..=chance.random_range(1..4)).map(|number| line(number, &mut chance)).collect();
        bought.total_minor = bought.lines.iter().map(|line| line.amount_minor).sum();
        orders.push(bought);
    }
    for orders in orders.chunks(200) {
        let request = BatchRecordOrdersRequest { orders: orders.to_vec() };
        let results = client.order_history().batch_record_orders(request).await.unwrap().into_inner().results;
        assert!(results.iter().all(|result| result.failure.is_empty()));
    }
    followed(&client).await;

    let request = |path: &[&str], sku: &str, division: DemandDivision| GetDemandRequest {
        currency_code: "EUR".into(),
        category_path: path.iter().map(|category| (*category).into()).collect(),
        sku: sku.into(),
        division: division.into(),
        first_month: "2025-01".into(),
        last_month: "2025-06".into(),
    };
    let get = async |request: GetDemandRequest| client.insight().get_demand(request).await.unwrap().into_inner();
    use DemandDivision::*;
    let of_item: Named = |demand| demand.item.as_ref().map(|item| item.sku.clone()).unwrap_or_default();
    let of_value: Named = |demand| demand.value.clone();
    let portuguese = customers[..20].iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(",");
    let on_carnaval = format!(
        "case when o.placed_at = '2025-03-04Z' and o.customer_id in ({portuguese}) then 'Carnaval' else 'another' end"
    );
    let of_day: Named = |demand| if demand.value.is_empty() { "another".into() } else { demand.value.clone() };
    let questions: [(GetDemandRequest, &str, Named); 7] = [
        (
            request(&[], "", Brand),
            "case when sku in ('sku-0', 'sku-1', 'sku-2', 'sku-3') then 'A' else 'B' end",
            of_value,
        ),
        (request(&[], "", Holiday), &on_carnaval, of_day),
        (request(&[], "", Unspecified), "''", of_value),
        (request(&[], "", Store), "o.store_id", of_value),
        (request(&["all"], "", Store), "o.store_id", of_value),
        (
            request(&["all", "c1"], "", Item),
            "case when sku in ('sku-1', 'sku-4', 'sku-7') then sku else '' end",
            of_item,
        ),
        (request(&[], "sku-0", Store), "case when sku = 'sku-0' then o.store_id else '' end", of_value),
    ];
    for (question, key, name) in questions {
        let expected = recount(&installation, key).await;
        let reply = get(question).await;
        let (mut seen, mut merged) = (BTreeSet::new(), BTreeMap::new());
        for demand in &reply.demands {
            for month in &demand.months {
                let numbers = (month.quantity, month.net_minor, month.customer_count, month.basket_count);
                assert!(month.customer_count >= K, "{} has {} in {}", demand.value, month.customer_count, month.month);
                if demand.merged {
                    merged.insert(month.month.clone(), (month.quantity, month.net_minor));
                } else {
                    let of = (month.month.clone(), name(demand));
                    assert_eq!(numbers, expected[&of], "{of:?}");
                    seen.insert(of);
                }
            }
        }
        // What is not told apart is told together, where the thing is told at all.
        let asked = |name: &String| key == "''" || !name.is_empty();
        for (month, money) in merged {
            let hidden = expected.iter().filter(|(of, _)| of.0 == month && !seen.contains(of) && asked(&of.1));
            let sum = hidden.fold((0, 0), |sum, (_, numbers)| (sum.0 + numbers.0, sum.1 + numbers.1));
            assert_eq!(money, sum, "{month}");
        }
        assert!(!seen.is_empty(), "{key}");
    }
    let everything = get(request(&[], "", Unspecified)).await.demands.remove(0);
    assert_eq!((everything.months.len(), everything.trend.is_some()), (6, true));
    assert_eq!(everything.forecast.unwrap().month, "2025-07");
    assert!(get(request(&["nothing"], "", Unspecified)).await.demands.is_empty());
    let failure = client.insight().get_demand(request(&[], "nothing", Item)).await.err().unwrap();
    assert_eq!(reason(&failure), "ITEM_NOT_FOUND");
    let mut later = request(&[], "", Item);
    later.last_month = "2999-01".into();
    assert_eq!(reason(&client.insight().get_demand(later).await.err().unwrap()), "INVALID_FIELDS");
}

/// Without an index by customer a count of a great import looks at each of its changes once for each other.
#[tokio::test]
async fn a_count_forgets_what_it_has_seen_without_looking_at_the_rest() {
    const CHANGES: i64 = 3000;
    let installation = Installation::start().await;
    let mut sql = installation.sql().await;
    let changes = "insert into insight.base_changes (customer_id) select gen_random_uuid() from generate_series(1, $1)";
    sqlx::query(changes).bind(CHANGES).execute(&mut sql).await.unwrap();
    // What a connection has read is told at most ten seconds later.
    let gone = "select n_tup_del from pg_stat_user_tables where schemaname = 'insight' and relname = 'base_changes'";
    while installation.count(gone).await < CHANGES {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let read = "select coalesce(sum(idx_tup_read), 0)::bigint from pg_stat_user_indexes
        where schemaname = 'insight' and relname = 'base_changes'";
    let read = installation.count(read).await;
    assert!(read <= 3 * CHANGES, "{read} entries were read to forget {CHANGES}");
}
