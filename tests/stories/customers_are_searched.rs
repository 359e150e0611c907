use client::Client;
use proto::{
    contact::v1::*,
    customer::v1::{BatchGetCustomersRequest, SearchCustomersRequest},
    profile::v1::*,
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use sqlx::{PgConnection, Row};
use tests::{Installation, followed, reason, violations};

/// A customer as a filter sees one.
struct Person {
    customer_id: String,
    region: &'static str,
    language: &'static str,
    gender: Gender,
    words: Vec<&'static str>,
}

const WORDS: [&str; 3] = ["anna", "berta", "carla"];

async fn people(client: &Client, random: &mut StdRng, count: usize) -> Vec<Person> {
    let mut people: Vec<Person> = Vec::new();
    for _ in 0..count {
        let mut pick = |of: &[&'static str]| *of.choose(random).unwrap();
        let (region, language) = (pick(&["DE", "DE-BY", "AT", ""]), pick(&["de", "de-AT", "pt"]));
        let words = vec![pick(&WORDS), pick(&WORDS)];
        let gender = *[Gender::Female, Gender::Male, Gender::Unspecified].choose(random).unwrap();
        people.push(Person { customer_id: String::new(), region, language, gender, words });
    }
    let request = |person: &Person| {
        let (given, family) = (person.words[0].to_owned(), format!("{} everyone", person.words[1]));
        let name = Some(PersonName { given_name: given, family_name: family, ..Default::default() });
        let (region, language) = (person.region.to_owned(), person.language.to_owned());
        let profile = Some(Profile { name, region, language, gender: person.gender.into(), ..Default::default() });
        CreateProfileRequest { request_id: client::request_id(), profile, provenance: None }
    };
    for chunk in people.chunks_mut(250) {
        let batch = BatchCreateProfilesRequest { requests: chunk.iter().map(request).collect() };
        let results = client.profile().batch_create_profiles(batch).await.unwrap().into_inner().results;
        chunk.iter_mut().zip(results).for_each(|(person, result)| person.customer_id = result.customer_id);
    }
    people
}

type Holds = Box<dyn Fn(&Person) -> bool>;

/// A filter by chance, and who it is true of.
fn filter(random: &mut StdRng, depth: u32) -> (String, Holds) {
    if depth > 0 && random.random_bool(0.6) {
        let (one, is_one) = filter(random, depth - 1);
        let (other, is_other) = filter(random, depth - 1);
        return match random.random_range(0..4) {
            0 => (format!("({one} AND {other})"), Box::new(move |p| is_one(p) && is_other(p))),
            1 => (format!("({one} {other})"), Box::new(move |p| is_one(p) && is_other(p))),
            2 => (format!("({one} OR {other})"), Box::new(move |p| is_one(p) || is_other(p))),
            _ => (format!("NOT ({one})"), Box::new(move |p| !is_one(p))),
        };
    }
    let word = *WORDS.choose(random).unwrap();
    match random.random_range(0..10) {
        0 => (word.to_owned(), Box::new(move |p| p.words.contains(&word))),
        1 => (format!("name:\"{word} everyone\""), Box::new(move |p| p.words.contains(&word))),
        2 => ("region = DE".to_owned(), Box::new(|p| p.region == "DE")),
        3 => ("region:DE".to_owned(), Box::new(|p| p.region.starts_with("DE"))),
        4 => ("region != \"DE-BY\"".to_owned(), Box::new(|p| p.region != "DE-BY")),
        5 => ("language:de".to_owned(), Box::new(|p| p.language.starts_with("de"))),
        6 => ("language = de".to_owned(), Box::new(|p| p.language == "de")),
        7 => ("gender = GENDER_FEMALE".to_owned(), Box::new(|p| p.gender == Gender::Female)),
        8 => ("create_time >= 2000-01-01".to_owned(), Box::new(|_| true)),
        _ => ("create_time < \"2000-01-01T00:00:00Z\"".to_owned(), Box::new(|_| false)),
    }
}

#[tokio::test]
async fn whatever_is_asked_of_them() {
    let seed = tests::seed();
    let mut random = StdRng::seed_from_u64(seed);
    let installation = Installation::start().await;
    let client = installation.client();
    let people = people(&client, &mut random, 60).await;
    for i in 0..120 {
        let (filter, holds) = filter(&mut random, 3);
        // With a word that all names hold, and without.
        let query = if i % 2 == 0 { "everyone" } else { "" };
        let mut expected: Vec<&str> = people.iter().filter(|p| holds(p)).map(|p| p.customer_id.as_str()).collect();
        let mut request =
            SearchProfilesRequest { query: query.into(), filter: filter.clone(), page_size: 7, ..Default::default() };
        let mut found = Vec::new();
        loop {
            let page = client.profile().search_profiles(request.clone()).await;
            let page = page.unwrap_or_else(|e| panic!("{filter}: {} {:?}", reason(&e), violations(&e))).into_inner();
            found.extend(page.profiles.into_iter().map(|profile| profile.customer_id));
            if page.next_page_token.is_empty() {
                break;
            }
            assert_eq!(found.len() % 7, 0, "a page before the last is full");
            request.page_token = page.next_page_token;
        }
        // By customer id where the name must hold a word; ids of their own batch rise as the customers were created.
        expected.sort_unstable();
        assert_eq!(found, expected, "{query} {filter}, seed {seed}");
    }
}

#[tokio::test]
async fn a_found_customer_is_the_one_that_is_read() {
    let installation = Installation::start().await;
    let client = installation.client();
    let people = people(&client, &mut StdRng::seed_from_u64(1), 5).await;
    let search = async |request: &SearchCustomersRequest| {
        client.customer().search_customers(request.clone()).await.map(|reply| reply.into_inner())
    };
    let mut request = SearchCustomersRequest { query: "everyone".into(), page_size: 3, ..Default::default() };
    let first = search(&request).await.unwrap();
    request.page_token = first.next_page_token;
    let second = search(&request).await.unwrap();
    assert_eq!((first.customers.len(), second.customers.len(), second.next_page_token.as_str()), (3, 2, ""));
    let found: Vec<_> = first.customers.into_iter().chain(second.customers).collect();
    let customer_ids = found.iter().map(|customer| customer.customer_id.clone()).collect();
    let batch = BatchGetCustomersRequest { customer_ids, ..Default::default() };
    let read = client.customer().batch_get_customers(batch).await.unwrap().into_inner().results;
    for (found, read) in found.iter().zip(read) {
        let read = read.customer.unwrap();
        assert!(found.profile == read.profile && found.section_states.len() == 7);
    }
    request = SearchCustomersRequest { filter: "region:DE region = DE".into(), ..Default::default() };
    request.read_mask = Some(prost_types::FieldMask { paths: vec!["contact".into()] });
    let found = search(&request).await.unwrap().customers;
    assert_eq!(found.len(), people.iter().filter(|person| person.region == "DE").count());
    assert!(found.iter().all(|customer| customer.profile.is_none() && customer.section_states.len() == 1));

    for erased in &people {
        installation.destroy_keys(&erased.customer_id).await;
    }
    for (query, filter) in [("everyone", ""), ("", "create_time > 2000-01-01")] {
        let request = SearchCustomersRequest { query: query.into(), filter: filter.into(), ..Default::default() };
        assert!(search(&request).await.unwrap().customers.is_empty(), "{query}{filter}");
    }
    for (query, filter, fields) in [
        ("", "", vec!["filter"]),
        ("…", "birth_date = 1", vec!["query", "filter"]),
        ("anna", "region = DE AND", vec!["filter"]),
        ("anna", "shoe_size = 44", vec!["filter"]),
    ] {
        let request = SearchCustomersRequest { query: query.into(), filter: filter.into(), ..Default::default() };
        let refused = search(&request).await.err().unwrap();
        assert_eq!(
            (reason(&refused).as_str(), violations(&refused)),
            ("INVALID_FIELDS", fields.iter().map(|f| (*f).to_owned()).collect())
        );
    }
    let request = SearchCustomersRequest { page_token: "?".into(), query: "anna".into(), ..Default::default() };
    assert_eq!(reason(&search(&request).await.err().unwrap()), "PAGE_TOKEN_INVALID");
}

/// What is read of some tables while something is done ten times: rows without an index, and rows by one.
async fn rows_read(sql: &mut PgConnection, tables: &[&str], work: impl AsyncFn() -> bool) -> (i64, i64) {
    // Connections tell what they have read once a second, and when they end; for that it waits.
    let begin_anew = "select pg_terminate_backend(pid, 10000) from pg_stat_activity
                      where datname = current_database() and pid <> pg_backend_pid()";
    sqlx::raw_sql(begin_anew).execute(&mut *sql).await.unwrap();
    sqlx::raw_sql("select pg_stat_reset()").execute(&mut *sql).await.unwrap();
    let mut done = 0;
    while done < 10 {
        // The first ones may meet a connection that has ended.
        done += i32::from(work().await);
    }
    sqlx::raw_sql(begin_anew).execute(&mut *sql).await.unwrap();
    let read = "select sum(seq_tup_read)::bigint, sum(idx_tup_fetch)::bigint from pg_stat_user_tables
                where schemaname || '.' || relname = any ($1)";
    let row = sqlx::query(read).bind(tables).fetch_one(sql).await.unwrap();
    (row.get(0), row.get(1))
}

/// What a page or a look-up costs does not grow with the number of customers: no table is read through, and of the
/// indexes not much more than what is answered.
#[tokio::test]
async fn what_is_read_is_what_is_answered() {
    let installation = Installation::start().await;
    let client = installation.client();
    let people = people(&client, &mut StdRng::seed_from_u64(2), 5000).await;
    let name = Some(PersonName { given_name: "Anna".into(), family_name: "Rare".into(), ..Default::default() });
    let profile = Some(Profile { name, region: "AT".into(), ..Default::default() });
    let request = CreateProfileRequest { request_id: client::request_id(), profile, provenance: None };
    client.profile().create_profile(request).await.unwrap();
    let address = |n: usize| EmailAddress { address: format!("customer{n}@example.org"), ..Default::default() };
    for (chunk, people) in people[..2000].chunks(250).enumerate() {
        let request = |(n, person): (usize, &Person)| AddContactPointRequest {
            request_id: client::request_id(),
            customer_id: person.customer_id.clone(),
            contact_point: Some(ContactPoint { email: Some(address(chunk * 250 + n)), ..Default::default() }),
        };
        let batch = BatchAddContactPointsRequest { requests: people.iter().enumerate().map(request).collect() };
        client.contact().batch_add_contact_points(batch).await.unwrap();
    }
    // Insight reads profiles too while it follows.
    followed(&client).await;
    let mut sql = installation.sql().await;
    sqlx::raw_sql("analyze profile.profiles, profile.name_tokens, profile.customers, contact.contact_points")
        .execute(&mut sql)
        .await
        .unwrap();
    for (query, filter, rows) in [
        // How common a word is is counted up to a thousand.
        ("anna rare", "region = AT", 1100),
        ("", "region = AT", 200),
        ("", "create_time >= 2026-01-01 language:de", 300),
    ] {
        let request =
            SearchProfilesRequest { query: query.into(), filter: filter.into(), page_size: 20, ..Default::default() };
        let search = async || {
            let page = client.profile().search_profiles(request.clone()).await;
            page.is_ok_and(|page| !page.into_inner().profiles.is_empty())
        };
        let tables = ["profile.profiles", "profile.name_tokens", "profile.customers"];
        let (whole, fetched) = rows_read(&mut sql, &tables, search).await;
        assert_eq!(whole, 0, "{query} {filter}: rows were read without an index");
        assert!((10..rows * 10).contains(&fetched), "{query} {filter}: {fetched} rows for ten pages");
    }
    let look_up = async || {
        let values = vec![ContactPointValue { email: Some(address(1234)), ..Default::default() }];
        let found =
            client.contact().lookup_contact_points(LookupContactPointsRequest { values, consistency: None }).await;
        found.is_ok_and(|found| found.into_inner().results[0].customer_ids == [people[1234].customer_id.as_str()])
    };
    let (whole, fetched) = rows_read(&mut sql, &["contact.contact_points"], look_up).await;
    assert_eq!(whole, 0, "contact points were read without an index");
    assert!((10..=20).contains(&fetched), "{fetched} rows for ten look-ups");
}

/// A search for what is rare gives way after 20,000 customers, and goes on where it ended.
#[tokio::test]
async fn an_empty_page_may_have_another_behind_it() {
    let installation = Installation::start().await;
    let client = installation.client();
    let mut sql = installation.sql().await;
    sqlx::raw_sql(
        "insert into profile.customers (customer_id, version) select gen_random_uuid(), 1 from generate_series(1, 20100);
         insert into profile.profiles
             (customer_id, version, sealed, gender, language, time_zone, region, created_at, updated_at)
         select customer_id, 1, '', 0, 'en', '', '', '2026-01-01', '2026-01-01' from profile.customers",
    )
    .execute(&mut sql)
    .await
    .unwrap();
    let profile = Some(Profile { language: "pt".into(), ..Default::default() });
    let request = CreateProfileRequest { request_id: client::request_id(), profile, provenance: None };
    let rare = client.profile().create_profile(request).await.unwrap().into_inner().profile.unwrap();
    let mut request = SearchProfilesRequest { filter: "language = pt".into(), ..Default::default() };
    let first = client.profile().search_profiles(request.clone()).await.unwrap().into_inner();
    assert!(first.profiles.is_empty() && !first.next_page_token.is_empty());
    request.page_token = first.next_page_token;
    let second = client.profile().search_profiles(request).await.unwrap().into_inner();
    assert!(second.profiles == [rare] && second.next_page_token.is_empty());
}
