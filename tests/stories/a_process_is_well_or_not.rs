//! What a process says of itself, and what its callers meet while what it needs is away, or while it ends.

use std::time::{Duration, Instant};

use client::{Client, request_id};
use proto::{customer::v1::*, loyalty::v1::AccruePointsRequest, r#type::v1::Consistency};
use tests::{Fixture, Postgres, Processes, reason};
use tonic::{Code, Request};

/// A caller's time in the calls below.
const TIME: Duration = Duration::from_secs(1);

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(TIME);
    request
}

/// Within a tenth of the deadline, on either side.
fn in_time(took: Duration) -> bool {
    took > TIME.mul_f64(0.9) && took < TIME.mul_f64(1.1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_database_costs_callers_their_deadline_and_no_more() {
    let postgres = Postgres::start();
    let (plan, state) = tests::plan_on(&postgres.url()).await;
    let processes = Processes::start_as(plan, state, &[]).await;
    let loyalty = processes.replica("loyalty", &[]);
    loyalty.ready().await;
    let url = format!("http://{}", loyalty.address);
    let gateway = processes.replica("gateway", &[("CLIENTELE_LOYALTY_URL", &url)]);
    gateway.ready().await;
    let client = Client::new(&format!("http://{}", gateway.address), &processes.token, "service").unwrap();
    let fixture = Fixture::create(&client).await;
    let accrue = || {
        let (request_id, member_id) = (request_id(), fixture.member_id.clone());
        let request = timed(AccruePointsRequest { request_id, member_id, points: 1, cause: "test".into() });
        let client = client.clone();
        async move {
            let began = Instant::now();
            (client.loyalty().accrue_points(request).await, began.elapsed())
        }
    };
    assert!(loyalty.says(server::READINESS).await && loyalty.says(server::LIVENESS).await);

    postgres.freeze();
    let mut times = Vec::new();
    for _ in 0..3 {
        for (answer, took) in futures_util::future::join_all((0..100).map(|_| accrue())).await {
            let status = answer.err().unwrap();
            assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
            times.push(took);
        }
    }
    // A machine that is busy with other tests may wake a few of the callers late.
    times.sort_unstable();
    assert!(in_time(times[0]) && in_time(times[284]) && times[299] < 2 * TIME, "{times:?}");
    // What cannot be had is named, in time.
    let consistency = Some(Consistency { fully_consistent: true, ..Default::default() });
    let customer_id = fixture.customer_id.clone();
    let request = timed(GetCustomerRequest { customer_id, consistency, ..Default::default() });
    let began = Instant::now();
    let customer = client.customer().get_customer(request).await.map(|reply| reply.into_inner().customer.unwrap());
    assert!(began.elapsed() < TIME.mul_f64(1.1), "{:?}", began.elapsed());
    match customer {
        Ok(customer) => assert_eq!(customer.unavailable.len(), 7),
        Err(status) => assert_eq!(reason(&status), "DEADLINE_EXCEEDED"),
    }
    // Nothing has piled up behind the callers that have gone.
    let metrics = loyalty.metrics().await;
    let value = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} is not told"));
        line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    assert!(value("clientele_in_flight") <= value("clientele_admission_limit"));
    assert!(value("clientele_db_connections_used") <= value("clientele_db_connections_max"));
    assert_eq!(value("clientele_db_up"), 0.0);
    // It takes no calls, and is not to be begun anew.
    assert!(!loyalty.says(server::READINESS).await && loyalty.says(server::LIVENESS).await);

    postgres.thaw();
    loyalty.ready().await;
    let mut answered = false;
    for _ in 0..50 {
        answered |= accrue().await.0.is_ok();
    }
    assert!(answered, "the database is back and nobody is answered");
    processes.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_the_token_from_which_another_process_goes_on() {
    let processes = Processes::start(&[]).await;
    let mut gateway = processes.replica("gateway", &[("CLIENTELE_DRAIN_SECONDS", "1")]);
    gateway.ready().await;
    let client = Client::new(&format!("http://{}", gateway.address), &processes.token, "service").unwrap();
    let mut messages = client.customer().watch_customers(WatchCustomersRequest::default()).await.unwrap().into_inner();
    let mut token = messages.message().await.unwrap().unwrap().resume_token;
    Processes::signal(gateway.id(), "-TERM");
    let status = loop {
        match messages.message().await {
            Ok(message) => token = message.expect("a stream does not end without a word").resume_token,
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "SERVER_DRAINING"));
    gateway.end("-TERM").await;
    // What happens meanwhile is told elsewhere.
    let fixture = Fixture::create(&processes.client()).await;
    let request = WatchCustomersRequest { resume_token: token, ..Default::default() };
    let mut messages = processes.client().customer().watch_customers(request).await.unwrap().into_inner();
    loop {
        let message = messages.message().await.unwrap().unwrap();
        if message.changes.iter().any(|change| change.customer_id == fixture.customer_id) {
            break;
        }
    }
    processes.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_ends_a_stream_too() {
    let processes = Processes::start(&[]).await;
    let request = timed(WatchCustomersRequest::default());
    let began = Instant::now();
    let mut messages = processes.client().customer().watch_customers(request).await.unwrap().into_inner();
    let status = loop {
        if let Err(status) = messages.message().await {
            break status;
        }
    };
    assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    assert!(in_time(began.elapsed()), "{:?}", began.elapsed());
    processes.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_sees_its_quota_and_is_refused_above_it() {
    let processes = Processes::start(&[]).await;
    let gateway = processes.replica("gateway", &[("CLIENTELE_CALLS_PER_SECOND", "5")]);
    gateway.ready().await;
    let client = Client::new(&format!("http://{}", gateway.address), &processes.token, "service").unwrap();
    let (mut left, mut refused) = (Vec::new(), 0);
    for _ in 0..20 {
        match client.loyalty().list_programmes(proto::loyalty::v1::ListProgrammesRequest::default()).await {
            Ok(reply) => {
                let of = |name: &str| reply.metadata().get(name).unwrap().to_str().unwrap().parse::<u32>().unwrap();
                assert_eq!(of("ratelimit-limit"), 5);
                assert!(of("ratelimit-reset") <= 1);
                left.push(of("ratelimit-remaining"));
            }
            Err(status) => {
                assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "QUOTA_EXCEEDED"));
                let pause = tonic_types::StatusExt::get_details_retry_info(&status).unwrap().retry_delay.unwrap();
                assert!(pause <= Duration::from_millis(200), "{pause:?}");
                assert_eq!(status.metadata().get("ratelimit-remaining").unwrap(), "0");
                refused += 1;
            }
        }
    }
    assert!(left[0] == 4 && left.windows(2).take(3).all(|pair| pair[1] <= pair[0]), "{left:?}");
    assert!(refused > 0, "{left:?}");
    // Another caller has its own.
    let other = processes.plan.keys.token("other", &[], 1).unwrap();
    let other = Client::new(&format!("http://{}", gateway.address), &other, "service").unwrap();
    other.loyalty().list_programmes(proto::loyalty::v1::ListProgrammesRequest::default()).await.unwrap();
    processes.stop();
}

/// What a panel or a warning asks for and nobody tells would be a blind spot that looks like peace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_is_shown_or_warned_of_is_told() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../k8s/components/monitoring");
    let files = ["dashboards/calls.json", "dashboards/stores.json", "rules.yaml"];
    let text: String = files.map(|file| std::fs::read_to_string(format!("{root}/{file}")).unwrap()).concat();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut asked: Vec<&str> = text
        .split(|c| !is_name(c))
        .filter(|word| word.starts_with("clientele_") || word.starts_with("rpc_server_"))
        .collect();
    asked.sort_unstable();
    asked.dedup();
    assert!(asked.len() > 20, "{asked:?}");

    let processes = Processes::start(&[]).await;
    let client = processes.client();
    let fixture = Fixture::create(&client).await;
    tests::get(&client, &fixture.customer_id, Vec::new()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut told = String::new();
    for service in processes.ids.keys() {
        told.push_str(&processes.metrics(service).await);
    }
    for name in asked {
        // A family says of itself what it is before it has any value.
        let family = ["_total", "_bucket", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let is_told = told
            .lines()
            .any(|line| line.strip_prefix("# TYPE ").is_some_and(|rest| rest.split(' ').next() == Some(family)));
        assert!(is_told, "{name} is asked for and not told");
    }
    processes.stop();
}
