//! What those who run the process ask it, on a port of its own without encryption: gRPC probes and Prometheus.

use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};

/// Answers until the process ends; a drain can be watched to its end.
pub(crate) async fn serve(listener: TcpListener, health: HealthServer<impl Health>) {
    let metrics = || async { ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text()) };
    let router: Router = Routes::new(health).prepare().into_axum_router().route("/metrics", get(metrics));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "health and metrics are not told any more");
    }
}
