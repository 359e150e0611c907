//! Passing through: a call to a public RPC of a service goes to its owner as it came, message by
//! message and undecoded, with our own credentials in place of the caller's.

use std::{convert::Infallible, sync::Arc, time::Duration};

use access::{Call, TIMEOUT_HEADER};
use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
    routing::any,
};
use client::Peer;
use error::Failure;
use futures_util::StreamExt;
use http_body::{Body as _, Frame};
use http_body_util::{BodyStream, StreamBody};
use tonic::{Status, metadata::MetadataMap, service::Routes};
use tower::Service;

use crate::{
    peers::{Peers, told},
    reason,
};

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
    // A stream whose caller has set no time has none.
    if proto::Rpc::at(parts.uri.path()).is_unary || parts.headers.contains_key(TIMEOUT_HEADER) {
        parts.headers.insert(TIMEOUT_HEADER, access::timeout_value(call.left()));
    }
    let request = http::Request::from_parts(parts, tonic::body::Body::new(body));
    match peer.channel.clone().call(request).await {
        Ok(response) => response.map(ending_well),
        Err(status) => {
            tracing::warn!(code = ?status.code(), "a service has not answered");
            told(status).into_http()
        }
    }
}

/// A body that breaks off ends with a status, not with a broken stream that every client explains
/// in its own way.
fn ending_well(body: tonic::body::Body) -> Body {
    // Nothing is to come: all was said in the headers.
    if body.is_end_stream() {
        return Body::new(body);
    }
    let frames = BodyStream::new(body).map(|frame| {
        frame.or_else(|_| {
            let broken = Failure::from(reason::SERVICE_UNAVAILABLE).retry_after(Duration::from_secs(1));
            Ok::<_, Infallible>(Frame::trailers(Status::from(broken).into_http::<()>().into_parts().0.headers))
        })
    });
    Body::new(StreamBody::new(frames))
}

fn refusal(failure: impl Into<Failure>) -> Response {
    Status::from(failure.into()).into_http()
}
