//! The generator: calls in a closed loop, each followed by the next, or in an open one, at times that do
//! not wait for answers.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use client::Channel;
use hdrhistogram::Histogram;
use prost::{Message, bytes::Bytes};
use proto::{Codec, Composed};
use rand::{SeedableRng, rngs::StdRng};
use tonic::{Request, client::Grpc, metadata::AsciiMetadataValue};

/// Connections of the generator.
const CHANNELS: usize = 4;

/// A method and how its requests are made.
#[derive(Clone)]
pub struct Workload {
    path: &'static str,
    request: Arc<dyn Fn(&mut StdRng) -> Bytes + Send + Sync>,
}

impl Workload {
    pub fn new<T: Message>(path: &'static str, request: impl Fn(&mut StdRng) -> T + Send + Sync + 'static) -> Self {
        Self { path, request: Arc::new(move |rng| request(rng).encode_to_vec().into()) }
    }
}

/// A server to be measured, and the process whose memory counts.
#[derive(Clone)]
pub struct Target {
    pub channels: Vec<Channel>,
    pub authorization: AsciiMetadataValue,
    pub process: u32,
}

/// What one round of a row measured.
#[derive(Clone)]
pub struct Measured {
    pub per_second: f64,
    pub p50: u64,
    pub p99: u64,
    pub cpu_per_10k: f64,
    pub rss_mib: f64,
    /// The share of what it is compared with.
    pub share: f64,
}

impl Target {
    pub fn new(url: &str, token: &str, process: u32) -> Self {
        let channels = (0..CHANNELS).map(|_| client::channel(url).unwrap()).collect();
        Self { channels, authorization: format!("Bearer {token}").parse().unwrap(), process }
    }

    /// One call, of which only the bytes are looked at. One that fails ends the measurement.
    async fn call(&self, caller: usize, work: &Workload, rng: &mut StdRng) {
        let mut grpc = Grpc::new(self.channels[caller % CHANNELS].clone());
        let mut request = Request::new(Composed((work.request)(rng)));
        let metadata = request.metadata_mut();
        metadata.insert("authorization", self.authorization.clone());
        metadata.insert("clientele-purpose", AsciiMetadataValue::from_static("service"));
        metadata.insert("grpc-timeout", AsciiMetadataValue::from_static("5S"));
        grpc.ready().await.unwrap();
        let codec = Codec::<Composed, Composed>::default();
        let path = http::uri::PathAndQuery::from_static(work.path);
        grpc.unary(request, path, codec).await.unwrap();
    }
}

/// Keeps so many calls in flight.
pub async fn closed(target: &Target, work: &Workload, duration: Duration, in_flight: usize) -> Measured {
    let until = Instant::now() + duration;
    run(target.process, in_flight, |caller| {
        let (target, work) = (target.clone(), work.clone());
        async move {
            let (mut times, mut rng) = (histogram(), StdRng::seed_from_u64(caller as u64));
            while Instant::now() < until {
                let sent = Instant::now();
                target.call(caller, &work, &mut rng).await;
                times.record(micros(sent)).unwrap();
            }
            times
        }
    })
    .await
}

/// Makes so many calls a second, whether or not the ones before were answered. A call's time counts from
/// when it was due, so that one that had to wait for another is as late as its caller would find it.
pub async fn open(target: &Target, work: &Workload, duration: Duration, per_second: f64) -> Measured {
    let (began, due) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    run(target.process, 512, |caller| {
        let (target, work, due) = (target.clone(), work.clone(), due.clone());
        async move {
            let (mut times, mut rng) = (histogram(), StdRng::seed_from_u64(caller as u64));
            loop {
                let at = Duration::from_secs_f64(due.fetch_add(1, Relaxed) as f64 / per_second);
                if at > duration {
                    return times;
                }
                tokio::time::sleep_until((began + at).into()).await;
                target.call(caller, &work, &mut rng).await;
                times.record(micros(began + at)).unwrap();
            }
        }
    })
    .await
}

/// Runs callers of any kind and counts what they answer, and the memory of a process.
pub async fn run<F>(process: u32, callers: usize, caller: impl Fn(usize) -> F) -> Measured
where
    F: Future<Output = Histogram<u64>> + Send + 'static,
{
    let (began, busy) = (Instant::now(), busy_seconds());
    let running: Vec<_> = (0..callers).map(|i| tokio::spawn(caller(i))).collect();
    let mut times = histogram();
    for caller in running {
        times.add(caller.await.unwrap()).unwrap();
    }
    let calls = times.len() as f64;
    Measured {
        per_second: calls / began.elapsed().as_secs_f64(),
        p50: times.value_at_quantile(0.5),
        p99: times.value_at_quantile(0.99),
        cpu_per_10k: (busy_seconds() - busy) / calls * 10_000.0,
        rss_mib: resident(process),
        share: 1.0,
    }
}

/// Microseconds up to a minute, three digits exact.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).unwrap()
}

pub fn micros(since: Instant) -> u64 {
    since.elapsed().as_micros().max(1) as u64
}

/// What all processes of the machine have used of its cores.
pub fn busy_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let jiffies: Vec<f64> = stat.lines().next().unwrap().split_whitespace().skip(1).flat_map(str::parse).collect();
    // Of the columns the fourth and fifth are idleness, the eighth is other machines'; a jiffy is a hundredth
    // of a second.
    (jiffies.iter().take(7).sum::<f64>() - jiffies[3] - jiffies[4]) / 100.0
}

/// The resident memory of a process.
pub fn resident(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or(0.0, |line| line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0)
}
