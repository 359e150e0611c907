use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{Channel, Server, server::TcpIncoming},
};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_check_response, health_client::HealthClient},
    server::HealthReporter,
};

use crate::layers::{Gate, Stack};

/// Calls in flight get so long to finish once the drain has begun.
const DRAIN_CEILING: Duration = Duration::from_secs(20);

/// So many calls may be in flight on one connection.
const MAX_STREAMS: u32 = 1024;

/// What to serve and how.
pub struct Serving {
    /// The services by their full names, for health and reflection.
    pub names: Vec<&'static str>,
    /// Their routes.
    pub routes: Routes,
    /// How callers prove themselves.
    pub gate: Gate,
    /// Services behind this one whose health becomes the answer for their names.
    pub upstreams: Vec<(&'static str, Channel)>,
    /// The open port.
    pub listener: TcpListener,
    /// Begins the drain.
    pub stop: CancellationToken,
    /// How long to answer `NOT_SERVING` before connections are closed.
    pub drain: Duration,
}

/// Serves until `stop`, then drains: health says `NOT_SERVING`, balancers get `drain` to notice,
/// connections are closed with GOAWAY, calls in flight finish, and nothing outlives the ceiling.
pub async fn serve(serving: Serving) -> anyhow::Result<()> {
    let Serving { names, routes, gate, upstreams, listener, stop, drain } = serving;
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status("", ServingStatus::Serving).await;
    for name in &names {
        // What another process serves is not well before it says so.
        let own = upstreams.iter().all(|(upstream, _)| upstream != name);
        let status = if own { ServingStatus::Serving } else { ServingStatus::NotServing };
        health.set_service_status(*name, status).await;
    }
    for (name, channel) in upstreams {
        tokio::spawn(follow(health.clone(), name, channel, stop.clone()));
    }
    let reflection = || {
        let builder =
            tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(proto::DESCRIPTOR_SET);
        names.iter().fold(builder, |builder, name| builder.with_service_name(*name))
    };
    let routes = routes
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);

    let drained = {
        let (stop, names) = (stop.clone(), names.clone());
        async move {
            stop.cancelled().await;
            for name in names.into_iter().chain([""]) {
                health.set_service_status(name, ServingStatus::NotServing).await;
            }
            tokio::time::sleep(drain).await;
        }
    };
    // `Server::tcp_nodelay` does not reach a listener that is handed over; without it a reply of
    // more than one segment waits 40 ms for the peer's delayed acknowledgement.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(Duration::from_secs(30)));
    let server = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .max_concurrent_streams(MAX_STREAMS)
        // As many callers as there are may go away at once. At its default of twenty the transport takes that for
        // an attack and ends the connection under all others.
        .http2_max_pending_accept_reset_streams(Some(MAX_STREAMS as usize))
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(1 << 30)
        .layer(Stack::new(gate))
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, drained);
    let ceiling = async {
        stop.cancelled().await;
        tokio::time::sleep(drain + DRAIN_CEILING).await;
    };
    tokio::select! {
        served = server => served.context("the server failed"),
        () = ceiling => {
            tracing::warn!("calls were still in flight at the end of the drain");
            Ok(())
        }
    }
}

/// Asks a service behind this one every second how it is, more often while it is not well, and passes
/// the answer on.
async fn follow(health: HealthReporter, name: &'static str, channel: Channel, stop: CancellationToken) {
    let mut client = HealthClient::new(channel);
    while !stop.is_cancelled() {
        let asked = client.check(HealthCheckRequest { service: name.to_owned() });
        let serving = match tokio::time::timeout(Duration::from_secs(1), asked).await {
            Ok(Ok(answer)) => answer.into_inner().status() == health_check_response::ServingStatus::Serving,
            _ => false,
        };
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        health.set_service_status(name, status).await;
        // At the start everybody waits for the first good answer.
        tokio::time::sleep(if serving { Duration::from_secs(1) } else { Duration::from_millis(100) }).await;
    }
}
