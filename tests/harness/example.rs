use client::request_id;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::Fixture;

impl Fixture {
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
            | "ListConsentRecords" | "GetValueTier" | "GetAffinity" => read(json!({"customer_id": customer_id})),
            "BatchGetCustomers" | "BatchGetProfiles" | "BatchGetValueTiers" => {
                read(json!({"customer_ids": [customer_id]}))
            }
            "LookupCustomer" => read(json!({"identifier": {"customer_id": customer_id}})),
            "BatchLookupCustomers" => read(json!({"identifiers": [{"email": format!("{tag}@example.org")}]})),
            "WatchCustomers" => read(json!({"initial_state": true, "customer_ids": [customer_id]})),
            "ListProfiles"
            | "ListAttributeDefinitions"
            | "ListProgrammes"
            | "ListPurposes"
            | "GetProgress"
            | "CountCustomers" => read(json!({})),
            "FitLifetimeModel" | "GetLifetimeModel" => read(json!({"currency_code": "EUR"})),
            "BatchGetPredictions" => read(json!({"customer_ids": [customer_id], "currency_code": "EUR"})),
            "ListRecommendations" => read(json!({"customer_id": customer_id, "purpose_id": purpose_id})),
            "ListRelatedItems" => read(json!({"sku": "CUP"})),
            "ListInterestedCustomers" => read(json!({"sku": "CUP", "purpose_id": purpose_id})),
            "CountValueTiers" => read(json!({"currency_code": "EUR"})),
            "GetDemand" => read(json!({
                "currency_code": "EUR", "first_month": "2025-01", "last_month": "2025-03"})),
            "SearchProfiles" => read(json!({"query": "Lovelace"})),
            "SearchCustomers" => read(json!({"query": "Lovelace", "filter": "create_time >= 2026-01-01"})),
            "CountOutboundInteractions" => read(json!({
                "customer_id": customer_id, "purpose_id": purpose_id, "limit": 3,
                "after_time": "2023-01-01T00:00:00Z", "until_time": "2026-02-01T00:00:00Z"})),
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
            "BatchCreateProfiles" => {
                read(json!({"requests": [{"request_id": request_id, "profile": {"language": "en"}}]}))
            }
            "BatchAddContactPoints" => read(json!({"requests": [{
                "request_id": request_id, "customer_id": customer_id,
                "contact_point": {"phone": {"number": "+49 30 123456"}}}]})),
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
