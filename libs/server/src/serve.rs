use std::{net::SocketAddr, num::NonZeroU32, time::Duration};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::Layer;

use crate::{
    admission::Admission,
    health::{self, Well},
    layers::{Gate, Stack},
    listen, operations,
    quota::Quota,
};

/// Calls in flight get so long to finish once connections are closed.
pub const DRAIN_CEILING: Duration = Duration::from_secs(20);

/// What to serve and how.
pub struct Serving {
    /// The one name of the service.
    pub name: &'static str,
    /// The services by their full names, and what decides whether each is well.
    pub services: Vec<(&'static str, Well)>,
    /// Whether the process takes calls.
    pub ready: Well,
    /// Their routes.
    pub routes: Routes,
    /// How callers prove themselves.
    pub gate: Gate,
    /// The open port.
    pub listener: TcpListener,
    /// How this process shows who it is, and what it is asked at another port.
    pub network: Network,
    /// So many calls at once are never too many.
    pub admission_floor: usize,
    /// So many calls a second each caller may make; as many as it likes unless said.
    pub calls_per_second: Option<NonZeroU32>,
    /// Begins the drain.
    pub stop: CancellationToken,
}

/// What a process needs to know of its surroundings.
#[derive(Clone)]
pub struct Network {
    /// Where health and metrics are told without encryption, for probes and Prometheus; nowhere unless said.
    pub operations: Option<SocketAddr>,
    /// How long to answer `NOT_SERVING` before connections are closed, so that balancers notice.
    pub drain: Duration,
    /// How connections are encrypted; not at all unless said.
    pub tls: Option<tls::Identity>,
    /// A connection gets no new calls after so long, a tenth more or less by chance, so that callers find replicas that
    /// came later.
    pub max_age: Duration,
}

impl Default for Network {
    fn default() -> Self {
        Self { operations: None, drain: Duration::ZERO, tls: None, max_age: Duration::from_secs(300) }
    }
}

/// Serves until `stop`, then drains: health says `NOT_SERVING`, balancers get time to notice, streams end with
/// their last token, connections are closed with GOAWAY, calls in flight finish, and nothing outlives the ceiling.
pub async fn serve(serving: Serving) -> anyhow::Result<()> {
    let Serving { name, services, ready, routes, gate, listener, network, admission_floor, stop, .. } = serving;
    let names: Vec<&str> = services.iter().map(|(name, _)| *name).collect();
    let health = health::start(services, ready, &stop).await;
    let reflection = || {
        let builder =
            tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(proto::DESCRIPTOR_SET);
        names.iter().fold(builder, |builder, name| builder.with_service_name(*name))
    };
    if let Some(address) = network.operations {
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        tokio::spawn(operations::serve(listener, health.clone()));
    }
    let routes =
        routes.add_service(health).add_service(reflection().build_v1()?).add_service(reflection().build_v1alpha()?);

    let goaway = CancellationToken::new();
    let acceptor = network.tls.map(|identity| match gate {
        Gate::Internal(_) => identity.acceptor_for_peers(),
        Gate::External(_) => identity.acceptor_for_all(),
    });
    let quota = serving.calls_per_second.map(Quota::per_second);
    let stack = Stack::new(gate, Admission::new(name, admission_floor), quota, goaway.clone());
    let service = stack.layer(routes.prepare());
    let served = listen::listen(listener, acceptor, service, network.max_age, goaway.clone());
    let drained = async {
        stop.cancelled().await;
        tokio::time::sleep(network.drain).await;
        goaway.cancel();
        tokio::time::sleep(DRAIN_CEILING).await;
    };
    tokio::select! {
        () = served => (),
        () = drained => tracing::warn!("calls were still in flight at the end of the drain"),
    }
    Ok(())
}
