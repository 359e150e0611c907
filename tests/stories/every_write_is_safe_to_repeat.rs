use futures_util::future::join_all;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use tests::{Fixture, Installation, methods, reason};

const EFFECTS: &str = "select (select count(*) from profile.changes) + (select count(*) from contact.changes)
    + (select count(*) from order_history.changes) + (select count(*) from interaction.changes)
    + (select count(*) from loyalty.changes) + (select count(*) from consent.changes)
    + (select count(*) from loyalty.programmes) + (select count(*) from consent.notice_versions)";

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
    assert_eq!(writes, 23, "a write was added or removed");
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
    request["order"]["customer_id"] = json!(Fixture::create(&client).await.customer_id);
    assert_eq!(reason(&call(request).await.err().unwrap()), "ORDER_OF_ANOTHER_CUSTOMER");
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
