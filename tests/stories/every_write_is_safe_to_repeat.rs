use futures_util::future::join_all;
use prost_reflect::DynamicMessage;
use proto::{consent::v1::GrantConsentRequest, order_history::v1::*, profile::v1::GetProfileRequest};
use serde_json::{Value, json};
use tests::{Fixture, Installation, methods, reason};

const EFFECTS: &str = "select (select count(*) from profile.changes) + (select count(*) from contact.changes)
    + (select count(*) from order_history.changes) + (select count(*) from interaction.changes)
    + (select count(*) from loyalty.changes) + (select count(*) from consent.changes)
    + (select count(*) from loyalty.programmes) + (select count(*) from profile.attribute_definitions) + (select count(*) from consent.notice_versions)";

#[tokio::test]
async fn the_same_request_has_one_effect_and_one_reply() {
    let installation = Installation::start().await;
    let (client, caller) = (installation.client(), installation.caller());
    let mut writes = 0;
    for method in methods() {
        if !has_request_id(&method.input()) {
            continue;
        }
        writes += 1;
        let fixture = Fixture::create(&client).await;
        let (request, other) = fixture.example(method.name()).unwrap();
        let request = if method.name() == "Enroll" { enroll(&fixture, &caller).await } else { request };
        let before = installation.count(EFFECTS).await;
        let first =
            caller.json(&method, &request).await.unwrap_or_else(|e| panic!("{}: {}", method.name(), reason(&e)));
        assert!(first.metadata().get("clientele-replayed").is_none());
        let second = caller.json(&method, &request).await.unwrap();
        assert_eq!(second.metadata().get("clientele-replayed").unwrap(), "true", "{}", method.name());
        assert!(first.get_ref() == second.get_ref(), "{} answered otherwise", method.name());
        assert_eq!(installation.count(EFFECTS).await, before + 1, "{}", method.name());

        let (pointer, value) = other.unwrap();
        let mut altered = request.clone();
        *altered.pointer_mut(pointer).unwrap() = value;
        let failure = caller.json(&method, &altered).await.err().unwrap();
        assert_eq!(reason(&failure), "REQUEST_ID_REUSED", "{}", method.name());
    }
    assert_eq!(writes, 35, "a write was added or removed");
}

#[tokio::test]
async fn sixteen_duplicates_at_once_have_one_effect() {
    let installation = Installation::start().await;
    let (client, caller) = (installation.client(), installation.caller());
    for method in methods() {
        if !has_request_id(&method.input()) {
            continue;
        }
        let fixture = Fixture::create(&client).await;
        let (request, _) = fixture.example(method.name()).unwrap();
        let request = if method.name() == "Enroll" { enroll(&fixture, &caller).await } else { request };
        let before = installation.count(EFFECTS).await;
        let replies = join_all((0..16).map(|_| caller.json(&method, &request))).await;
        let replies: Vec<DynamicMessage> = replies
            .into_iter()
            .map(|reply| reply.unwrap_or_else(|e| panic!("{}: {}", method.name(), reason(&e))).into_inner())
            .collect();
        assert!(replies.windows(2).all(|pair| pair[0] == pair[1]), "{} answered otherwise", method.name());
        assert_eq!(installation.count(EFFECTS).await, before + 1, "{}", method.name());
    }
}

#[tokio::test]
async fn a_duplicate_that_its_twin_leaves_nothing_for_gets_the_twins_reply() {
    let installation = Installation::start().await;
    let (client, caller) = (installation.client(), installation.caller());
    for _ in 0..4 {
        let fixture = Fixture::create(&client).await;
        // The first takes all points, and the state that the others name is gone with it.
        let (mut redemption, _) = fixture.example("RedeemPoints").unwrap();
        redemption["points"] = json!(100);
        let request = GetProfileRequest { customer_id: fixture.customer_id.clone(), ..Default::default() };
        let profile = client.profile().get_profile(request).await.unwrap().into_inner().profile.unwrap();
        let (mut update, _) = fixture.example("UpdateProfile").unwrap();
        update["etag"] = json!(profile.etag);
        for (name, request) in [("RedeemPoints", redemption), ("UpdateProfile", update)] {
            let method = methods().into_iter().find(|method| method.name() == name).unwrap();
            let replies = join_all((0..16).map(|_| caller.json(&method, &request))).await;
            let reply = |reply: Result<_, _>| reply.unwrap_or_else(|e| panic!("{name}: {}", reason(&e)));
            let replies: Vec<_> = replies.into_iter().map(reply).collect();
            let first = |reply: &&tonic::Response<_>| reply.metadata().get("clientele-replayed").is_none();
            assert_eq!(replies.iter().filter(first).count(), 1, "{name}");
            assert!(replies.windows(2).all(|pair| pair[0].get_ref() == pair[1].get_ref()), "{name} answered otherwise");
        }
    }
}

#[tokio::test]
async fn an_order_is_known_by_its_number_and_content() {
    let installation = Installation::start().await;
    let (client, caller) = (installation.client(), installation.caller());
    let fixture = Fixture::create(&client).await;
    let method = |name: &str| methods().into_iter().find(|m| m.name() == name).unwrap();
    let (mut request, _) = fixture.example("RecordOrder").unwrap();
    let outcome = |reply: DynamicMessage| {
        let value = clientele::json::to_json("clientele.order_history.v1.RecordOrderResponse", &reply).unwrap();
        (value["outcome"].as_str().unwrap().to_owned(), value["revision"].as_i64().unwrap())
    };
    let record = method("RecordOrder");
    let call = |request: Value| {
        let (caller, record) = (caller.clone(), record.clone());
        async move { caller.json(&record, &request).await.map(|reply| outcome(reply.into_inner())) }
    };
    assert_eq!(call(request.clone()).await.unwrap(), ("RECORD_OUTCOME_CREATED".into(), 1));
    assert_eq!(call(request.clone()).await.unwrap(), ("RECORD_OUTCOME_UNCHANGED".into(), 1));
    request["order"]["state"] = json!("ORDER_STATE_COMPLETED");
    assert_eq!(call(request.clone()).await.unwrap(), ("RECORD_OUTCOME_REVISED".into(), 2));
    // Said again after a later revision it is a repetition and takes nothing back.
    request["order"]["state"] = json!("ORDER_STATE_UNSPECIFIED");
    assert_eq!(call(request.clone()).await.unwrap(), ("RECORD_OUTCOME_UNCHANGED".into(), 2));
    // Unless the source counts its revisions; and then what comes late changes nothing.
    request["order"]["source_revision"] = json!(8);
    assert_eq!(call(request.clone()).await.unwrap(), ("RECORD_OUTCOME_REVISED".into(), 3));
    request["order"]["source_revision"] = json!(7);
    request["order"]["store_id"] = json!("late");
    assert_eq!(call(request.clone()).await.unwrap(), ("RECORD_OUTCOME_UNCHANGED".into(), 3));
    request["order"]["customer_id"] = json!(Fixture::create(&client).await.customer_id);
    assert_eq!(reason(&call(request).await.err().unwrap()), "ORDER_OF_ANOTHER_CUSTOMER");
}

#[tokio::test]
async fn an_order_that_was_read_can_be_recorded_again() {
    let installation = Installation::start().await;
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    let request = GetOrderRequest { order_id: fixture.order_id, ..Default::default() };
    let order = client.order_history().get_order(request).await.unwrap().into_inner().order.unwrap();
    let customer_id = order.customer_id.to_uppercase();
    let request = RecordOrderRequest { order: Some(Order { customer_id, ..order }) };
    let reply = client.order_history().record_order(request).await.unwrap().into_inner();
    assert_eq!((reply.outcome(), reply.revision), (RecordOutcome::Unchanged, 1));
}

#[tokio::test]
async fn a_batch_with_an_order_and_its_revision_is_repeatable() {
    let installation = Installation::start().await;
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    let placed = tests::order(&fixture.customer_id, "twice");
    let completed = Order { state: OrderState::Completed.into(), ..placed.clone() };
    let record = async || {
        let request = BatchRecordOrdersRequest { orders: vec![placed.clone(), completed.clone()] };
        let results = client.order_history().batch_record_orders(request).await.unwrap().into_inner().results;
        results.iter().map(|result| (result.outcome(), result.revision)).collect::<Vec<_>>()
    };
    assert_eq!(record().await, [(RecordOutcome::Created, 1), (RecordOutcome::Revised, 2)]);
    assert_eq!(record().await, [(RecordOutcome::Unchanged, 2), (RecordOutcome::Unchanged, 2)]);
}

#[tokio::test]
async fn a_repetition_after_the_consent_has_lapsed_gets_the_first_reply() {
    let installation = Installation::start().await;
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    let soon = std::time::SystemTime::now() + std::time::Duration::from_secs(2);
    let soon = prost_types::Timestamp { nanos: 0, ..prost_types::Timestamp::from(soon) };
    let request = GrantConsentRequest {
        request_id: client::request_id(),
        customer_id: fixture.customer_id,
        purpose_id: format!("m{}", fixture.tag),
        evidence: Some(tests::evidence()),
        expire_time: Some(soon),
        ..Default::default()
    };
    let first = client.consent().grant_consent(request.clone()).await.unwrap().into_inner();
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    let second = client.consent().grant_consent(request.clone()).await.unwrap().into_inner();
    assert!(first == second);
    let late = GrantConsentRequest { request_id: client::request_id(), ..request };
    assert_eq!(reason(&client.consent().grant_consent(late).await.err().unwrap()), "INVALID_FIELDS");
}

#[tokio::test]
async fn items_of_a_batch_and_a_stream_share_their_replies_with_a_single_call() {
    let installation = Installation::start().await;
    let (client, caller) = (installation.client(), installation.caller());
    let fixture = Fixture::create(&client).await;
    let (single, _) = fixture.example("RecordInteraction").unwrap();
    let before = installation.count(EFFECTS).await;
    for (name, request) in [
        ("RecordInteraction", single.clone()),
        ("BatchRecordInteractions", json!({"requests": [single, single]})),
        ("RecordInteractions", json!({"sequence": 1, "request": single})),
    ] {
        let method = methods().into_iter().find(|method| method.name() == name).unwrap();
        caller.json(&method, &request).await.unwrap();
    }
    assert_eq!(installation.count(EFFECTS).await, before + 1);
}

fn has_request_id(message: &prost_reflect::MessageDescriptor) -> bool {
    message.get_field_by_name("request_id").is_some()
}

/// The fixture's customer is a member already; another programme is to be joined.
async fn enroll(fixture: &Fixture, caller: &tests::Caller) -> Value {
    let create = methods().into_iter().find(|method| method.name() == "CreateProgramme").unwrap();
    let (programme, _) = fixture.example("CreateProgramme").unwrap();
    caller.json(&create, &programme).await.unwrap();
    let (mut request, _) = fixture.example("Enroll").unwrap();
    request["programme_id"] = programme["programme"]["programme_id"].clone();
    request
}
