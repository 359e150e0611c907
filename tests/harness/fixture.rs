use client::{Client, request_id};
use proto::{
    consent::v1::*,
    contact::v1::*,
    customer::v1::{Customer, GetCustomerRequest},
    interaction::v1::*,
    loyalty::v1::*,
    order_history::v1::*,
    profile::v1::*,
    r#type::v1::{Category, Consistency, ExternalId},
};
use serde_json::{Value, json};
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

    /// A valid request of each public RPC, and for a write a field with another value, so that the
    /// request says something else. An RPC without an example is found by a test.
    pub fn example(&self, method: &str) -> Option<(Value, Option<(&'static str, Value)>)> {
        let Self { customer_id, tag, contact_point_id, order_id, case_id, interaction_id, .. } = self;
        let Self { member_id, member_number, transaction_id, verification_id, .. } = self;
        let (programme_id, purpose_id) = (format!("p{tag}"), format!("m{tag}"));
        let request_id = request_id();
        let new = Uuid::new_v4().simple().to_string();
        let order = json!({
            "customer_id": customer_id, "source": "shop", "number": new, "placed_time": "2026-01-01T00:00:00Z",
            "currency_code": "EUR", "total_minor": 100,
            "lines": [{"line_number": 1, "sku": "A", "quantity": 1, "amount_minor": 100}],
        });
        let interaction = json!({
            "request_id": request_id,
            "interaction": {"customer_id": customer_id, "occurred_time": "2026-01-01T00:00:00Z", "topic": "delivery"},
        });
        let evidence = json!({"method": "web-form", "notice_version": 1});
        let consent = json!({
            "request_id": request_id, "customer_id": customer_id, "purpose_id": purpose_id, "evidence": evidence,
        });
        let other = |pointer, value| Some((pointer, value));
        let write = |example: Value, pointer, value: Value| Some((example, other(pointer, value)));
        let read = |example: Value| Some((example, None));
        match method {
            "GetCustomer" | "GetServiceBrief" | "GetProfile" | "ListContactPoints" | "ListOrders"
            | "GetOrderSummary" | "ListObservations" | "AssessProfile" | "ListIdentityChecks" | "GetAccount"
            | "ListDevices" | "GetHousehold" | "ListRelations" | "ListInteractions" | "ListCases"
            | "ListConsentRecords" => read(json!({"customer_id": customer_id})),
            "BatchGetCustomers" | "BatchGetProfiles" => read(json!({"customer_ids": [customer_id]})),
            "LookupCustomer" => read(json!({"identifier": {"customer_id": customer_id}})),
            "BatchLookupCustomers" => read(json!({"identifiers": [{"email": format!("{tag}@example.org")}]})),
            "WatchCustomers" => read(json!({"initial_state": true, "customer_ids": [customer_id]})),
            "ListProfiles" | "ListAttributeDefinitions" | "ListProgrammes" | "ListPurposes" => read(json!({})),
            "SearchProfiles" => read(json!({"query": "Lovelace"})),
            "ResolveExternalIds" => read(json!({"external_ids": [{"system": "crm", "id": tag}]})),
            "GetContactPoint" => read(json!({"contact_point_id": contact_point_id})),
            "LookupContactPoints" => read(json!({"values": [{"email": {"address": format!("{tag}@example.org")}}]})),
            "GetOrder" => read(json!({"order_id": order_id})),
            "GetInteraction" => read(json!({"interaction_id": interaction_id})),
            "GetCase" => read(json!({"case_id": case_id})),
            "GetMember" => read(json!({"member_number": member_number})),
            "GetBalance" | "ListLedgerEntries" => read(json!({"member_id": member_id})),
            "CheckConsent" => read(json!({"customer_id": customer_id, "purpose_id": purpose_id})),
            "RecordOrder" => read(json!({"order": order})),
            "BatchRecordOrders" => read(json!({"orders": [order]})),
            "RecordOrders" => read(json!({"sequence": 7, "order": order})),
            "BatchRecordInteractions" => read(json!({"requests": [interaction]})),
            "RecordInteractions" => read(json!({"sequence": 7, "request": interaction})),
            "CreateProfile" => write(
                json!({"request_id": request_id, "profile": {"language": "en"}}),
                "/profile/language",
                json!("de"),
            ),
            "UpdateProfile" => write(
                json!({"request_id": request_id, "customer_id": customer_id, "profile": {"language": "pt"},
                       "update_mask": "language"}),
                "/profile/language",
                json!("de"),
            ),
            "RecordObservation" => write(
                json!({"request_id": request_id, "customer_id": customer_id,
                       "observation": {"profile": {"region": "PT"}, "fields": "region",
                                       "provenance": {"source": "SOURCE_AGENT", "observed_time": "2026-01-01T00:00:00Z"}}}),
                "/observation/profile/region",
                json!("ES"),
            ),
            "SetAccount" => write(
                json!({"request_id": request_id, "customer_id": customer_id, "account": {"user_name": new}}),
                "/account/user_name",
                json!("other"),
            ),
            "SetPassword" | "VerifyPassword" => write(
                json!({"customer_id": customer_id, "password": "correct horse"}),
                "/password",
                json!("other horse"),
            ),
            "RecordSignIn" => write(
                json!({"request_id": request_id, "customer_id": customer_id, "sign_in_time": "2026-01-01T00:00:00Z"}),
                "/sign_in_time",
                json!("2026-01-02T00:00:00Z"),
            ),
            "RecordDevice" => write(
                json!({"request_id": request_id, "customer_id": customer_id, "user_agent": "Mozilla/5.0 (X11; Linux)",
                       "ip_address": "203.0.113.7"}),
                "/ip_address",
                json!("203.0.113.8"),
            ),
            "JoinHousehold" => write(
                json!({"request_id": request_id, "customer_id": self.other_id, "role": "HOUSEHOLD_ROLE_HEAD"}),
                "/role",
                json!("HOUSEHOLD_ROLE_CHILD"),
            ),
            "LeaveHousehold" => write(
                json!({"request_id": request_id, "customer_id": customer_id}),
                "/customer_id",
                json!(Uuid::new_v4().to_string()),
            ),
            "SetRelation" => write(
                json!({"request_id": request_id, "customer_id": customer_id,
                       "relation": {"other_customer_id": self.other_id, "kind": "RELATION_KIND_FRIEND"}}),
                "/relation/kind",
                json!("RELATION_KIND_FOLLOWS"),
            ),
            "VerifyIdentity" => write(
                json!({"request_id": request_id, "customer_id": customer_id, "answers": [{"given_name": "Ada"}]}),
                "/answers/0/given_name",
                json!("Eve"),
            ),
            "DefineAttribute" => write(
                json!({"request_id": request_id, "definition": {"name": format!("n{new}"), "display_name": "N",
                       "type": "ATTRIBUTE_TYPE_TEXT", "data_category": "CATEGORY_PREFERENCE", "purpose": "To test."}}),
                "/definition/display_name",
                json!("M"),
            ),
            "AddExternalId" => write(
                json!({"request_id": request_id, "customer_id": customer_id,
                       "external_id": {"system": "shop", "id": new}}),
                "/external_id/id",
                json!("other"),
            ),
            "RemoveExternalId" => write(
                json!({"request_id": request_id, "customer_id": customer_id,
                       "external_id": {"system": "crm", "id": tag}}),
                "/external_id/id",
                json!("other"),
            ),
            "AddContactPoint" => write(
                json!({"request_id": request_id, "customer_id": customer_id,
                       "contact_point": {"phone": {"number": "+49 30 123456"}}}),
                "/contact_point/phone/number",
                json!("+49 30 123457"),
            ),
            "UpdateContactPoint" => write(
                json!({"request_id": request_id, "contact_point_id": contact_point_id,
                       "contact_point": {"email": {"address": format!("new-{tag}@example.org")}},
                       "update_mask": "email"}),
                "/contact_point/email/address",
                json!("other@example.org"),
            ),
            "RemoveContactPoint" | "SetPrimaryContactPoint" => write(
                json!({"request_id": request_id, "contact_point_id": contact_point_id}),
                "/contact_point_id",
                json!(Uuid::new_v4().to_string()),
            ),
            "RecordDeliveryEvents" => read(json!({"events": [{"contact_point_id": contact_point_id,
                "kind": "DELIVERY_EVENT_KIND_DELIVERED", "occurred_time": "2026-01-01T00:00:00Z"}]})),
            "StartVerification" => write(
                json!({"request_id": request_id, "contact_point_id": contact_point_id}),
                "/contact_point_id",
                json!(Uuid::new_v4().to_string()),
            ),
            "SetContactPreferences" => write(
                json!({"request_id": request_id, "customer_id": customer_id,
                       "preferences": {"channels": ["CHANNEL_SMS"]}}),
                "/preferences/channels/0",
                json!("CHANNEL_POST"),
            ),
            "ChooseChannel" => read(json!({"customer_id": customer_id, "purpose_id": purpose_id})),
            "CheckVerification" => write(
                json!({"request_id": request_id, "verification_id": verification_id, "code": "000000"}),
                "/code",
                json!("000001"),
            ),
            "RecordReturn" => write(
                json!({"request_id": request_id, "return": {"order_id": order_id, "refund_minor": 10,
                       "lines": [{"line_number": 1, "quantity": 1}], "returned_time": "2026-01-02T00:00:00Z"}}),
                "/return/refund_minor",
                json!(11),
            ),
            "RecordInteraction" => write(interaction, "/interaction/topic", json!("invoice")),
            "LinkVisitor" => write(
                json!({"request_id": request_id, "visitor": {"anonymous_id": new}, "customer_id": customer_id}),
                "/visitor/anonymous_id",
                json!("other"),
            ),
            "OpenCase" => write(
                json!({"request_id": request_id, "case": {"customer_id": customer_id, "kind": "CASE_KIND_QUESTION",
                       "subject": "When?"}}),
                "/case/subject",
                json!("Where?"),
            ),
            "CloseCase" => write(
                json!({"request_id": request_id, "case_id": case_id, "resolution": "It came."}),
                "/resolution",
                json!("It did not."),
            ),
            "CreateProgramme" => write(
                json!({"request_id": request_id, "programme": {"programme_id": format!("n{new}"), "display_name": "N"}}),
                "/programme/display_name",
                json!("M"),
            ),
            "Enroll" => write(
                json!({"request_id": request_id, "customer_id": customer_id, "programme_id": programme_id}),
                "/programme_id",
                json!("other"),
            ),
            "AccruePoints" | "RedeemPoints" => write(
                json!({"request_id": request_id, "member_id": member_id, "points": 30, "cause": "test"}),
                "/points",
                json!(31),
            ),
            "ReverseTransaction" => write(
                json!({"request_id": request_id, "transaction_id": transaction_id, "cause": "test"}),
                "/cause",
                json!("other"),
            ),
            "CreatePurpose" => write(
                json!({"request_id": request_id, "purpose": {"purpose_id": format!("n{new}"), "display_name": "N",
                       "legal_basis": "LEGAL_BASIS_CONSENT", "notice_texts": [{"language": "en", "text": "We write."}]}}),
                "/purpose/display_name",
                json!("M"),
            ),
            "PublishNotice" => write(
                json!({"request_id": request_id, "purpose_id": purpose_id,
                       "notice_texts": [{"language": "en", "text": "We write more."}]}),
                "/notice_texts/0/text",
                json!("We write less."),
            ),
            "GrantConsent" | "RefuseConsent" | "WithdrawConsent" => {
                write(consent, "/evidence/method", json!("phone-call"))
            }
            _ => None,
        }
    }
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
