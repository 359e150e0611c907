use futures_util::{StreamExt, stream};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, ReflectMessage, Value};
use proto::profile::v1::Gender;
use tests::{Fixture, Installation, methods, reason};
use tonic::Code;

/// So many malformed requests for each RPC.
const CASES: usize = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_makes_any_rpc_panic_or_shrug() {
    let installation = Installation::start().await;
    let caller = installation.caller();
    let fixture = Fixture::create(&installation.client()).await;
    let mut runner = TestRunner::deterministic();
    for method in methods() {
        let example = fixture.example(method.name()).unwrap_or_else(|| panic!("{} has no example", method.name())).0;
        let valid = DynamicMessage::deserialize(method.input(), example).unwrap();
        let cases = (0..CASES).map(|_| malformed(&valid, &mut runner));
        let (method, caller) = (&method, &caller);
        let mut answers = stream::iter(cases)
            .map(|bytes| async move { (bytes.clone(), caller.bytes(method, bytes).await) })
            .buffer_unordered(16);
        let mut refused = 0;
        while let Some((bytes, answer)) = answers.next().await {
            let status = match answer {
                Err(status) => status,
                // An item's failure inside an answer is no excuse either.
                Ok(reply) => {
                    let text = serde_json::to_string(reply.get_ref()).unwrap();
                    assert!(!text.contains("INTERNAL_ERROR"), "{}: {text}", method.full_name());
                    continue;
                }
            };
            refused += 1;
            let named = error::reason_of(&status);
            assert!(
                named.is_some() && !matches!(status.code(), Code::Internal | Code::Unknown | Code::DataLoss),
                "{}: {} for {:?}",
                method.full_name(),
                reason(&status),
                bytes.iter().take(200).collect::<Vec<_>>()
            );
        }
        // In a stream an item is refused in its acknowledgement; anywhere else most cases are refused.
        assert!(method.is_client_streaming() || refused > CASES / 4, "{}: only {refused}", method.full_name());
    }
}

#[tokio::test]
async fn what_cannot_be_decoded_or_is_too_large_has_a_reason_of_its_own() {
    let installation = Installation::start().await;
    let caller = installation.caller();
    for method in methods() {
        let failure = caller.bytes(&method, vec![0xff; 20]).await.err().unwrap();
        let expected = (Code::InvalidArgument, "MALFORMED_MESSAGE".to_owned());
        assert_eq!((failure.code(), reason(&failure)), expected, "{}", method.full_name());
        // Field 2000 of bytes, which nobody knows, five mebibytes long.
        let mut large = vec![0x82, 0x7d];
        prost::encoding::encode_varint(5 << 20, &mut large);
        large.resize(large.len() + (5 << 20), 0);
        let answer = caller.bytes(&method, large).await.map(|reply| format!("{:?}", reply.into_inner()));
        let failure = answer.expect_err(method.full_name());
        let expected = (Code::ResourceExhausted, "MESSAGE_TOO_LARGE".to_owned());
        assert_eq!((failure.code(), reason(&failure)), expected, "{}", method.full_name());
    }
}

#[tokio::test]
async fn every_violation_is_told_at_once() {
    use tonic_types::StatusExt;
    let installation = Installation::start().await;
    let profile = proto::profile::v1::Profile {
        language: "not a language".into(),
        time_zone: "Mars/Olympus".into(),
        birth_date: Some(proto::r#type::v1::PartialDate { year: 2023, month: 2, day: 29 }),
        ..Default::default()
    };
    let request = proto::profile::v1::CreateProfileRequest {
        request_id: "1".into(),
        profile: Some(profile),
        ..Default::default()
    };
    let failure = installation.client().profile().create_profile(request).await.err().unwrap();
    assert_eq!(reason(&failure), "INVALID_FIELDS");
    let violations = failure.get_details_bad_request().unwrap().field_violations;
    let mut fields: Vec<_> = violations.into_iter().map(|violation| violation.field).collect();
    fields.sort();
    assert_eq!(fields, ["profile.birth_date", "profile.language", "profile.time_zone", "request_id"]);
}

#[tokio::test]
async fn an_update_may_name_one_field_alone() {
    let installation = Installation::start().await;
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    let customer_id = &fixture.customer_id;
    let update = |profile: proto::profile::v1::Profile, paths: &[&str]| proto::profile::v1::UpdateProfileRequest {
        request_id: client::request_id(),
        customer_id: customer_id.clone(),
        profile: Some(profile),
        update_mask: Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }),
        ..Default::default()
    };
    let described = |gender: Gender, text: &str| proto::profile::v1::Profile {
        gender: gender.into(),
        gender_description: text.into(),
        ..Default::default()
    };
    let both = update(described(Gender::SelfDescribed, "x"), &["gender", "gender_description"]);
    client.profile().update_profile(both).await.unwrap();
    let one = update(described(Gender::Unspecified, "y"), &["gender_description"]);
    let profile = client.profile().update_profile(one).await.unwrap().into_inner().profile.unwrap();
    assert_eq!((profile.gender(), profile.gender_description.as_str()), (Gender::SelfDescribed, "y"));
    // What does not fit what is there is refused all the same.
    let failure = client.profile().update_profile(update(described(Gender::Female, ""), &["gender"])).await;
    assert_eq!(reason(&failure.err().unwrap()), "INVALID_FIELDS");

    let request = proto::contact::v1::UpdateContactPointRequest {
        request_id: client::request_id(),
        contact_point_id: fixture.contact_point_id.clone(),
        contact_point: Some(proto::contact::v1::ContactPoint { label: "work".into(), ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["label".into()] }),
        ..Default::default()
    };
    let point = client.contact().update_contact_point(request).await.unwrap().into_inner().contact_point.unwrap();
    assert!(point.label == "work" && point.email.is_some());
    // A contact point without a value is none.
    let request = proto::contact::v1::AddContactPointRequest {
        request_id: client::request_id(),
        customer_id: fixture.customer_id.clone(),
        contact_point: Some(proto::contact::v1::ContactPoint { label: "work".into(), ..Default::default() }),
    };
    assert_eq!(reason(&client.contact().add_contact_point(request).await.err().unwrap()), "INVALID_FIELDS");
}

#[tokio::test]
async fn what_is_output_only_cannot_be_written() {
    use proto::interaction::v1::*;
    let installation = Installation::start().await;
    let client = installation.client();
    let customer_id = Fixture::create(&client).await.customer_id;
    let case = Case {
        customer_id,
        kind: CaseKind::Question.into(),
        subject: "Opening hours".into(),
        resolution: "x".repeat(100_000),
        ..Default::default()
    };
    let request = OpenCaseRequest { request_id: client::request_id(), case: Some(case) };
    let case_id = client.interaction().open_case(request).await.unwrap().into_inner().case_id;
    let case = client.interaction().get_case(GetCaseRequest { case_id, ..Default::default() }).await.unwrap();
    let case = case.into_inner().case.unwrap();
    assert!(case.resolution.is_empty() && case.state() == CaseState::Open);
}

/// Random bytes, or a valid request with something wrong in it.
fn malformed(valid: &DynamicMessage, runner: &mut TestRunner) -> Vec<u8> {
    if pick(runner, 0..10usize) == 0 {
        return pick(runner, proptest::collection::vec(any::<u8>(), 0..60));
    }
    let mut message = valid.clone();
    for _ in 0..pick(runner, 1..4usize) {
        damage(&mut message, runner);
    }
    let mut bytes = message.encode_to_vec();
    if pick(runner, 0..10usize) == 0 && !bytes.is_empty() {
        let at = pick(runner, 0..bytes.len());
        bytes[at] ^= 1 << pick(runner, 0..8u32);
    }
    bytes
}

fn damage(message: &mut DynamicMessage, runner: &mut TestRunner) {
    let fields: Vec<FieldDescriptor> = message.descriptor().fields().collect();
    if fields.is_empty() {
        return;
    }
    let field = &fields[pick(runner, 0..fields.len())];
    if field.is_list() {
        let mut items = message.get_field(field).as_list().unwrap_or_default().to_vec();
        match pick(runner, 0..3usize) {
            0 => items.clear(),
            1 => items.resize(items.len() + 1001, empty(field)),
            _ => items.push(wrong(field, runner)),
        }
        message.set_field(field, Value::List(items));
        return;
    }
    match message.get_field_mut(field) {
        Value::Message(inner) if pick(runner, 0..4usize) > 0 => damage(inner, runner),
        _ if pick(runner, 0..6usize) == 0 => message.clear_field(field),
        _ => message.set_field(field, wrong(field, runner)),
    }
}

fn wrong(field: &FieldDescriptor, runner: &mut TestRunner) -> Value {
    let texts = ["", "x", "not-a-uuid", "\u{0}", "a\u{7}b", "\u{202e}abc", "💥", "-1", "' or 1=1 --", " "];
    match field.kind() {
        Kind::String => match pick(runner, 0..12usize) {
            0 => Value::String("y".repeat(70_000)),
            1 => Value::String(pick(runner, "\\PC{0,50}")),
            i => Value::String(texts[i % texts.len()].to_owned()),
        },
        Kind::Int32 => Value::I32(pick(runner, prop_oneof![Just(-1), Just(i32::MIN), Just(i32::MAX), any::<i32>()])),
        Kind::Int64 => Value::I64(pick(runner, prop_oneof![Just(-1), Just(i64::MIN), Just(i64::MAX), any::<i64>()])),
        Kind::Double => Value::F64(pick(runner, prop_oneof![Just(f64::NAN), Just(f64::INFINITY), any::<f64>()])),
        Kind::Bool => Value::Bool(true),
        Kind::Bytes => Value::Bytes(vec![0; 10].into()),
        Kind::Enum(_) => Value::EnumNumber(pick(runner, prop_oneof![Just(99), Just(-1), Just(i32::MAX)])),
        Kind::Message(descriptor) => {
            let mut inner = DynamicMessage::new(descriptor);
            damage(&mut inner, runner);
            Value::Message(inner)
        }
        kind => panic!("no wrong value for {kind:?}"),
    }
}

/// The smallest item of a list: a thousand large ones would be a message that is merely too large.
fn empty(field: &FieldDescriptor) -> Value {
    match field.kind() {
        Kind::String => Value::String(String::new()),
        Kind::Enum(_) => Value::EnumNumber(0),
        Kind::Message(descriptor) => Value::Message(DynamicMessage::new(descriptor)),
        kind => panic!("no empty item for {kind:?}"),
    }
}

fn pick<S: Strategy>(runner: &mut TestRunner, strategy: S) -> S::Value {
    strategy.new_tree(runner).unwrap().current()
}
