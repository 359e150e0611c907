use std::time::{Duration, SystemTime, UNIX_EPOCH};

use client::{Client, request_id};
use proto::{
    consent::v1::*,
    contact::v1::*,
    customer::v1::{Customer, GetCustomerRequest},
    insight::v1::*,
    interaction::v1::*,
    loyalty::v1::*,
    order_history::v1::*,
    profile::v1::*,
    r#type::v1::{Category, Consistency, ExternalId},
};
use uuid::Uuid;

/// A customer with something in every service.
pub struct Fixture {
    /// The customer.
    pub customer_id: String,
    /// Another customer, of whom nothing is known.
    pub other_id: String,
    /// Tells this customer's values apart from others'.
    pub tag: String,
    /// An e-mail address.
    pub contact_point_id: String,
    /// A verification of it that was begun.
    pub verification_id: String,
    /// An order of two pieces.
    pub order_id: String,
    /// An open case.
    pub case_id: String,
    /// An interaction with a transcript.
    pub interaction_id: String,
    /// A member with 100 points.
    pub member_id: String,
    /// The member's card.
    pub member_number: String,
    /// What gave the points.
    pub transaction_id: String,
    /// The tokens of all these writes.
    pub tokens: Vec<String>,
}

impl Fixture {
    /// Creates a customer with one of everything.
    pub async fn create(client: &Client) -> Self {
        let tag = Uuid::new_v4().simple().to_string();
        let name = PersonName { given_name: "Ada".into(), family_name: "Lovelace".into(), ..Default::default() };
        let external_ids = vec![ExternalId { system: "crm".into(), id: tag.clone() }];
        let profile = Profile { name: Some(name), language: "en".into(), external_ids, ..Default::default() };
        let request = CreateProfileRequest { request_id: request_id(), profile: Some(profile), ..Default::default() };
        let created = client.profile().create_profile(request).await.unwrap().into_inner();
        let customer_id = created.profile.unwrap().customer_id;
        let mut tokens = vec![created.consistency_token];
        let profile = Some(Profile::default());
        let request = CreateProfileRequest { request_id: request_id(), profile, ..Default::default() };
        let other = client.profile().create_profile(request).await.unwrap().into_inner();
        let other_id = other.profile.unwrap().customer_id;

        let account = proto::profile::v1::Account { user_name: tag.clone(), ..Default::default() };
        let customer = customer_id.clone();
        let request = SetAccountRequest { request_id: request_id(), customer_id: customer, account: Some(account) };
        tokens.push(client.profile().set_account(request).await.unwrap().into_inner().consistency_token);
        let request = JoinHouseholdRequest {
            request_id: request_id(),
            customer_id: customer_id.clone(),
            role: HouseholdRole::Head.into(),
            ..Default::default()
        };
        tokens.push(client.profile().join_household(request).await.unwrap().into_inner().consistency_token);

        let relation =
            Relation { other_customer_id: other_id.clone(), kind: RelationKind::Friend.into(), ..Default::default() };
        let request = SetRelationRequest {
            request_id: request_id(),
            customer_id: customer_id.clone(),
            relation: Some(relation),
            removed: false,
        };
        client.profile().set_relation(request).await.unwrap();
        let request = RecordDeviceRequest {
            request_id: request_id(),
            customer_id: customer_id.clone(),
            device: Some(Device { device_id: tag.clone(), ..Default::default() }),
            ..Default::default()
        };
        client.profile().record_device(request).await.unwrap();
        let answers = vec![IdentityAnswer { given_name: "Ada".into(), ..Default::default() }];
        let request = VerifyIdentityRequest { request_id: request_id(), customer_id: customer_id.clone(), answers };
        client.profile().verify_identity(request).await.unwrap();
        let definition = AttributeDefinition {
            name: "shoe_size".into(),
            display_name: "Shoe size".into(),
            r#type: AttributeType::Integer.into(),
            data_category: Category::Preference.into(),
            purpose: "To offer shoes that fit.".into(),
            ..Default::default()
        };
        let request = DefineAttributeRequest { request_id: request_id(), definition: Some(definition) };
        client.profile().define_attribute(request).await.unwrap();

        let email = EmailAddress { address: format!("{tag}@example.org"), ..Default::default() };
        let request = AddContactPointRequest {
            request_id: request_id(),
            customer_id: customer_id.clone(),
            contact_point: Some(ContactPoint { email: Some(email), ..Default::default() }),
        };
        let contact = client.contact().add_contact_point(request).await.unwrap().into_inner();
        tokens.push(contact.consistency_token);
        let contact_point_id = contact.contact_point.unwrap().contact_point_id;
        let request = StartVerificationRequest { request_id: request_id(), contact_point_id: contact_point_id.clone() };
        let verification = client.contact().start_verification(request).await.unwrap().into_inner();
        tokens.push(verification.consistency_token);

        let order = order(&customer_id, &tag);
        let order = client.order_history().record_order(RecordOrderRequest { order: Some(order) }).await;
        let order = order.unwrap().into_inner();
        tokens.push(order.consistency_token);

        let visitor = Visitor { device_id: format!("device-{tag}"), ..Default::default() };
        let request =
            LinkVisitorRequest { request_id: request_id(), visitor: Some(visitor), customer_id: customer_id.clone() };
        client.interaction().link_visitor(request).await.unwrap();
        let interaction = Interaction {
            customer_id: customer_id.clone(),
            occurred_time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            direction: Direction::Outbound.into(),
            purpose_id: format!("m{tag}"),
            transcript: "Where is my parcel?".into(),
            ..Default::default()
        };
        let request = RecordInteractionRequest { request_id: request_id(), interaction: Some(interaction) };
        let interaction = client.interaction().record_interaction(request).await.unwrap().into_inner();
        let case = Case {
            customer_id: customer_id.clone(),
            kind: CaseKind::Complaint.into(),
            subject: "Parcel is late".into(),
            ..Default::default()
        };
        let request = OpenCaseRequest { request_id: request_id(), case: Some(case) };
        let case = client.interaction().open_case(request).await.unwrap().into_inner();
        tokens.push(case.consistency_token);

        let programme =
            Programme { programme_id: format!("p{tag}"), display_name: "Points".into(), ..Default::default() };
        let request = CreateProgrammeRequest { request_id: request_id(), programme: Some(programme) };
        client.loyalty().create_programme(request).await.unwrap();
        let request = EnrollRequest {
            request_id: request_id(),
            customer_id: customer_id.clone(),
            programme_id: format!("p{tag}"),
        };
        let member = client.loyalty().enroll(request).await.unwrap().into_inner().member.unwrap();
        let request = AccruePointsRequest {
            request_id: request_id(),
            member_id: member.member_id.clone(),
            points: 100,
            cause: "welcome".into(),
        };
        let accrual = client.loyalty().accrue_points(request).await.unwrap().into_inner();
        tokens.push(accrual.consistency_token);

        let text = NoticeText { language: "en".into(), text: "We write to you.".into(), ..Default::default() };
        let purpose = Purpose {
            purpose_id: format!("m{tag}"),
            display_name: "Marketing".into(),
            legal_basis: LegalBasis::Consent.into(),
            notice_texts: vec![text],
            ..Default::default()
        };
        let request = CreatePurposeRequest { request_id: request_id(), purpose: Some(purpose) };
        client.consent().create_purpose(request).await.unwrap();
        let request = GrantConsentRequest {
            request_id: request_id(),
            customer_id: customer_id.clone(),
            purpose_id: format!("m{tag}"),
            evidence: Some(evidence()),
            ..Default::default()
        };
        tokens.push(client.consent().grant_consent(request).await.unwrap().into_inner().consistency_token);

        concluded(client, &customer_id).await;

        Self {
            customer_id,
            other_id,
            tag,
            contact_point_id,
            verification_id: verification.verification_id,
            order_id: order.order_id,
            case_id: case.case_id,
            interaction_id: interaction.interaction_id,
            member_id: member.member_id,
            member_number: member.member_number,
            transaction_id: accrual.transaction_id,
            tokens,
        }
    }
}

/// Some who come back, more or less often, and some who do not.
pub async fn regulars(client: &Client) {
    let requests = (0..60).map(|_| CreateProfileRequest {
        request_id: request_id(),
        profile: Some(Profile::default()),
        ..Default::default()
    });
    let request = BatchCreateProfilesRequest { requests: requests.collect() };
    let created = client.profile().batch_create_profiles(request).await.unwrap().into_inner();
    let (mut orders, mut last) = (Vec::new(), String::new());
    for (i, result) in (0..).zip(created.results) {
        last = result.customer_id;
        let mut day = i * 3 % 80;
        for j in 0..=(i % 5) * (i % 3) {
            let mut order = order(&last, &format!("regular-{i}-{j}"));
            order.placed_time = Some(prost_types::Timestamp { seconds: 1_735_689_600 + day * 86_400, nanos: 0 });
            let price = 500 + i * 137 % 1000 + j * 41 % 300;
            order.lines[0].unit_price_minor = Some(price);
            (order.lines[0].amount_minor, order.total_minor) = (2 * price, 2 * price);
            orders.push(order);
            day += (i * 7 + j * 11) % 40 + 1;
        }
    }
    let request = BatchRecordOrdersRequest { orders };
    client.order_history().batch_record_orders(request).await.unwrap();
    concluded(client, &last).await;
    let cups = || ListRelatedItemsRequest { sku: "CUP".into(), ..Default::default() };
    while client.insight().list_related_items(cups()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    while client.insight().count_customers(CountCustomersRequest::default()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until insight knows what was recorded before.
pub async fn followed(client: &Client) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    for _ in 0..15_000 {
        let feeds = client.insight().get_progress(GetProgressRequest::default()).await.unwrap().into_inner().feeds;
        let until =
            |feed: &FollowedFeed| feed.followed_time.map(|at| Duration::new(at.seconds as u64, at.nanos as u32));
        if feeds.len() == 6 && feeds.iter().all(|feed| until(feed).is_some_and(|until| until > now)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("insight does not follow");
}

/// What is concluded from a customer's orders, once insight has heard of them.
pub async fn concluded(client: &Client, customer_id: &str) -> Vec<ValueTier> {
    for _ in 0..600 {
        let request = GetValueTierRequest { customer_id: customer_id.to_owned(), ..Default::default() };
        let tiers = client.insight().get_value_tier(request).await.unwrap().into_inner().value_tiers;
        if !tiers.is_empty() {
            return tiers;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("insight does not hear of orders");
}

/// An order of two pieces for 20 euros.
pub fn order(customer_id: &str, number: &str) -> Order {
    let line = OrderLine {
        line_number: 1,
        sku: "CUP".into(),
        quantity: 2,
        unit_price_minor: Some(1000),
        amount_minor: 2000,
        ..Default::default()
    };
    Order {
        customer_id: customer_id.to_owned(),
        source: "shop".into(),
        number: number.to_owned(),
        placed_time: Some(prost_types::Timestamp { seconds: 1_760_000_000, nanos: 0 }),
        currency_code: "EUR".into(),
        lines: vec![line],
        total_minor: 2000,
        ..Default::default()
    }
}

/// Evidence of a decision.
pub fn evidence() -> Evidence {
    Evidence { method: "web-form".into(), notice_version: 1, ..Default::default() }
}

/// Gives a member a point, the cheapest write there is. Answers its consistency token.
pub async fn accrue(client: &Client, member_id: &str) -> String {
    let (member_id, cause) = (member_id.to_owned(), "test".to_owned());
    let request = AccruePointsRequest { request_id: request_id(), member_id, points: 1, cause };
    client.loyalty().accrue_points(request).await.unwrap().into_inner().consistency_token
}

/// A customer as fresh as these tokens demand.
pub async fn get(client: &Client, customer_id: &str, tokens: Vec<String>) -> Result<Customer, tonic::Status> {
    let consistency =
        (!tokens.is_empty()).then_some(Consistency { consistency_tokens: tokens, fully_consistent: false });
    let request = GetCustomerRequest { customer_id: customer_id.to_owned(), consistency, ..Default::default() };
    client.customer().get_customer(request).await.map(|reply| reply.into_inner().customer.unwrap())
}
