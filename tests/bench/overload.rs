//! What a server does with three times as many calls as it has room for. Its capacity is held down, by a wait of five
//! milliseconds behind eight places, and it has a core of its own, so that the generator is not the limit.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use access::{Caller, InternalKey, Purpose};
use axum::{Router, routing::any};
use client::Channel;
use hdrhistogram::Histogram;
use prost::bytes::Bytes;
use proto::{Codec, Composed};
use server::{Gate, Network, Serving, Well};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, client::Grpc, service::Routes};
use tower::service_fn;

use crate::{load, peers::Running};

const PATH: &str = "/clientele.profile.v1.ProfileService/GetProfile";
/// So many are answered at once, and each takes so long.
const PLACES: usize = 8;
const WAIT: Duration = Duration::from_millis(5);
/// One call in eight has somebody who waits for it; that many alone are less than there is room for.
const PROMPT: u64 = 8;
/// A generator that is this late measures itself.
const LATE: Duration = Duration::from_millis(10);

fn key() -> InternalKey {
    InternalKey::new("bench", &[7; 32])
}

/// The server, on the first core.
pub async fn serve() {
    pin(0);
    let places = Arc::new(Semaphore::new(PLACES));
    let answer = move |request: axum::extract::Request| {
        let places = places.clone();
        async move {
            let reply = service_fn(move |_: Request<Composed>| {
                let places = places.clone();
                async move {
                    let _place = places.acquire().await.unwrap();
                    tokio::time::sleep(WAIT).await;
                    Ok::<_, Status>(Response::new(Composed::default()))
                }
            });
            tonic::server::Grpc::new(Codec::<Composed, Composed>::default()).unary(reply, request).await
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("http://{}", listener.local_addr().unwrap());
    server::serve(Serving {
        name: "bench",
        services: Vec::new(),
        ready: Well::Always,
        routes: Routes::from(Router::new().route(PATH, any(answer))),
        gate: Gate::Internal(key()),
        listener,
        network: Network::default(),
        admission_floor: 2 * PLACES,
        calls_per_second: None,
        stop: CancellationToken::new(),
    })
    .await
    .unwrap();
}

fn pin(core: u32) {
    let id = std::process::id().to_string();
    std::process::Command::new("taskset").args(["-a", "-cp", &core.to_string(), &id]).output().unwrap();
}

/// What came of the calls of one phase.
struct Phase {
    answered: Histogram<u64>,
    lag: Histogram<u64>,
    sent: [u64; 2],
    refused: [u64; 2],
    /// Other failures by their codes.
    other: BTreeMap<String, u64>,
    last_refusal: Option<Instant>,
    took: Duration,
}

impl Phase {
    fn per_second(&self) -> f64 {
        self.answered.len() as f64 / self.took.as_secs_f64()
    }

    fn print(&self, what: &str) {
        let millis = |micros: u64| micros as f64 / 1000.0;
        println!(
            "{what:<16} {:>7.0} answered/s  p50 {:>6.1} ms  p99 {:>6.1} ms  refused: prompt {:>5.2} %, patient {:>5.1} %  other failures {:?}  generator late p99 {:.1} ms",
            self.per_second(),
            millis(self.answered.value_at_quantile(0.5)),
            millis(self.answered.value_at_quantile(0.99)),
            100.0 * self.refused[0] as f64 / self.sent[0].max(1) as f64,
            100.0 * self.refused[1] as f64 / self.sent[1].max(1) as f64,
            self.other,
            millis(self.lag.value_at_quantile(0.99)),
        );
    }
}

async fn call(channel: Channel, prompt: bool) -> Result<(), Status> {
    let purpose = Purpose::parse(if prompt { "service" } else { "marketing" }).unwrap();
    let mut request = Request::new(Composed(Bytes::new()));
    request.metadata_mut().insert("authorization", key().authorization(&Caller { subject: "bench".into(), purpose }));
    request.metadata_mut().insert(access::PURPOSE_HEADER, purpose.name().parse().unwrap());
    let mut grpc = Grpc::new(channel);
    grpc.ready().await?;
    let codec = Codec::<Composed, Composed>::default();
    grpc.unary(request, http::uri::PathAndQuery::from_static(PATH), codec).await.map(drop)
}

/// So many calls a second for so long, at their times.
async fn open(channels: &[Channel], duration: Duration, per_second: f64) -> Phase {
    let began = Instant::now();
    let phase = Arc::new(Mutex::new(Phase {
        answered: load::histogram(),
        lag: load::histogram(),
        sent: [0; 2],
        refused: [0; 2],
        other: BTreeMap::new(),
        last_refusal: None,
        took: duration,
    }));
    let mut calls = JoinSet::new();
    for n in 0..(duration.as_secs_f64() * per_second) as u64 {
        let due = began + Duration::from_secs_f64(n as f64 / per_second);
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
        let (channel, phase, is_prompt) =
            (channels[n as usize % channels.len()].clone(), phase.clone(), n % PROMPT == 0);
        calls.spawn(async move {
            let lag = due.elapsed();
            let answer = call(channel, is_prompt).await;
            let mut phase = phase.lock().unwrap();
            let kind = usize::from(!is_prompt);
            phase.sent[kind] += 1;
            phase.lag.saturating_record(lag.as_micros() as u64);
            match answer {
                Ok(()) => phase.answered.saturating_record(due.elapsed().as_micros() as u64),
                Err(status) if status.code() == Code::ResourceExhausted => {
                    phase.refused[kind] += 1;
                    phase.last_refusal = Some(Instant::now());
                }
                Err(status) => *phase.other.entry(status.code().to_string()).or_default() += 1,
            }
        });
        while calls.try_join_next().is_some() {}
    }
    while calls.join_next().await.is_some() {}
    Arc::into_inner(phase).unwrap().into_inner().unwrap()
}

/// Calls as fast as they are answered, so many at once.
async fn closed(channels: &[Channel], duration: Duration, in_flight: usize) -> f64 {
    let until = Instant::now() + duration;
    let mut callers = JoinSet::new();
    for i in 0..in_flight {
        let channel = channels[i % channels.len()].clone();
        callers.spawn(async move {
            let mut answered = 0_u64;
            while Instant::now() < until {
                answered += u64::from(call(channel.clone(), true).await.is_ok());
            }
            answered
        });
    }
    callers.join_all().await.iter().sum::<u64>() as f64 / duration.as_secs_f64()
}

/// Measures it.
pub async fn overload(duration: Duration) {
    let server = Running::start(&["overload-server"]);
    pin(1);
    let channels: Vec<Channel> = (0..4).map(|_| client::channel(&server.url).unwrap()).collect();
    closed(&channels, Duration::from_secs(2), 4).await;
    let peak = closed(&channels, Duration::from_secs(10), PLACES + 4).await;
    println!("peak             {peak:>7.0} answered/s");
    let half = open(&channels, Duration::from_secs(10), peak / 2.0).await;
    half.print("half of it");
    let over = open(&channels, duration, 3.0 * peak).await;
    over.print("three times it");
    let ended = Instant::now();
    let after = open(&channels, Duration::from_secs(10), peak / 2.0).await;
    after.print("half again");
    let recovery = after.last_refusal.map(|last| last - ended).unwrap_or_default();
    let slower = over.answered.value_at_quantile(0.99) as f64 / half.answered.value_at_quantile(0.99) as f64;
    println!(
        "goodput {:.2} of peak [0.9], p99 of the answered {slower:.1} times that at half load [3], last refusal {:.1} s after the end [5], of the prompt {:.2} % refused",
        over.per_second() / peak,
        recovery.as_secs_f64(),
        100.0 * over.refused[0] as f64 / over.sent[0].max(1) as f64,
    );
    if over.lag.value_at_quantile(0.99) > LATE.as_micros() as u64 {
        println!("void: the generator was late");
    }
}
