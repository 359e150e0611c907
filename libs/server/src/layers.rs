//! The one layer stack, written as one service, so that a call's future is put on the heap once and not at
//! every layer. A call passes it from top to bottom:
//!
//! 1. request id: outside everything that can refuse, so that every refusal carries one;
//! 2. trace and metrics: outside panics and refusals, so that they are counted;
//! 3. reason: so that no refusal leaves, or is counted, without its reason;
//! 4. panic: inside the trace, so that a panic is a failure with a span;
//! 5. admission: before work is spent on a call that there is no room for;
//! 6. deadline: covers identity too, since a key set may have to be fetched, and streams to their end;
//! 7. identity: so that a handler is never reached without a [`Call`];
//! 8. quota: last, since it belongs to who the caller is proven to be.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use access::{Authority, Call, InternalKey, PURPOSE_HEADER, Purpose};
use client::{PUSHBACK, ending};
use error::{Failure, reason};
use futures_util::{FutureExt, future::BoxFuture};
use http::{HeaderMap, HeaderName, HeaderValue};
use metrics::{METRICS, by};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt;
use tower::{Layer, Service};
use tracing::{Instrument, Span};

use crate::{
    admission::{Admission, Priority},
    quota::Quota,
    trace::{self, Sampling},
};

type Request = http::Request<Body>;
type Response = http::Response<Body>;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A call that brings no deadline has this one.
const DEADLINE: Duration = Duration::from_secs(30);
/// And none has a later one: it holds a place meanwhile.
const LONGEST: Duration = Duration::from_secs(300);
/// A stream lasts so long at most.
const STREAM_DEADLINE: Duration = Duration::from_secs(86_400);
/// A stream that does not end by itself while the process does is ended after so long, with a word, before it is cut.
const STREAM_GRACE: Duration = Duration::from_secs(15);
/// So many streams from outside are open at once: each has one to every service behind the gateway, and those share a
/// connection with room for 1024.
const MAX_STREAMS: usize = 900;
/// And so many from other processes.
const MAX_INTERNAL_STREAMS: usize = 8192;
const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";
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
    admission: Admission,
    streams: Arc<Semaphore>,
    quota: Option<Quota>,
    sampling: Sampling,
    goaway: CancellationToken,
}

/// Tells a stream that no more calls are taken and that it should end.
#[derive(Clone)]
pub(crate) struct Draining(pub(crate) CancellationToken);

/// Puts the stack around a service.
#[derive(Clone)]
pub(crate) struct Stack(Arc<Shared>);

impl Stack {
    pub(crate) fn new(gate: Gate, admission: Admission, quota: Option<Quota>, goaway: CancellationToken) -> Self {
        let streams = if matches!(gate, Gate::External(_)) { MAX_STREAMS } else { MAX_INTERNAL_STREAMS };
        let (streams, sampling) = (Arc::new(Semaphore::new(streams)), Sampling::of_environment());
        Self(Arc::new(Shared { gate, admission, streams, quota, sampling, goaway }))
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
        let method = trace::method(request.uri().path());
        let is_open = is_open(request.uri().path());
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
        if let Some(status) = status.as_ref().filter(|status| status.code() == Code::Unavailable) {
            response.headers_mut().extend(self.pushback(status).map(|pause| (PUSHBACK, pause)));
        }
        // Every caller asks every second how this process is, and always gets an answer: that would hide the others'.
        if !is_open {
            trace::record(&span, method, status.as_ref(), began.elapsed());
        }
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
        let path = request.uri().path();
        let is_open = is_open(path);
        let is_unary = proto::is_unary(path);
        // Streams wait most of the time, and a probe must not be refused by those that it is to protect.
        let is_limited = is_unary && !is_open;
        let priority = Priority::of(request.headers());
        let place = if is_limited { self.admission.enter(priority) } else { None };
        if is_limited && place.is_none() {
            METRICS.shed.get_or_create_owned(&by(priority.name())).inc();
            // They do not all come back at once.
            let pause = Duration::from_millis(fastrand::u64(100..300));
            return refusal(Failure::from(reason::OVERLOADED).retry_after(pause));
        }
        let stream = match is_unary {
            true => None,
            false => match self.streams.clone().try_acquire_owned() {
                Ok(stream) => Some(stream),
                Err(_) => return refusal(Failure::from(reason::OVERLOADED).retry_after(Duration::from_secs(5))),
            },
        };
        let is_watch = path == HEALTH_WATCH;
        let (otherwise, longest) = if is_unary { (DEADLINE, LONGEST) } else { (STREAM_DEADLINE, STREAM_DEADLINE) };
        let Some(timeout) = access::timeout(request.headers(), otherwise) else {
            return refusal(reason::MALFORMED_DEADLINE);
        };
        let timeout = timeout.min(if is_open && !is_watch { OPEN_TIMEOUT } else { longest });
        let (method, began) = (path.to_owned(), Instant::now());
        let deadline = began + timeout;
        let handled =
            tokio::time::timeout_at(deadline.into(), self.handle(inner, request, is_open, deadline, span)).await;
        let is_late = handled.is_err();
        let response = handled.unwrap_or_else(|_| refusal(reason::DEADLINE_EXCEEDED));
        if let Some(stream) = stream {
            let goaway = self.goaway.clone();
            let grace = if is_watch { Duration::ZERO } else { STREAM_GRACE };
            let end = async move {
                tokio::select! {
                    () = tokio::time::sleep_until(deadline.into()) => reason::DEADLINE_EXCEEDED,
                    () = async { goaway.cancelled().await; tokio::time::sleep(grace).await } => {
                        drop(stream);
                        reason::SERVER_DRAINING
                    }
                }
            };
            return response.map(|body| ending(body, end));
        }
        // A refusal is quick and says nothing about how busy this process is.
        if is_limited && (is_late || !response.headers().contains_key("grpc-status")) {
            self.admission.learn(&method, began.elapsed(), is_late);
        }
        response
    }

    /// When to ask again, if there is anything to say of it. What was asked of somebody behind this process has been
    /// asked again already, and another layer of attempts would multiply them.
    fn pushback(&self, status: &Status) -> Option<HeaderValue> {
        let is_asked_behind = error::reason_of(status).is_some_and(|name| name == reason::SERVICE_UNAVAILABLE.name);
        if is_asked_behind || matches!(self.gate, Gate::External(_)) {
            return Some(HeaderValue::from_static("-1"));
        }
        let pause = status.get_details_retry_info()?.retry_delay?;
        Some(HeaderValue::from(pause.as_millis() as u64))
    }

    async fn handle<S>(
        &self,
        mut inner: S,
        mut request: Request,
        is_open: bool,
        deadline: Instant,
        span: &Span,
    ) -> Response
    where
        S: Service<Request, Response = Response, Error = Infallible>,
    {
        if is_open {
            return inner.call(request).await.unwrap_or_else(|never| match never {});
        }
        let caller = match authenticate(&self.gate, request.headers()).await {
            Ok(caller) => caller,
            Err(failure) => return refusal(failure),
        };
        let left = match self.quota.as_ref().map(|quota| quota.take(&caller.subject)) {
            Some(Err(response)) => return response,
            Some(Ok(left)) => Some(left),
            None => None,
        };
        request.extensions_mut().insert(Call { caller, deadline, traceparent: trace::parent_of(span) });
        request.extensions_mut().insert(Draining(self.goaway.clone()));
        let response = inner.call(request).await.unwrap_or_else(|never| match never {});
        match left {
            Some(left) => left.told_in(response),
            None => response,
        }
    }
}

fn is_open(path: &str) -> bool {
    OPEN.iter().any(|prefix| path.starts_with(prefix))
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

pub(crate) fn refusal(failure: impl Into<Failure>) -> Response {
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
        let gate = Gate::Internal(InternalKey::new("test", &[0; 32]));
        let stack = Stack::new(gate, Admission::new("test", 8), None, CancellationToken::new());
        let stack = stack.layer(Routes::from(router));
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
