use std::time::{Duration, Instant};

use proto::customer::v1::*;
use tests::{Fixture, Processes};
use tonic::Request;

#[tokio::test]
async fn without_loyalty_there_are_five_sections_and_a_name() {
    let processes = Processes::start(&[]).await;
    let client = processes.client();
    let fixture = Fixture::create(&client).await;
    let get = |timeout| {
        let mut customers = client.customer();
        let mut request =
            Request::new(GetCustomerRequest { customer_id: fixture.customer_id.clone(), ..Default::default() });
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

    Processes::signal(processes.ids["loyalty"], "-KILL");
    let began = Instant::now();
    let customer = get(Duration::from_secs(5)).await;
    assert!(began.elapsed() < Duration::from_secs(5));
    check(&customer, "SERVICE_UNAVAILABLE");
    // What loyalty owns cannot be asked, and says so.
    let request = proto::loyalty::v1::ListProgrammesRequest::default();
    let failure = client.loyalty().list_programmes(request).await.err().unwrap();
    assert_eq!(tests::reason(&failure), "SERVICE_UNAVAILABLE");
    assert!(processes.stop().success());
}

fn check(customer: &Customer, reason: &str) {
    let missing: Vec<_> = customer.unavailable.iter().map(|u| (u.section(), u.reason.as_str())).collect();
    assert_eq!(missing, [(SectionName::Loyalty, reason)]);
    assert_eq!(customer.section_states.len(), 5);
    assert!(customer.profile.is_some() && customer.consent.is_some() && customer.loyalty.is_none());
}
