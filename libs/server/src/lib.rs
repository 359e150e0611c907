//! The server around every service. [`run`] is a whole `main`; [`serve`] puts routes behind the one
//! layer stack with health, reflection, metrics and a drain; [`accept`] is the first line of every handler.

mod accept;
mod admission;
mod config;
mod health;
mod layers;
mod linger;
mod listen;
mod operations;
mod quota;
mod serve;
mod telemetry;
mod trace;

pub use accept::{accept, accept_batch, acknowledge, call, draining, validate};
pub use config::{ServiceConfig, cache, config, network};
pub use health::{LIVENESS, READINESS, Well};
pub use layers::Gate;
pub use serve::{DRAIN_CEILING, Network, Serving, serve};
pub use telemetry::{LogFormat, Telemetry};

use std::net::SocketAddr;

use anyhow::Context;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The `main` of a service: telemetry, configuration, listener, and a drain on SIGTERM or Ctrl-C.
pub async fn run<C, S, F>(service: &'static str, listen: fn(&C) -> SocketAddr, start: S) -> anyhow::Result<()>
where
    C: DeserializeOwned,
    S: FnOnce(C, TcpListener, CancellationToken) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let telemetry = Telemetry::init(service, LogFormat::Json)?;
    let config: C = config()?;
    let address = listen(&config);
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone()));
    let done = start(config, listener, stop).await;
    telemetry.shutdown().await;
    done
}

/// Cancels on the first SIGTERM or Ctrl-C.
pub async fn stop_on_signal(stop: CancellationToken) {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .expect("a process may listen to SIGTERM");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => (),
        _ = terminate.recv() => (),
    }
    stop.cancel();
}
