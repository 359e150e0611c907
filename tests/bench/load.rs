use std::{
    fs,
    time::{Duration, Instant},
};

use proto::{Codec, Composed, customer::v1::GetCustomerRequest};
use rand::{SeedableRng, rngs::StdRng};
use tonic::{Request, client::Grpc, transport::Channel};

/// The method that every row calls.
pub const PATH: &str = "/clientele.customer.v1.CustomerService/GetCustomer";
/// Connections of the generator.
const CHANNELS: usize = 4;

/// A server to be measured.
pub struct Target {
    channels: Vec<Channel>,
    authorization: String,
}

/// What a row measured.
#[derive(Clone)]
pub struct Measured {
    pub per_second: f64,
    pub share: f64,
    pub p50: u64,
    pub p99: u64,
    pub cpu_per_10k: f64,
}

impl Target {
    pub fn new(url: &str, token: &str) -> Self {
        let channels = (0..CHANNELS).map(|_| client::channel(url).unwrap()).collect();
        Self { channels, authorization: format!("Bearer {token}") }
    }
}

/// Keeps so many calls in flight, each followed by the next, and reads no reply further than its
/// bytes. A call that fails ends the measurement.
pub async fn measure(
    target: &Target,
    request: impl Fn(&mut StdRng) -> GetCustomerRequest + Clone + Send + 'static,
    duration: Duration,
    in_flight: usize,
) -> Measured {
    let (began, busy) = (Instant::now(), busy_seconds());
    let callers: Vec<_> = (0..in_flight)
        .map(|i| {
            let mut grpc = Grpc::new(target.channels[i % CHANNELS].clone());
            let (request, authorization) = (request.clone(), target.authorization.parse().unwrap());
            let authorization: tonic::metadata::AsciiMetadataValue = authorization;
            tokio::spawn(async move {
                let mut times = Vec::new();
                let mut rng = StdRng::seed_from_u64(i as u64);
                while began.elapsed() < duration {
                    let mut request = Request::new(request(&mut rng));
                    request.metadata_mut().insert("authorization", authorization.clone());
                    request.metadata_mut().insert("clientele-purpose", "service".parse().unwrap());
                    request.metadata_mut().insert("grpc-timeout", "5S".parse().unwrap());
                    let sent = Instant::now();
                    grpc.ready().await.unwrap();
                    let codec = Codec::<GetCustomerRequest, Composed>::default();
                    grpc.unary(request, PATH.parse().unwrap(), codec).await.unwrap();
                    times.push(sent.elapsed().as_micros() as u64);
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for caller in callers {
        times.extend(caller.await.unwrap());
    }
    times.sort_unstable();
    let quantile = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let (calls, took) = (times.len() as f64, began.elapsed().as_secs_f64());
    Measured {
        per_second: calls / took,
        share: 1.0,
        p50: quantile(0.5),
        p99: quantile(0.99),
        cpu_per_10k: (busy_seconds() - busy) / calls * 10_000.0,
    }
}

/// What all processes of the machine have used of its cores.
pub fn busy_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let jiffies: Vec<f64> = stat.lines().next().unwrap().split_whitespace().skip(1).flat_map(str::parse).collect();
    // Of the columns the fourth and fifth are idleness; a jiffy is a hundredth of a second.
    (jiffies.iter().take(8).sum::<f64>() - jiffies[3] - jiffies[4]) / 100.0
}
