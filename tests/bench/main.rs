//! Measures reads as a share of a bare tonic echo of the same answer, in one run on one machine.
//! Server, generator and databases share the cores in every row; absolute figures say little.
//!
//! `bench [CUSTOMERS] [SECONDS] [ROUNDS]`; each round runs echo, a path, echo, the next path, …, and a
//! path's share is taken of the echo before it.

#![expect(clippy::print_stdout, reason = "a table for people is what this is for")]

mod load;

use std::{fs, time::Duration};

use client::Client;
use futures_util::{StreamExt, stream};
use proto::{Codec, Composed, customer::v1::*, r#type::v1::Consistency};
use rand::{RngExt, rngs::StdRng};
use serde_json::json;
use tests::{Fixture, Processes};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, server::Grpc, service::Routes, transport::Server};

use crate::load::{Measured, Target, busy_seconds, measure};

/// So many calls are in flight.
const IN_FLIGHT: usize = 128;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [echo, bytes] = arguments.as_slice()
        && echo == "echo"
    {
        return serve_echo(bytes.parse().unwrap()).await;
    }
    let number = |i: usize, default: u64| arguments.get(i).map_or(default, |text| text.parse().unwrap());
    let (customers, seconds, rounds) = (number(0, 10_000), Duration::from_secs(number(1, 5)), number(2, 5));

    let processes = Processes::start(&[]).await;
    println!("creating {customers} customers with something in every service …");
    let client = processes.client();
    let ids = create(&client, customers as usize).await;
    let sample = GetCustomerRequest { customer_id: ids[0].clone(), ..Default::default() };
    let sample = client.customer().get_customer(sample).await.unwrap().into_inner();
    let bytes = prost::Message::encoded_len(&sample);
    println!("an answer has {bytes} bytes; {IN_FLIGHT} calls in flight, {seconds:?} a row, {rounds} rounds");
    let (echo, mut echo_process) = start_echo(bytes);

    let get = |consistent: bool| {
        let ids = ids.clone();
        move |rng: &mut StdRng| {
            let customer_id = ids[rng.random_range(0..ids.len())].clone();
            let consistency = consistent.then(|| Consistency { fully_consistent: true, ..Default::default() });
            GetCustomerRequest { customer_id, consistency, ..Default::default() }
        }
    };
    let target = |url: &str| Target::new(url, &processes.token);
    let uncached = second_gateway(&processes).await;
    // What is hot or warm was read before.
    measure(&target(&processes.url), get(false), seconds, IN_FLIGHT).await;
    measure(&target(&uncached), get(false), seconds, IN_FLIGHT).await;
    let mut rows: Vec<(&str, Vec<Measured>)> = vec![];
    for _ in 0..rounds {
        for (name, url, consistent) in
            [("hot", &processes.url, false), ("warm", &uncached, false), ("cold", &processes.url, true)]
        {
            let bare = measure(&target(&echo), get(false), seconds, IN_FLIGHT).await;
            let path = measure(&target(url), get(consistent), seconds, IN_FLIGHT).await;
            row(&mut rows, "echo").push(bare.clone());
            row(&mut rows, name).push(Measured { share: path.per_second / bare.per_second, ..path });
        }
    }
    echo_process.kill().unwrap();
    report(customers, &rows, processes.ids["gateway"]);
    processes.stop();
}

fn row<'a>(rows: &'a mut Vec<(&'static str, Vec<Measured>)>, name: &'static str) -> &'a mut Vec<Measured> {
    let place = rows.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
        rows.push((name, Vec::new()));
        rows.len() - 1
    });
    &mut rows[place].1
}

/// Prints the table and leaves the same rows in `target/bench/report.json`.
fn report(customers: u64, rows: &[(&str, Vec<Measured>)], gateway: u32) {
    let status = fs::read_to_string(format!("/proc/{gateway}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident: f64 = resident.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0;
    println!(
        "{:<6} {:>9} {:>16} {:>8} {:>8} {:>13}",
        "row", "calls/s", "share of echo", "p50 µs", "p99 µs", "CPU s / 10k"
    );
    let mut written = Vec::new();
    for (name, rounds) in rows {
        let mut rounds = rounds.clone();
        rounds.sort_by(|a, b| a.share.total_cmp(&b.share));
        let (low, median, high) = (&rounds[0], &rounds[rounds.len() / 2], &rounds[rounds.len() - 1]);
        let share = match *name {
            "echo" => String::new(),
            _ => format!("{:.2} ({:.2}–{:.2})", median.share, low.share, high.share),
        };
        let Measured { per_second, p50, p99, cpu_per_10k, .. } = median;
        println!("{name:<6} {per_second:>9.0} {share:>16} {p50:>8} {p99:>8} {cpu_per_10k:>13.2}");
        written.push(json!({
            "name": name, "customers": customers, "requests_per_second": per_second, "p50_us": p50, "p99_us": p99,
            "cpu_seconds_per_10k": cpu_per_10k, "rss_mib": resident,
            "share_of_echo": median.share, "share_low": low.share, "share_high": high.share,
        }));
    }
    println!("the gateway's resident memory: {resident:.0} MiB");
    fs::create_dir_all("target/bench").unwrap();
    fs::write("target/bench/report.json", serde_json::to_string_pretty(&written).unwrap()).unwrap();
}

async fn create(client: &Client, count: usize) -> Vec<String> {
    let began = busy_seconds();
    let fixtures = stream::iter(0..count).map(|_| async { Fixture::create(client).await.customer_id });
    let ids = fixtures.buffer_unordered(32).collect().await;
    println!("created with {:.0} CPU seconds", busy_seconds() - began);
    ids
}

/// A gateway before the same services whose memory takes nothing, so that all comes from Redis.
async fn second_gateway(processes: &Processes) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    processes.gateway(address, &[("CLIENTELE_MEMORY_MIB", "0")]).await
}

/// This program once more, as a server that does nothing but answer.
fn start_echo(bytes: usize) -> (String, std::process::Child) {
    use std::io::BufRead;
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["echo", &bytes.to_string()])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
    (url.trim().to_owned(), child)
}

async fn serve_echo(bytes: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("http://{}", listener.local_addr().unwrap());
    // A customer of so many bytes, as the field of the reply.
    let mut reply = Vec::new();
    prost::encoding::bytes::encode(1, &vec![0_u8; bytes.saturating_sub(3)], &mut reply);
    let reply = Composed(reply.into());
    let echo = axum::routing::any(async move |request: axum::extract::Request| {
        let call = tower::service_fn(move |_: Request<GetCustomerRequest>| {
            let reply = reply.clone();
            async move { Ok::<_, Status>(Response::new(reply)) }
        });
        Grpc::new(Codec::default()).unary(call, request).await
    });
    let mut routes = Routes::default();
    let router = std::mem::take(routes.axum_router_mut());
    *routes.axum_router_mut() = router.route(load::PATH, echo);
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder().add_routes(routes).serve_with_incoming(incoming).await.unwrap();
}
