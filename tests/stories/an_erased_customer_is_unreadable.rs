use client::request_id;
use proto::{
    consent::v1::*,
    contact::v1::*,
    customer::v1::*,
    interaction::v1::*,
    keys::v1::*,
    loyalty::v1::*,
    order_history::v1::*,
    profile::v1::*,
    r#type::v1::{Consistency, ExternalId, Identifier, OrderNumber},
};
use tests::{Fixture, Installation, Redis, accrue, get, reason};
use tonic::Status;

fn refused<T>(what: &str, answer: Result<tonic::Response<T>, Status>) {
    let status = answer.err().unwrap_or_else(|| panic!("{what} still answers"));
    assert_eq!(
        (reason(&status).as_str(), status.code()),
        ("CUSTOMER_ERASED", tonic::Code::FailedPrecondition),
        "{what}"
    );
}

#[tokio::test]
async fn whoever_was_erased_can_neither_be_read_nor_written_and_everybody_else_can() {
    let redis = Redis::start();
    let installation = Installation::on_redis(Some(&redis)).await;
    let client = installation.client();
    let (erased, other) = (Fixture::create(&client).await, Fixture::create(&client).await);
    let id = || erased.customer_id.clone();
    for _ in 0..3 {
        get(&client, &id(), Vec::new()).await.unwrap();
    }
    let accrued = AccruePointsRequest {
        request_id: request_id(),
        member_id: erased.member_id.clone(),
        points: 5,
        cause: "before".into(),
    };
    client.loyalty().accrue_points(accrued.clone()).await.unwrap();
    let orders = ListOrdersRequest { customer_id: id(), ..Default::default() };
    let points = ListContactPointsRequest { customer_id: id(), ..Default::default() };
    let cases = ListCasesRequest { customer_id: id(), ..Default::default() };
    let interactions = ListInteractionsRequest { customer_id: id(), ..Default::default() };
    assert_eq!(client.order_history().list_orders(orders.clone()).await.unwrap().into_inner().orders.len(), 1);

    // What cannot be written into the journal is not begun.
    let folder = installation.plan.erasure_journal.join("profile");
    let aside = installation.plan.erasure_journal.join("aside");
    std::fs::rename(&folder, &aside).unwrap();
    let failure = installation.destroy_keys_in(0, &id()).await.err().unwrap();
    assert_eq!(reason(&failure), "JOURNAL_UNAVAILABLE");
    let request = GetProfileRequest { customer_id: id(), ..Default::default() };
    assert!(client.profile().get_profile(request).await.is_ok());
    std::fs::rename(&aside, &folder).unwrap();

    let first = installation.destroy_keys(&id()).await;
    for (gone, service) in first.iter().zip(clientele::suite::SERVICES) {
        // Insight seals nothing of customers, so they have no key there.
        assert_eq!(gone.destroyed_key_count, i32::from(service != "insight"), "{service}");
        assert!(gone.erase_time.is_some(), "{service}");
    }
    assert!(first.iter().map(|gone| gone.deleted_reply_count).sum::<i32>() >= 7);
    let again = installation.destroy_keys(&id()).await;
    let lasting = |gone: &DestroyKeysResponse| (gone.destroyed_key_count, gone.erase_time);
    assert!(first.iter().map(lasting).eq(again.iter().map(lasting)), "a repetition says the same");

    // Reads, from wherever they might be answered.
    for fully_consistent in [false, true] {
        let consistency = Some(Consistency { fully_consistent, ..Default::default() });
        let request = GetCustomerRequest { customer_id: id(), consistency, ..Default::default() };
        refused("GetCustomer", client.customer().get_customer(request).await);
    }
    let both = BatchGetCustomersRequest { customer_ids: vec![id(), other.customer_id.clone()], ..Default::default() };
    let both = client.customer().batch_get_customers(both).await.unwrap().into_inner().results;
    assert_eq!(both[0].failure, "CUSTOMER_ERASED");
    assert!(both[1].customer.as_ref().unwrap().unavailable.is_empty());
    let request = GetProfileRequest { customer_id: id(), ..Default::default() };
    refused("GetProfile", client.profile().get_profile(request).await);
    let both = BatchGetProfilesRequest { customer_ids: vec![id(), other.customer_id.clone()], ..Default::default() };
    let both = client.profile().batch_get_profiles(both).await.unwrap().into_inner().results;
    assert!(both[0].profile.is_none() && both[1].profile.is_some(), "one erased customer is no other's trouble");
    let listed = client.profile().list_profiles(ListProfilesRequest::default()).await.unwrap().into_inner().profiles;
    assert!(listed.iter().any(|profile| profile.customer_id == other.customer_id));
    assert!(listed.iter().all(|profile| profile.customer_id != id()));
    refused("ListContactPoints", client.contact().list_contact_points(points).await);
    let request = GetContactPointRequest { contact_point_id: erased.contact_point_id.clone(), ..Default::default() };
    refused("GetContactPoint", client.contact().get_contact_point(request).await);
    refused("ListOrders", client.order_history().list_orders(orders).await);
    let request = GetOrderRequest { order_id: erased.order_id.clone(), ..Default::default() };
    refused("GetOrder", client.order_history().get_order(request).await);
    let request = GetOrderSummaryRequest { customer_id: id(), ..Default::default() };
    refused("GetOrderSummary", client.order_history().get_order_summary(request).await);
    refused("ListCases", client.interaction().list_cases(cases).await);
    let request = GetCaseRequest { case_id: erased.case_id.clone(), ..Default::default() };
    refused("GetCase", client.interaction().get_case(request).await);
    refused("ListInteractions", client.interaction().list_interactions(interactions).await);
    let request = GetInteractionRequest { interaction_id: erased.interaction_id.clone(), ..Default::default() };
    refused("GetInteraction", client.interaction().get_interaction(request).await);
    let member_id = erased.member_id.clone();
    let request = GetMemberRequest { member_id: member_id.clone(), ..Default::default() };
    refused("GetMember", client.loyalty().get_member(request).await);
    let request = GetBalanceRequest { member_id: member_id.clone(), ..Default::default() };
    refused("GetBalance", client.loyalty().get_balance(request).await);
    let request = ListLedgerEntriesRequest { member_id, ..Default::default() };
    refused("ListLedgerEntries", client.loyalty().list_ledger_entries(request).await);
    let request = CheckConsentRequest {
        customer_id: id(),
        purpose_id: format!("m{}", erased.tag),
        channel: ConsentChannel::Email.into(),
        ..Default::default()
    };
    refused("CheckConsent", client.consent().check_consent(request).await);
    let request = ListConsentRecordsRequest { customer_id: id(), ..Default::default() };
    refused("ListConsentRecords", client.consent().list_consent_records(request).await);

    // Whoever looks them up finds nobody, and what led to them is free.
    let request = LookupContactPointsRequest {
        values: vec![ContactPointValue {
            email: Some(EmailAddress { address: format!("{}@example.org", erased.tag), ..Default::default() }),
            ..Default::default()
        }],
        ..Default::default()
    };
    let found = client.contact().lookup_contact_points(request).await.unwrap().into_inner();
    assert!(found.results[0].customer_ids.is_empty());
    let external_id = ExternalId { system: "crm".into(), id: erased.tag.clone() };
    let request = ResolveExternalIdsRequest { external_ids: vec![external_id.clone()], ..Default::default() };
    let found = client.profile().resolve_external_ids(request).await.unwrap().into_inner();
    assert!(found.results[0].customer_id.is_empty());
    for identifier in [
        Identifier {
            order_number: Some(OrderNumber { source: "shop".into(), number: erased.tag.clone() }),
            ..Default::default()
        },
        Identifier { member_number: erased.member_number.clone(), ..Default::default() },
    ] {
        let request = LookupCustomerRequest { identifier: Some(identifier), ..Default::default() };
        let status = client.customer().lookup_customer(request).await.err().unwrap();
        assert_eq!(status.code(), tonic::Code::NotFound);
    }
    let request = AddExternalIdRequest {
        request_id: request_id(),
        customer_id: other.customer_id.clone(),
        external_id: Some(external_id),
    };
    client.profile().add_external_id(request).await.unwrap();

    // Writes, and the replies to those from before.
    refused("AccruePoints", client.loyalty().accrue_points(accrued).await);
    let request = RecordOrderRequest { order: Some(tests::order(&id(), "after")) };
    refused("RecordOrder", client.order_history().record_order(request).await);
    let contact_point_id = erased.contact_point_id.clone();
    let request = RemoveContactPointRequest { request_id: request_id(), contact_point_id };
    refused("RemoveContactPoint", client.contact().remove_contact_point(request).await);

    // Nothing is left to open, and nothing of it in Redis.
    for schema in clientele::suite::SERVICES.map(|service| service.replace('-', "_")) {
        let left = sqlx::AssertSqlSafe(format!(
            "select (select count(*) from {schema}.data_keys where owner_id = $1 and wrapped is not null)
                  + (select count(*) from {schema}.requests where customer_id = $1)"
        ));
        let customer: uuid::Uuid = id().parse().unwrap();
        let left: i64 = sqlx::query_scalar(left).bind(customer).fetch_one(&mut installation.sql().await).await.unwrap();
        assert_eq!(left, 0, "{schema}");
    }
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let keys = redis.cli(&["--scan", "--pattern", &format!("clientele:section:{{{}}}*", id())]);
    assert_eq!(keys.trim(), "");

    accrue(&client, &other.member_id).await;
    assert_eq!(get(&client, &other.customer_id, other.tokens.clone()).await.unwrap().section_states.len(), 7);
}
