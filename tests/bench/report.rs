//! The table, and the same rows in `target/bench/report.json`.

use std::fs;

use hdrhistogram::Histogram;
use serde_json::json;

use crate::load::Measured;

/// Rows, each of many rounds.
#[derive(Default)]
pub struct Report(Vec<Line>);

struct Line {
    name: &'static str,
    /// What its share is of.
    of: &'static str,
    customers: u64,
    rounds: Vec<Measured>,
}

impl Measured {
    /// The same, as a share of what was measured right before it.
    pub fn of(self, peer: &Self) -> Self {
        Self { share: self.per_second / peer.per_second, ..self }
    }
}

impl Line {
    /// The round in the middle, and the least and greatest share.
    fn middle(&self) -> (Measured, f64, f64) {
        let mut rounds = self.rounds.clone();
        rounds.sort_by(|a, b| a.share.total_cmp(&b.share).then(a.per_second.total_cmp(&b.per_second)));
        (rounds[rounds.len() / 2].clone(), rounds[0].share, rounds[rounds.len() - 1].share)
    }
}

impl Report {
    pub fn add(&mut self, name: &'static str, of: &'static str, customers: u64, measured: Measured) {
        let known = self.0.iter_mut().find(|line| line.name == name && line.customers == customers);
        match known {
            Some(line) => line.rounds.push(measured),
            None => self.0.push(Line { name, of, customers, rounds: vec![measured] }),
        }
    }

    /// A row that is of nothing but times.
    pub fn latency(&mut self, name: &'static str, customers: u64, times: &Histogram<u64>) {
        let (p50, p99) = (times.value_at_quantile(0.5), times.value_at_quantile(0.99));
        let measured = Measured { per_second: 0.0, p50, p99, cpu_per_10k: 0.0, rss_mib: 0.0, share: 1.0 };
        self.add(name, "", customers, measured);
    }

    /// Calls a second in the round in the middle.
    pub fn median(&self, name: &str, customers: u64) -> f64 {
        let line = self.0.iter().find(|line| line.name == name && line.customers == customers);
        line.map_or(0.0, |line| line.middle().0.per_second)
    }

    pub fn print(&self) {
        println!(
            "{:<14} {:>9} {:>9} {:>32} {:>8} {:>8} {:>11} {:>8}",
            "row", "customers", "calls/s", "share", "p50 µs", "p99 µs", "CPU s/10k", "RSS MiB"
        );
        let mut written = Vec::new();
        for line in &self.0 {
            let (middle, low, high) = line.middle();
            let Measured { per_second, p50, p99, cpu_per_10k, rss_mib, share } = middle;
            let told = match line.of {
                "" => String::new(),
                of => format!("{share:.2} ({low:.2}–{high:.2}) of {of}"),
            };
            let (name, customers) = (line.name, line.customers);
            println!(
                "{name:<14} {customers:>9} {per_second:>9.0} {told:>32} {p50:>8} {p99:>8} {cpu_per_10k:>11.2} {rss_mib:>8.0}"
            );
            written.push(json!({
                "name": name, "customers": customers, "requests_per_second": per_second, "p50_us": p50, "p99_us": p99,
                "cpu_seconds_per_10k": cpu_per_10k, "rss_mib": rss_mib, "share_of": line.of, "share": share,
                "share_low": low, "share_high": high, "rounds": line.rounds.len(),
            }));
        }
        fs::create_dir_all("target/bench").unwrap();
        fs::write("target/bench/report.json", serde_json::to_string_pretty(&written).unwrap()).unwrap();
    }
}
