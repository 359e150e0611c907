//! Contact owns how to reach a customer. It never sends anything itself.

mod delivery;
mod normalize;
mod postal;
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
    contact::v1::contact_service_server::{self, ContactServiceServer},
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
pub const NAME: &str = "contact";

/// Checks a contact point as the service would, by what can be told without its database.
pub fn check(request: &proto::contact::v1::AddContactPointRequest) -> Result<(), error::Failure> {
    server::validate(request, request::add)
}

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
        forget: &[
            "delete from deliveries where contact_point_id in
                 (select contact_point_id from contact_points where customer_id = $1)",
            "delete from verifications where customer_id = $1",
            "delete from preferences where customer_id = $1",
            "update contact_points set hash = uuid_send(contact_point_id), deliverability = 0,
                 deliverability_since = null, verified_at = null where customer_id = $1",
        ],
        constraints: reason::CONSTRAINTS,
        directory: Some(directory),
        cache: server::cache(&config.redis_url, &config.cache_key_file)?,
        migrations: migrations(),
    })
    .await?;
    let store = Store::new(db.clone());
    let load = loader(&store, section::load);
    let feed = Feed::start(db.clone(), load.clone());
    let service = Service { store, load };
    let routes = Routes::new(ContactServiceServer::new(service.clone()))
        .add_service(SectionServiceServer::new(service.clone()))
        .add_service(KeyServiceServer::new(service))
        .add_service(FeedServiceServer::new(feed));
    server::serve(Serving {
        name: NAME,
        services: vec![
            (contact_service_server::SERVICE_NAME, Well::When(db.well())),
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
