//! The way to a service with several replicas. A call goes to the less busy of two; one that found nobody, or whose
//! answer was lost, is made again elsewhere if the RPC is repeatable; and all of it within the caller's time.

use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use error::reason;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Collected, Full, LengthLimitError, Limited};
use metrics::{METRICS, by};
use prost::bytes::Bytes;
use proto::Rpc;
use tls::Identity;
use tonic::{Code, Status, body::Body, transport::Endpoint};
use tower::{Service, ServiceExt};

use crate::{
    MAX_REPLY,
    budget::{self, Budget},
    replica::{Replica, Replicas},
    timed::timed,
};

const ATTEMPTS: u32 = 4;
/// A call has so long unless its request says otherwise. A stream lasts as long as both sides want.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What a message is preceded by.
const FRAME: usize = 5;
/// A server reads so much of one request.
const MAX_REQUEST: usize = (4 << 20) + FRAME;
/// The attempts that were made before this one (gRFC A6).
const PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");
/// When a server wants to be asked again, in milliseconds; what is below zero or no number means never (gRFC A6).
pub const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// A channel to all replicas of a service. Clones share them.
#[derive(Clone)]
pub struct Channel(Arc<Shared>);

struct Shared {
    replicas: Arc<Replicas>,
    budget: Budget,
}

/// What came of one attempt.
type Answer = Result<Response<Body>, Status>;

/// Opens a channel. The URL may name several hosts, `http://10.0.0.1:50051,10.0.0.2:50051`, and a host may have several
/// addresses, as that of a headless service has; it is looked up every five seconds.
pub fn channel(url: &str) -> Result<Channel, tonic::transport::Error> {
    channel_as(url, None)
}

/// The same to a process of the installation, proving who we are if we can; then the others' certificates must name the
/// first host.
pub fn channel_as(url: &str, identity: Option<&Identity>) -> Result<Channel, tonic::transport::Error> {
    let (scheme, hosts) = url.split_once("://").unwrap_or(("http", url));
    let hosts: Vec<String> = hosts.trim_end_matches('/').split(',').map(str::to_owned).collect();
    // Who has an identity speaks TLS by itself.
    let scheme = if identity.is_some() { "http" } else { scheme };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{}", hosts[0]))?;
    let replicas = Replicas::of(endpoint, hosts, identity.cloned())?;
    Ok(Channel(Arc::new(Shared { replicas, budget: Budget::new() })))
}

/// How a connection is kept. Small writes leave at once (no Nagle), and a peer that died silently is noticed within half
/// a minute.
pub(crate) fn settings(endpoint: Endpoint) -> Endpoint {
    endpoint
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(15))
        .keep_alive_timeout(Duration::from_secs(10))
        // As many streams as a server takes fit into the connection's window, so that one whose reader
        // has gone to sleep holds up nobody but itself.
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(1 << 30)
        // A server that refuses a long request before it has read it all resets the stream; a thousand
        // such refusals are no attack and must not end the connection.
        .http2_max_local_error_reset_streams(None)
}

impl Channel {
    /// Whether a replica has said that it is well.
    pub fn is_serving(&self) -> bool {
        self.0.replicas.any_serving()
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let shared = self.0.clone();
        Box::pin(async move {
            let rpc = Rpc::at(request.uri().path());
            let headers = request.headers_mut();
            if !headers.contains_key(access::TIMEOUT_HEADER) {
                if !rpc.is_unary {
                    return shared.stream(request).await;
                }
                headers.insert(access::TIMEOUT_HEADER, access::timeout_value(TIMEOUT));
            }
            // What is no time is refused by the server.
            let deadline = Instant::now() + access::timeout(headers, TIMEOUT).unwrap_or(TIMEOUT);
            let answer = async {
                match rpc.is_unary {
                    true => shared.answer(request, rpc, deadline).await,
                    false => Ok(shared.stream(request).await?.map(|body| timed(body, deadline))),
                }
            };
            let answer = tokio::time::timeout_at(deadline.into(), answer).await;
            match answer.unwrap_or_else(|_| Err(reason::DEADLINE_EXCEEDED.into())) {
                // Of two clocks for one deadline the transport's says CANCELLED.
                Err(_) if Instant::now() >= deadline => Err(reason::DEADLINE_EXCEEDED.into()),
                answer => answer,
            }
        })
    }
}

impl Shared {
    async fn stream(&self, request: Request<Body>) -> Answer {
        let replica = self.pick(None).await?;
        send(&replica, replica.streams.clone(), request).await
    }

    /// One request and one reply, by as many attempts as it takes and there may be.
    async fn answer(&self, request: Request<Body>, rpc: Rpc, deadline: Instant) -> Answer {
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, MAX_REQUEST).collect().await.map_err(too_large)?;
        let body = Full::new(body.to_bytes());
        let mut last = None;
        let mut attempt = 0;
        loop {
            let replica = self.pick(last.as_ref()).await?;
            let mut again = Request::from_parts(parts.clone(), Body::new(body.clone()));
            let left = deadline.saturating_duration_since(Instant::now());
            again.headers_mut().insert(access::TIMEOUT_HEADER, access::timeout_value(left));
            if attempt > 0 {
                again.headers_mut().insert(PREVIOUS_ATTEMPTS, attempt.into());
            }
            let answer = send_whole(&replica, again).await;
            if !is_passing(&answer) {
                self.budget.succeeded();
                if attempt > 0 {
                    METRICS.retries.get_or_create_owned(&by("answered")).inc();
                }
                return answer;
            }
            attempt += 1;
            let unseen = answer.as_ref().is_err_and(|lost| causes(lost).any(|cause| cause.is::<NeverProcessed>()));
            let pause = match &answer {
                // Another one may be well, or the same by another connection.
                Err(_) if unseen && attempt == 1 => Some(Duration::ZERO),
                Err(_) => Some(budget::pause(attempt)),
                Ok(response) => pushback(response.headers(), attempt),
            };
            let may = (rpc.is_repeatable() || unseen || is_refused(&answer)) && attempt < ATTEMPTS;
            // What was not seen has cost nobody anything.
            let pause = pause.filter(|_| may && (unseen || self.budget.failed()));
            let in_time = |pause: &Duration| Instant::now() + *pause < deadline;
            let Some(pause) = pause.filter(in_time) else {
                if attempt > 1 {
                    METRICS.retries.get_or_create_owned(&by("given_up")).inc();
                }
                return answer;
            };
            tokio::time::sleep(pause).await;
            last = Some(replica);
        }
    }

    /// A replica. At the very beginning the name may not have been looked up yet.
    async fn pick(&self, last: Option<&Arc<Replica>>) -> Result<Arc<Replica>, Status> {
        loop {
            if let Some(replica) = self.replicas.pick(last) {
                return Ok(replica);
            }
            if self.replicas.is_unknown() {
                return Err(Status::unavailable("the name leads to nobody"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Sends a request to one replica. Who cannot be reached gets no more of them for the moment.
async fn send(replica: &Arc<Replica>, mut channel: tonic::transport::Channel, request: Request<Body>) -> Answer {
    let answer = match channel.ready().await {
        Ok(ready) => ready.call(request).await,
        Err(error) => Err(error),
    };
    answer.map_err(|error| {
        let error = tonic::codegen::StdError::from(error);
        if causes(&*error).any(|cause| cause.is::<tonic::ConnectError>()) {
            replica.eject();
        }
        lost(Status::from_error(error))
    })
}

/// The same for one message and one reply, all of which has to arrive.
async fn send_whole(replica: &Arc<Replica>, request: Request<Body>) -> Answer {
    let _busy = replica.busy();
    let (parts, body) = send(replica, replica.calls.clone(), request).await?.into_parts();
    let body: Collected<Bytes> =
        Limited::new(body, MAX_REPLY + FRAME).collect().await.map_err(too_large).map_err(lost)?;
    Ok(Response::from_parts(parts, Body::new(body)))
}

/// A body above its limit. tonic would read it whole before it says so.
fn too_large(error: Box<dyn Error + Send + Sync>) -> Status {
    match error.is::<LengthLimitError>() {
        true => reason::MESSAGE_TOO_LARGE.into(),
        false => Status::from_error(error),
    }
}

/// What breaks below the call has seven codes in tonic, and all of them mean that there is no answer.
fn lost(status: Status) -> Status {
    if causes(&status).any(|cause| cause.is::<tonic::TimeoutExpired>()) {
        return reason::DEADLINE_EXCEEDED.into();
    }
    // A status that a server has sent has no cause here.
    let Some(cause) = status.source() else { return status };
    let mut lost = Status::unavailable("the connection was lost");
    if causes(cause).any(never_processed) {
        lost.set_source(Arc::new(NeverProcessed));
    }
    lost
}

/// Whether it says that the server has not seen the call: nobody was there, the connection had ended before it was
/// written, or the server has said how far it came.
fn never_processed(cause: &(dyn Error + 'static)) -> bool {
    if let Some(error) = cause.downcast_ref::<h2::Error>() {
        return error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM));
    }
    cause.is::<tonic::ConnectError>() || cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
}

/// The server has not seen the call, so it may be made elsewhere whatever it is.
#[derive(Debug, thiserror::Error)]
#[error("the call was not seen by any server")]
struct NeverProcessed;

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| <dyn Error>::source(*error))
}

/// A refusal has no body; its code is told in the headers.
fn is_refused_with(response: &Response<Body>, code: Code) -> bool {
    let told = response.headers().get("grpc-status").and_then(|told| told.to_str().ok());
    told.is_some_and(|told| told.parse() == Ok(code as i32))
}

/// Whether the server had no room for the call, has done nothing about it, and says when to come back. Of other things
/// that are exhausted it says no time.
fn is_refused(answer: &Answer) -> bool {
    let is_refused =
        |r: &Response<Body>| is_refused_with(r, Code::ResourceExhausted) && r.headers().contains_key(PUSHBACK);
    answer.as_ref().is_ok_and(is_refused)
}

/// Whether it may be otherwise in a moment.
fn is_passing(answer: &Answer) -> bool {
    match answer {
        Err(status) => status.code() == Code::Unavailable,
        Ok(response) => is_refused_with(response, Code::Unavailable) || is_refused(answer),
    }
}

/// When the server wants to be asked again; `None` for never.
fn pushback(headers: &HeaderMap<HeaderValue>, attempt: u32) -> Option<Duration> {
    match headers.get(PUSHBACK) {
        None => Some(budget::pause(attempt)),
        Some(millis) => millis.to_str().ok()?.parse().ok().map(Duration::from_millis),
    }
}
