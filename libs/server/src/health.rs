//! How this process is. `readiness` is the overall name, empty in gRPC's health contract: whether calls would be
//! answered. `liveness` asks nothing but whether the process runs: a database that is away is no reason to begin anew.

use std::time::Duration;

use client::Channel;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
    server::HealthReporter,
};

/// What a readiness probe asks for: the process as a whole.
pub const READINESS: &str = "";
/// What a liveness probe asks for.
pub const LIVENESS: &str = "liveness";
/// What the services behind this one say is looked at so often.
const LOOK: Duration = Duration::from_millis(50);

/// What decides whether a service is well.
pub enum Well {
    /// The process itself.
    Always,
    /// Something that it needs, such as its database.
    When(watch::Receiver<bool>),
    /// The service behind it, of the same name.
    Upstream(Channel),
}

/// Begins to answer for these services. At `stop` none is ready any more.
pub(crate) async fn start(
    services: Vec<(&'static str, Well)>,
    ready: Well,
    stop: &CancellationToken,
) -> HealthServer<impl Health + use<>> {
    let (reporter, server) = tonic_health::server::health_reporter();
    reporter.set_service_status(LIVENESS, ServingStatus::Serving).await;
    for (name, well) in services.into_iter().chain([(READINESS, ready)]) {
        let first = if matches!(well, Well::Always) { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status(name, first).await;
        tokio::spawn(keep(reporter.clone(), name, well, stop.clone()));
    }
    server
}

async fn keep(reporter: HealthReporter, name: &'static str, mut well: Well, stop: CancellationToken) {
    let tell = async |is_well: bool| {
        let status = if is_well { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status(name, status).await;
    };
    let follow = async {
        let mut told = None;
        loop {
            let now = match &well {
                Well::Always => return std::future::pending().await,
                Well::When(state) => *state.borrow(),
                Well::Upstream(channel) => channel.is_serving(),
            };
            if told.replace(now) != Some(now) {
                tell(now).await;
            }
            match &mut well {
                Well::When(state) => match state.changed().await {
                    Ok(()) => (),
                    Err(_) => return std::future::pending().await,
                },
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    };
    tokio::select! {
        () = follow => (),
        () = stop.cancelled() => (),
    }
    tell(false).await;
}
