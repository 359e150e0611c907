//! The limits below: Redis itself, and Postgres with the same statements by pgbench.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use sqlx::{Connection, PgConnection};

use crate::{
    load::{Measured, busy_seconds, histogram, micros, run},
    seed,
};

/// Clients of pgbench.
const CLIENTS: u32 = 32;
/// So many customers' values are put into Redis for `redis_mget`.
const STORED: u64 = 10_000;

/// Six values of the size of a section by one `MGET`, over four connections.
pub async fn redis_mget(url: &str, size: u64, duration: Duration) -> Measured {
    let client = redis::Client::open(url).unwrap();
    let mut connections = Vec::new();
    for _ in 0..4 {
        connections.push(client.get_multiplexed_async_connection().await.unwrap());
    }
    let stored = size.min(STORED);
    let keys = |n: u64| (0..6).map(move |section| format!("bench:{{{}}}:{section}", seed::id(n)));
    for first in (1..=stored).step_by(1000) {
        let mut pipe = redis::pipe();
        for key in (first..(first + 1000).min(stored + 1)).flat_map(keys) {
            pipe.cmd("SET").arg(key).arg(vec![b'x'; 260]).arg("EX").arg(600).ignore();
        }
        pipe.query_async::<()>(&mut connections[0]).await.unwrap();
    }
    let until = Instant::now() + duration;
    // Its memory is not compared.
    run(0, crate::IN_FLIGHT, |caller| {
        let mut connection = connections[caller % connections.len()].clone();
        async move {
            let (mut times, mut rng) = (histogram(), StdRng::seed_from_u64(caller as u64));
            while Instant::now() < until {
                let sent = Instant::now();
                let keys: Vec<String> = keys(rng.random_range(1..=stored)).collect();
                redis::cmd("MGET").arg(keys).query_async::<Vec<Vec<u8>>>(&mut connection).await.unwrap();
                times.record(micros(sent)).unwrap();
            }
            times
        }
    })
    .await
}

/// The six statements of one customer.
pub fn pgbench_read(url: &str, size: u64, duration: Duration) -> Measured {
    let id = "('00000000-0000-7000-8000-' || lpad(to_hex(:n::bigint), 12, '0'))::uuid";
    let queries = include_str!("queries.sql").replace(":id", id);
    pgbench(url, &format!("\\set n random(1, :customers)\n{queries}"), size, duration)
}

/// What recording an order does.
pub fn pgbench_write(url: &str, size: u64, duration: Duration) -> Measured {
    pgbench(url, include_str!("record_order.sql"), size, duration)
}

fn pgbench(url: &str, script: &str, size: u64, duration: Duration) -> Measured {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("script.sql");
    fs::write(&file, script).unwrap();
    let busy = busy_seconds();
    let mut pgbench = Command::new("pgbench");
    pgbench.args(["--no-vacuum", "--protocol=prepared", "--jobs=2", "--log", "--log-prefix=log"]);
    pgbench.arg(format!("--client={CLIENTS}")).arg(format!("--time={}", duration.as_secs()));
    pgbench.arg(format!("--define=customers={size}")).arg("--file").arg(&file).arg(url);
    let output = pgbench.current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "pgbench: {}", String::from_utf8_lossy(&output.stderr));
    let busy = busy_seconds() - busy;
    // A line for each transaction, whose third column is its microseconds.
    let mut times = histogram();
    for log in fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| *path != file) {
        let log = fs::read_to_string(log).unwrap();
        let micros = log.lines().map(|line| line.split(' ').nth(2).unwrap().parse::<u64>().unwrap());
        micros.for_each(|micros| times.record(micros.max(1)).unwrap());
    }
    Measured {
        per_second: times.len() as f64 / duration.as_secs_f64(),
        p50: times.value_at_quantile(0.5),
        p99: times.value_at_quantile(0.99),
        cpu_per_10k: busy / times.len() as f64 * 10_000.0,
        rss_mib: 0.0,
        share: 1.0,
    }
}

/// Members' ids.
pub async fn members(url: &str, limit: u64) -> Vec<String> {
    let mut sql = PgConnection::connect(url).await.unwrap();
    let members = sqlx::query_scalar("select member_id::text from loyalty.members limit $1").bind(limit as i64);
    members.fetch_all(&mut sql).await.unwrap()
}
