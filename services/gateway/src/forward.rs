//! Passing through: a call to a public RPC of a service goes to its owner as it came, message by
//! message and undecoded, with our own credentials in place of the caller's.

use std::{sync::Arc, time::Instant};

use access::Call;
use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
    routing::any,
};
use client::Peer;
use error::Failure;
use http::HeaderValue;
use tonic::{Status, metadata::MetadataMap, service::Routes};
use tower::{Service, ServiceExt};

use crate::{peers::Peers, reason};

/// Adds a route for each public service behind the gateway. The internal contract has none.
pub fn add(mut routes: Routes, peers: &Arc<Peers>) -> Routes {
    let mut router = std::mem::take(routes.axum_router_mut());
    for owner in peers.all() {
        let path = format!("/{}/{{method}}", owner.service);
        router = router.route(&path, any(forward).with_state(owner.peer.clone()));
    }
    *routes.axum_router_mut() = router;
    routes
}

async fn forward(State(peer): State<Peer>, request: Request) -> Response {
    let Some(call) = request.extensions().get::<Call>().cloned() else {
        return refusal(reason::INTERNAL_ERROR);
    };
    let (mut parts, body) = request.into_parts();
    let mut metadata = MetadataMap::from_headers(std::mem::take(&mut parts.headers));
    peer.sign(&call, &mut metadata);
    parts.headers = metadata.into_headers();
    // What is left of the caller's time, in the largest unit that keeps eight digits exact enough.
    let left = call.deadline.saturating_duration_since(Instant::now()).as_millis();
    parts.headers.insert("grpc-timeout", timeout(left));
    let request = http::Request::from_parts(parts, tonic::body::Body::new(body));

    let mut channel = peer.channel.clone();
    let answer = match channel.ready().await {
        Ok(ready) => ready.call(request).await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(response) => response.map(Body::new),
        Err(_) if Instant::now() >= call.deadline => refusal(reason::DEADLINE_EXCEEDED),
        Err(error) => {
            tracing::warn!(error = %error, "a service could not be reached");
            refusal(Failure::from(reason::SERVICE_UNAVAILABLE).retry_after(std::time::Duration::from_secs(1)))
        }
    }
}

/// At most eight digits: milliseconds up to a day fit.
fn timeout(millis: u128) -> HeaderValue {
    HeaderValue::from_str(&format!("{}m", millis.min(99_999_999))).unwrap_or(HeaderValue::from_static("1m"))
}

fn refusal(failure: impl Into<Failure>) -> Response {
    Status::from(failure.into()).into_http()
}
