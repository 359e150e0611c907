//! A phone's buyer is offered a case and a film, if marketing is allowed; who buys the case is not offered it again, and who
//! buys coffee is told when it is due.

use std::time::Duration;

use client::{Client, request_id};
use proto::{consent::v1::*, insight::v1::*, order_history::v1::*, profile::v1::*};
use tests::{Fixture, Installation, concluded, evidence, reason};

const DAY: i64 = 86_400;

/// sku, title, category, price.
type Product = (&'static str, &'static str, &'static str, i64);

const PHONE: Product = ("phone-1", "Phone One", "phones", 50_000);
const BETTER: Product = ("phone-2", "Phone Two", "phones", 90_000);
const CASE: Product = ("case-1", "Case for Phone One", "cases", 2_000);
const FILM: Product = ("film-1", "Film for Phone One", "films", 900);
const COFFEE: Product = ("coffee", "Coffee", "groceries", 700);
const MILK: Product = ("milk", "Milk", "groceries", 150);

fn order(customer_id: &str, day: i64, products: &[Product]) -> Order {
    let line = |(number, (sku, title, category, price)): (i32, &Product)| OrderLine {
        line_number: number,
        sku: (*sku).into(),
        title: (*title).into(),
        category_path: vec![(*category).into()],
        quantity: 1,
        unit_price_minor: Some(*price),
        amount_minor: *price,
        ..Default::default()
    };
    Order {
        customer_id: customer_id.to_owned(),
        source: "shop".into(),
        number: request_id(),
        placed_time: Some(prost_types::Timestamp { seconds: 1_760_000_000 + day * DAY, nanos: 0 }),
        currency_code: "EUR".into(),
        lines: (1..).zip(products).map(line).collect(),
        total_minor: products.iter().map(|product| product.3).sum(),
        ..Default::default()
    }
}

async fn customers(client: &Client, number: usize) -> Vec<String> {
    let request =
        |_| CreateProfileRequest { request_id: request_id(), profile: Some(Profile::default()), ..Default::default() };
    let request = BatchCreateProfilesRequest { requests: (0..number).map(request).collect() };
    let created = client.profile().batch_create_profiles(request).await.unwrap().into_inner().results;
    created.into_iter().map(|result| result.customer_id).collect()
}

async fn record(client: &Client, orders: Vec<Order>) {
    let buyers: Vec<String> = orders.iter().map(|order| order.customer_id.clone()).collect();
    let results = client.order_history().batch_record_orders(BatchRecordOrdersRequest { orders }).await.unwrap();
    assert!(results.into_inner().results.iter().all(|result| result.failure.is_empty()));
    concluded(client, buyers.last().unwrap()).await;
}

async fn recommended(client: &Client, request: &ListRecommendationsRequest) -> Vec<(RecommendationKind, String)> {
    let reply = client.insight().list_recommendations(request.clone()).await.unwrap().into_inner();
    reply.recommendations.iter().map(|r| (r.kind(), r.item.as_ref().unwrap().sku.clone())).collect()
}

/// Reads until what is recommended is as expected: a moment passes until baskets are counted.
async fn until(client: &Client, request: &ListRecommendationsRequest, expected: &[(RecommendationKind, &str)]) {
    let mut seen = Vec::new();
    for _ in 0..300 {
        seen = recommended(client, request).await;
        if seen.iter().map(|(kind, sku)| (*kind, sku.as_str())).eq(expected.iter().copied()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("recommended is {seen:?} instead of {expected:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_reasons_if_marketing_is_allowed_and_not_once_it_was_bought() {
    use RecommendationKind::*;
    let installation = Installation::start().await;
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    let others = customers(&client, 40).await;
    let mut orders = Vec::new();
    for (i, other) in others.iter().enumerate() {
        orders.push(match i {
            0..15 => order(other, 0, &[PHONE, CASE]),
            15..25 => order(other, 0, &[PHONE, FILM]),
            25..30 => order(other, 0, &[BETTER]),
            _ => order(other, 0, &[COFFEE, MILK]),
        });
        if i >= 30 {
            orders.push(order(other, 20, &[COFFEE]));
        }
    }
    record(&client, orders).await;

    let [buyer, drinker] = customers(&client, 2).await.try_into().unwrap();
    record(&client, vec![order(&buyer, 30, &[PHONE]), order(&drinker, 30, &[COFFEE]), order(&drinker, 37, &[COFFEE])])
        .await;
    record(&client, vec![order(&drinker, 50, &[COFFEE])]).await;
    let purpose_id = format!("m{}", fixture.tag);
    let of = |customer_id: &str| ListRecommendationsRequest {
        customer_id: customer_id.to_owned(),
        purpose_id: purpose_id.clone(),
        ..Default::default()
    };
    let failure = client.insight().list_recommendations(of(&buyer)).await.err().unwrap();
    assert_eq!(reason(&failure), "CONSENT_MISSING");
    for customer_id in [&buyer, &drinker] {
        let request = GrantConsentRequest {
            request_id: request_id(),
            customer_id: customer_id.clone(),
            purpose_id: purpose_id.clone(),
            evidence: Some(evidence()),
            ..Default::default()
        };
        client.consent().grant_consent(request).await.unwrap();
    }

    until(&client, &of(&buyer), &[(Accessory, "case-1"), (Accessory, "film-1"), (BetterModel, "phone-2")]).await;
    let reply = client.insight().list_recommendations(of(&buyer)).await.unwrap().into_inner();
    let case = &reply.recommendations[0];
    assert_eq!((case.customer_count, case.basket_count), (15, 15));
    assert_eq!(case.because.as_ref().unwrap().sku, "phone-1");
    assert_eq!(case.reason, "goes with Phone One: bought together by 15 customers");
    assert_eq!(reply.recommendations[2].customer_count, 5);

    record(&client, vec![order(&buyer, 31, &[CASE])]).await;
    until(&client, &of(&buyer), &[(Accessory, "film-1"), (BetterModel, "phone-2")]).await;

    // The coffee is due; milk goes with it.
    until(&client, &of(&drinker), &[(BuyAgain, "coffee"), (BoughtTogether, "milk")]).await;
    let coffee =
        client.insight().list_recommendations(of(&drinker)).await.unwrap().into_inner().recommendations.remove(0);
    // Bought on the days 30, 37 and 50 after 2025-10-09.
    assert_eq!((coffee.basket_count, coffee.due_day), (3, "2025-12-08".to_owned()));
    assert_eq!((coffee.earliest_day, coffee.latest_day), ("2025-12-05".to_owned(), "2025-12-11".to_owned()));
    let by_category = ListRecommendationsRequest { level: ItemLevel::Category.into(), ..of(&drinker) };
    let again =
        client.insight().list_recommendations(by_category).await.unwrap().into_inner().recommendations.remove(0);
    assert_eq!((again.kind(), again.item.unwrap().category_path), (BuyAgain, vec!["groceries".to_owned()]));

    let request = ListRelatedItemsRequest { sku: "phone-1".into(), ..Default::default() };
    let (mut counted, mut tries) = (ListRelatedItemsResponse::default(), 0);
    while counted.related.iter().map(|item| item.basket_count).sum::<i64>() != 26 {
        tries += 1;
        assert!(tries < 300, "the case that was bought alone is not counted");
        tokio::time::sleep(Duration::from_millis(50)).await;
        counted = client.insight().list_related_items(request.clone()).await.unwrap().into_inner();
    }
    let of = |item: &RelatedItem| (item.item.clone().unwrap().sku, item.together_basket_count, item.basket_count);
    let expected = [("case-1".to_owned(), 15, 16), ("film-1".to_owned(), 10, 10)];
    assert_eq!((counted.basket_count, counted.related.iter().map(of).collect::<Vec<_>>()), (26, expected.into()));
    let request = WithdrawConsentRequest {
        request_id: request_id(),
        customer_id: buyer.clone(),
        purpose_id: purpose_id.clone(),
        evidence: Some(evidence()),
        ..Default::default()
    };
    client.consent().withdraw_consent(request).await.unwrap();
    let request = ListRecommendationsRequest { customer_id: buyer, purpose_id, ..Default::default() };
    assert_eq!(reason(&client.insight().list_recommendations(request).await.err().unwrap()), "CONSENT_MISSING");
}
