//! Profile owns who a customer is, and with it which customers exist: the other services ask it
//! before they write about someone new. It never knows how to reach a customer or what was bought.

mod age;
mod assess;
mod device;
mod evidence;
mod fact;
mod filter;
mod identity;
mod name;
mod password;
mod present;
mod reason;
mod request;
mod section;
mod service;
mod store;

use ::store::{Db, Settings, loader};
use access::InternalKey;
use feed::Feed;
use proto::{
    feed::v1::feed_service_server::{self, FeedServiceServer},
    keys::v1::key_service_server::{self, KeyServiceServer},
    profile::v1::profile_service_server::{self, ProfileServiceServer},
    section::v1::section_service_server::{self, SectionServiceServer},
};
use server::{Gate, ServiceConfig, Serving, Well};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{service::Service, store::Store};

/// The service's one name.
pub const NAME: &str = "profile";

/// Checks a profile as the service would, by what can be told without its database.
pub fn check(request: &proto::profile::v1::CreateProfileRequest) -> Result<(), error::Failure> {
    server::validate(request, request::create)
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
    let db = Db::open(Settings {
        service: NAME,
        url: config.database_url,
        max_connections: config.database_connections,
        keys,
        erasure_journal: config.erasure_journal,
        forget: &[
            "delete from external_ids where customer_id = $1",
            "delete from account_names where customer_id = $1",
            "delete from accounts where customer_id = $1",
            "delete from devices where customer_id = $1",
            "delete from household_members where customer_id = $1",
            "delete from relations where customer_id = $1 or other_customer_id = $1",
            "delete from name_tokens where customer_id = $1",
            "update profiles set weights = '{}' where customer_id = $1",
            "update observations set content = uuid_send(observation_id) where customer_id = $1",
        ],
        constraints: reason::CONSTRAINTS,
        directory: None,
        cache: server::cache(&config.redis_url, &config.cache_key_file)?,
        migrations: migrations(),
    })
    .await?;
    let store = Store { db: db.clone() };
    let load = loader(&store, section::load);
    let feed = Feed::start(db.clone(), load.clone());
    let service = Service { store, load };
    let routes = Routes::new(ProfileServiceServer::new(service.clone()))
        .add_service(SectionServiceServer::new(service.clone()))
        .add_service(KeyServiceServer::new(service))
        .add_service(FeedServiceServer::new(feed));
    server::serve(Serving {
        name: NAME,
        services: vec![
            (profile_service_server::SERVICE_NAME, Well::When(db.well())),
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
