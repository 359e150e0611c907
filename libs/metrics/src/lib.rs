//! Everything that is counted and timed, in one place: what a dashboard shows or a rule asks for is declared here. No
//! label tells who anyone is; each has few values.

use std::{fmt::Write, sync::LazyLock, time::Duration};

pub use prometheus_client::metrics::counter::Counter;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text},
    metrics::{
        exemplar::HistogramWithExemplars,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// How [`text`] is to be read.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of this process.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// A number that rises and falls.
pub type Gauge = prometheus_client::metrics::gauge::Gauge<f64, std::sync::atomic::AtomicU64>;
/// A count of things that differ in one word.
pub type CounterBy = Family<By, Counter>;
/// A number of things that differ in one word.
pub type GaugeBy = Family<By, Gauge>;
/// Times or sizes of things that differ in one word.
pub type HistogramBy = Family<By, Histogram, fn() -> Histogram>;

/// The metrics, by what they are about.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    calls: Family<Call, HistogramWithExemplars<Trace>, fn() -> HistogramWithExemplars<Trace>>,
    /// Attempts after the first, by what became of them.
    pub retries: CounterBy,
    /// Replicas that were left out since nobody answered there.
    pub ejections: Counter,
    /// How many calls may be in flight, by service.
    pub admission_limit: GaugeBy,
    /// How many are, by service.
    pub in_flight: GaugeBy,
    /// Calls that were refused for being too many, by priority.
    pub shed: CounterBy,
    /// Calls that were refused for being too many of one caller.
    pub over_quota: Counter,
    /// Connections to the database, by service: those in use.
    pub connections_used: GaugeBy,
    /// The most that there may be, by service.
    pub connections_max: GaugeBy,
    /// How long a transaction waited for a connection, by service.
    pub connection_wait: HistogramBy,
    /// Whether the database answers, by service: 1 or 0.
    pub database_up: GaugeBy,
    /// Sections that were read, by where they were found.
    pub sections: CounterBy,
    /// How old a section was that was served from memory.
    pub section_age: Histogram,
    /// Connections to the cache's invalidations that were lost, after each of which memory is empty.
    pub cache_epochs: Counter,
    /// How many keys one load was for, by what was loaded.
    pub batch_size: HistogramBy,
    /// How long after its commit a change was told to streams, by service.
    pub feed_lag: HistogramBy,
    /// The age of the oldest change that can still be told, by service.
    pub feed_oldest: GaugeBy,
    /// How far behind a follower is, by the feed that it follows.
    pub follower_lag: GaugeBy,
    /// Data keys that were unwrapped, by service.
    pub keys_opened: CounterBy,
    /// Customers whose keys were destroyed, by service.
    pub erasures: CounterBy,
    /// Sealed values that did not open.
    pub unreadable: Counter,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Call {
    rpc_method: &'static str,
    rpc_response_status_code: &'static str,
    error_type: String,
}

/// One word.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct By {
    kind: &'static str,
}

/// The label of a metric with one.
pub const fn by(kind: &'static str) -> By {
    By { kind }
}

#[derive(Clone, Debug, EncodeLabelSet)]
struct Trace {
    trace_id: Hex,
}

#[derive(Clone, Debug)]
struct Hex([u8; 16]);

impl EncodeLabelValue for Hex {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> std::fmt::Result {
        write!(encoder, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl Metrics {
    fn new() -> Self {
        // Half a millisecond to half a minute.
        let seconds: fn() -> Histogram = || Histogram::new(exponential_buckets(0.0005, 2.0, 16));
        let calls = Family::new_with_constructor(
            (|| HistogramWithExemplars::new(exponential_buckets(0.0005, 2.0, 16)))
                as fn() -> HistogramWithExemplars<Trace>,
        );
        let sizes: fn() -> Histogram = || Histogram::new(exponential_buckets(1.0, 2.0, 9));
        let by = |of: fn() -> Histogram| HistogramBy::new_with_constructor(of);
        let mut metrics = Self {
            registry: Registry::default(),
            calls,
            retries: Family::default(),
            ejections: Counter::default(),
            admission_limit: Family::default(),
            in_flight: Family::default(),
            shed: Family::default(),
            over_quota: Counter::default(),
            connections_used: Family::default(),
            connections_max: Family::default(),
            connection_wait: by(seconds),
            database_up: Family::default(),
            sections: Family::default(),
            section_age: seconds(),
            cache_epochs: Counter::default(),
            batch_size: by(sizes),
            feed_lag: by(seconds),
            feed_oldest: Family::default(),
            follower_lag: Family::default(),
            keys_opened: Family::default(),
            erasures: Family::default(),
            unreadable: Counter::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let seconds = || Unit::Seconds;
        let r = &mut self.registry;
        // The name is OpenTelemetry's for the same.
        r.register_with_unit(
            "rpc_server_call_duration",
            "Time of a call until its first answer",
            seconds(),
            self.calls.clone(),
        );
        let r = r.sub_registry_with_prefix("clientele");
        r.register("rpc_retries", "Attempts after the first, by what became of them", self.retries.clone());
        r.register("replica_ejections", "Replicas left out since nobody answered there", self.ejections.clone());
        r.register("admission_limit", "Calls that may be in flight, by service", self.admission_limit.clone());
        r.register("in_flight", "Calls in flight, by service", self.in_flight.clone());
        r.register("shed", "Calls refused for being too many, by priority", self.shed.clone());
        r.register("over_quota", "Calls refused for being too many of one caller", self.over_quota.clone());
        r.register("db_connections_used", "Connections in use, by service", self.connections_used.clone());
        r.register("db_connections_max", "Connections that may be in use, by service", self.connections_max.clone());
        r.register_with_unit(
            "db_connection_wait",
            "Wait of a transaction for a connection, by service",
            seconds(),
            self.connection_wait.clone(),
        );
        r.register("db_up", "Whether the database answers, by service", self.database_up.clone());
        r.register("sections", "Sections read, by where they were found", self.sections.clone());
        r.register_with_unit("section_age", "Age of sections served from memory", seconds(), self.section_age.clone());
        r.register("cache_epochs", "Invalidation connections lost", self.cache_epochs.clone());
        r.register("batch_size", "Keys of one load, by what was loaded", self.batch_size.clone());
        r.register_with_unit(
            "feed_lag",
            "Time from a change to the streams, by service",
            seconds(),
            self.feed_lag.clone(),
        );
        r.register_with_unit(
            "feed_oldest",
            "Age of the oldest change kept, by service",
            seconds(),
            self.feed_oldest.clone(),
        );
        r.register_with_unit(
            "follower_lag",
            "Time that a follower is behind, by feed",
            seconds(),
            self.follower_lag.clone(),
        );
        r.register("data_keys_opened", "Data keys unwrapped, by service", self.keys_opened.clone());
        r.register("erasures", "Customers whose keys were destroyed, by service", self.erasures.clone());
        r.register("sealed_value_unreadable", "Sealed values that did not open", self.unreadable.clone());
    }

    /// Begins at nothing what a service counts, so that its first one is a rise.
    pub fn begin(&self, service: &'static str) {
        for kind in ["prompt", "patient"] {
            self.shed.get_or_create_owned(&by(kind));
        }
        for kind in ["answered", "given_up"] {
            self.retries.get_or_create_owned(&by(kind));
        }
        self.admission_limit.get_or_create_owned(&by(service));
        self.in_flight.get_or_create_owned(&by(service));
    }

    /// The same for one with a schema.
    pub fn begin_schema(&self, service: &'static str) {
        self.keys_opened.get_or_create_owned(&by(service));
        self.erasures.get_or_create_owned(&by(service));
        self.connection_wait.get_or_create_owned(&by(service));
        self.feed_lag.get_or_create_owned(&by(service));
        self.feed_oldest.get_or_create_owned(&by(service));
    }

    /// A call that was answered: how, with which reason if it was refused, and within which trace if in one that is kept.
    pub fn called(
        &self,
        method: &'static str,
        code: &'static str,
        reason: Option<String>,
        took: Duration,
        trace: Option<[u8; 16]>,
    ) {
        let call = Call { rpc_method: method, rpc_response_status_code: code, error_type: reason.unwrap_or_default() };
        // Owned, since a second label set of this family may be made while one is held.
        let seconds = self.calls.get_or_create_owned(&call);
        seconds.observe(took.as_secs_f64(), trace.map(|id| Trace { trace_id: Hex(id) }), None);
    }
}

/// All metrics in the OpenMetrics format.
pub fn text() -> String {
    let mut out = String::new();
    text::encode(&mut out, &METRICS.registry).expect("a text takes everything");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_told_with_its_trace() {
        METRICS.called("a.B/C", "OK", None, Duration::from_millis(3), Some([0xab; 16]));
        METRICS.shed.get_or_create_owned(&by("patient")).inc();
        let text = text();
        let bucket = text.lines().find(|line| line.contains("le=\"0.004\"")).unwrap();
        assert!(
            bucket.contains("rpc_method=\"a.B/C\"") && bucket.contains(&format!("trace_id=\"{}\"", "ab".repeat(16))),
            "{bucket}"
        );
        assert!(text.contains("clientele_shed_total{kind=\"patient\"} 1"), "{text}");
    }
}
