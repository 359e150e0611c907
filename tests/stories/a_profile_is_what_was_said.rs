use client::{Client, request_id};
use prost_types::{FieldMask, Timestamp};
use proto::{profile::v1::*, r#type::v1::PartialDate};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use tests::{Installation, get, reason};

fn name(given: &str, middle: &str, family: &str) -> Option<PersonName> {
    let (given_name, middle_name, family_name) = (given.into(), middle.into(), family.into());
    Some(PersonName { given_name, middle_name, family_name, ..Default::default() })
}

async fn create(client: &Client, profile: Profile) -> Profile {
    let request = CreateProfileRequest { request_id: request_id(), profile: Some(profile), ..Default::default() };
    client.profile().create_profile(request).await.unwrap().into_inner().profile.unwrap()
}

/// What somebody said at a time of the past.
fn said(source: Source, seconds: i64, paths: &[&str], profile: Profile) -> Observation {
    let observed_time = Some(Timestamp { seconds, nanos: 0 });
    Observation {
        profile: Some(profile),
        fields: Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }),
        provenance: Some(Provenance {
            source: source.into(),
            source_name: "test".into(),
            observed_time,
            confidence_percent: 90,
        }),
        ..Default::default()
    }
}

async fn record(client: &Client, customer_id: &str, observation: &Observation) -> RecordObservationResponse {
    let request = RecordObservationRequest {
        request_id: request_id(),
        customer_id: customer_id.to_owned(),
        observation: Some(observation.clone()),
    };
    client.profile().record_observation(request).await.unwrap().into_inner()
}

async fn as_of(client: &Client, customer_id: &str, at: Timestamp) -> Profile {
    let request = GetProfileRequest { customer_id: customer_id.to_owned(), as_of_time: Some(at), ..Default::default() };
    client.profile().get_profile(request).await.unwrap().into_inner().profile.unwrap()
}

/// A profile without what is the customer's or the moment's own.
fn content(mut profile: Profile) -> Profile {
    profile.customer_id.clear();
    profile.etag.clear();
    (profile.create_time, profile.update_time) = (None, None);
    profile.external_ids.clear();
    profile
}

fn statements() -> Vec<Observation> {
    let named = |given: &str| Profile { name: name(given, "", "Lovelace"), ..Default::default() };
    let born = |year| Profile { birth_date: Some(PartialDate { year, month: 2, day: 29 }), ..Default::default() };
    let lives = |region: &str| Profile { region: region.into(), ..Default::default() };
    let works = |title: &str| Profile {
        occupation: Some(Occupation { title: title.into(), isco_code: "2120".into() }),
        ..Default::default()
    };
    vec![
        said(Source::Inferred, 500, &["region", "birth_date"], Profile { region: "FR".into(), ..born(1980) }),
        said(Source::System, 100, &["name"], named("Augusta")),
        said(Source::Self_, 200, &["name.given_name"], named("Ada")),
        said(Source::Self_, 199, &["name.given_name"], named("Adah")),
        said(Source::ThirdParty, 300, &["region"], lives("GB")),
        said(Source::Self_, 50, &["region"], lives("GB-LND")),
        said(Source::Document, 40, &["birth_date"], born(1988)),
        said(Source::Agent, 400, &["occupation"], works("Mathematician")),
        said(Source::Agent, 450, &["occupation"], Profile::default()),
        said(Source::Agent, 430, &["occupation"], works("Poet")),
    ]
}

#[tokio::test]
async fn whatever_the_order_in_which_it_is_said() {
    let installation = Installation::start().await;
    let client = installation.client();
    let mut rng = StdRng::seed_from_u64(tests::seed());
    let mut expected: Option<Profile> = None;
    for _ in 0..6 {
        let customer_id = create(&client, Profile::default()).await.customer_id;
        let mut order: Vec<Observation> = statements().into_iter().chain(statements()).collect();
        order.shuffle(&mut rng);
        let mut answered = Vec::new();
        for observation in &order {
            answered.push(record(&client, &customer_id, observation).await.profile.unwrap());
        }
        // Each answer can be had again by its time, for ever.
        for answer in &answered {
            let then = as_of(&client, &customer_id, answer.update_time.unwrap()).await;
            assert!(then.update_time == answer.update_time && content(then) == content(answer.clone()));
        }
        let profile = answered.pop().unwrap();
        assert_eq!(profile.region, "GB-LND");
        assert_eq!(profile.birth_date.unwrap().year, 1988);
        assert!(profile.occupation.is_none(), "the latest agent said that there is none");
        assert!(profile.name_forms.as_ref().unwrap().display.ends_with("Lovelace"));
        let section = get(&client, &customer_id, Vec::new()).await.unwrap().profile.unwrap().profile.unwrap();
        assert!(content(section) == content(profile.clone()), "the section says the same");
        let profile = content(profile);
        assert!(expected.get_or_insert(profile.clone()) == &profile, "another order says something else");

        let request = ListObservationsRequest { customer_id: customer_id.clone(), page_size: 4, ..Default::default() };
        let mut listed = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListObservationsRequest { page_token, ..request.clone() };
            let page = client.profile().list_observations(request).await.unwrap().into_inner();
            listed.extend(page.observations);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(listed.len(), statements().len(), "said twice is said once");
        assert!(listed.is_sorted_by_key(|observation| std::cmp::Reverse(observation.record_time.unwrap().seconds)));
        let prevailing: Vec<String> =
            listed.iter().flat_map(|said| said.prevailing_fields.clone().unwrap().paths).collect();
        let mut once = prevailing.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), prevailing.len(), "of each field one prevails");
        assert_eq!(once.len(), 9, "{once:?}");
    }
}

#[tokio::test]
async fn an_update_says_what_it_could_not_change() {
    let installation = Installation::start().await;
    let client = installation.client();
    let created = create(&client, Profile { name: name("Ada", "", "Byron"), ..Default::default() }).await;
    let married = Profile { name: name("", "", "Lovelace"), ..Default::default() };
    let document =
        record(&client, &created.customer_id, &said(Source::Document, 9, &["name.family_name"], married)).await;
    assert_eq!(document.outweighed_fields.unwrap().paths, Vec::<String>::new());
    let request = UpdateProfileRequest {
        request_id: request_id(),
        customer_id: created.customer_id.clone(),
        profile: Some(Profile { name: name("Augusta", "", "King"), ..Default::default() }),
        update_mask: Some(FieldMask { paths: vec!["name".into()] }),
        ..Default::default()
    };
    let updated = client.profile().update_profile(request).await.unwrap().into_inner();
    assert_eq!(updated.outweighed_fields.unwrap().paths, ["name.family_name"]);
    assert_eq!(updated.profile.unwrap().name_forms.unwrap().display, "Augusta Lovelace");
    // Before the first word there was nobody.
    let request = GetProfileRequest {
        customer_id: created.customer_id,
        as_of_time: Some(Timestamp { seconds: 1_000_000_000, nanos: 0 }),
        ..Default::default()
    };
    assert_eq!(reason(&client.profile().get_profile(request).await.err().unwrap()), "CUSTOMER_NOT_FOUND");
}

#[tokio::test]
async fn what_has_expired_is_not_said() {
    let installation = Installation::start().await;
    let client = installation.client();
    let soon = Timestamp { seconds: sqlx::types::chrono::Utc::now().timestamp() + 2, nanos: 0 };
    let credit = Credit {
        band: CreditBand::B.into(),
        bureau_reference: "b-1".into(),
        legal_basis: "contract".into(),
        expire_time: Some(soon),
    };
    let income = Income { lower_minor: 100, upper_minor: Some(200), currency_code: "EUR".into(), ..Default::default() };
    let created = Profile { credit: Some(credit), income: Some(income), ..Default::default() };
    let created = create(&client, created).await;
    assert!(created.credit.is_some());
    let before = get(&client, &created.customer_id, Vec::new()).await.unwrap();
    assert!(before.profile.unwrap().profile.unwrap().credit.is_some());
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    // Also where it was kept in memory.
    let after = get(&client, &created.customer_id, Vec::new()).await.unwrap().profile.unwrap().profile.unwrap();
    assert!(after.credit.is_none() && after.income.is_some());
    assert!(as_of(&client, &created.customer_id, created.create_time.unwrap()).await.credit.is_none());
}

#[tokio::test]
async fn people_are_found_by_any_word_of_their_names() {
    let installation = Installation::start().await;
    let client = installation.client();
    let mut ids = Vec::new();
    for (language, region, parts) in [
        ("de", "DE-BE", ("Jürgen", "", "Müller")),
        ("ru", "RU", ("Владимир", "Владимирович", "Иванов")),
        ("zh", "CN", ("小明", "", "王")),
        ("en", "DE", ("Juergen", "", "Muller-Smith")),
    ] {
        let (language, region) = (language.to_owned(), region.to_owned());
        let profile = Profile { name: name(parts.0, parts.1, parts.2), language, region, ..Default::default() };
        ids.push(create(&client, profile).await.customer_id);
    }
    let search = async |query: &str, filter: &str| {
        let request = SearchProfilesRequest { query: query.into(), filter: filter.into(), ..Default::default() };
        let found = client.profile().search_profiles(request).await.unwrap().into_inner().profiles;
        found
            .into_iter()
            .map(|profile| ids.iter().position(|id| *id == profile.customer_id).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(search("MÜLLER", "").await, [0, 3]);
    assert_eq!(search("muller jurgen", "").await, [0]);
    assert_eq!(search("muller", "region:DE-BE").await, [0]);
    assert_eq!(search("muller", "region:DE").await, [0, 3], "a country has its regions");
    assert_eq!(search("ivanov vladimir", "").await, [1]);
    assert_eq!(search("王小明", "").await, [2]);
    assert_eq!(search("wang", "").await, [2]);
    assert_eq!(search("muller nobody", "").await, Vec::<usize>::new());

    // Page by page, and under another name.
    let page = SearchProfilesRequest { query: "muller".into(), page_size: 1, ..Default::default() };
    let first = client.profile().search_profiles(page.clone()).await.unwrap().into_inner();
    let page = SearchProfilesRequest { page_token: first.next_page_token, ..page };
    let second = client.profile().search_profiles(page.clone()).await.unwrap().into_inner();
    assert_eq!(second.profiles[0].customer_id, ids[3]);
    assert_eq!(second.next_page_token, "");
    let other = SearchProfilesRequest { query: "wang".into(), ..page };
    assert_eq!(reason(&client.profile().search_profiles(other).await.err().unwrap()), "PAGE_TOKEN_INVALID");
    let renamed = Profile { name: name("", "", "Schmidt"), ..Default::default() };
    record(&client, &ids[0], &said(Source::Document, 9, &["name.family_name"], renamed)).await;
    assert_eq!(search("muller", "").await, [3]);
    assert_eq!(search("schmidt", "").await, [0]);
    installation.destroy_keys(&ids[0]).await;
    assert_eq!(search("schmidt", "").await, Vec::<usize>::new());

    // A word of half the names leads nowhere; with a rarer one it does.
    let mut sql = installation.sql().await;
    sqlx::raw_sql(
        "insert into profile.customers (customer_id, version) select gen_random_uuid(), 1 from generate_series(1, 1200);
         insert into profile.profiles (customer_id, version, sealed, gender, language, time_zone, region)
             select customer_id, 1, '', 0, '', '', '' from profile.customers
             where customer_id not in (select customer_id from profile.profiles) and state = 'live';
         insert into profile.name_tokens (hash, customer_id)
             select t.hash, p.customer_id from profile.profiles p, profile.name_tokens t
             where t.customer_id = (select customer_id from profile.profiles where language = 'ru')
             on conflict do nothing",
    )
    .execute(&mut sql)
    .await
    .unwrap();
    let common = SearchProfilesRequest { query: "ivanov".into(), ..Default::default() };
    assert_eq!(reason(&client.profile().search_profiles(common).await.err().unwrap()), "QUERY_TOO_COMMON");
    assert_eq!(search("ivanov wang", "").await, [2]);
}

#[tokio::test]
async fn exotic_names_come_back_as_they_were_and_what_shows_nothing_is_refused() {
    let installation = Installation::start().await;
    let client = installation.client();
    for given in [
        "毛泽东",
        "\u{20bb7}野家",
        "Ёлкина",
        "Nguyễn Thị Minh Khai",
        "D’Angelo",
        "עברית כהן",
        "محمد بن عبدالله",
        "นายสมชาย",
        "たなか・さくら",
        "김철수",
        "X Æ A-12",
        "O",
        "Null",
        "test\u{200d}",
        "👩\u{200d}👩\u{200d}👧\u{200d}👦",
        "Zalgo T\u{335}\u{32a}\u{35d}o\u{336}\u{32d}\u{313}",
        "Robert'); DROP TABLE customers;--",
        "<script>alert(1)</script>",
        "\u{202e}evil\u{202c}",
        "Jose\u{301}",
    ] {
        let created = create(&client, Profile { name: name(given, "", ""), ..Default::default() }).await;
        let request = GetProfileRequest { customer_id: created.customer_id, ..Default::default() };
        let read = client.profile().get_profile(request).await.unwrap().into_inner().profile.unwrap();
        assert_eq!(read.name.unwrap().given_name, given, "byte by byte");
    }
    for given in ["   ", "\u{200b}", "a\u{0}b", "a\u{7}b", &"a".repeat(100_001)] {
        let profile = Some(Profile { name: name(given, "", ""), ..Default::default() });
        let request = CreateProfileRequest { request_id: request_id(), profile, ..Default::default() };
        let refused = client.profile().create_profile(request).await.err().unwrap();
        assert_eq!(tests::violations(&refused), ["profile.name.given_name"]);
    }
}
