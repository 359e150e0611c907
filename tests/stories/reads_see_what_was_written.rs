use client::request_id;
use proto::{
    customer::v1::*,
    profile::v1::*,
    r#type::v1::{Consistency, Identifier},
};
use tests::{Fixture, Installation, reason, regulars};

#[tokio::test]
async fn a_read_with_the_tokens_of_writes_sees_them_all() {
    let installation = Installation::start().await;
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    for round in 0..20 {
        let request = UpdateProfileRequest {
            request_id: request_id(),
            customer_id: fixture.customer_id.clone(),
            profile: Some(Profile { region: format!("PT-{round:02}"), ..Default::default() }),
            update_mask: Some(prost_types::FieldMask { paths: vec!["region".into()] }),
            ..Default::default()
        };
        let written = client.profile().update_profile(request).await.unwrap().into_inner();
        client.remember(&written.consistency_token);
        let request = GetCustomerRequest {
            customer_id: fixture.customer_id.clone(),
            consistency: client.consistency(),
            ..Default::default()
        };
        let customer = client.customer().get_customer(request).await.unwrap().into_inner().customer.unwrap();
        assert_eq!(customer.profile.unwrap().profile.unwrap().region, format!("PT-{round:02}"));
    }
    // All tokens that a caller holds, of five services, at once.
    let consistency = Some(Consistency { consistency_tokens: fixture.tokens.clone(), fully_consistent: false });
    let request = GetCustomerRequest { customer_id: fixture.customer_id, consistency, ..Default::default() };
    let customer = client.customer().get_customer(request).await.unwrap().into_inner().customer.unwrap();
    assert!(customer.unavailable.is_empty());
}

#[tokio::test]
async fn a_token_of_a_lost_future_is_refused() {
    let installation = Installation::start().await;
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    // As after a restore from before the write.
    let mut sql = installation.sql().await;
    sqlx::query("update loyalty.customers set version = version - 1").execute(&mut sql).await.unwrap();
    let consistency = Some(Consistency { consistency_tokens: fixture.tokens.clone(), fully_consistent: false });
    let request = GetCustomerRequest {
        customer_id: fixture.customer_id.clone(),
        consistency: consistency.clone(),
        ..Default::default()
    };
    let customer = client.customer().get_customer(request).await.unwrap().into_inner().customer.unwrap();
    let missing: Vec<_> = customer.unavailable.iter().map(|u| (u.section(), u.reason.as_str())).collect();
    assert_eq!(missing, [(SectionName::Loyalty, "CONSISTENCY_TOKEN_EXPIRED")]);
    let request = proto::loyalty::v1::GetBalanceRequest { member_id: fixture.member_id.clone(), consistency };
    let failure = client.loyalty().get_balance(request).await.err().unwrap();
    assert_eq!(reason(&failure), "CONSISTENCY_TOKEN_EXPIRED");
    let consistency = Some(Consistency { consistency_tokens: fixture.tokens, fully_consistent: false });
    let identifier = Identifier { member_number: fixture.member_number, ..Default::default() };
    let request = LookupCustomerRequest { identifier: Some(identifier), consistency, ..Default::default() };
    let failure = client.customer().lookup_customer(request).await.err().unwrap();
    assert_eq!(reason(&failure), "CONSISTENCY_TOKEN_EXPIRED");
}

#[tokio::test]
async fn a_lost_write_about_one_customer_is_nothing_to_another() {
    let installation = Installation::start().await;
    let client = installation.client();
    let (mine, other) = (Fixture::create(&client).await, Fixture::create(&client).await);
    let lost = sqlx::query("update profile.customers set version = 0 where customer_id = $1")
        .bind(uuid::Uuid::parse_str(&other.customer_id).unwrap());
    lost.execute(&mut installation.sql().await).await.unwrap();
    let consistency_tokens = mine.tokens.into_iter().chain(other.tokens).collect();
    let consistency = Some(Consistency { consistency_tokens, fully_consistent: false });
    let get = |customer_id| GetProfileRequest { customer_id, consistency: consistency.clone(), ..Default::default() };
    assert!(client.profile().get_profile(get(mine.customer_id)).await.is_ok());
    let failure = client.profile().get_profile(get(other.customer_id)).await.err().unwrap();
    assert_eq!(reason(&failure), "CONSISTENCY_TOKEN_EXPIRED");
}

#[tokio::test]
async fn every_read_answers_its_example() {
    let installation = Installation::start().await;
    let fixture = Fixture::create(&installation.client()).await;
    // Enough of them that there is a model.
    regulars(&installation.client()).await;
    let caller = installation.caller();
    let mut reads = 0;
    for method in tests::methods() {
        let (request, other) = fixture.example(method.name()).unwrap();
        if other.is_some() || method.is_client_streaming() || method.name().contains("Record") {
            continue;
        }
        reads += 1;
        let reply = caller.json(&method, &request).await;
        let reply = reply.unwrap_or_else(|failure| panic!("{}: {}", method.full_name(), reason(&failure)));
        assert!(prost::Message::encoded_len(reply.get_ref()) > 8, "{} answers next to nothing", method.full_name());
    }
    assert!(reads > 20, "{reads}");
}

#[tokio::test]
async fn a_token_that_nobody_gave_is_refused() {
    let installation = Installation::start().await;
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    let consistency = Some(Consistency { consistency_tokens: vec!["AAAA".into()], fully_consistent: false });
    let customer_id = fixture.customer_id;
    let request =
        GetProfileRequest { customer_id: customer_id.clone(), consistency: consistency.clone(), ..Default::default() };
    assert_eq!(reason(&client.profile().get_profile(request).await.err().unwrap()), "CONSISTENCY_TOKEN_INVALID");
    let request = GetCustomerRequest { customer_id, consistency, ..Default::default() };
    assert_eq!(reason(&client.customer().get_customer(request).await.err().unwrap()), "CONSISTENCY_TOKEN_INVALID");
}

#[tokio::test]
async fn a_page_token_belongs_to_its_listing() {
    let installation = Installation::start().await;
    let client = installation.client();
    let (mine, other) = (Fixture::create(&client).await, Fixture::create(&client).await);
    for i in 0..5 {
        let order = tests::order(&mine.customer_id, &format!("{}-{i}", mine.tag));
        let request = proto::order_history::v1::RecordOrderRequest { order: Some(order) };
        client.order_history().record_order(request).await.unwrap();
    }
    let mut request = proto::order_history::v1::ListOrdersRequest {
        customer_id: mine.customer_id.clone(),
        page_size: 2,
        ..Default::default()
    };
    let (mut numbers, mut pages) = (Vec::new(), 0);
    loop {
        let page = client.order_history().list_orders(request.clone()).await.unwrap().into_inner();
        numbers.extend(page.orders.into_iter().map(|order| order.number));
        pages += 1;
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    numbers.sort();
    numbers.dedup();
    assert_eq!((numbers.len(), pages), (6, 3));
    request.customer_id = other.customer_id;
    assert_eq!(reason(&client.order_history().list_orders(request).await.err().unwrap()), "PAGE_TOKEN_INVALID");
}
