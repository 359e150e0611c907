//! Connections. hyper serves them, not tonic's own loop, whose connections have all the same age or, with a grace, end
//! without a word, which spins while none can be accepted, and whose certificates never change.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::body::Body;
use tower::{Service, ServiceExt};

use tls::Acceptor;

use crate::linger::Lingering;

/// So many calls may be in flight on one connection.
const MAX_STREAMS: u32 = 1024;
/// Whoever says nothing for so long at the beginning is let go; otherwise a drain would wait for it.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Whoever has called nobody for so long after connecting does not mean to.
const FIRST_CALL: Duration = Duration::from_secs(60);
/// And whoever has called nobody when it is told that no more calls are taken has so long to do so.
const LAST_CALL: Duration = Duration::from_secs(1);

/// Answers connections until `goaway`, after which each is told that it gets no new calls, and those in flight finish.
pub(crate) async fn listen<S>(
    listener: TcpListener,
    acceptor: Option<Acceptor>,
    service: S,
    max_age: Duration,
    goaway: CancellationToken,
) where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = goaway.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Too many files are open, or the peer has gone already: neither is for ever.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let (acceptor, service, goaway) = (acceptor.clone(), service.clone(), goaway.clone());
        let tasks = connections.clone();
        connections.spawn(async move {
            prepare(&stream);
            let mut first = [0];
            let spoken = tokio::select! {
                spoken = tokio::time::timeout(HANDSHAKE, stream.peek(&mut first)) => matches!(spoken, Ok(Ok(1))),
                () = goaway.cancelled() => false,
            };
            if !spoken {
                return;
            }
            match acceptor {
                None => serve(Lingering::new(stream, tasks), service, max_age, goaway).await,
                Some(acceptor) => match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => serve(Lingering::new(stream, tasks), service, max_age, goaway).await,
                    _ => tracing::warn!("a connection was refused: its certificate is not of this installation"),
                },
            }
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Without the first a reply of more than one segment waits 40 ms for the peer's delayed acknowledgement.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(30)));
}

async fn serve<I, S>(io: I, service: S, max_age: Duration, goaway: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let called = Arc::new(AtomicBool::new(false));
    let seen = called.clone();
    let service = service.map_request(move |request: http::Request<hyper::body::Incoming>| {
        seen.store(true, Relaxed);
        request.map(Body::new)
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .keep_alive_timeout(Duration::from_secs(10))
        .max_concurrent_streams(MAX_STREAMS)
        // As many callers as there are may go away at once. At its default of twenty the transport takes that for
        // an attack and ends the connection under all others.
        .max_pending_accept_reset_streams(Some(MAX_STREAMS as usize))
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(1 << 30)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    let age = max_age.mul_f64(0.9 + 0.2 * fastrand::f64());
    tokio::select! {
        _ = connection.as_mut() => return,
        () = silence(&called, FIRST_CALL) => return,
        () = tokio::time::sleep(age) => (),
        () = goaway.cancelled() => (),
    }
    // Two GOAWAYs, the second once the peer has seen the first: what it sent in between is answered too.
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        // Whoever breaks off is told nothing more.
        _ = connection => (),
        // hyper has no end for a connection that has not even begun; a first call may be on its way.
        () = silence(&called, LAST_CALL) => (),
    }
}

/// Ends when the first call has not come in time, and never once it has.
async fn silence(called: &AtomicBool, time: Duration) {
    tokio::time::sleep(time).await;
    if called.load(Relaxed) {
        std::future::pending().await
    }
}
