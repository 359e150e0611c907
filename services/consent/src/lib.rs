//! Consent owns what a customer allowed. Its records are only ever added; a decision is computed
//! from them, never stored.

mod decision;
mod reason;
mod request;
mod section;
mod service;
mod store;

use ::store::{Db, Settings, loader};
use access::InternalKey;
use anyhow::Context;
use client::{Directory, Peer};
use feed::Feed;
use proto::{
    consent::v1::consent_service_server::{self, ConsentServiceServer},
    feed::v1::feed_service_server::{self, FeedServiceServer},
    keys::v1::key_service_server::{self, KeyServiceServer},
    section::v1::section_service_server::{self, SectionServiceServer},
};
use server::{Gate, ServiceConfig, Serving, Well};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{service::Service, store::Store};

/// The service's one name.
pub const NAME: &str = "consent";

/// What its schema is made by.
pub fn migrations() -> sqlx::migrate::Migrator {
    sqlx::migrate!()
}

/// Serves until `stop`.
pub async fn start(config: ServiceConfig, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
    let (network, admission_floor) = (config.network()?, config.admission_floor());
    let key = InternalKey::read(NAME, &config.internal_key_file)?;
    let keys = config.keys()?;
    let profile = config.profile_url.context("CLIENTELE_PROFILE_URL is not set")?;
    let directory = Directory::new(Peer::new(client::channel_as(&profile, network.tls.as_ref())?, key.clone()));
    let db = Db::open(Settings {
        service: NAME,
        url: config.database_url,
        max_connections: config.database_connections,
        keys,
        erasure_journal: config.erasure_journal,
        forget: &[],
        constraints: reason::CONSTRAINTS,
        directory: Some(directory),
        cache: server::cache(&config.redis_url, &config.cache_key_file)?,
        migrations: migrations(),
    })
    .await?;
    let store = Store { db: db.clone() };
    let load = loader(&store, section::load);
    let feed = Feed::start(db.clone(), load.clone());
    let service = Service { store, load };
    let routes = Routes::new(ConsentServiceServer::new(service.clone()))
        .add_service(SectionServiceServer::new(service.clone()))
        .add_service(KeyServiceServer::new(service))
        .add_service(FeedServiceServer::new(feed));
    server::serve(Serving {
        name: NAME,
        services: vec![
            (consent_service_server::SERVICE_NAME, Well::When(db.well())),
            (section_service_server::SERVICE_NAME, Well::When(db.well())),
            (feed_service_server::SERVICE_NAME, Well::When(db.well())),
            (key_service_server::SERVICE_NAME, Well::When(db.well())),
        ],
        ready: Well::When(db.well()),
        routes,
        gate: Gate::Internal(key),
        listener,
        network,
        admission_floor,
        calls_per_second: None,
        stop,
    })
    .await?;
    db.close().await;
    Ok(())
}
