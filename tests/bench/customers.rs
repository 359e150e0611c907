//! A great many customers with two contact points each through the import, and how long it then takes to find one: by
//! e-mail at contact and by name at profile, beside an echo with as many calls in flight.

use std::{
    fs::File,
    io::{BufWriter, Write},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use access::{Call, Caller, InternalKey, Purpose};
use client::Peer;
use proto::{
    contact::v1::{
        ContactPointValue, EmailAddress, LookupContactPointsRequest, contact_service_client::ContactServiceClient,
    },
    customer::v1::GetCustomerRequest,
    profile::v1::{SearchProfilesRequest, profile_service_client::ProfileServiceClient},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tests::{Processes, binary};

use crate::{
    GET,
    load::{Measured, Target, Workload, closed, histogram, micros, run},
    peers::Running,
};

const IN_FLIGHT: usize = 32;
const GIVEN_NAMES: u64 = 2_000;
const FAMILY_NAMES: u64 = 50_000;

/// Imports customers, looks some up, and prints how fast.
pub async fn customers(processes: &Processes, count: u64, duration: Duration) {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let file = folder.path().join("customers.ndjson");
    let mut rows = BufWriter::new(File::create(&file).unwrap());
    for n in 0..count {
        writeln!(rows, "{}", row(n)).unwrap();
    }
    rows.flush().unwrap();
    drop(rows);

    let began = Instant::now();
    let import = Command::new(binary("clientele"))
        .args(["import", "ndjson"])
        .arg(&file)
        .args(["--url", &processes.url, "--token", &processes.token, "--state"])
        .arg(folder.path())
        .status()
        .unwrap();
    assert!(import.success(), "the import failed");
    let seconds = began.elapsed().as_secs_f64();
    println!("import: {count} customers with {} contact points, {:.0} customers/s", 2 * count, count as f64 / seconds);

    let echo = Running::start(&["echo", "1300"]);
    let get = Workload::new(GET, |_| GetCustomerRequest::default());
    let target = Target::new(&echo.url, &processes.token, echo.process);
    let peer = |service: &str| {
        let key = InternalKey::read("gateway", &processes.plan.keys.internal_key_file()).unwrap();
        Arc::new(Peer::new(client::channel(&processes.service_url(service)).unwrap(), key))
    };
    let (contact, profile) = (peer("contact"), peer("profile"));
    // The first round warms up what a young process has to learn.
    for round in 0..3 {
        let echo = closed(&target, &get, duration, IN_FLIGHT).await;
        let email = by_email(&contact, processes.ids["contact"], count, duration).await;
        let name = by_name(&profile, processes.ids["profile"], count, duration).await;
        if round > 0 {
            print("echo", &echo, &echo);
            print("look-up by e-mail at contact", &email, &echo);
            print("search by name at profile", &name, &echo);
        }
    }
}

fn print(what: &str, measured: &Measured, echo: &Measured) {
    let Measured { per_second, p50, p99, .. } = measured;
    let (p50, p99) = (*p50 as f64 / 1000.0, *p99 as f64 / 1000.0);
    let share = per_second / echo.per_second;
    println!("{what:<30} {per_second:>8.0}/s ({share:.2} of the echo) p50 {p50:.1} ms, p99 {p99:.1} ms");
}

async fn by_email(peer: &Arc<Peer>, process: u32, count: u64, duration: Duration) -> Measured {
    looped(peer, process, duration, move |peer, call, n| async move {
        let address = EmailAddress { address: email(n % count), ..Default::default() };
        let values = vec![ContactPointValue { email: Some(address), ..Default::default() }];
        let request = peer.request(&call, LookupContactPointsRequest { values, consistency: None });
        let found = ContactServiceClient::new(peer.channel.clone()).lookup_contact_points(request).await.unwrap();
        assert_eq!(found.into_inner().results[0].customer_ids.len(), 1);
    })
    .await
}

async fn by_name(peer: &Arc<Peer>, process: u32, count: u64, duration: Duration) -> Measured {
    looped(peer, process, duration, move |peer, call, n| async move {
        let (given, family) = name(n % count);
        let request = SearchProfilesRequest { query: format!("{given} {family}"), ..Default::default() };
        let found = ProfileServiceClient::new(peer.channel.clone()).search_profiles(peer.request(&call, request)).await;
        match found {
            Ok(found) => assert!(!found.into_inner().profiles.is_empty()),
            Err(status) => assert_eq!(tests::reason(&status), "QUERY_TOO_COMMON"),
        }
    })
    .await
}

async fn looped<F>(
    peer: &Arc<Peer>,
    process: u32,
    duration: Duration,
    ask: impl Fn(Arc<Peer>, Call, u64) -> F + Clone + Send + 'static,
) -> Measured
where
    F: Future<Output = ()> + Send,
{
    let until = Instant::now() + duration;
    run(process, IN_FLIGHT, |caller| {
        let (peer, ask) = (peer.clone(), ask.clone());
        async move {
            let (mut times, mut rng) = (histogram(), StdRng::seed_from_u64(caller as u64));
            while Instant::now() < until {
                let caller = Caller { subject: "bench".into(), purpose: Purpose::parse("service").unwrap() };
                let deadline = Instant::now() + Duration::from_secs(5);
                let call = Call { caller, deadline, traceparent: "".into() };
                let sent = Instant::now();
                ask(peer.clone(), call, rng.random()).await;
                times.record(micros(sent)).unwrap();
            }
            times
        }
    })
    .await
}

fn row(n: u64) -> String {
    let (given, family) = name(n);
    let (year, month, day) = (1940 + n % 65, 1 + n % 12, 1 + n % 28);
    let region = ["DE", "DE-BY", "FR", "GB", "PL", "US", "US-CA", "PT"][(n % 8) as usize];
    let (email, phone) = (email(n), format!("+4915{:09}", 110_000_000 + n));
    format!(
        r#"{{"customer":{{"profile":{{"name":{{"given_name":"{given}","family_name":"{family}"}},"birth_date":{{"year":{year},"month":{month},"day":{day}}},"language":"en","region":"{region}","external_ids":[{{"system":"bench","id":"{n}"}}]}},"contact_points":[{{"email":{{"address":"{email}"}}}},{{"phone":{{"number":"{phone}"}}}}]}}}}"#
    )
}

fn email(n: u64) -> String {
    format!("customer{n}@example.org")
}

/// As common as names are: of 2,000 given ones the first is that of each fortieth, and few are more common than 0.5 %.
fn name(n: u64) -> (String, String) {
    let mut rng = StdRng::seed_from_u64(n);
    let mut rank = |of: u64| (rng.random::<f64>().powi(2) * of as f64) as u64;
    (word(rank(GIVEN_NAMES)), word(FAMILY_NAMES + rank(FAMILY_NAMES)))
}

fn word(mut rank: u64) -> String {
    const SYLLABLES: [&str; 20] = [
        "ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu", "va", "we", "xi",
        "yo", "zu",
    ];
    let mut word = String::from("a");
    while rank > 0 {
        word.push_str(SYLLABLES[(rank % 20) as usize]);
        rank /= 20;
    }
    word
}
