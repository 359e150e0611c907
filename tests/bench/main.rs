//! Measures reads and writes beside their peers and limits, in one run on one machine: generator, servers
//! and databases share the cores in every row, so absolute figures say little and ratios much.
//!
//! `bench [SECONDS] [ROUNDS] [CUSTOMERS …]`: at each number of customers, each round runs a peer, a path, the
//! peer, the next path, …, and a path's share is taken of the peer before it. Several numbers show how cost
//! grows; they ascend, since the customers of one are there for the next. `ROW=cold` in the environment runs
//! that path alone, for a profiler.
//!
//! `bench baskets FILE` imports a file of orders but for each customer's last, and compares with it what is recommended.
//!
//! `bench companions FILE COUNTS` imports a file of orders, and compares what lies in baskets together with a file that counts that.
//!
//! `bench demand FILE` imports a file of orders, and compares what is told of demand with what the file comes to.
//!
//! `bench lifetime FILE` imports a CDNOW master file, fits its model and predicts for a million customers.
//!
//! `bench moves NUMBER [SECONDS] [ORDERS A SECOND]` makes so many customers, and tells how long it takes from an order to the view with
//! its tier.
//!
//! `bench overload [SECONDS]` holds a server's capacity down and calls it three times as often as it can answer.
//!
//! `bench customers NUMBER [SECONDS]` imports so many customers and looks some of them up.

#![expect(clippy::print_stdout, reason = "a table for people is what this is for")]

mod baskets;
mod companions;
mod customers;
mod database;
mod demand;
mod fresh;
mod lifetime;
mod load;
mod moves;
mod overload;
mod peers;
mod report;
mod seed;

use std::time::Duration;

use client::{Client, request_id};
use futures_util::{StreamExt, stream};
use proto::{customer::v1::*, loyalty::v1::AccruePointsRequest, order_history::v1::*};
use rand::{RngExt, rngs::StdRng};
use tests::{Fixture, Processes, order};

use crate::{
    load::{Target, Workload, closed, open},
    peers::Running,
    report::Report,
};

/// So many orders a second are recorded while tiers move, unless said.
const ORDERS: f64 = 500.0;
/// So many calls are in flight.
const IN_FLIGHT: usize = 128;
/// So many customers are hot.
const HOT: u64 = 1000;
/// So many are warm: what can be read into Redis and measured within the ten minutes that it stays there.
const WARM: u64 = 200_000;
/// So many customers are read by one call.
const BATCH: u64 = 250;
const GET: &str = "/clientele.customer.v1.CustomerService/GetCustomer";
const RECORD: &str = "/clientele.order_history.v1.OrderHistoryService/RecordOrder";
const ACCRUE: &str = "/clientele.loyalty.v1.LoyaltyService/AccruePoints";

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if peers::serve(&arguments).await {
        return;
    }
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["overload-server"] => return overload::serve().await,
        ["overload", rest @ ..] => {
            let seconds = rest.first().map_or(60, |text| text.parse().unwrap());
            return overload::overload(Duration::from_secs(seconds)).await;
        }
        _ => (),
    }
    if let [what, count, rest @ ..] = arguments.as_slice()
        && ["customers", "moves"].contains(&what.as_str())
    {
        let duration = Duration::from_secs(rest.first().map_or(10, |text| text.parse().unwrap()));
        let processes = Processes::start(&[("RUST_LOG", "warn".to_owned())]).await;
        match what.as_str() {
            "customers" => customers::customers(&processes, count.parse().unwrap(), duration).await,
            _ => {
                let per_second = rest.get(1).map_or(ORDERS, |text| text.parse().unwrap());
                moves::moves(&processes, count.parse().unwrap(), per_second, duration).await;
            }
        }
        processes.stop();
        return;
    }
    if let [what, files @ ..] = arguments.as_slice()
        && ["baskets", "companions", "demand", "lifetime"].contains(&what.as_str())
    {
        let processes = Processes::start(&[("RUST_LOG", "warn".to_owned())]).await;
        match files {
            [file, counts] => companions::companions(&processes, file.as_ref(), counts.as_ref()).await,
            [file] if what == "baskets" => baskets::baskets(&processes, file.as_ref()).await,
            [file] if what == "lifetime" => lifetime::lifetime(&processes, file.as_ref()).await,
            [file] => demand::demand(&processes, file.as_ref()).await,
            _ => println!("which file?"),
        }
        processes.stop();
        return;
    }
    let mut numbers = arguments.iter().map(|text| text.parse::<u64>().unwrap());
    let (seconds, rounds) = (numbers.next().unwrap_or(4), numbers.next().unwrap_or(5));
    let sizes: Vec<u64> = numbers.collect();
    let quick = rounds == 1;

    // Everything is on: a trace of each hundredth call and the logs go to a collector.
    let collector = Running::start(&["collector"]);
    let processes = Processes::start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.clone()),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio".to_owned()),
        ("OTEL_TRACES_SAMPLER_ARG", "0.01".to_owned()),
        ("RUST_LOG", "warn".to_owned()),
    ])
    .await;
    let template = Fixture::create(&processes.client()).await;
    let bench = Bench::start(&processes, Duration::from_secs(seconds), rounds).await;
    let mut report = Report::default();
    let mut seeded = 0;
    for size in sizes {
        println!("{size} customers …");
        seed::seed(&processes, &template, seeded, size).await;
        seeded = size;
        bench.reads(&mut report, size).await;
        if !quick {
            bench.writes(&mut report, size, &processes).await;
        }
        report.print();
    }
    if !quick {
        bench.fresh(&mut report, seeded, &processes).await;
    }
    bench.memory(&processes);
    drop(bench);
    processes.stop();
}

/// The servers that are measured, and how.
struct Bench {
    duration: Duration,
    rounds: u64,
    hot: Target,
    warm: Target,
    reader: Client,
    cold: Target,
    echo: Target,
    fan_out: Target,
    queries: Target,
    database_url: String,
    redis_url: String,
    _running: Vec<Running>,
}

impl Bench {
    async fn start(processes: &Processes, duration: Duration, rounds: u64) -> Self {
        let token = processes.token.as_str();
        let warm = processes.gateway(&[("CLIENTELE_MEMORY_MIB", "0")]).await;
        // A whole installation without Redis has no cache at all.
        let (services, cold) = processes.without_redis().await;
        let key = processes.plan.keys.internal_key_file().display().to_string();
        let mut fan_out = vec!["naive_fan_out", key.as_str()];
        fan_out.extend(services.iter().map(String::as_str));
        let running = [
            Running::start(&["echo", "1300"]),
            Running::start(&fan_out),
            Running::start(&["naive_queries", &processes.plan.database_url]),
        ];
        let peer = |i: usize| Target::new(&running[i].url, token, running[i].process);
        Self {
            duration,
            rounds,
            hot: Target::new(&processes.url, token, processes.ids["gateway"]),
            warm: Target::new(&warm.0, token, warm.1),
            reader: Client::new(&warm.0, token, "service").unwrap(),
            cold: Target::new(&cold.0, token, cold.1),
            echo: peer(0),
            fan_out: peer(1),
            queries: peer(2),
            database_url: processes.plan.database_url.clone(),
            redis_url: processes.plan.redis_url.clone().unwrap(),
            _running: running.into(),
        }
    }

    /// Reads of random customers, each path beside the echo.
    async fn reads(&self, report: &mut Report, size: u64) {
        let of = |size: u64| {
            Workload::new(GET, move |rng: &mut StdRng| {
                let customer_id = seed::id(rng.random_range(1..=size)).to_string();
                GetCustomerRequest { customer_id, ..Default::default() }
            })
        };
        let get = of(size);
        // What is hot is read again before its ten seconds in memory are over; what is warm was read into Redis.
        let (hot, warm) = (of(size.min(HOT)), of(size.min(WARM)));
        let half = self.duration / 2;
        self.warm_up(size.min(WARM)).await;
        for round in 0..self.rounds {
            closed(&self.hot, &hot, half, IN_FLIGHT).await;
            let paths = [("hot", &self.hot, &hot), ("warm", &self.warm, &warm), ("cold", &self.cold, &get)];
            let naive = [("naive_fan_out", &self.fan_out, &get), ("naive_queries", &self.queries, &get)];
            let only = std::env::var("ROW").ok();
            let chosen = |(name, ..): &(&str, &Target, &Workload)| only.as_ref().is_none_or(|only| only == name);
            for (name, target, work) in paths.into_iter().chain(naive).filter(chosen) {
                let echo = closed(&self.echo, &get, self.duration, IN_FLIGHT).await;
                let path = closed(target, work, self.duration, IN_FLIGHT).await;
                report.add("echo", "", size, echo.clone());
                report.add(name, "echo", size, path.of(&echo));
            }
            if only.is_some() {
                continue;
            }
            report.add("redis_mget", "", size, database::redis_mget(&self.redis_url, size, self.duration).await);
            report.add("pgbench_read", "", size, database::pgbench_read(&self.database_url, size, self.duration));
            if round + 1 == self.rounds {
                let rate = report.median("hot", size) / 2.0;
                report.add("hot_open", "", size, open(&self.hot, &hot, self.duration, rate).await);
            }
        }
    }

    /// Reads each of so many customers once, through the gateway that finds nothing in its own memory.
    async fn warm_up(&self, size: u64) {
        let batches = (1..=size).step_by(BATCH as usize).map(|first| async move {
            let last = (first + BATCH - 1).min(size);
            let customer_ids = (first..=last).map(|n| seed::id(n).to_string()).collect();
            let request = BatchGetCustomersRequest { customer_ids, ..Default::default() };
            self.reader.customer().batch_get_customers(request).await.unwrap();
        });
        stream::iter(batches).buffer_unordered(4).count().await;
    }

    /// Writes, beside the same statements by pgbench.
    async fn writes(&self, report: &mut Report, size: u64, processes: &Processes) {
        let record = Workload::new(RECORD, move |rng: &mut StdRng| {
            let customer = seed::id(rng.random_range(1..=size)).to_string();
            RecordOrderRequest { order: Some(order(&customer, &request_id())) }
        });
        let members = database::members(&self.database_url, size.min(100_000)).await;
        let accrue = Workload::new(ACCRUE, move |rng: &mut StdRng| AccruePointsRequest {
            request_id: request_id(),
            member_id: members[rng.random_range(0..members.len())].clone(),
            points: 1,
            cause: "bench".into(),
        });
        let owner = |name: &str| Target { process: processes.ids[name], ..self.hot.clone() };
        for _ in 0..self.rounds {
            let peer = database::pgbench_write(&self.database_url, size, self.duration);
            let path = closed(&owner("order-history"), &record, self.duration, IN_FLIGHT).await;
            report.add("pgbench_write", "", size, peer.clone());
            report.add("record_order", "pgbench_write", size, path.of(&peer));
            let path = closed(&owner("loyalty"), &accrue, self.duration, IN_FLIGHT).await;
            report.add("accrue_points", "pgbench_write", size, path.of(&peer));
        }
    }

    /// How long changes take.
    async fn fresh(&self, report: &mut Report, size: u64, processes: &Processes) {
        let client = processes.client();
        for (name, per_second) in [("watch_idle", 10.0), ("watch_busy", 1000.0)] {
            report.latency(name, size, &fresh::watch(&client, size, per_second, self.duration * 2).await);
        }
        let other = processes.gateway(&[]).await;
        let gateways = [client, Client::new(&other.0, &processes.token, "service").unwrap()];
        report.latency("invalidation", size, &fresh::invalidation(&gateways, 500).await);
        report.print();
    }

    fn memory(&self, processes: &Processes) {
        let resident = processes.ids.iter().map(|(name, id)| format!("{name} {:.0}", load::resident(*id)));
        println!("resident memory, MiB: {}", resident.collect::<Vec<_>>().join(", "));
    }
}
