//! Insight owns what may be concluded from what the other services record. It follows their changes, keeps the facts that it
//! needs, and answers each conclusion with the numbers that decided. It records nothing of its own: all of it
//! can be made anew from the others.

mod affinity;
mod anonymity;
mod base;
mod catalogue;
mod demand;
mod follow;
mod habit;
mod holidays;
mod lifetime;
mod market;
mod prediction;
mod reason;
mod recommend;
mod recommendation;
mod recount;
mod request;
mod section;
mod service;
mod store;
mod tier;
mod traits;
mod value;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ::store::{Db, Settings, loader};
use access::{Call, Caller, InternalKey, Purpose};
use anyhow::Context;
use client::Peer;
use feed::Feed;
use proto::{
    feed::v1::feed_service_server::{self, FeedServiceServer},
    insight::v1::insight_service_server::{self, InsightServiceServer},
    keys::v1::key_service_server::{self, KeyServiceServer},
    section::v1::section_service_server::{self, SectionServiceServer},
};
use server::{Gate, ServiceConfig, Serving, Well};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{follow::Reads, holidays::Holidays, service::Service, store::Store};

/// The service's one name.
pub const NAME: &str = "insight";

/// What an erased customer leaves nothing of.
const FORGET: &[&str] = &[
    "delete from insight.purchase_lines where order_id in (select order_id from insight.purchases where customer_id = $1)",
    "delete from insight.purchases where customer_id = $1",
    "delete from insight.customer_values where customer_id = $1",
    "delete from insight.traits where customer_id = $1",
    "delete from insight.base_changes where customer_id = $1",
    "with gone as (
        update insight.counted_customers set customer_id = gen_random_uuid() where customer_id = $1 returning customer_id
     )
     insert into insight.base_changes (customer_id) select customer_id from gone",
    "update insight.counted_traits set customer_id = gen_random_uuid() where customer_id = $1",
];

/// What its schema is made by.
pub fn migrations() -> sqlx::migrate::Migrator {
    sqlx::migrate!()
}

/// Serves until `stop`.
pub async fn start(config: ServiceConfig, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
    let (network, admission_floor) = (config.network()?, config.admission_floor());
    let key = InternalKey::read(NAME, &config.internal_key_file)?;
    let keys = config.keys()?;
    let min_group_size = config.min_group_size;
    let holidays = config.holidays_folder.as_deref().map(Holidays::read).transpose()?;
    let holidays = Arc::new(holidays.unwrap_or_default());
    let peer = |url: Option<String>, name: &str| {
        let url = url.with_context(|| format!("CLIENTELE_{name}_URL is not set"))?;
        anyhow::Ok(Peer::new(client::channel_as(&url, network.tls.as_ref())?, key.clone()))
    };
    let consent = peer(config.consent_url, "CONSENT")?;
    let followed = [
        ("profile", Reads::Sections(traits::of_profile), peer(config.profile_url, "PROFILE")?),
        ("contact", Reads::Sections(traits::of_contact), peer(config.contact_url, "CONTACT")?),
        ("order-history", Reads::Orders, peer(config.order_history_url, "ORDER_HISTORY")?),
        ("interaction", Reads::Sections(traits::of_interaction), peer(config.interaction_url, "INTERACTION")?),
        ("loyalty", Reads::Sections(traits::of_loyalty), peer(config.loyalty_url, "LOYALTY")?),
        ("consent", Reads::Sections(traits::of_consent), consent.clone()),
    ];
    let db = Db::open(Settings {
        service: NAME,
        url: config.database_url,
        max_connections: config.database_connections,
        keys,
        erasure_journal: config.erasure_journal,
        forget: FORGET,
        constraints: &[],
        // Whoever is heard of from another service was vouched for there.
        directory: None,
        cache: server::cache(&config.redis_url, &config.cache_key_file)?,
        migrations: migrations(),
    })
    .await?;
    let store = Store { db: db.clone(), holidays };
    let load = loader(&store, section::load);
    let feed = Feed::start(db.clone(), load.clone());
    for (service, reads, peer) in followed {
        tokio::spawn(follow::keep(store.clone(), service, reads, peer, own_call()));
    }
    tokio::spawn(follow::keep_daily(store.clone(), ["profile", "consent"]));
    tokio::spawn(base::keep(store.clone(), own_call(), min_group_size.into()));
    tokio::spawn(recount::keep(store.clone(), own_call()));
    tokio::spawn(prediction::keep_fitted(store.clone(), own_call()));
    let catalogue = catalogue::keep(store.clone());
    let service = Service { store, load, catalogue, consent, min_group_size };
    let routes = Routes::new(InsightServiceServer::new(service.clone()))
        .add_service(SectionServiceServer::new(service.clone()))
        .add_service(KeyServiceServer::new(service))
        .add_service(FeedServiceServer::new(feed));
    server::serve(Serving {
        name: NAME,
        services: vec![
            (insight_service_server::SERVICE_NAME, Well::When(db.well())),
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
    // Without it another process goes on only when it sees that this one does not.
    let _ = feed::let_go(&db).await;
    db.close().await;
    Ok(())
}

/// What is done by itself is done in insight's own name.
fn own_call() -> Call {
    let purpose = Purpose::parse("analytics").expect("a purpose of ours");
    let caller = Caller { subject: Arc::from(NAME), purpose };
    Call { caller, deadline: Instant::now() + Duration::from_secs(30), traceparent: "".into() }
}
