use access::{Caller, InternalKey};
use client::request_id;
use proto::{
    consent::v1::*, contact::v1::*, interaction::v1::*, loyalty::v1::*, order_history::v1::*, profile::v1::*,
    section::v1::*, r#type::v1::ExternalId,
};
use tests::{Fixture, Installation, concluded};
use tonic::Request;

const LIMIT: usize = 16 * 1024;

#[tokio::test]
async fn a_section_filled_to_its_limits_stays_below_16_kib() {
    let installation = Installation::start().await;
    let client = installation.client();
    let customer_id = Fixture::create(&client).await.customer_id;
    fill_profile(&client, &customer_id).await;
    fill_contact(&client, &customer_id).await;
    fill_orders(&client, &customer_id).await;
    fill_interaction(&client, &customer_id).await;
    fill_loyalty(&client, &customer_id).await;
    fill_consent(&client, &customer_id).await;
    while concluded(&client, &customer_id).await.len() < 22 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    for (i, service) in clientele::suite::SERVICES.into_iter().enumerate() {
        let address = installation.suite.services[i];
        let mut sections =
            section_service_client::SectionServiceClient::new(client::channel(&format!("http://{address}")).unwrap());
        let mut request =
            Request::new(BatchGetSectionsRequest { customer_ids: vec![customer_id.clone()], ..Default::default() });
        let caller = Caller { subject: "x".into(), purpose: access::Purpose::parse("service").unwrap() };
        let key = InternalKey::read("gateway", &installation.plan.keys.internal_key_file()).unwrap();
        request.metadata_mut().insert("authorization", key.authorization(&caller));
        let section = sections.batch_get_sections(request).await.unwrap().into_inner().sections.remove(0);
        let size = section.body.len();
        assert!(size < LIMIT, "{service}: {size}");
        let full = match service {
            "contact" | "consent" => size > LIMIT / 2,
            "insight" => size > LIMIT / 32,
            _ => size > LIMIT / 8,
        };
        assert!(full, "{service} was not filled: {size}");
    }
}

async fn fill_profile(client: &client::Client, customer_id: &str) {
    // In Latin letters it is ten times as long.
    let long = "\u{1f600}".repeat(50);
    let name = PersonName {
        given_name: long.clone(),
        middle_name: long.clone(),
        family_name: long.clone(),
        preferred_name: long.clone(),
        ..Default::default()
    };
    let preferences = (0..50).map(|i| Preference {
        dimension: "d".repeat(40),
        value: format!("{i:0100}"),
        polarity: Polarity::Like.into(),
        ..Default::default()
    });
    let occupation = Some(Occupation { title: long.clone(), ..Default::default() });
    let education = Some(Education { title: long.clone(), ..Default::default() });
    let request = UpdateProfileRequest {
        request_id: request_id(),
        customer_id: customer_id.to_owned(),
        profile: Some(Profile {
            name: Some(name),
            occupation,
            education,
            preferences: preferences.collect(),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: ["name", "occupation", "education", "preferences"].map(str::to_owned).into(),
        }),
        ..Default::default()
    };
    client.profile().update_profile(request).await.unwrap();
    for i in 0..49 {
        let external_id = ExternalId { system: format!("{i:040}"), id: format!("{i}{}", "y".repeat(197)) };
        let request = AddExternalIdRequest {
            request_id: request_id(),
            customer_id: customer_id.to_owned(),
            external_id: Some(external_id),
        };
        client.profile().add_external_id(request).await.unwrap();
    }
    let external_id = Some(ExternalId { system: "one-more".into(), id: "z".into() });
    let request = AddExternalIdRequest { request_id: request_id(), customer_id: customer_id.to_owned(), external_id };
    let failure = client.profile().add_external_id(request).await.err().unwrap();
    assert_eq!(tests::reason(&failure), "TOO_MANY_EXTERNAL_IDS");
}

async fn fill_contact(client: &client::Client, customer_id: &str) {
    for i in 0..25 {
        let address = PostalAddress {
            region_code: "PT".into(),
            postal_code: "1000-001".into(),
            administrative_area: "a".repeat(60),
            locality: format!("{i:080}"),
            dependent_locality: "g".repeat(40),
            sorting_code: "h".repeat(16),
            address_lines: vec!["c".repeat(80); 3],
            recipient: "d".repeat(80),
            organization: "e".repeat(60),
            formatted: String::new(),
            missing_fields: Vec::new(),
        };
        let contact_point = ContactPoint { postal_address: Some(address), label: "f".repeat(40), ..Default::default() };
        let request = AddContactPointRequest {
            request_id: request_id(),
            customer_id: customer_id.to_owned(),
            contact_point: Some(contact_point),
        };
        client.contact().add_contact_point(request).await.unwrap();
    }
}

async fn fill_orders(client: &client::Client, customer_id: &str) {
    let currencies = [
        "EUR", "USD", "JPY", "GBP", "CHF", "CNY", "RUB", "KWD", "SEK", "NOK", "DKK", "PLN", "CZK", "HUF", "TRY", "INR",
        "BRL", "ZAR", "MXN", "CAD", "AUD", "NZD",
    ];
    let orders = currencies.iter().enumerate().map(|(i, currency)| Order {
        source: "s".repeat(40),
        number: format!("{i:0100}"),
        store_id: "t".repeat(80),
        currency_code: (*currency).to_owned(),
        delivery: Some(Delivery { method: "m".repeat(40), carrier: "c".repeat(80), ..Default::default() }),
        ..tests::order(customer_id, "")
    });
    let request = BatchRecordOrdersRequest { orders: orders.collect() };
    let reply = client.order_history().batch_record_orders(request).await.unwrap().into_inner();
    assert!(reply.results.iter().all(|result| result.failure.is_empty()));
}

async fn fill_interaction(client: &client::Client, customer_id: &str) {
    for _ in 0..12 {
        let case = Case {
            customer_id: customer_id.to_owned(),
            kind: CaseKind::Complaint.into(),
            subject: "s".repeat(200),
            description: "d".repeat(5000),
            owner_id: "o".repeat(80),
            ..Default::default()
        };
        let request = OpenCaseRequest { request_id: request_id(), case: Some(case) };
        client.interaction().open_case(request).await.unwrap();
        let interaction = Interaction {
            customer_id: customer_id.to_owned(),
            occurred_time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 1000 }),
            topic: "t".repeat(60),
            agent_id: "a".repeat(80),
            transcript: "w".repeat(5000),
            ..Default::default()
        };
        let request = RecordInteractionRequest { request_id: request_id(), interaction: Some(interaction) };
        client.interaction().record_interaction(request).await.unwrap();
    }
}

async fn fill_loyalty(client: &client::Client, customer_id: &str) {
    for i in 0..12 {
        let programme_id = format!("{i:040}");
        let programme = Programme {
            programme_id: programme_id.clone(),
            display_name: "P".into(),
            expiry_months: 12,
            ..Default::default()
        };
        let request = CreateProgrammeRequest { request_id: request_id(), programme: Some(programme) };
        client.loyalty().create_programme(request).await.unwrap();
        let request = EnrollRequest { request_id: request_id(), customer_id: customer_id.to_owned(), programme_id };
        let member = client.loyalty().enroll(request).await.unwrap().into_inner().member.unwrap();
        for _ in 0..12 {
            let request = AccruePointsRequest {
                request_id: request_id(),
                member_id: member.member_id.clone(),
                points: 1_000_000,
                cause: "test".into(),
            };
            client.loyalty().accrue_points(request).await.unwrap();
        }
    }
}

async fn fill_consent(client: &client::Client, customer_id: &str) {
    for i in 0..45 {
        let purpose_id = format!("{i:040}");
        let text = NoticeText { language: "en".into(), text: "We write.".into(), ..Default::default() };
        let purpose = Purpose {
            purpose_id: purpose_id.clone(),
            display_name: "P".into(),
            legal_basis: LegalBasis::Consent.into(),
            notice_texts: vec![text],
            ..Default::default()
        };
        let request = CreatePurposeRequest { request_id: request_id(), purpose: Some(purpose) };
        client.consent().create_purpose(request).await.unwrap();
        let evidence = Evidence {
            method: "m".repeat(60),
            language: "abc-12345678-12345678-12345678".into(),
            reference: "r".repeat(300),
            notice_version: 1,
        };
        let request = GrantConsentRequest {
            request_id: request_id(),
            customer_id: customer_id.to_owned(),
            purpose_id,
            evidence: Some(evidence),
            expire_time: Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 }),
            ..Default::default()
        };
        client.consent().grant_consent(request).await.unwrap();
    }
}
