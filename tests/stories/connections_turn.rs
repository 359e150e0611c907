//! Connections end and begin, and certificates change, under calls that go on.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use access::{Caller, InternalKey, Purpose};
use axum::{Router, routing::any};
use client::channel_as;
use proto::{Codec, Composed};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SerialNumber};
use server::{Gate, Network, Serving, Well};
use tempfile::TempDir;
use tls::Identity;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// An authority that signs certificates for this machine.
struct Authority(Issuer<'static, KeyPair>, String);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self(Issuer::new(params, key), pem)
    }

    /// Puts a new certificate with this serial number into a folder.
    fn write(&self, folder: &Path, serial: u8) {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(vec![serial]));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        std::fs::write(folder.join("tls.crt"), certificate.pem()).unwrap();
        std::fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
        std::fs::write(folder.join("ca.crt"), &self.1).unwrap();
    }
}

type Served = (String, CancellationToken, JoinHandle<anyhow::Result<()>>);

fn key() -> InternalKey {
    InternalKey::new("test", &[0; 32])
}

/// A server that answers for its health alone. Answers its URL and what ends it.
async fn serve(network: Network) -> Served {
    serve_these(Routes::default(), network).await
}

async fn serve_these(routes: Routes, network: Network) -> Served {
    let stop = CancellationToken::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = tokio::spawn(server::serve(Serving {
        name: "test",
        services: Vec::new(),
        ready: Well::Always,
        routes,
        gate: Gate::Internal(key()),
        listener,
        network,
        admission_floor: 16,
        calls_per_second: None,
        stop: stop.clone(),
    }));
    (url, stop, served)
}

async fn check(url: &str, identity: Option<&Identity>) -> Result<(), tonic::Status> {
    let mut health = HealthClient::new(channel_as(url, identity).unwrap());
    health.check(HealthCheckRequest::default()).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_connection_is_replaced_and_no_call_is_lost() {
    // Longer than the pauses between attempts, so that a call which meets one turn does not meet three more.
    let network = Network { max_age: Duration::from_millis(400), ..Network::default() };
    let (url, ..) = serve(network).await;
    let channel = client::channel(&url).unwrap();
    // Many at once, so that each turn meets some that are on their way.
    let asked = (0..64).map(|_| {
        let mut health = HealthClient::new(channel.clone());
        tokio::spawn(async move {
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(6) {
                health.check(HealthCheckRequest::default()).await.unwrap();
            }
        })
    });
    for done in asked.collect::<Vec<_>>() {
        done.await.unwrap();
    }
}

/// tonic's balanced channel counts a replica that refuses connections as ready, and since it fails quickly it gets the
/// most calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_replica_gets_no_calls() {
    let (url, ..) = serve(Network::default()).await;
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let channel = client::channel(&format!("http://{dead},{}", url.trim_start_matches("http://"))).unwrap();
    for _ in 0..200 {
        HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.unwrap();
    }
    assert!(channel.is_serving());
}

/// A connection on which nothing is said has no end in hyper, and would hold up the end of a process.
#[tokio::test]
async fn a_silent_connection_does_not_hold_up_the_end() {
    let (url, stop, served) = serve(Network::default()).await;
    let silent = TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
    check(&url, None).await.unwrap();
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), served).await.unwrap().unwrap().unwrap();
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_know_each_other_by_certificates_that_turn() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let [ours, theirs, others] = [(); 3].map(|()| TempDir::new().unwrap());
    authority.write(ours.path(), 1);
    authority.write(theirs.path(), 2);
    stranger.write(others.path(), 3);
    let identity = |folder: &TempDir| Identity::read(folder.path()).unwrap();
    let (url, ..) = serve(Network { tls: Some(identity(&ours)), ..Network::default() }).await;

    let known = identity(&theirs);
    check(&url, Some(&known)).await.unwrap();
    // Neither without a certificate nor with another authority's.
    check(&url, None).await.unwrap_err();
    check(&url, Some(&identity(&others))).await.unwrap_err();

    let serial = || async {
        let stream = TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
        let stream = known.connect("127.0.0.1", stream).await.unwrap();
        let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        Arc::new(certificate)
    };
    let before = serial().await;
    // A certificate without its key is no certificate; the last good one goes on.
    std::fs::write(ours.path().join("tls.crt"), "nothing").unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(serial().await, before);
    authority.write(ours.path(), 4);
    for _ in 0..100 {
        if serial().await != before {
            return check(&url, Some(&known)).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the new certificate is not shown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_outlives_the_ceiling_of_the_drain() {
    const PATH: &str = "/clientele.profile.v1.ProfileService/GetProfile";
    let endless = Routes::from(Router::new().route(PATH, any(std::future::pending::<()>)));
    let (url, stop, served) = serve_these(endless, Network::default()).await;
    let call = tokio::spawn(async move {
        let purpose = Purpose::parse("service").unwrap();
        let mut request = tonic::Request::new(Composed::default());
        let caller = Caller { subject: "test".into(), purpose };
        request.metadata_mut().insert("authorization", key().authorization(&caller));
        request.metadata_mut().insert(access::PURPOSE_HEADER, purpose.name().parse().unwrap());
        // Its time is not up before the ceiling.
        request.set_timeout(5 * server::DRAIN_CEILING);
        let mut grpc = tonic::client::Grpc::new(client::channel(&url).unwrap());
        grpc.ready().await.unwrap();
        let codec = Codec::<Composed, Composed>::default();
        grpc.unary(request, http::uri::PathAndQuery::from_static(PATH), codec).await.map(drop)
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    stop.cancel();
    served.await.unwrap().unwrap();
    let took = began.elapsed();
    assert!(!call.is_finished(), "it was no call in flight");
    assert!(took >= server::DRAIN_CEILING, "a call in flight was given {took:?}");
    assert!(took < server::DRAIN_CEILING + Duration::from_secs(5), "it took {took:?}");
}
