//! What customers are inclined to, and who is inclined to something, with reasons and if they allow it.

use client::{Client, request_id};
use clientele::suite::Suite;
use proto::{consent::v1::*, insight::v1::*, order_history::v1::*, profile::v1::*};
use tests::{Fixture, Installation, evidence, followed, get, order, reason};

const DAY: i64 = 86_400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_is_shown_with_habits_and_found_by_them() {
    let installation = Installation::start().await;
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    let region = |i| if i == 0 { "RU" } else { "" };
    let requests = (0..8).map(|i| CreateProfileRequest {
        request_id: request_id(),
        profile: Some(Profile { time_zone: "Asia/Vladivostok".into(), region: region(i).into(), ..Default::default() }),
        ..Default::default()
    });
    let request = BatchCreateProfilesRequest { requests: requests.collect() };
    let created = client.profile().batch_create_profiles(request).await.unwrap().into_inner().results;
    let customers: Vec<String> = created.into_iter().map(|result| result.customer_id).collect();
    // Everyone drinks coffee now and then, the first one most; the last one bought a machine only.
    let mut orders = Vec::new();
    for (i, customer) in customers.iter().enumerate() {
        for turn in 0..if i == 0 { 5 } else { 2 } {
            let mut bought = order(customer, &format!("habit-{i}-{turn}"));
            bought.placed_time = Some(prost_types::Timestamp { seconds: 1_735_689_600 + turn * 14 * DAY, nanos: 0 });
            (bought.channel, bought.store_id) = (SalesChannel::Store.into(), "harbour".into());
            let (sku, category) = if i == 7 { ("machine", "Machines") } else { ("coffee", "Coffee") };
            bought.lines[0].sku = format!("{sku}-{}", if i == 7 { turn } else { 0 });
            bought.lines[0].category_path = vec!["Kitchen".into(), category.into()];
            bought.lines[0].brand = "Moka".into();
            (bought.lines[0].discount_minor, bought.lines[0].amount_minor, bought.total_minor) = (500, 1500, 1500);
            orders.push(bought);
        }
    }
    client.order_history().batch_record_orders(BatchRecordOrdersRequest { orders }).await.unwrap();
    let purpose_id = format!("m{}", fixture.tag);
    for customer_id in customers.iter().skip(1) {
        let request = GrantConsentRequest {
            request_id: request_id(),
            customer_id: customer_id.clone(),
            purpose_id: purpose_id.clone(),
            evidence: Some(evidence()),
            ..Default::default()
        };
        client.consent().grant_consent(request).await.unwrap();
    }
    followed(&client).await;

    let request = GetAffinityRequest { customer_id: customers[0].clone(), ..Default::default() };
    let affinity = client.insight().get_affinity(request).await.unwrap().into_inner();
    let told: Vec<(AffinityKind, String, i64)> = affinity
        .affinities
        .iter()
        .map(|a| (a.kind(), [a.value.clone(), a.category_path.join("/")].concat(), a.purchase_count))
        .collect();
    let expected = [
        (AffinityKind::Category, "Kitchen/Coffee", 5),
        (AffinityKind::Brand, "Moka", 5),
        (AffinityKind::SalesChannel, "store", 5),
        (AffinityKind::Store, "harbour", 5),
        // Midnight of UTC is ten o'clock in Vladivostok.
        (AffinityKind::Hour, "10", 5),
        (AffinityKind::Weekday, "wednesday", 5),
        (AffinityKind::Holiday, "Новый год", 1),
    ];
    assert_eq!(told, expected.map(|(kind, value, count)| (kind, value.to_owned(), count)));
    let basket = &affinity.baskets[0];
    assert_eq!((basket.mean_minor, basket.mean_quantity, basket.discounted_share), (1500.0, 2.0, 1.0));
    assert_eq!(basket.discount_rate, 0.25);
    let next = &affinity.next_purchases[0];
    assert_eq!((next.due_day.as_str(), &next.earliest_day, next.day_count), ("2025-03-12", &next.latest_day, 5));

    let view = get(&client, &customers[0], Vec::new()).await.unwrap().insight.unwrap();
    assert_eq!(view.next_purchases.len(), 1);
    assert!(view.affinities.iter().map(Affinity::kind).eq(expected.map(|(kind, ..)| kind)));

    // By whom coffee is wanted: the first one did not allow to be addressed.
    let who = |category: &str, limit| ListInterestedCustomersRequest {
        category_path: vec!["Kitchen".into(), category.into()],
        purpose_id: purpose_id.clone(),
        limit,
        ..Default::default()
    };
    let mut interested = ListInterestedCustomersResponse::default();
    for _ in 0..200 {
        if let Ok(reply) = client.insight().list_interested_customers(who("Coffee", 0)).await {
            interested = reply.into_inner();
        }
        if interested.customers.len() == 6 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!((interested.customers.len(), interested.without_consent_count), (6, 1));
    let first = &interested.customers[0];
    assert!(customers[1..7].contains(&first.customer_id));
    assert_eq!((first.day_count, first.reason.as_str()), (2, "bought Coffee on 2 days, last on 2025-01-15"));
    let few = client.insight().list_interested_customers(who("Coffee", 2)).await.unwrap().into_inner();
    assert_eq!(few.customers.len(), 2);
    let failure = client.insight().list_interested_customers(who("Tea", 0)).await.err().unwrap();
    assert_eq!(reason(&failure), "ITEM_NOT_FOUND");
    // Who has something lasting is not asked whether they want it.
    let request = ListInterestedCustomersRequest {
        sku: "machine-0".into(),
        purpose_id: purpose_id.clone(),
        ..Default::default()
    };
    let wanted = client.insight().list_interested_customers(request).await.unwrap().into_inner().customers;
    assert!(wanted.iter().all(|interested| interested.customer_id != customers[7]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_calendar_nothing_is_divided_by_holidays() {
    let (mut plan, _state) = tests::plan().await;
    plan.holidays_folder = None;
    let suite = Suite::start(&plan).await.unwrap();
    let token = plan.keys.token("test", &[], 1).unwrap();
    let client = Client::new(&format!("http://{}", suite.address), &token, "service").unwrap();
    let request = GetDemandRequest {
        currency_code: "EUR".into(),
        division: DemandDivision::Holiday.into(),
        first_month: "2025-01".into(),
        last_month: "2025-02".into(),
        ..Default::default()
    };
    let failure = client.insight().get_demand(request).await.err().unwrap();
    assert_eq!(reason(&failure), "HOLIDAYS_NOT_CONFIGURED");
    suite.stop().await.unwrap();

    plan.holidays_folder = Some("/nowhere".into());
    let refusal = format!("{:#}", Suite::start(&plan).await.err().unwrap());
    assert!(refusal.contains("cannot read /nowhere"), "{refusal}");
}
