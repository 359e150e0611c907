use std::time::{Duration, Instant};

use proto::{
    customer::v1::*,
    order_history::v1::RecordOrdersRequest,
    r#type::v1::{Consistency, Identifier},
};
use tests::{Fixture, Processes};
use tonic::Request;

#[tokio::test]
async fn without_loyalty_there_are_six_sections_and_a_name() {
    let processes = Processes::start(&[]).await;
    let client = processes.client();
    let fixture = Fixture::create(&client).await;
    let get = |timeout| {
        let mut customers = client.customer();
        // From the owners: what is cached would be there without loyalty too.
        let consistency = Some(Consistency { fully_consistent: true, ..Default::default() });
        let customer_id = fixture.customer_id.clone();
        let mut request = Request::new(GetCustomerRequest { customer_id, consistency, ..Default::default() });
        request.set_timeout(timeout);
        async move { customers.get_customer(request).await.unwrap().into_inner().customer.unwrap() }
    };
    assert!(get(Duration::from_secs(5)).await.unavailable.is_empty());

    // A service that hangs costs no more than the caller's deadline.
    Processes::signal(processes.ids["loyalty"], "-STOP");
    let began = Instant::now();
    let customer = get(Duration::from_millis(800)).await;
    assert!(began.elapsed() < Duration::from_millis(800));
    check(&customer, "DEADLINE_EXCEEDED");
    // Nor does it take the identifiers of others with it.
    let member = Identifier { member_number: fixture.member_number.clone(), ..Default::default() };
    let email = Identifier { email: format!("{}@example.org", fixture.tag), ..Default::default() };
    let mut request =
        Request::new(BatchLookupCustomersRequest { identifiers: vec![member, email], ..Default::default() });
    request.set_timeout(Duration::from_millis(800));
    let results = client.customer().batch_lookup_customers(request).await.unwrap().into_inner().results;
    assert_eq!(results[0].failure, "DEADLINE_EXCEEDED");
    assert_eq!(results[1].customer_ids, std::slice::from_ref(&fixture.customer_id));

    Processes::signal(processes.ids["loyalty"], "-KILL");
    let began = Instant::now();
    let customer = get(Duration::from_secs(5)).await;
    assert!(began.elapsed() < Duration::from_secs(5));
    check(&customer, "SERVICE_UNAVAILABLE");
    // What loyalty owns cannot be asked, and says so.
    let request = proto::loyalty::v1::ListProgrammesRequest::default();
    let failure = client.loyalty().list_programmes(request).await.err().unwrap();
    assert_eq!(tests::reason(&failure), "SERVICE_UNAVAILABLE");
    // No answer about what is allowed means no.
    Processes::signal(processes.ids["consent"], "-KILL");
    let purpose_id = format!("m{}", fixture.tag);
    let request = ChooseChannelRequest { customer_id: fixture.customer_id.clone(), purpose_id, ..Default::default() };
    let failure = client.customer().choose_channel(request).await.err().unwrap();
    assert_eq!(tests::reason(&failure), "SERVICE_UNAVAILABLE");
    // A stream whose service goes away ends with a reason that says to try again.
    let (orders, stream) = tokio::sync::mpsc::channel(1);
    let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
    let mut replies = client.order_history().record_orders(stream).await.unwrap().into_inner();
    let order = tests::order(&fixture.customer_id, "of a stream");
    orders.send(RecordOrdersRequest { sequence: 1, order: Some(order) }).await.unwrap();
    assert_eq!(replies.message().await.unwrap().unwrap().sequence, 1);
    Processes::signal(processes.ids["order-history"], "-KILL");
    let failure = replies.message().await.err().unwrap();
    assert_eq!(tests::reason(&failure), "SERVICE_UNAVAILABLE");
    assert!(processes.stop().success());
}

#[tokio::test]
async fn a_service_that_cannot_start_ends_the_start_and_is_named() {
    let (mut plan, _state) = tests::plan().await;
    plan.issuer.jwks = Some("/nowhere".into());
    let port = clientele::Port::keep().unwrap();
    plan.listen = port.address();
    let mut up = std::process::Command::new(tests::binary("clientele"));
    up.args([
        "up",
        "--processes",
        "--redis-url",
        plan.redis_url.as_deref().unwrap(),
        "--database-url",
        &plan.database_url,
    ]);
    up.args(["--listen", &plan.listen.to_string(), "--jwks", "/nowhere", "--issuer", "x", "--audience", "y"]);
    up.arg("--state").arg(_state.path());
    let output = tokio::task::spawn_blocking(move || up.output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("gateway ended before it was ready"), "{text}");
}

fn check(customer: &Customer, reason: &str) {
    let missing: Vec<_> = customer.unavailable.iter().map(|u| (u.section(), u.reason.as_str())).collect();
    assert_eq!(missing, [(SectionName::Loyalty, reason)]);
    assert_eq!(customer.section_states.len(), 6);
    assert!(customer.profile.is_some() && customer.consent.is_some() && customer.loyalty.is_none());
}
