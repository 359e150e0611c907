//! The one layer stack, written as one service, so that a call's future is put on the heap once and not at
//! every layer. A call passes it from top to bottom:
//!
//! 1. request id: outside everything that can refuse, so that every refusal carries one;
//! 2. trace and metrics: outside panics and refusals, so that they are counted;
//! 3. reason: so that no refusal leaves, or is counted, without its reason;
//! 4. panic: inside the trace, so that a panic is a failure with a span;
//! 5. shedding: before work is spent on a call that there is no room for;
//! 6. deadline: covers identity too, since a key set may have to be fetched;
//! 7. identity: last, so that a handler is never reached without a [`Call`].

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use access::{Authority, Call, InternalKey, PURPOSE_HEADER, Purpose};
use error::{Failure, reason};
use futures_util::{FutureExt, future::BoxFuture};
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::metrics::Histogram;
use tokio::sync::Semaphore;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::{Instrument, Span};

use crate::{
    deadline,
    trace::{self, Sampling},
};

type Request = http::Request<Body>;
type Response = http::Response<Body>;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// So many calls may be in flight in one process.
const MAX_IN_FLIGHT: usize = 4096;
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

/// What the stack of one process shares.
struct Shared {
    gate: Gate,
    room: Semaphore,
    durations: Histogram<f64>,
    sampling: Sampling,
}

/// Puts the stack around a service.
#[derive(Clone)]
pub(crate) struct Stack(Arc<Shared>);

impl Stack {
    pub(crate) fn new(gate: Gate) -> Self {
        let (durations, sampling) = (trace::durations(), Sampling::of_environment());
        Self(Arc::new(Shared { gate, room: Semaphore::new(MAX_IN_FLIGHT), durations, sampling }))
    }
}

impl<S> Layer<S> for Stack {
    type Service = Stacked<S>;

    fn layer(&self, inner: S) -> Stacked<S> {
        Stacked { inner, shared: self.0.clone() }
    }
}

/// A service with the stack around it.
#[derive(Clone)]
pub(crate) struct Stacked<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Service<Request> for Stacked<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let ready = self.inner.clone();
        let (inner, shared) = (std::mem::replace(&mut self.inner, ready), self.shared.clone());
        Box::pin(async move { Ok(shared.answer(inner, request).await) })
    }
}

impl Shared {
    async fn answer<S>(&self, inner: S, request: Request) -> Response
    where
        S: Service<Request, Response = Response, Error = Infallible>,
    {
        let (began, id) = (Instant::now(), request.headers().get(REQUEST_ID).cloned());
        let method: Arc<str> = request.uri().path().trim_start_matches('/').into();
        let span = trace::span(&self.sampling, &method, request.headers());
        let guarded = AssertUnwindSafe(self.guard(inner, request, &span)).catch_unwind();
        let guarded = if span.is_none() { guarded.await } else { guarded.instrument(span.clone()).await };
        let mut response = guarded.unwrap_or_else(|_| {
            // What a panic says may quote a value, so it is not repeated.
            span.in_scope(|| tracing::error!("a handler panicked"));
            refusal(reason::INTERNAL_ERROR)
        });
        let failed = |response: &Response| Status::from_header_map(response.headers()).filter(|s| s.code() != Code::Ok);
        let mut status = failed(&response);
        if let Some(reason) = status.as_ref().and_then(|status| missing_reason(status, response.headers())) {
            response = refusal(reason);
            status = failed(&response);
        }
        trace::record(&self.durations, &span, method, status.as_ref(), began.elapsed());
        // A refusal that came from behind us has its id already.
        let unnamed = status.is_some() && !response.headers().contains_key(REQUEST_ID);
        if let Some(id) = id.or_else(|| unnamed.then(new_request_id)) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        response
    }

    async fn guard<S>(&self, inner: S, request: Request, span: &Span) -> Response
    where
        S: Service<Request, Response = Response, Error = Infallible>,
    {
        let Ok(_permit) = self.room.try_acquire() else {
            return refusal(Failure::from(reason::OVERLOADED).retry_after(Duration::from_millis(200)));
        };
        let open = OPEN.iter().any(|prefix| request.uri().path().starts_with(prefix));
        let Some(timeout) = deadline::timeout(request.headers()) else {
            return refusal(reason::MALFORMED_DEADLINE);
        };
        let timeout = if open { timeout.min(OPEN_TIMEOUT) } else { timeout };
        let handled = tokio::time::timeout(timeout, self.handle(inner, request, open, timeout, span)).await;
        handled.unwrap_or_else(|_| refusal(reason::DEADLINE_EXCEEDED))
    }

    async fn handle<S>(
        &self,
        mut inner: S,
        mut request: Request,
        open: bool,
        timeout: Duration,
        span: &Span,
    ) -> Response
    where
        S: Service<Request, Response = Response, Error = Infallible>,
    {
        if !open {
            let deadline = Instant::now() + timeout;
            let caller = match authenticate(&self.gate, request.headers()).await {
                Ok(caller) => caller,
                Err(failure) => return refusal(failure),
            };
            request.extensions_mut().insert(Call { caller, deadline, traceparent: trace::parent_of(span) });
        }
        inner.call(request).await.unwrap_or_else(|never| match never {})
    }
}

/// For a call that its caller has not named; it is told only where somebody may want to quote it.
fn new_request_id() -> HeaderValue {
    HeaderValue::try_from(uuid::Uuid::new_v4().to_string()).expect("a UUID is ASCII")
}

/// The reason for what tonic refuses by itself: it answers oversize with `OUT_OF_RANGE`, broken frames
/// with `INTERNAL`, and never with details.
fn missing_reason(status: &Status, headers: &HeaderMap) -> Option<error::Reason> {
    if error::reason_of(status).is_some() {
        return None;
    }
    match status.code() {
        Code::OutOfRange => Some(reason::MESSAGE_TOO_LARGE),
        Code::Internal => Some(reason::MALFORMED_MESSAGE),
        Code::Unimplemented if headers.contains_key("grpc-accept-encoding") => Some(reason::ENCODING_UNSUPPORTED),
        Code::Unimplemented => Some(reason::METHOD_NOT_FOUND),
        Code::DeadlineExceeded | Code::Cancelled => Some(reason::DEADLINE_EXCEEDED),
        _ => None,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_refusal_of_the_stack_has_its_code_and_reason() {
        use axum::{Router, routing::any};
        use tonic::service::Routes;
        use tower::ServiceExt;

        async fn slow() {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        async fn panics() {
            panic!("a value that must not be told");
        }
        let router = Router::new().route("/grpc.health.x/slow", any(slow)).route("/grpc.health.x/panics", any(panics));
        let router = router.route("/some.Service/Method", any(|| async {}));
        let stack = Stack::new(Gate::Internal(InternalKey::new("test", &[0; 32]))).layer(Routes::from(router));
        for (path, timeout, code, reason) in [
            // tonic's own time-out would say CANCELLED.
            ("/grpc.health.x/slow", "20m", Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
            ("/grpc.health.x/slow", "soon", Code::InvalidArgument, "MALFORMED_DEADLINE"),
            ("/grpc.health.x/panics", "5S", Code::Internal, "INTERNAL_ERROR"),
            ("/some.Service/Method", "5S", Code::Unauthenticated, "CREDENTIALS_MISSING"),
        ] {
            let request = http::Request::post(path).header("grpc-timeout", timeout).body(Body::empty());
            let response = stack.clone().oneshot(request.unwrap()).await.unwrap();
            assert!(response.headers().contains_key("x-request-id"), "{path}");
            let status = Status::from_header_map(response.headers()).unwrap();
            assert_eq!((status.code(), error::reason_of(&status).as_deref()), (code, Some(reason)), "{path}");
            assert!(!status.message().contains("must not be told"));
        }
    }
}
