use client::{Client, request_id};
use prost_types::{FieldMask, Timestamp};
use proto::{profile::v1::*, r#type::v1::*};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use tests::{Installation, get, reason, violations};

fn preference(value: &str, polarity: Polarity, strength_percent: i32) -> Preference {
    let (dimension, value) = ("color".into(), value.into());
    Preference { dimension, value, polarity: polarity.into(), strength_percent, provenance: None }
}

fn attribute(name: &str, value: Option<AttributeValue>) -> Attribute {
    Attribute { name: name.into(), value, ..Default::default() }
}

fn integer(value: i64) -> Option<AttributeValue> {
    Some(AttributeValue { integer: Some(value), ..Default::default() })
}

fn text(value: &str) -> Option<AttributeValue> {
    Some(AttributeValue { text: value.into(), ..Default::default() })
}

fn said(source: Source, seconds: i64, fields: &str, profile: Profile) -> Observation {
    let observed_time = Some(Timestamp { seconds, nanos: 0 });
    let provenance = Provenance { source: source.into(), observed_time, confidence_percent: 90, ..Default::default() };
    Observation {
        profile: Some(profile),
        fields: Some(FieldMask { paths: fields.split(',').map(str::to_owned).collect() }),
        provenance: Some(provenance),
        ..Default::default()
    }
}

async fn record(
    client: &Client,
    customer_id: &str,
    observation: &Observation,
) -> Result<RecordObservationResponse, tonic::Status> {
    let request = RecordObservationRequest {
        request_id: request_id(),
        customer_id: customer_id.to_owned(),
        observation: Some(observation.clone()),
    };
    client.profile().record_observation(request).await.map(tonic::Response::into_inner)
}

async fn create(client: &Client, profile: Profile) -> Profile {
    let request = CreateProfileRequest { request_id: request_id(), profile: Some(profile), ..Default::default() };
    client.profile().create_profile(request).await.unwrap().into_inner().profile.unwrap()
}

async fn read(client: &Client, customer_id: &str) -> Profile {
    let request = GetProfileRequest { customer_id: customer_id.to_owned(), ..Default::default() };
    client.profile().get_profile(request).await.unwrap().into_inner().profile.unwrap()
}

async fn define(client: &Client, definition: AttributeDefinition) -> Result<AttributeDefinition, tonic::Status> {
    let request = DefineAttributeRequest { request_id: request_id(), definition: Some(definition) };
    client.profile().define_attribute(request).await.map(|reply| reply.into_inner().definition.unwrap())
}

fn definition(name: &str, kind: AttributeType) -> AttributeDefinition {
    AttributeDefinition {
        name: name.into(),
        display_name: "Shoe size".into(),
        r#type: kind.into(),
        data_category: Category::Preference.into(),
        purpose: "To offer shoes that fit.".into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn each_is_believed_by_itself_whatever_the_order() {
    let installation = Installation::start().await;
    let client = installation.client();
    define(&client, definition("shoe_size", AttributeType::Integer)).await.unwrap();
    let likes = |preferences| Profile { preferences, ..Default::default() };
    let wears = |size| Profile { attributes: vec![attribute("shoe_size", size)], ..Default::default() };
    let known = |network: &str, fan_count| Profile {
        social_standings: vec![SocialStanding { network: network.into(), fan_count, ..Default::default() }],
        ..Default::default()
    };
    let moved = |score_percent| {
        let name = "outdoor".into();
        let kind = TraitKind::Lifestyle.into();
        Profile { traits: vec![Trait { kind, name, score_percent, provenance: None }], ..Default::default() }
    };
    let statements = [
        said(
            Source::Self_,
            10,
            "preferences",
            likes(vec![preference("blue", Polarity::Like, 80), preference("red", Polarity::Dislike, 0)]),
        ),
        said(Source::Inferred, 99, "preferences", likes(vec![preference("Blue", Polarity::Dislike, 10)])),
        said(Source::Self_, 20, "preferences", likes(vec![preference("RED", Polarity::None, 0)])),
        said(Source::Inferred, 30, "preferences", likes(vec![preference("green", Polarity::Like, 30)])),
        said(Source::Agent, 10, "attributes", wears(integer(42))),
        said(Source::Agent, 20, "attributes", wears(integer(43))),
        said(Source::ThirdParty, 20, "social_standings", known("vk", Some(70))),
        said(Source::ThirdParty, 30, "social_standings", known("vk", Some(0))),
        said(Source::ThirdParty, 40, "social_standings", known("x", Some(5))),
        said(Source::ThirdParty, 50, "social_standings", known("x", None)),
        said(Source::Inferred, 10, "traits", moved(60)),
        said(Source::Inferred, 20, "traits", moved(0)),
    ];
    let mut rng = StdRng::seed_from_u64(tests::seed());
    for _ in 0..4 {
        let customer_id = create(&client, Profile::default()).await.customer_id;
        let mut order: Vec<_> = statements.iter().chain(&statements).collect();
        order.shuffle(&mut rng);
        let mut answered = Vec::new();
        for observation in order {
            answered.push(record(&client, &customer_id, observation).await.unwrap().profile.unwrap());
        }
        let profile = read(&client, &customer_id).await;
        let colors: Vec<_> = profile.preferences.iter().map(|p| (p.value.as_str(), p.polarity())).collect();
        assert_eq!(colors, [("blue", Polarity::Like), ("green", Polarity::Like)]);
        let by = profile.preferences[0].provenance.clone().unwrap();
        assert_eq!((by.source(), by.observed_time.unwrap().seconds), (Source::Self_, 10));
        assert_eq!(profile.attributes[0].value.as_ref().unwrap().integer, Some(43));
        assert_eq!(profile.social_standings.len(), 1);
        assert_eq!(profile.social_standings[0].fan_count, Some(0), "none is a count");
        assert!(profile.traits.is_empty(), "it does not hold any more");
        for answer in answered {
            let request = GetProfileRequest {
                customer_id: customer_id.clone(),
                as_of_time: answer.update_time,
                consistency: None,
            };
            let then = client.profile().get_profile(request).await.unwrap().into_inner().profile.unwrap();
            assert!(then.preferences == answer.preferences && then.attributes == answer.attributes);
            assert!(then.traits == answer.traits && then.social_standings == answer.social_standings);
        }
    }
    // An inferred dislike does not outweigh what the customer said, and its list says so.
    let customer_id = create(&client, likes(vec![preference("blue", Polarity::Like, 80)])).await.customer_id;
    let recorded = record(&client, &customer_id, &statements[1]).await.unwrap();
    assert_eq!(recorded.outweighed_fields.unwrap().paths, ["preferences"]);
    // Who says the same is not outweighed.
    let same = said(Source::Inferred, 9, "preferences", likes(vec![preference("blue", Polarity::Like, 80)]));
    assert!(record(&client, &customer_id, &same).await.unwrap().outweighed_fields.unwrap().paths.is_empty());
    // Two keys of a list do not stand in each other's way.
    let recorded = record(&client, &customer_id, &statements[3]).await.unwrap();
    assert_eq!(recorded.outweighed_fields.unwrap().paths, Vec::<String>::new());
}

#[tokio::test]
async fn an_attribute_is_what_its_definition_says() {
    let installation = Installation::start().await;
    let client = installation.client();
    let customer_id = create(&client, Profile::default()).await.customer_id;
    let say = async |seconds: i64, attributes: Vec<Attribute>| {
        let profile = Profile { attributes, ..Default::default() };
        record(&client, &customer_id, &said(Source::Self_, seconds, "attributes", profile)).await
    };
    let mut fit = definition("fit", AttributeType::Text);
    fit.allowed_values = vec!["wide".into(), "narrow".into()];
    define(&client, fit.clone()).await.unwrap();
    let size = define(&client, definition("shoe_size", AttributeType::Integer)).await.unwrap();
    let refused = say(
        1,
        vec![
            attribute("hat_size", integer(7)),
            attribute("shoe_size", text("42")),
            attribute("fit", text("tight")),
            attribute("fit", text("wide")),
        ],
    )
    .await
    .err()
    .unwrap();
    assert_eq!(violations(&refused), ["observation.profile.attributes[3]"], "what one sees without looking");
    let wrong =
        vec![attribute("hat_size", integer(7)), attribute("shoe_size", text("42")), attribute("fit", text("tight"))];
    let refused = say(1, wrong).await.err().unwrap();
    let fields =
        ["[0].name", "[1].value", "[2].value.text"].map(|field| format!("observation.profile.attributes{field}"));
    assert_eq!(violations(&refused), fields);
    assert!(read(&client, &customer_id).await.attributes.is_empty());

    // What was observed longer ago than it is kept is not told; what is observed now is.
    let shorter = AttributeDefinition { retention_days: 10, ..size.clone() };
    let shorter = define(&client, shorter).await.unwrap();
    assert!(shorter.create_time == size.create_time && shorter.update_time != size.update_time);
    say(1_000_000_000, vec![attribute("shoe_size", integer(42)), attribute("fit", text("wide"))]).await.unwrap();
    let told: Vec<String> = read(&client, &customer_id).await.attributes.into_iter().map(|a| a.name).collect();
    assert_eq!(told, ["fit"]);
    let now = sqlx::types::chrono::Utc::now().timestamp();
    say(now, vec![attribute("shoe_size", integer(43))]).await.unwrap();
    let sized = &read(&client, &customer_id).await.attributes[1];
    assert_eq!(sized.expire_time.unwrap().seconds, now + 10 * 86_400);
    // Another retention makes no news of what was said.
    define(&client, AttributeDefinition { retention_days: 20, ..size.clone() }).await.unwrap();
    let observations = "select count(*) from profile.observations";
    let before = installation.count(observations).await;
    say(now, vec![attribute("shoe_size", integer(43))]).await.unwrap();
    assert_eq!(installation.count(observations).await, before);
    let sized = &read(&client, &customer_id).await.attributes[1];
    assert_eq!(sized.expire_time.unwrap().seconds, now + 10 * 86_400);

    let other = AttributeDefinition { r#type: AttributeType::Text.into(), ..size.clone() };
    assert_eq!(reason(&define(&client, other).await.err().unwrap()), "ATTRIBUTE_FIXED");
    let other = AttributeDefinition { data_category: Category::Name.into(), ..size };
    assert_eq!(reason(&define(&client, other).await.err().unwrap()), "ATTRIBUTE_FIXED");
    let other = AttributeDefinition { allowed_values: vec!["1".into()], ..shorter };
    assert_eq!(violations(&define(&client, other).await.err().unwrap()), ["definition.allowed_values"]);

    let mut names = Vec::new();
    let mut request = ListAttributeDefinitionsRequest { page_size: 1, ..Default::default() };
    loop {
        let page = client.profile().list_attribute_definitions(request.clone()).await.unwrap().into_inner();
        names.extend(page.definitions.into_iter().map(|definition| definition.name));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["fit", "shoe_size"]);
}

#[tokio::test]
async fn a_view_shows_the_first_and_a_profile_all() {
    let installation = Installation::start().await;
    let client = installation.client();
    let many = |from: usize| {
        let preferences =
            (from..from + 100).map(|i| preference(&format!("{i:03}{}", "x".repeat(97)), Polarity::Like, 50)).collect();
        Profile { preferences, ..Default::default() }
    };
    let customer_id = create(&client, many(0)).await.customer_id;
    record(&client, &customer_id, &said(Source::Self_, 5, "preferences", many(100))).await.unwrap();
    assert_eq!(read(&client, &customer_id).await.preferences.len(), 200);
    let section = get(&client, &customer_id, Vec::new()).await.unwrap().profile.unwrap();
    assert!(section.shortened);
    assert_eq!(section.profile.unwrap().preferences.len(), 10);
    let failure = record(&client, &customer_id, &said(Source::Self_, 6, "preferences", many(101))).await.err().unwrap();
    assert_eq!(reason(&failure), "TOO_MANY_FACTS");
    let names = (0..200).map(|i| {
        let name = format!("t{i:03}{}", "x".repeat(50));
        Trait { kind: TraitKind::Motivation.into(), name, score_percent: 1, provenance: None }
    });
    let traits = Profile { traits: names.collect(), ..Default::default() };
    let failure = record(&client, &customer_id, &said(Source::Self_, 6, "traits", traits)).await.err().unwrap();
    assert_eq!(reason(&failure), "PROFILE_TOO_LARGE");
    // Who was erased is not told from behind a shortened view either.
    let other = create(&client, many(0)).await.customer_id;
    installation.destroy_keys(&customer_id).await;
    let request = BatchGetProfilesRequest { customer_ids: vec![customer_id, other.clone(), other], consistency: None };
    let results = client.profile().batch_get_profiles(request).await.unwrap().into_inner().results;
    assert!(results[0].profile.is_none());
    for asked_twice in &results[1..] {
        assert_eq!(asked_twice.profile.as_ref().unwrap().preferences.len(), 100);
    }
}

#[tokio::test]
async fn who_somebody_is_is_confirmed_and_not_told() {
    let installation = Installation::start().await;
    let client = installation.client();
    let external_id = ExternalId { system: "crm".into(), id: "77-1".into() };
    let name =
        PersonName { given_name: "Jürgen".into(), family_name: "Müller-Lüdenscheid".into(), ..Default::default() };
    let birth_date = Some(PartialDate { year: 1980, month: 2, day: 29 });
    let customer_id = create(
        &client,
        Profile { name: Some(name), birth_date, external_ids: vec![external_id.clone()], ..Default::default() },
    )
    .await
    .customer_id;
    let given = |name: &str| IdentityAnswer { given_name: name.into(), ..Default::default() };
    let family = |name: &str| IdentityAnswer { family_name: name.into(), ..Default::default() };
    let born = |year| {
        let birth_date = Some(PartialDate { year, month: 2, day: 29 });
        IdentityAnswer { birth_date, ..Default::default() }
    };
    let verify = async |answers: Vec<IdentityAnswer>| {
        let customer_id = customer_id.clone();
        let request = VerifyIdentityRequest { request_id: request_id(), customer_id, answers };
        client.profile().verify_identity(request).await.map(tonic::Response::into_inner)
    };
    assert_eq!(verify(vec![given("JURGEN")]).await.unwrap().level(), MatchLevel::Low);
    let both = verify(vec![family("muller ludenscheid"), born(1980)]).await.unwrap();
    assert_eq!((both.level(), both.failures_left), (MatchLevel::Medium, 5));
    let by_id = IdentityAnswer { external_id: Some(external_id), ..Default::default() };
    let high = verify(vec![given("Jürgen"), born(1980), by_id]).await.unwrap();
    assert_eq!(high.level(), MatchLevel::High);
    let refused = verify(vec![given("a"), given("b"), born(0)]).await.err().unwrap();
    assert_eq!(violations(&refused), ["answers[1]", "answers[2].birth_date"]);
    // Wrong at once from many sides: five count, and no more are answered.
    let wrong = (0..12).map(|i| verify(vec![given("Jürgen"), born(1984 + 4 * i)]));
    let answers = futures_util::future::join_all(wrong).await;
    let answered = answers.iter().flatten().count();
    assert_eq!(answered, 5);
    assert!(answers.iter().flatten().all(|answer| answer.level() == MatchLevel::None));
    let refused = verify(vec![born(1980)]).await.err().unwrap();
    assert_eq!(reason(&refused), "TOO_MANY_IDENTITY_CHECKS", "also with the right answer");
    let request = ListIdentityChecksRequest { customer_id: customer_id.clone(), page_size: 5, ..Default::default() };
    let page = client.profile().list_identity_checks(request.clone()).await.unwrap().into_inner();
    assert!(page.checks.iter().all(|check| check.level() == MatchLevel::None));
    assert_eq!(page.checks[0].asked, ["given_name", "birth_date"]);
    assert_eq!((page.checks[0].caller.as_str(), page.checks[0].purpose.as_str()), ("test", "service"));
    let next = ListIdentityChecksRequest { page_token: page.next_page_token, ..request };
    let rest = client.profile().list_identity_checks(next).await.unwrap().into_inner();
    let levels: Vec<_> = rest.checks.iter().map(IdentityCheck::level).collect();
    assert_eq!(levels, [MatchLevel::High, MatchLevel::Medium, MatchLevel::Low]);
}

#[tokio::test]
async fn a_profile_says_what_to_ask_next() {
    let installation = Installation::start().await;
    let client = installation.client();
    let name = PersonName { given_name: "Ada".into(), family_name: "Lovelace".into(), ..Default::default() };
    let customer_id = create(&client, Profile { name: Some(name), ..Default::default() }).await.customer_id;
    let long_ago = Profile { region: "GB".into(), ..Default::default() };
    record(&client, &customer_id, &said(Source::Self_, 1_000_000_000, "region,children", long_ago)).await.unwrap();
    let none = Profile::default();
    let now = sqlx::types::chrono::Utc::now().timestamp();
    record(&client, &customer_id, &said(Source::Self_, now, "preferences", none)).await.unwrap();
    let assess = async |customer_id: &str| {
        let request = AssessProfileRequest { customer_id: customer_id.to_owned(), ..Default::default() };
        client.profile().assess_profile(request).await.map(tonic::Response::into_inner)
    };
    let assessment = assess(&customer_id).await.unwrap();
    assert_eq!(assessment.completeness_percent, 53, "that there are no preferences was said too");
    assert_eq!(assessment.missing_fields[..2], ["birth_date", "language"]);
    assert!(!assessment.missing_fields.contains(&"children".to_owned()), "that there are none was said");
    assert_eq!(
        assessment.stale_fields.iter().map(|stale| stale.field.as_str()).collect::<Vec<_>>(),
        ["region", "children"]
    );
    let nobody = assess("00000000-0000-4000-8000-000000000000").await.err().unwrap();
    assert_eq!(reason(&nobody), "CUSTOMER_NOT_FOUND");
}

/// A field that is added is missing here first, and then wherever it was forgotten.
#[tokio::test]
async fn whatever_a_source_can_say_is_read_back() {
    let installation = Installation::start().await;
    let client = installation.client();
    let defined = AttributeDefinition {
        name: "shoe_size".into(),
        display_name: "Shoe size".into(),
        r#type: AttributeType::Integer.into(),
        data_category: Category::Preference.into(),
        purpose: "To fit.".into(),
        ..Default::default()
    };
    define(&client, defined).await.unwrap();
    let soon = std::time::SystemTime::now() + std::time::Duration::from_secs(86_400);
    let soon = Some(Timestamp { nanos: 0, ..Timestamp::from(soon) });
    let text = str::to_owned;
    let said = Profile {
        name: Some(PersonName {
            prefix: text("Dr"),
            given_name: text("Ada"),
            middle_name: text("King"),
            family_name: text("Lovelace"),
            suffix: text("II"),
            preferred_name: text("Countess"),
        }),
        birth_date: Some(PartialDate { year: 1985, month: 12, day: 10 }),
        gender: Gender::SelfDescribed.into(),
        gender_description: text("a mathematician"),
        pronouns: text("she/her"),
        marital_status: MaritalStatus::Married.into(),
        children: Some(Children { count: 3, age_bands: vec![1] }),
        occupation: Some(Occupation { title: text("Programmer"), isco_code: text("2514") }),
        education: Some(Education { title: text("Tutored"), isced_level: Some(6) }),
        language: text("en"),
        time_zone: text("Europe/London"),
        region: text("GB-LND"),
        income: Some(Income {
            lower_minor: 1,
            upper_minor: Some(2),
            currency_code: text("GBP"),
            basis: text("stated"),
            expire_time: soon,
        }),
        credit: Some(Credit {
            band: CreditBand::A.into(),
            bureau_reference: text("r"),
            legal_basis: text("contract"),
            expire_time: soon,
        }),
        preferences: vec![preference("green", Polarity::Like, 70)],
        traits: vec![Trait {
            kind: TraitKind::Motivation.into(),
            name: text("curiosity"),
            score_percent: 99,
            provenance: None,
        }],
        attributes: vec![attribute("shoe_size", integer(38))],
        social_standings: vec![SocialStanding { network: text("weibo"), fan_count: Some(7), ..Default::default() }],
        external_ids: vec![ExternalId { system: text("crm"), id: request_id() }],
        ..Default::default()
    };
    let customer_id = create(&client, said.clone()).await.customer_id;
    let request = GetProfileRequest {
        customer_id,
        consistency: Some(Consistency { fully_consistent: true, ..Default::default() }),
        as_of_time: None,
    };
    let read = client.profile().get_profile(request).await.unwrap().into_inner().profile.unwrap();
    let value = clientele::json::to_json("clientele.profile.v1.Profile", &read).unwrap();
    let pool = prost_reflect::DescriptorPool::decode(proto::DESCRIPTOR_SET).unwrap();
    for field in pool.get_message_by_name("clientele.profile.v1.Profile").unwrap().fields() {
        assert!(value.get(field.name()).is_some(), "{} is not read back, or not said here", field.name());
    }
    // But for who says so, and what is computed.
    let mut told = read;
    told.preferences[0].provenance = None;
    told.traits[0].provenance = None;
    told.attributes[0].provenance = None;
    told.social_standings[0].provenance = None;
    let computed = Profile {
        customer_id: told.customer_id.clone(),
        create_time: told.create_time,
        update_time: told.update_time,
        etag: told.etag.clone(),
        name_forms: told.name_forms.clone(),
        age: told.age,
        age_band: told.age_band,
        ..said
    };
    assert!(told == computed);
}
