use proto::{
    contact::v1::*,
    customer::v1::*,
    interaction::v1::{LinkVisitorRequest, Visitor},
    r#type::v1::{ExternalId, Identifier, OrderNumber, SocialIdentifier},
};
use tests::{Fixture, Installation, reason};

#[tokio::test]
async fn one_answer_holds_what_all_services_know() {
    let installation = Installation::start().await;
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    let request = GetCustomerRequest { customer_id: fixture.customer_id.clone(), ..Default::default() };
    let customer = client.customer().get_customer(request).await.unwrap().into_inner().customer.unwrap();
    assert!(customer.unavailable.is_empty());
    assert_eq!(customer.section_states.len(), 7);
    assert_eq!(customer.profile.unwrap().profile.unwrap().name.unwrap().given_name, "Ada");
    let point = &customer.contact.unwrap().contact_points[0];
    assert_eq!(point.email.as_ref().unwrap().canonical, format!("{}@example.org", fixture.tag));
    assert!(point.primary);
    let orders = customer.order_history.unwrap();
    assert_eq!((orders.summaries[0].net_minor, orders.latest_orders[0].total_minor), (2000, 2000));
    let interaction = customer.interaction.unwrap();
    assert_eq!(interaction.open_cases[0].subject, "Parcel is late");
    assert!(interaction.latest_interactions[0].transcript.is_empty());
    assert_eq!(customer.loyalty.unwrap().memberships[0].balance.as_ref().unwrap().points, 100);
    assert_eq!(customer.consent.unwrap().decisions.len(), 1);
}

#[tokio::test]
async fn a_customer_is_found_by_every_identifier() {
    let installation = Installation::start().await;
    let client = installation.client();
    let Fixture { customer_id, tag, member_number, .. } = Fixture::create(&client).await;
    let external_id = Some(ExternalId { system: "crm".into(), id: tag.clone() });
    let order_number = Some(OrderNumber { source: "shop".into(), number: tag.clone() });
    let phone = PhoneNumber { number: "030 23125 002".into(), region_code: "DE".into(), ..Default::default() };
    let handle = SocialHandle { network: "mastodon".into(), handle: format!("@{tag}") };
    for point in [
        ContactPoint { phone: Some(phone), ..Default::default() },
        ContactPoint { social_handle: Some(handle), ..Default::default() },
    ] {
        let (request_id, customer_id) = (client::request_id(), customer_id.clone());
        let request = AddContactPointRequest { request_id, customer_id, contact_point: Some(point) };
        client.contact().add_contact_point(request).await.unwrap();
    }
    let visitor = Visitor { anonymous_id: format!("cookie-{tag}"), ..Default::default() };
    let (request_id, visitor) = (client::request_id(), Some(visitor));
    let request = LinkVisitorRequest { request_id, visitor, customer_id: customer_id.clone() };
    client.interaction().link_visitor(request).await.unwrap();
    let social_handle = SocialIdentifier { network: "mastodon".into(), handle: tag.to_uppercase() };
    let identifiers = [
        Identifier { customer_id: customer_id.clone(), ..Default::default() },
        Identifier { external_id, ..Default::default() },
        Identifier { email: format!("{}@EXAMPLE.org", tag.to_uppercase()), ..Default::default() },
        Identifier { order_number, ..Default::default() },
        Identifier { member_number, ..Default::default() },
        Identifier { device_id: format!("device-{tag}"), ..Default::default() },
        Identifier { anonymous_id: format!("cookie-{tag}"), ..Default::default() },
        Identifier { phone: "+49 30 23125002".into(), ..Default::default() },
        Identifier { social_handle: Some(social_handle), ..Default::default() },
    ];
    for identifier in &identifiers {
        let request = LookupCustomerRequest { identifier: Some(identifier.clone()), ..Default::default() };
        let found = client.customer().lookup_customer(request).await.unwrap().into_inner().customer.unwrap();
        assert_eq!(found.customer_id, customer_id);
    }
    // A mix in one batch: found, unknown and malformed ones keep their places.
    let mut batch = identifiers.to_vec();
    batch.insert(1, Identifier { email: "nobody@example.org".into(), ..Default::default() });
    batch.insert(3, Identifier { phone: "not a phone".into(), ..Default::default() });
    let request = BatchLookupCustomersRequest { identifiers: batch, consistency: None };
    let results = client.customer().batch_lookup_customers(request).await.unwrap().into_inner().results;
    for (i, result) in results.iter().enumerate() {
        let expected = match i {
            1 => (vec![], ""),
            3 => (vec![], "INVALID_FIELDS"),
            _ => (vec![customer_id.clone()], ""),
        };
        assert_eq!((result.customer_ids.clone(), result.failure.as_str()), expected, "{i}");
    }
}

#[tokio::test]
async fn a_batch_answers_each_in_its_place() {
    let installation = Installation::start().await;
    let client = installation.client();
    let known = Fixture::create(&client).await.customer_id;
    let unknown = uuid::Uuid::new_v4().to_string();
    let request = BatchGetCustomersRequest {
        customer_ids: vec![known.clone(), unknown.clone(), known.clone()],
        ..Default::default()
    };
    let results = client.customer().batch_get_customers(request).await.unwrap().into_inner().results;
    let ids: Vec<_> = results.iter().map(|r| r.customer.as_ref().map(|c| c.customer_id.as_str())).collect();
    assert_eq!(ids, [Some(known.as_str()), None, Some(known.as_str())]);
    assert_eq!(results[1].failure, "CUSTOMER_NOT_FOUND");

    let request = GetCustomerRequest { customer_id: unknown, ..Default::default() };
    let failure = client.customer().get_customer(request).await.err().unwrap();
    assert_eq!((failure.code(), reason(&failure)), (tonic::Code::NotFound, "CUSTOMER_NOT_FOUND".into()));
}

#[tokio::test]
async fn a_mask_chooses_the_sections() {
    let installation = Installation::start().await;
    let client = installation.client();
    let customer_id = Fixture::create(&client).await.customer_id;
    let read_mask = Some(prost_types::FieldMask { paths: vec!["loyalty".into(), "order_history".into()] });
    let request = GetCustomerRequest { customer_id, read_mask, ..Default::default() };
    let customer = client.customer().get_customer(request).await.unwrap().into_inner().customer.unwrap();
    assert!(customer.loyalty.is_some() && customer.order_history.is_some());
    assert!(customer.profile.is_none() && customer.contact.is_none());
    assert_eq!(customer.section_states.len(), 2);
}

#[tokio::test]
async fn an_identifier_of_several_customers_names_none() {
    let installation = Installation::start().await;
    let client = installation.client();
    let number = "+49 30 123456";
    let mut ids = Vec::new();
    for _ in 0..2 {
        let customer_id = Fixture::create(&client).await.customer_id;
        let phone = proto::contact::v1::PhoneNumber { number: number.into(), ..Default::default() };
        let request = proto::contact::v1::AddContactPointRequest {
            request_id: client::request_id(),
            customer_id: customer_id.clone(),
            contact_point: Some(proto::contact::v1::ContactPoint { phone: Some(phone), ..Default::default() }),
        };
        client.contact().add_contact_point(request).await.unwrap();
        ids.push(customer_id);
    }
    let identifier = Some(Identifier { phone: "+4930123456".into(), ..Default::default() });
    let failure = client.customer().lookup_customer(LookupCustomerRequest { identifier, ..Default::default() }).await;
    assert_eq!(reason(&failure.err().unwrap()), "IDENTIFIER_SHARED");
}

#[tokio::test]
async fn an_agent_knows_in_ten_seconds() {
    let installation = Installation::start().await;
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    let read = async |client: &client::Client, customer_id: &str| {
        let request = GetServiceBriefRequest { customer_id: customer_id.to_owned(), consistency: None };
        client.customer().get_service_brief(request).await.map(|reply| reply.into_inner().brief.unwrap())
    };
    let brief = read(&client, &fixture.customer_id).await.unwrap();
    assert_eq!((brief.display_name.as_str(), brief.address_as.as_str()), ("Ada Lovelace", "Ada"));
    assert_eq!((brief.open_cases[0].subject.as_str(), brief.open_case_total_size), ("Parcel is late", 1));
    assert_eq!(brief.latest_order.unwrap().order_id, fixture.order_id);
    assert_eq!(brief.memberships[0].balance.as_ref().unwrap().points, 100);
    assert!(brief.latest_interaction.unwrap().transcript.is_empty());
    assert_eq!(brief.cautions, [i32::from(Caution::OpenComplaint)]);
    assert!(brief.unavailable.is_empty());
    let nobody = read(&client, "00000000-0000-4000-8000-000000000000").await.err().unwrap();
    assert_eq!(reason(&nobody), "CUSTOMER_NOT_FOUND");
}
