//! What is asked again, by what a server has answered.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use axum::{
    Router,
    body::Body as Answer,
    http::{Response, Uri},
};
use client::{PUSHBACK, channel};
use tokio::net::TcpListener;
use tonic::{Code, Status, body::Body, service::Routes, transport::Server};
use tower::ServiceExt;

const READ: &str = "/clientele.customer.v1.CustomerService/GetCustomer";
const COUNTED: &str = "/clientele.profile.v1.ProfileService/VerifyPassword";

/// A server that refuses so many calls with this code, and this time to come back, before it answers. Answers its URL and
/// how many calls it has seen.
async fn server(refusals: usize, code: Code, pushback: &'static str) -> (String, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let answer = move |uri: Uri| {
        let is_probe = uri.path().starts_with("/grpc.health.");
        let code = if !is_probe && count.fetch_add(1, Relaxed) < refusals { code } else { Code::Ok };
        let mut response: Response<Answer> = Status::new(code, "").into_http();
        if !pushback.is_empty() {
            response.headers_mut().insert(PUSHBACK, pushback.parse().unwrap());
        }
        async { response }
    };
    let incoming = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", incoming.local_addr().unwrap());
    let routes = Routes::from(Router::new().fallback(answer));
    let incoming = tonic::transport::server::TcpIncoming::from(incoming);
    tokio::spawn(Server::builder().add_routes(routes).serve_with_incoming(incoming));
    (url, seen)
}

#[tokio::test]
async fn what_a_server_has_refused_is_asked_again_if_it_may_be_and_when_it_says() {
    let busy = Code::ResourceExhausted;
    for (path, refusals, code, pushback, calls, answered) in [
        // No answer that may be otherwise in a moment.
        (READ, 1, Code::NotFound, "", 1, false),
        (READ, 1, Code::Unavailable, "", 2, true),
        (READ, 3, Code::Unavailable, "5", 4, true),
        (READ, 4, Code::Unavailable, "5", 4, false),
        // Whoever is behind the server was asked again already.
        (READ, 1, Code::Unavailable, "-1", 1, false),
        (READ, 1, Code::Unavailable, "soon", 1, false),
        // Who is unavailable may have counted the try before.
        (COUNTED, 1, Code::Unavailable, "5", 1, false),
        // Who had no room has not; but other things can be exhausted than room.
        (READ, 1, busy, "5", 2, true),
        (COUNTED, 1, busy, "5", 2, true),
        (READ, 1, busy, "-1", 1, false),
        (READ, 1, busy, "", 1, false),
        // A time that the caller has not.
        (READ, 1, busy, "60000", 1, false),
    ] {
        let (url, seen) = server(refusals, code, pushback).await;
        let request = http::Request::post(path).body(Body::empty()).unwrap();
        let response = channel(&url).unwrap().oneshot(request).await.unwrap();
        let told = Status::from_header_map(response.headers()).unwrap().code();
        let case = format!("{path} {code:?} {pushback:?}");
        assert_eq!((seen.load(Relaxed), told), (calls, if answered { Code::Ok } else { code }), "{case}");
    }
}

#[tokio::test]
async fn where_most_is_refused_nothing_is_asked_again() {
    let (url, seen) = server(usize::MAX, Code::ResourceExhausted, "1").await;
    let channel = channel(&url).unwrap();
    for _ in 0..400 {
        let request = http::Request::post(READ).body(Body::empty()).unwrap();
        channel.clone().oneshot(request).await.unwrap();
    }
    // As many as half of the budget's thousand tokens are asked again.
    assert!((895..905).contains(&seen.load(Relaxed)), "{seen:?}");
}

/// Of the channels about every second one tries first where nobody is.
#[tokio::test]
async fn what_nobody_has_seen_is_asked_elsewhere_whatever_it_is_and_for_nothing() {
    let (url, seen) = server(0, Code::Ok, "").await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for calls in 1..=40 {
        let request = http::Request::post(COUNTED).body(Body::empty()).unwrap();
        let response = channel(&format!("{url},{gone}")).unwrap().oneshot(request).await.unwrap();
        assert_eq!(Status::from_header_map(response.headers()).unwrap().code(), Code::Ok);
        assert_eq!(seen.load(Relaxed), calls);
    }
}
