//! The one layer stack. A call passes it from top to bottom:
//!
//! 1. request id: before anything may fail, so that every answer carries it;
//! 2. reason: outside everything that can refuse, so that no failure leaves without its reason;
//! 3. trace and metrics: outside panics and refusals, so that they are counted;
//! 4. panic: inside the trace, so that a panic is a failure with a span;
//! 5. shedding: before work is spent on a call that there is no room for;
//! 6. deadline: covers identity too, since a key set may have to be fetched;
//! 7. identity: last, so that a handler is never reached without a [`Call`].

use std::{
    any::Any,
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use access::{Authority, Call, InternalKey, PURPOSE_HEADER, Purpose};
use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn, from_fn_with_state},
    response::Response,
};
use error::{Failure, reason};
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{KeyValue, metrics::Histogram, propagation::Extractor, trace::TraceContextExt};
use tokio::sync::Semaphore;
use tonic::{Code, Status, service::Routes};
use tower::ServiceBuilder;
use tower_http::{
    catch_panic::CatchPanicLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
};
use tracing::{Instrument, Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// So many calls may be in flight in one process.
const MAX_IN_FLIGHT: usize = 4096;
/// The deadline of a call that brings none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Anyone may ask these: whether the process is well, and what the contract is.
const OPEN: [&str; 2] = ["/grpc.health.", "/grpc.reflection."];
/// Whoever has shown no credentials is answered within this time or not at all.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// How callers prove themselves.
#[derive(Clone)]
pub enum Gate {
    /// By the token of another process of the installation.
    Internal(InternalKey),
    /// By a JWT of a known issuer and a declared purpose.
    External(Arc<Authority>),
}

/// Puts the stack around routes.
pub(crate) fn layered(routes: Routes, gate: Gate) -> Router {
    let request_id = HeaderName::from_static("x-request-id");
    let room = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    routes.prepare().into_axum_router().layer(
        ServiceBuilder::new()
            .layer(SetRequestIdLayer::new(request_id.clone(), MakeRequestUuid))
            .layer(PropagateRequestIdLayer::new(request_id))
            .layer(from_fn(give_reason))
            .layer(from_fn_with_state(Arc::new(duration_histogram()), trace))
            .layer(CatchPanicLayer::custom(panicked))
            .layer(from_fn_with_state(room, shed))
            .layer(from_fn(deadline))
            .layer(from_fn_with_state(gate, identify)),
    )
}

/// Gives tonic's own refusals a code and reason of ours: it answers oversize with `OUT_OF_RANGE`,
/// broken frames with `INTERNAL`, and never with details.
async fn give_reason(request: Request, next: Next) -> Result<Response, Infallible> {
    let response = next.run(request).await;
    let Some(status) = Status::from_header_map(response.headers()) else { return Ok(response) };
    if status.code() == Code::Ok || error::reason_of(&status).is_some() {
        return Ok(response);
    }
    let reason = match status.code() {
        Code::OutOfRange => reason::MESSAGE_TOO_LARGE,
        Code::Internal => reason::MALFORMED_MESSAGE,
        Code::Unimplemented if response.headers().contains_key("grpc-accept-encoding") => reason::ENCODING_UNSUPPORTED,
        Code::Unimplemented => reason::METHOD_NOT_FOUND,
        Code::DeadlineExceeded | Code::Cancelled => reason::DEADLINE_EXCEEDED,
        _ => return Ok(response),
    };
    Ok(refusal(reason))
}

async fn trace(
    State(durations): State<Arc<Histogram<f64>>>,
    request: Request,
    next: Next,
) -> Result<Response, Infallible> {
    let method = request.uri().path().trim_start_matches('/').to_owned();
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
    let parent = opentelemetry::global::get_text_map_propagator(|p| p.extract(&Headers(request.headers())));
    if parent.span().span_context().is_valid() {
        // Fails only when no exporter is set up.
        let _ = span.set_parent(parent);
    }
    let began = Instant::now();
    let response = next.run(request).instrument(span.clone()).await;
    let status = Status::from_header_map(response.headers());
    let code = status.as_ref().map_or(Code::Ok, Status::code);
    span.record("rpc.response.status_code", code_name(code));
    let mut attributes =
        vec![KeyValue::new("rpc.system.name", "grpc"), KeyValue::new("rpc.response.status_code", code_name(code))];
    // A method that nobody knows is no label.
    let known = code != Code::Unimplemented;
    attributes.push(KeyValue::new("rpc.method", if known { method } else { "_OTHER".to_owned() }));
    if let Some(reason) = status.filter(|status| status.code() != Code::Ok).and_then(|s| error::reason_of(&s)) {
        span.record("error.type", &reason);
        attributes.push(KeyValue::new("error.type", reason));
    }
    if matches!(code, Code::Internal | Code::Unknown | Code::DataLoss) {
        span.record("otel.status_code", "ERROR");
    }
    durations.record(began.elapsed().as_secs_f64(), &attributes);
    Ok(response)
}

fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    // What a panic says may quote a value, so it is not repeated.
    tracing::error!("a handler panicked");
    refusal(reason::INTERNAL_ERROR)
}

async fn shed(State(room): State<Arc<Semaphore>>, request: Request, next: Next) -> Result<Response, Infallible> {
    let Ok(_permit) = room.try_acquire() else {
        return Ok(refusal(Failure::from(reason::OVERLOADED).retry_after(Duration::from_millis(200))));
    };
    Ok(next.run(request).await)
}

#[derive(Clone, Copy)]
struct Deadline(Instant);

async fn deadline(mut request: Request, next: Next) -> Result<Response, Infallible> {
    let timeout = match request.headers().get("grpc-timeout") {
        None => DEFAULT_TIMEOUT,
        Some(value) => match parse_timeout(value) {
            Some(timeout) => timeout,
            None => return Ok(refusal(reason::MALFORMED_DEADLINE)),
        },
    };
    let timeout = if is_open(&request) { timeout.min(OPEN_TIMEOUT) } else { timeout };
    request.extensions_mut().insert(Deadline(Instant::now() + timeout));
    match tokio::time::timeout(timeout, next.run(request)).await {
        Ok(response) => Ok(response),
        Err(_) => Ok(refusal(reason::DEADLINE_EXCEEDED)),
    }
}

/// At most eight digits and a unit, as gRPC over HTTP/2 has it; at most a day.
fn parse_timeout(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    };
    Some(timeout.min(Duration::from_secs(86_400)))
}

async fn identify(State(gate): State<Gate>, mut request: Request, next: Next) -> Result<Response, Infallible> {
    if is_open(&request) {
        return Ok(next.run(request).await);
    }
    let caller = match authenticate(&gate, request.headers()).await {
        Ok(caller) => caller,
        Err(failure) => return Ok(refusal(failure)),
    };
    let Some(Deadline(deadline)) = request.extensions().get().copied() else {
        return Ok(refusal(reason::INTERNAL_ERROR));
    };
    request.extensions_mut().insert(Call { caller, deadline, traceparent: traceparent().into() });
    Ok(next.run(request).await)
}

fn is_open(request: &Request) -> bool {
    OPEN.iter().any(|prefix| request.uri().path().starts_with(prefix))
}

async fn authenticate(gate: &Gate, headers: &HeaderMap) -> Result<access::Caller, Failure> {
    let authorization = headers.get("authorization").ok_or(reason::CREDENTIALS_MISSING)?;
    let token = authorization.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
    let token = token.ok_or(reason::CREDENTIALS_INVALID)?;
    match gate {
        Gate::Internal(key) => key.verify(token),
        Gate::External(authority) => {
            let purpose = Purpose::declared(headers.get(PURPOSE_HEADER).map(HeaderValue::as_bytes))?;
            authority.authenticate(token, purpose).await
        }
    }
}

fn refusal(failure: impl Into<Failure>) -> Response {
    Status::from(failure.into()).into_http()
}

fn traceparent() -> String {
    let context = Span::current().context();
    // Without an exporter there is nothing to carry, and most calls write nothing.
    if !context.span().span_context().is_valid() {
        return String::new();
    }
    let mut carrier = std::collections::HashMap::new();
    opentelemetry::global::get_text_map_propagator(|p| p.inject_context(&context, &mut carrier));
    carrier.remove("traceparent").unwrap_or_default()
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

fn duration_histogram() -> Histogram<f64> {
    opentelemetry::global::meter("server")
        .f64_histogram("rpc.server.call.duration")
        .with_unit("s")
        .with_description("How long a call took until its first answer.")
        .build()
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
    fn a_timeout_is_digits_and_a_unit() {
        let parse = |text| parse_timeout(&HeaderValue::from_static(text));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("3S"), Some(Duration::from_secs(3)));
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(86_400)));
        for wrong in ["", "m", "123456789m", "12", "-1S", "1s", "1 S", "+1S"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn each_refusal_of_the_stack_has_its_code_and_reason() {
        use axum::routing::any;
        use tower::ServiceExt;

        async fn slow() {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        async fn panics() {
            panic!("a value that must not be told");
        }
        let router = Router::new().route("/grpc.health.x/slow", any(slow)).route("/grpc.health.x/panics", any(panics));
        let router = router.route("/some.Service/Method", any(|| async {}));
        let stack = layered(Routes::from(router), Gate::Internal(InternalKey::new("test", &[0; 32])));
        for (path, timeout, code, reason) in [
            // tonic's own time-out would say CANCELLED.
            ("/grpc.health.x/slow", "20m", Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
            ("/grpc.health.x/slow", "soon", Code::InvalidArgument, "MALFORMED_DEADLINE"),
            ("/grpc.health.x/panics", "5S", Code::Internal, "INTERNAL_ERROR"),
            ("/some.Service/Method", "5S", Code::Unauthenticated, "CREDENTIALS_MISSING"),
        ] {
            let request = http::Request::post(path).header("grpc-timeout", timeout).body(axum::body::Body::empty());
            let response = stack.clone().oneshot(request.unwrap()).await.unwrap();
            assert!(response.headers().contains_key("x-request-id"), "{path}");
            let status = Status::from_header_map(response.headers()).unwrap();
            assert_eq!((status.code(), error::reason_of(&status).as_deref()), (code, Some(reason)), "{path}");
            assert!(!status.message().contains("must not be told"));
        }
    }
}
