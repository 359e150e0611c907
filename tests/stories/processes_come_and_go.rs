//! Calls go on while processes are replaced, and what a killed one had said yes to is there.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use client::{Client, request_id};
use proto::{customer::v1::GetCustomerRequest, loyalty::v1::*};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tests::{Fixture, Processes, Replica, reason, soak};
use tokio::task::JoinSet;
use tonic::{Code, Status};

/// So many calls a second; `CLIENTELE_SOAK_RATE=1000` is what is promised.
fn rate() -> u64 {
    soak("RATE", 200)
}

/// So long after a process is back nobody notices any more that it was gone.
const RECOVERY: Duration = Duration::from_secs(3);

/// Three gateways, two processes of loyalty and one of each other service.
struct Deployment {
    processes: Processes,
    gateways: Vec<Replica>,
    loyalty: Vec<Replica>,
    client: Client,
    fixtures: Vec<Fixture>,
}

/// What callers have seen.
#[derive(Default)]
struct Seen {
    calls: AtomicU64,
    writes: AtomicU64,
    failures: Mutex<Vec<(Instant, Code, String)>>,
    /// Of each member the requests for a point, and whether the answer was yes.
    asked: Mutex<HashMap<String, BTreeMap<String, bool>>>,
}

impl Deployment {
    async fn start() -> Self {
        let processes = Processes::start(&[]).await;
        // Enough for callers, who look once a second, to notice.
        let drain = ("CLIENTELE_DRAIN_SECONDS", "2");
        let loyalty: Vec<Replica> = (0..2).map(|_| processes.replica("loyalty", &[drain])).collect();
        let of_loyalty = urls(&loyalty);
        let gateways: Vec<Replica> =
            (0..3).map(|_| processes.replica("gateway", &[drain, ("CLIENTELE_LOYALTY_URL", &of_loyalty)])).collect();
        for replica in loyalty.iter().chain(&gateways) {
            replica.ready().await;
        }
        let client = Client::new(&urls(&gateways), &processes.token, "service").unwrap();
        let mut fixtures = Vec::new();
        // Each has ten calls a second, two of them writes, which wait for each other.
        for _ in 0..rate() / 10 {
            fixtures.push(Fixture::create(&client).await);
        }
        Self { processes, gateways, loyalty, client, fixtures }
    }

    fn replicas(&mut self) -> impl Iterator<Item = &mut Replica> {
        self.gateways.iter_mut().chain(&mut self.loyalty)
    }

    /// Calls at a steady rate, four reads to a write, until told to stop.
    fn load(&self) -> (Arc<Seen>, Arc<AtomicBool>, tokio::task::JoinHandle<()>) {
        let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
        let members: Vec<_> = self.fixtures.iter().map(|f| (f.customer_id.clone(), f.member_id.clone())).collect();
        let (client, told, ended) = (self.client.clone(), seen.clone(), stop.clone());
        let load = tokio::spawn(async move {
            let (mut calls, mut rng) = (JoinSet::new(), StdRng::seed_from_u64(rate()));
            let mut beat = tokio::time::interval(Duration::from_micros(1_000_000 / rate()));
            beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
            for n in 0.. {
                beat.tick().await;
                if ended.load(Relaxed) {
                    break;
                }
                let (customer, member) = members[rng.random_range(..members.len())].clone();
                let (client, told) = (client.clone(), told.clone());
                calls.spawn(async move { told.call(n, &client, customer, member).await });
                while calls.try_join_next().is_some() {}
            }
            while calls.join_next().await.is_some() {}
        });
        (seen, stop, load)
    }
}

impl Seen {
    async fn call(&self, n: usize, client: &Client, customer_id: String, member_id: String) {
        self.calls.fetch_add(1, Relaxed);
        let done = match n % 5 {
            0 => {
                self.writes.fetch_add(1, Relaxed);
                let request_id = request_id();
                self.note(&member_id, &request_id, false);
                let done = accrue(client, &member_id, &request_id).await;
                if done.is_ok() {
                    self.note(&member_id, &request_id, true);
                }
                done
            }
            _ => {
                let request = GetCustomerRequest { customer_id, ..Default::default() };
                client.customer().get_customer(request).await.map(drop)
            }
        };
        if let Err(status) = done {
            self.failures.lock().unwrap().push((Instant::now(), status.code(), reason(&status)));
        }
    }

    fn note(&self, member_id: &str, request_id: &str, done: bool) {
        let mut asked = self.asked.lock().unwrap();
        asked.entry(member_id.to_owned()).or_default().insert(request_id.to_owned(), done);
    }

    fn failures(&self) -> Vec<(Instant, Code, String)> {
        self.failures.lock().unwrap().clone()
    }

    /// Each request once more: what was done is not done again, and what was not is done now.
    async fn settle(&self, client: &Client) {
        let asked = self.asked.lock().unwrap().clone();
        for (member_id, requests) in asked {
            let before = balance(client, &member_id).await;
            let acknowledged = requests.values().filter(|done| **done).count() as i64;
            // A hundred came with the fixture.
            assert!(before >= 100 + acknowledged, "{acknowledged} were acknowledged, and the balance is {before}");
            for (request_id, done) in &requests {
                if !done {
                    accrue(client, &member_id, request_id).await.unwrap();
                }
            }
            assert_eq!(balance(client, &member_id).await, 100 + requests.len() as i64);
        }
    }
}

async fn accrue(client: &Client, member_id: &str, request_id: &str) -> Result<(), Status> {
    let (member_id, request_id, cause) = (member_id.to_owned(), request_id.to_owned(), "test".to_owned());
    client.loyalty().accrue_points(AccruePointsRequest { request_id, member_id, points: 1, cause }).await.map(drop)
}

async fn balance(client: &Client, member_id: &str) -> i64 {
    let request = GetBalanceRequest { member_id: member_id.to_owned(), ..Default::default() };
    client.loyalty().get_balance(request).await.unwrap().into_inner().balance.unwrap().points
}

fn urls(replicas: &[Replica]) -> String {
    let addresses: Vec<String> = replicas.iter().map(|replica| replica.address.to_string()).collect();
    format!("http://{}", addresses.join(","))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_that_processes_are_replaced() {
    let mut deployment = Deployment::start().await;
    let (seen, stop, load) = deployment.load();
    let mut left = soak("RESTARTS", 5);
    while left > 0 {
        for replica in deployment.replicas().take(left as usize) {
            tokio::time::sleep(Duration::from_millis(300)).await;
            replica.end("-TERM").await;
            replica.again();
            replica.ready().await;
            // As Kubernetes goes on once a readiness probe has said yes.
            tokio::time::sleep(Duration::from_secs(1)).await;
            left -= 1;
        }
    }
    stop.store(true, Relaxed);
    load.await.unwrap();
    let (calls, failures) = (seen.calls.load(Relaxed), seen.failures());
    assert!(failures.is_empty(), "{} of {calls} failed: {:?}", failures.len(), &failures[..failures.len().min(5)]);
    assert!(calls > 1000 && seen.writes.load(Relaxed) > 200, "{calls} calls");
    seen.settle(&deployment.client).await;
    deployment.processes.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_said_yes_to_is_there_and_nothing_is_doubled() {
    let mut deployment = Deployment::start().await;
    let (seen, stop, load) = deployment.load();
    let mut disturbed = Vec::new();
    for i in 0..5 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let replica = deployment.replicas().nth(i).unwrap();
        let killed = Instant::now();
        replica.end("-KILL").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        replica.again();
        replica.ready().await;
        disturbed.push(killed..Instant::now() + RECOVERY);
    }
    // Those that nobody stands in for.
    for service in ["profile", "contact", "order-history", "interaction", "consent", "insight"] {
        let killed = Instant::now();
        let again = deployment.processes.kill(service);
        tokio::time::sleep(Duration::from_millis(500)).await;
        again().await;
        deployment.processes.ready(service).await;
        disturbed.push(killed..Instant::now() + RECOVERY);
        tokio::time::sleep(RECOVERY + Duration::from_secs(1)).await;
    }
    stop.store(true, Relaxed);
    load.await.unwrap();
    for (at, code, reason) in seen.failures() {
        assert!(matches!(code, Code::Unavailable | Code::DeadlineExceeded), "{code:?} {reason}");
        assert!(disturbed.iter().any(|time| time.contains(&at)), "{reason} when all had been back for seconds");
    }
    seen.settle(&deployment.client).await;
    deployment.processes.stop();
}
