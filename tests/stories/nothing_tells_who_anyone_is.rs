use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use aho_corasick::AhoCorasick;
use base64::{Engine, prelude::BASE64_STANDARD};
use opentelemetry_proto::tonic::collector::{
    logs::v1::{
        ExportLogsServiceRequest, ExportLogsServiceResponse,
        logs_service_server::{LogsService, LogsServiceServer},
    },
    trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
};
use prost::Message;
use proto::r#type::v1::PartialDate;
use serde_json::{Value, json};
use tests::{Caller, Postgres, Processes, Redis, methods};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, transport::server::TcpIncoming};
use uuid::Uuid;

/// Everything that tells who somebody is holds one of these, which stand nowhere else.
const WORD: &str = "canarybird";
const DIGITS: &str = "151234567";
const BIRTH: &str = "1931-07-14";

/// So many customers.
fn customers() -> u64 {
    tests::soak("CANARIES", 50)
}

/// The forms in which bytes can be written down: as they are, as UTF-16, in hex and in base64, where
/// they can begin at three places of a group.
fn forms(text: &str) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for text in [text.to_owned(), text.to_uppercase()] {
        forms.extend([
            text.clone().into_bytes(),
            text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        ]);
        let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        forms.extend([hex.to_uppercase().into_bytes(), hex.into_bytes()]);
        for before in 0..3 {
            let bytes = [vec![0; before], text.clone().into_bytes()].concat();
            let encoded = BASE64_STANDARD.encode(&bytes);
            // What the neighbours decide is left out.
            let first = [0, 2, 3][before];
            forms.push(encoded.as_bytes()[first..bytes.len() / 3 * 4].to_vec());
        }
    }
    forms
}

/// Where canaries are found.
struct Search {
    canaries: AhoCorasick,
    found: Vec<String>,
}

impl Search {
    fn new() -> Self {
        let mut patterns: Vec<Vec<u8>> = [WORD, DIGITS, BIRTH].into_iter().flat_map(forms).collect();
        // The day of birth as it is encoded.
        patterns.push(PartialDate { year: 1931, month: 7, day: 14 }.encode_to_vec());
        Self { canaries: AhoCorasick::new(patterns).unwrap(), found: Vec::new() }
    }

    fn look(&mut self, place: &str, bytes: &[u8]) {
        for found in self.canaries.find_iter(bytes).take(3) {
            let around = &bytes[found.start().saturating_sub(60)..(found.end() + 30).min(bytes.len())];
            self.found.push(format!("{place}: {}", String::from_utf8_lossy(around).escape_debug()));
        }
    }

    fn look_into(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => self.look_into(&path),
                false => self.look(&path.display().to_string(), &std::fs::read(&path).unwrap()),
            }
        }
    }
}

/// All that a collector is told.
#[derive(Clone, Default)]
struct Exported {
    spans: Arc<Mutex<Vec<u8>>>,
    logs: Arc<Mutex<Vec<u8>>>,
}

#[tonic::async_trait]
impl TraceService for Exported {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.spans.lock().unwrap().extend(request.into_inner().encode_to_vec());
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Exported {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.logs.lock().unwrap().extend(request.into_inner().encode_to_vec());
        Ok(Response::new(Default::default()))
    }
}

/// Calls by name, each write twice, and once with what is refused.
struct Writer {
    caller: Caller,
    refusals: Mutex<Search>,
}

impl Writer {
    async fn call(&self, method: &str, message: Value) -> Value {
        let descriptor = methods().into_iter().find(|known| known.name() == method).unwrap();
        let mut answers = Vec::new();
        for _ in 0..2 {
            let answer = self.caller.json(&descriptor, &message).await;
            let answer = answer
                .unwrap_or_else(|status| panic!("{method}: {}", String::from_utf8_lossy(status.details())))
                .into_inner();
            answers.push(serde_json::to_value(&answer).unwrap());
        }
        self.refused(method, message).await;
        answers.remove(0)
    }

    /// Errors say nothing of what was sent.
    async fn refused(&self, method: &str, mut message: Value) {
        let descriptor = methods().into_iter().find(|known| known.name() == method).unwrap();
        if let Some(id) = message.get_mut("request_id") {
            *id = json!("not a UUID");
        }
        if let Some(order) = message.get_mut("order") {
            order["currency_code"] = json!("euros");
        }
        let status =
            self.caller.json(&descriptor, &message).await.err().unwrap_or_else(|| panic!("{method} is not refused"));
        self.refusals.lock().unwrap().look(method, format!("{status:?}").as_bytes());
        self.refusals.lock().unwrap().look(method, status.details());
    }
}

/// One customer through every RPC that takes something of a person.
async fn write(writer: &Writer, n: u64) {
    let id = || Uuid::new_v4().to_string();
    let word = |what: &str| format!("{what}{WORD}{n}");
    let name = json!({"given_name": word("Given"), "family_name": word("Family")});
    let profile = json!({"name": name, "birth_date": {"year": 1931, "month": 7, "day": 14}, "gender": "GENDER_SELF_DESCRIBED", "language": "en",
        "gender_description": word("self"), "external_ids": [{"system": "crm", "id": word("crm")}]});
    let created = writer.call("CreateProfile", json!({"request_id": id(), "profile": profile})).await;
    let customer = created["profile"]["customerId"].as_str().unwrap().to_owned();
    let renamed = json!({"name": {"given_name": word("Other"), "family_name": word("Wed")}});
    let update = json!({"request_id": id(), "customer_id": customer, "profile": renamed, "update_mask": "name"});
    writer.call("UpdateProfile", update).await;
    let expires = sqlx::types::chrono::Utc::now() + Duration::from_secs(30 * 86_400);
    let observed = json!({"pronouns": word("they/"), "occupation": {"title": word("Clerk ")}, "education": {"title": word("School ")},
        "income": {"currency_code": "EUR", "basis": word("told ")},
        "credit": {"band": "CREDIT_BAND_B", "bureau_reference": word("ref "), "legal_basis": "contract",
                   "expire_time": expires.format("%Y-%m-%dT%H:%M:%SZ").to_string()},
        "preferences": [{"dimension": "hobby", "value": word("Chess "), "polarity": "POLARITY_LIKE"}],
        "attributes": [{"name": "nickname", "value": {"text": word("Nick ")}}]});
    let fields = "pronouns,occupation,education,income,credit,preferences,attributes";
    let observation = json!({"profile": observed, "fields": fields});
    let observed = json!({"request_id": id(), "customer_id": customer, "observation": observation});
    writer.call("RecordObservation", observed).await;
    let answers = json!([{"family_name": word("Wed")}, {"given_name": word("Wrong")}]);
    writer.call("VerifyIdentity", json!({"request_id": id(), "customer_id": customer, "answers": answers})).await;
    let account = json!({"user_name": word("User"), "federated_subjects": [{"issuer": "https://example.com", "subject": word("sub")}]});
    writer.call("SetAccount", json!({"request_id": id(), "customer_id": customer, "account": account})).await;
    let password = json!({"customer_id": customer, "password": word("Password ")});
    for method in ["SetPassword", "VerifyPassword"] {
        let descriptor = methods().into_iter().find(|known| known.name() == method).unwrap();
        writer.caller.json(&descriptor, &password).await.unwrap();
    }
    let device = json!({"device_id": word("device"), "app_version": "1", "provider": word("Provider ")});
    writer.call("RecordDevice", json!({"request_id": id(), "customer_id": customer, "device": device})).await;
    let external = |id: String| json!({"system": "shop", "id": id});
    let added = json!({"request_id": id(), "customer_id": customer, "external_id": external(word("shop"))});
    writer.call("AddExternalId", added).await;
    let removed = json!({"request_id": id(), "customer_id": customer, "external_id": external(word("shop"))});
    writer.call("RemoveExternalId", removed).await;

    let address = json!({"address_lines": [word("Street ")], "locality": word("Town"), "postal_code": "10115",
        "region_code": "DE", "recipient": word("At ")});
    let points = [
        json!({"email": {"address": format!("{}@example.org", word("mail"))}}),
        json!({"phone": {"number": format!("+49{DIGITS}{:02}", n % 100)}, "label": word("label")}),
        json!({"postal_address": address}),
        json!({"social_handle": {"network": "mastodon", "handle": word("handle")}}),
    ];
    let mut ids = Vec::new();
    for point in points {
        let added = json!({"request_id": id(), "customer_id": customer, "contact_point": point});
        let added = writer.call("AddContactPoint", added).await;
        ids.push(added["contactPoint"]["contactPointId"].as_str().unwrap().to_owned());
    }
    let email = json!({"email": {"address": format!("{}@example.org", word("new"))}});
    let update =
        json!({"request_id": id(), "contact_point_id": ids[0], "contact_point": email, "update_mask": "email"});
    writer.call("UpdateContactPoint", update).await;
    writer.call("StartVerification", json!({"request_id": id(), "contact_point_id": ids[1]})).await;
    let heard = json!({"contact_point_id": ids[1], "kind": "DELIVERY_EVENT_KIND_DELIVERED",
        "occurred_time": "2026-01-01T00:00:00Z"});
    let descriptor = methods().into_iter().find(|known| known.name() == "RecordDeliveryEvents").unwrap();
    writer.caller.json(&descriptor, &json!({"events": [heard]})).await.unwrap();
    let preferences = json!({"channels": ["CHANNEL_SMS"]});
    let set = json!({"request_id": id(), "customer_id": customer, "preferences": preferences});
    writer.call("SetContactPreferences", set).await;
    writer.call("RemoveContactPoint", json!({"request_id": id(), "contact_point_id": ids[3]})).await;

    let order = |total: i64| {
        json!({"customer_id": customer, "source": "shop", "number": format!("{n}"), "currency_code": "EUR",
            "placed_time": "2026-01-01T00:00:00Z", "total_minor": total,
            "payments": [{"method": "card", "amount_minor": total, "state": "PAYMENT_STATE_CAPTURED", "scheme": word("scheme")}],
            "delivery": {"method": "parcel", "carrier": "x", "tracking_number": word("track"), "address": address},
            "lines": [{"line_number": 1, "sku": "A", "quantity": 1, "amount_minor": total}]})
    };
    for total in [100, 110] {
        writer.call("RecordOrder", json!({"order": order(total)})).await;
    }

    let interaction = |who: Value| {
        let mut said =
            json!({"occurred_time": "2026-01-01T00:00:00Z", "topic": "delivery", "transcript": word("I am ")});
        said.as_object_mut().unwrap().extend(who.as_object().unwrap().clone());
        json!({"request_id": id(), "interaction": said})
    };
    writer.call("RecordInteraction", interaction(json!({"customer_id": customer}))).await;
    let visitor = json!({"device_id": word("device")});
    writer.call("RecordInteraction", interaction(json!({"visitor": visitor}))).await;
    writer.call("LinkVisitor", json!({"request_id": id(), "visitor": visitor, "customer_id": customer})).await;
    let case = json!({"customer_id": customer, "kind": "CASE_KIND_QUESTION", "subject": word("Where "),
        "description": word("My name is ")});
    let opened = writer.call("OpenCase", json!({"request_id": id(), "case": case})).await;
    let closed = json!({"request_id": id(), "case_id": opened["caseId"], "resolution": word("Told ")});
    writer.call("CloseCase", closed).await;

    let evidence = json!({"method": "web-form", "notice_version": 1, "reference": word("form ")});
    for method in ["GrantConsent", "WithdrawConsent", "RefuseConsent"] {
        let record = json!({"request_id": id(), "customer_id": customer, "purpose_id": "news", "evidence": evidence});
        writer.call(method, record).await;
    }
    for method in ["GetCustomer", "GetProfile", "ListContactPoints", "ListCases", "ListConsentRecords"] {
        let descriptor = methods().into_iter().find(|known| known.name() == method).unwrap();
        writer.caller.json(&descriptor, &json!({"customer_id": customer})).await.unwrap();
    }
    let descriptor = methods().into_iter().find(|known| known.name() == "SearchProfiles").unwrap();
    writer.caller.json(&descriptor, &json!({"query": word("Wed")})).await.unwrap();
    let choice = json!({"customer_id": customer, "purpose_id": "news"});
    let descriptor = methods().into_iter().find(|known| known.name() == "ChooseChannel").unwrap();
    writer.caller.json(&descriptor, &choice).await.unwrap();
    let descriptor = methods().into_iter().find(|known| known.name() == "ListObservations").unwrap();
    writer.caller.json(&descriptor, &json!({"customer_id": customer})).await.unwrap();
    let descriptor = methods().into_iter().find(|known| known.name() == "LookupCustomer").unwrap();
    let by_phone = json!({"identifier": {"phone": format!("+49{DIGITS}{:02}", n % 100)}});
    // Found, or shared by several: neither may be told anywhere.
    let _ = writer.caller.json(&descriptor, &by_phone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_copy_log_trace_or_metric_holds_anything_of_a_person() {
    // What is there is found, in whatever form.
    let mut control = Search::new();
    for text in [format!("x{WORD}y"), format!("x{}y", WORD.to_uppercase())] {
        let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for form in [text.clone().into_bytes(), utf16, hex.into_bytes(), BASE64_STANDARD.encode(&text).into_bytes()] {
            let before = control.found.len();
            control.look("control", &form);
            assert!(control.found.len() > before, "{}", String::from_utf8_lossy(&form));
        }
    }

    let (postgres, redis, exported) = (Postgres::start(), Redis::start(), Exported::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let collector = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(exported.clone()))
        .add_service(LogsServiceServer::new(exported.clone()));
    tokio::spawn(collector.serve_with_incoming(TcpIncoming::from(listener)));
    let (mut plan, state) = tests::plan_on(&postgres.url()).await;
    plan.redis_url = Some(redis.url());
    let database_url = plan.database_url.clone();
    let environment = [
        ("RUST_LOG", "trace".to_owned()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_TRACES_SAMPLER", "always_on".to_owned()),
        ("OTEL_BSP_SCHEDULE_DELAY", "200".to_owned()),
        ("OTEL_BLRP_SCHEDULE_DELAY", "200".to_owned()),
    ];
    let processes = Processes::start_as(plan, state, &environment).await;
    let caller = Caller::new(&processes.url, &processes.token);
    let writer = Writer { caller, refusals: Mutex::new(Search::new()) };
    let purpose = json!({"purpose_id": "news", "display_name": "News", "legal_basis": "LEGAL_BASIS_CONSENT",
        "notice_texts": [{"language": "en", "text": "We write."}]});
    writer.call("CreatePurpose", json!({"request_id": Uuid::new_v4().to_string(), "purpose": purpose})).await;
    let nickname = json!({"name": "nickname", "display_name": "Nickname", "type": "ATTRIBUTE_TYPE_TEXT",
        "data_category": "CATEGORY_NAME", "purpose": "To greet."});
    writer.call("DefineAttribute", json!({"request_id": Uuid::new_v4().to_string(), "definition": nickname})).await;
    for n in 0..customers() {
        write(&writer, n).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;

    let mut search = Search::new();
    search.found.append(&mut writer.refusals.lock().unwrap().found);
    let contents = redis.contents();
    assert!(contents.len() > 1000, "Redis is empty");
    search.look("Redis", &contents);
    for (name, process) in &processes.ids {
        let metrics = processes.metrics(name).await;
        assert!(metrics.contains("rpc_server_call_duration_seconds_count"), "{name} tells no metrics");
        search.look(&format!("metrics of {name}"), metrics.as_bytes());
        search.look(&format!("environment of {name}"), &std::fs::read(format!("/proc/{process}/environ")).unwrap());
    }
    let program = format!("{}/pg_dump", std::env::var("CLIENTELE_TEST_POSTGRES_BIN").unwrap());
    let dump = std::process::Command::new(program).arg(&database_url).output().unwrap();
    assert!(dump.status.success() && dump.stdout.len() > 10_000);
    search.look("pg_dump", &dump.stdout);
    let log = processes.state.path().join("log");
    let logged = std::fs::read(&log).unwrap();
    assert!(logged.len() > 100_000, "nothing was logged");
    search.look("log", &logged);
    for (what, exported) in [("spans", exported.spans), ("logs", exported.logs)] {
        let exported = exported.lock().unwrap().clone();
        assert!(exported.len() > 1000, "no {what} were exported");
        search.look(what, &exported);
    }
    // Everything that lies in memory is written down first.
    let mut sql = <sqlx::PgConnection as sqlx::Connection>::connect(&database_url).await.unwrap();
    sqlx::Executor::execute(&mut sql, "checkpoint").await.unwrap();
    search.look_into(&postgres.files());
    processes.stop();
    assert!(search.found.is_empty(), "{} found:\n{}", search.found.len(), search.found.join("\n"));
}
