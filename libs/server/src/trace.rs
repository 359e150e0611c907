//! What is told of a call: its span and how long it took.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use metrics::METRICS;
use opentelemetry::{propagation::Extractor, trace::TraceContextExt};
use tonic::{Code, Status};
use tracing::{Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Which calls are traced: as OpenTelemetry's own variables say, and none where nothing is exported.
pub(crate) struct Sampling {
    exports: bool,
    /// Whether a caller that has decided is followed.
    follows: bool,
    /// The share of the other calls.
    share: f64,
}

impl Sampling {
    pub(crate) fn of_environment() -> Self {
        let variable = |name| std::env::var(name).unwrap_or_default();
        let sampler = variable("OTEL_TRACES_SAMPLER");
        let share = match sampler.trim_start_matches("parentbased_") {
            "always_off" => 0.0,
            "traceidratio" => variable("OTEL_TRACES_SAMPLER_ARG").parse().unwrap_or(1.0),
            _ => 1.0,
        };
        let follows = sampler.is_empty() || sampler.starts_with("parentbased_");
        Self { exports: !variable("OTEL_EXPORTER_OTLP_ENDPOINT").is_empty(), follows, share }
    }

    fn takes(&self, headers: &HeaderMap) -> bool {
        let decided = headers.get("traceparent").filter(|_| self.follows).and_then(sampled);
        self.exports && decided.unwrap_or_else(|| spread() < self.share)
    }
}

/// Whether a caller keeps its trace: the last bit of the last of four fields (W3C Trace Context).
fn sampled(parent: &HeaderValue) -> Option<bool> {
    let (trace, flags) = parent.to_str().ok()?.rsplit_once('-')?;
    let flags = u8::from_str_radix(flags, 16).ok()?;
    (trace.len() == 52).then_some(flags & 1 == 1)
}

/// The span of a call, within the caller's trace if there is one; none for a call that is not traced. That
/// is decided here and not by the exporter, since a span that nobody will see costs as much as one that is
/// seen.
pub(crate) fn span(sampling: &Sampling, method: &'static str, headers: &HeaderMap) -> Span {
    if !sampling.takes(headers) {
        return Span::none();
    }
    let span = tracing::info_span!(
        "rpc",
        otel.name = method,
        otel.kind = "server",
        otel.status_code = field::Empty,
        rpc.system.name = "grpc",
        rpc.method = method,
        rpc.response.status_code = field::Empty,
        error.type = field::Empty,
    );
    let parent = opentelemetry::global::get_text_map_propagator(|p| p.extract(&Headers(headers)));
    if parent.span().span_context().is_valid() {
        // Fails only when no exporter is set up.
        let _ = span.set_parent(parent);
    }
    span
}

/// Between 0 and 1, evenly spread over any run of calls: the multiples of the golden ratio without what is
/// before the point.
fn spread() -> f64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(0x9E37_79B9_7F4A_7C15, Relaxed);
    next as f64 / u64::MAX as f64
}

/// Tells how a call ended.
pub(crate) fn record(span: &Span, method: &'static str, failed: Option<&Status>, took: Duration) {
    let code = failed.map_or(Code::Ok, Status::code);
    let reason = failed.and_then(error::reason_of);
    let mut trace_id = None;
    if !span.is_none() {
        span.record("rpc.response.status_code", code_name(code));
        if let Some(reason) = &reason {
            span.record("error.type", reason);
        }
        if matches!(code, Code::Internal | Code::Unknown | Code::DataLoss) {
            span.record("otel.status_code", "ERROR");
        }
        trace_id = Some(span.context().span().span_context().trace_id().to_bytes());
    }
    METRICS.called(method, code_name(code), reason, took, trace_id);
}

/// The span as W3C `traceparent`; empty without a trace.
pub(crate) fn parent_of(span: &Span) -> Arc<str> {
    if span.is_none() {
        return Arc::default();
    }
    let context = span.context();
    let mut carrier = std::collections::HashMap::new();
    opentelemetry::global::get_text_map_propagator(|p| p.inject_context(&context, &mut carrier));
    carrier.remove("traceparent").unwrap_or_default().into()
}

/// The name of a code as OpenTelemetry has it: `NOT_FOUND`.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_that_has_decided_is_followed_by_those_who_say_so() {
        let headers = |flags: &str| {
            let parent = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
            HeaderMap::from_iter([(HeaderName::from_static("traceparent"), parent.parse().unwrap())])
        };
        let never = Sampling { exports: true, follows: true, share: 0.0 };
        assert!(never.takes(&headers("01")) && never.takes(&headers("0b")));
        assert!(!never.takes(&headers("00")) && !never.takes(&headers("0a")) && !never.takes(&headers("xx")));
        let alone = Sampling { exports: true, follows: false, share: 1.0 };
        assert!(alone.takes(&headers("00")));
        assert!(!Sampling { exports: false, ..alone }.takes(&headers("01")));
    }

    #[test]
    fn of_a_run_of_calls_the_share_is_traced() {
        for share in [0.01, 0.25, 1.0] {
            let traced = (0..10_000).filter(|_| spread() < share).count() as f64;
            assert!((traced / 10_000.0 - share).abs() < 0.002, "{traced} of 10,000 for {share}");
        }
    }
}
