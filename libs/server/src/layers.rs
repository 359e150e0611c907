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
use proto::Rpc;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt;
use tower::{Layer, Service};
use tracing::{Instrument, Span};

use crate::{
    admission::{Admission, Place, Priority},
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
const HEALTH_WATCH: &str = "grpc.health.v1.Health/Watch";
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
    stream_grace: Duration,
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
        Self(Arc::new(Shared { gate, admission, streams, quota, sampling, goaway, stream_grace: STREAM_GRACE }))
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
        let rpc = Rpc::at(request.uri().path());
        let span = trace::span(&self.sampling, rpc.name, request.headers());
        let guarded = AssertUnwindSafe(self.guard(inner, request, rpc, &span)).catch_unwind();
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
        // Every caller asks every second how this process is, and always gets an answer: that would hide the others'.
        if !is_open(rpc) {
            trace::record(&span, rpc.name, status.as_ref(), began.elapsed());
        }
        // A refusal that came from behind us has its id already.
        let unnamed = status.is_some() && !response.headers().contains_key(REQUEST_ID);
        if let Some(id) = id.or_else(|| unnamed.then(new_request_id)) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        response
    }

    async fn guard<S>(&self, inner: S, request: Request, rpc: Rpc, span: &Span) -> Response
    where
        S: Service<Request, Response = Response, Error = Infallible>,
    {
        let answer = match rpc.is_unary {
            true => self.unary(inner, request, rpc, span).await,
            false => self.stream(inner, request, rpc, span).await,
        };
        answer.unwrap_or_else(|failure| {
            let status = Status::from(failure);
            let pause = pause(&status).map(|pause| (PUSHBACK, pause));
            let mut response: Response = status.into_http();
            response.headers_mut().extend(pause);
            response
        })
    }

    async fn unary<S>(&self, inner: S, request: Request, rpc: Rpc, span: &Span) -> Result<Response, Failure>
    where
        S: Service<Request, Response = Response, Error = Infallible>,
    {
        // A probe must not be refused by those that it is to protect.
        let is_limited = !is_open(rpc);
        let _place = if is_limited { Some(self.admit(request.headers())?) } else { None };
        let longest = if is_limited { LONGEST } else { OPEN_TIMEOUT };
        let timeout = access::timeout(request.headers(), DEADLINE).ok_or(reason::MALFORMED_DEADLINE)?;
        let began = Instant::now();
        let deadline = began + timeout.min(longest);
        let handled = tokio::time::timeout_at(deadline.into(), self.handle(inner, request, rpc, deadline, span)).await;
        let is_late = handled.is_err();
        let response = handled.unwrap_or_else(|_| refusal(reason::DEADLINE_EXCEEDED));
        // A refusal is quick and says nothing about how busy this process is.
        if is_limited && (is_late || !response.headers().contains_key("grpc-status")) {
            self.admission.learn(rpc.name, began.elapsed(), is_late);
        }
        Ok(response)
    }

    /// A stream takes no place among the calls, since it waits most of the time.
    async fn stream<S>(&self, inner: S, request: Request, rpc: Rpc, span: &Span) -> Result<Response, Failure>
    where
        S: Service<Request, Response = Response, Error = Infallible>,
    {
        let is_watch = rpc.name == HEALTH_WATCH;
        let Ok(stream) = self.streams.clone().try_acquire_owned() else {
            return Err(Failure::from(reason::OVERLOADED).retry_after(Duration::from_secs(5)));
        };
        let longest = if is_open(rpc) && !is_watch { OPEN_TIMEOUT } else { STREAM_DEADLINE };
        let timeout = access::timeout(request.headers(), STREAM_DEADLINE).ok_or(reason::MALFORMED_DEADLINE)?;
        let deadline = Instant::now() + timeout.min(longest);
        let handled = tokio::time::timeout_at(deadline.into(), self.handle(inner, request, rpc, deadline, span)).await;
        let goaway = self.goaway.clone();
        let grace = if is_watch { Duration::ZERO } else { self.stream_grace };
        let end = async move {
            tokio::select! {
                () = tokio::time::sleep_until(deadline.into()) => reason::DEADLINE_EXCEEDED,
                () = async { goaway.cancelled().await; tokio::time::sleep(grace).await } => {
                    drop(stream);
                    reason::SERVER_DRAINING
                }
            }
        };
        Ok(handled.map_err(|_| reason::DEADLINE_EXCEEDED)?.map(|body| ending(body, end)))
    }

    /// A place among the calls.
    fn admit(&self, headers: &HeaderMap) -> Result<Place<'_>, Failure> {
        let priority = Priority::of(headers);
        self.admission.enter(priority).ok_or_else(|| {
            METRICS.shed.get_or_create_owned(&by(priority.name())).inc();
            // They do not all come back at once.
            Failure::from(reason::OVERLOADED).retry_after(Duration::from_millis(fastrand::u64(100..300)))
        })
    }

    /// When to ask again what a handler has refused, if there is anything to say of it. What was asked of somebody behind
    /// this process has been asked again already, and another layer of attempts would multiply them.
    fn pushback(&self, status: &Status) -> Option<HeaderValue> {
        let is_asked_behind = error::reason_of(status).is_some_and(|name| name == reason::SERVICE_UNAVAILABLE.name);
        match status.code() {
            Code::Unavailable if !is_asked_behind && matches!(self.gate, Gate::Internal(_)) => pause(status),
            Code::Unavailable | Code::ResourceExhausted => Some(HeaderValue::from_static("-1")),
            _ => None,
        }
    }

    async fn handle<S>(&self, mut inner: S, mut request: Request, rpc: Rpc, deadline: Instant, span: &Span) -> Response
    where
        S: Service<Request, Response = Response, Error = Infallible>,
    {
        if is_open(rpc) {
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
        let mut response = inner.call(request).await.unwrap_or_else(|never| match never {});
        let pushback = Status::from_header_map(response.headers()).and_then(|status| self.pushback(&status));
        response.headers_mut().extend(pushback.map(|pushback| (PUSHBACK, pushback)));
        match left {
            Some(left) => left.told_in(response),
            None => response,
        }
    }
}

/// Anyone may ask whether the process is well and what the contract is.
fn is_open(rpc: Rpc) -> bool {
    rpc.name.starts_with("grpc.")
}

/// How many milliseconds to wait before it is asked again, if it says so.
fn pause(status: &Status) -> Option<HeaderValue> {
    let pause = status.get_details_retry_info()?.retry_delay?;
    Some(HeaderValue::from(pause.as_millis() as u64))
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
    use axum::{Router, routing::any};
    use http_body_util::BodyExt;
    use tonic::service::Routes;
    use tower::ServiceExt;

    use super::*;

    const CHECK: &str = "/grpc.health.v1.Health/Check";
    const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    const WATCH: &str = "/grpc.health.v1.Health/Watch";

    fn stack(router: Router, goaway: CancellationToken) -> Stacked<Routes> {
        let gate = Gate::Internal(InternalKey::new("test", &[0; 32]));
        let mut stack = Stack::new(gate, Admission::new("test", 8), None, goaway);
        Arc::get_mut(&mut stack.0).unwrap().stream_grace = Duration::from_millis(300);
        stack.layer(Routes::from(router))
    }

    async fn call(stack: &Stacked<Routes>, path: &str, timeout: &str) -> Response {
        let request = http::Request::post(path).header("grpc-timeout", timeout);
        stack.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    /// A call of another process.
    async fn known_call(stack: &Stacked<Routes>, path: &str) -> Response {
        let caller = access::Caller { subject: "test".into(), purpose: Purpose::parse("service").unwrap() };
        let authorization = InternalKey::new("test", &[0; 32]).authorization(&caller);
        let request = http::Request::post(path).header("authorization", authorization.to_str().unwrap());
        stack.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    fn told(headers: &HeaderMap) -> (Code, Option<String>) {
        let status = Status::from_header_map(headers).unwrap();
        (status.code(), error::reason_of(&status))
    }

    /// A stream on which nothing is ever said.
    async fn silent() -> axum::response::Response {
        axum::response::Response::new(axum::body::Body::new(http_body_util::StreamBody::new(
            futures_util::stream::pending::<Result<http_body::Frame<hyper::body::Bytes>, Infallible>>(),
        )))
    }

    #[tokio::test]
    async fn each_refusal_of_the_stack_has_its_code_and_reason() {
        async fn slow() {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        async fn panics() {
            panic!("a value that must not be told");
        }
        let router = Router::new().route(CHECK, any(slow)).route(REFLECTION, any(panics));
        let stack = stack(router.route("/some.Service/Method", any(|| async {})), CancellationToken::new());
        for (path, timeout, code, reason) in [
            // tonic's own time-out would say CANCELLED.
            (CHECK, "20m", Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
            (CHECK, "soon", Code::InvalidArgument, "MALFORMED_DEADLINE"),
            (REFLECTION, "5S", Code::Internal, "INTERNAL_ERROR"),
            ("/some.Service/Method", "5S", Code::Unauthenticated, "CREDENTIALS_MISSING"),
        ] {
            let response = call(&stack, path, timeout).await;
            assert!(response.headers().contains_key("x-request-id"), "{path}");
            assert_eq!(told(response.headers()), (code, Some(reason.to_owned())), "{path}");
            let status = Status::from_header_map(response.headers()).unwrap();
            assert!(!status.message().contains("must not be told"));
        }
    }

    #[tokio::test]
    async fn what_was_asked_of_somebody_behind_is_not_asked_again_in_front() {
        async fn refused(reason: error::Reason) -> Response {
            refusal(Failure::from(reason).retry_after(Duration::from_millis(70)))
        }
        let router = Router::new()
            .route("/some.Service/OfTheDatabase", any(|| refused(reason::DATABASE_UNAVAILABLE)))
            .route("/some.Service/Behind", any(|| refused(reason::SERVICE_UNAVAILABLE)))
            .route("/some.Service/FullBehind", any(|| refused(reason::OVERLOADED)))
            .route("/some.Service/Wrong", any(|| refused(reason::CUSTOMER_NOT_FOUND)));
        let stack = stack(router, CancellationToken::new());
        for (path, pushback) in [
            ("/some.Service/OfTheDatabase", Some("70")),
            ("/some.Service/Behind", Some("-1")),
            ("/some.Service/FullBehind", Some("-1")),
            ("/some.Service/Wrong", None),
        ] {
            let response = known_call(&stack, path).await;
            let told = response.headers().get(PUSHBACK).map(|told| told.to_str().unwrap());
            assert_eq!(told, pushback, "{path}");
        }
    }

    #[tokio::test]
    async fn more_streams_than_there_is_room_for_are_refused_until_one_ends() {
        let stack = stack(Router::new().route(WATCH, any(silent)), CancellationToken::new());
        let mut open = Vec::new();
        for _ in 0..MAX_INTERNAL_STREAMS {
            open.push(call(&stack, WATCH, "1H").await);
        }
        assert!(open.iter().all(|response| !response.headers().contains_key("grpc-status")));
        let refused = call(&stack, WATCH, "1H").await;
        assert_eq!(told(refused.headers()), (Code::ResourceExhausted, Some("OVERLOADED".into())));
        assert_eq!(refused.headers()[PUSHBACK], "5000");
        drop(open.pop());
        assert!(!call(&stack, WATCH, "1H").await.headers().contains_key("grpc-status"));
    }

    #[tokio::test]
    async fn a_stream_that_does_not_end_by_itself_is_ended_with_a_word() {
        let goaway = CancellationToken::new();
        const CHANGES: &str = "/clientele.feed.v1.FeedService/WatchChanges";
        let stack = stack(Router::new().route(WATCH, any(silent)).route(CHANGES, any(silent)), goaway.clone());
        let (watch, late) = (call(&stack, WATCH, "1H").await, call(&stack, WATCH, "50m").await);
        let changes = known_call(&stack, CHANGES).await;
        let late = late.into_body().collect().await.unwrap();
        assert_eq!(told(late.trailers().unwrap()), (Code::DeadlineExceeded, Some("DEADLINE_EXCEEDED".into())));

        goaway.cancel();
        let began = Instant::now();
        for (body, is_told_at_once) in [(watch, true), (changes, false)] {
            let ended = body.into_body().collect().await.unwrap();
            assert_eq!(told(ended.trailers().unwrap()), (Code::Unavailable, Some("SERVER_DRAINING".into())));
            assert_eq!(began.elapsed() < Duration::from_millis(300), is_told_at_once);
        }
    }
}
