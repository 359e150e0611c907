//! All eight services in one process, for development, small installations and tests.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context;
use server::ServiceConfig;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    acl, database,
    keys::{AUDIENCE, ISSUER, Keys},
};

/// The services with a schema, profile first.
pub const SERVICES: [&str; 7] =
    [profile::NAME, contact::NAME, order_history::NAME, interaction::NAME, loyalty::NAME, consent::NAME, insight::NAME];

/// Where each of them listens.
pub type Addresses = [SocketAddr; SERVICES.len()];

/// How callers' tokens are verified, if not by this machine's own keys.
#[derive(Clone, clap::Args)]
pub struct Issuer {
    /// The key set of those who issue callers' tokens, a file or a URL; a throw-away key pair
    /// unless said.
    #[arg(long, env = "CLIENTELE_JWKS", requires = "issuer", requires = "audience")]
    pub jwks: Option<String>,
    /// The issuer that tokens must name.
    #[arg(long, env = "CLIENTELE_ISSUER")]
    pub issuer: Option<String>,
    /// The audience that tokens must name.
    #[arg(long, env = "CLIENTELE_AUDIENCE")]
    pub audience: Option<String>,
}

/// What every way to start the services needs.
pub struct Plan {
    /// The database, with the role that prepares it.
    pub database_url: String,
    /// The installation's secrets.
    pub keys: Keys,
    /// Where erasures are written down, outside the database.
    pub erasure_journal: PathBuf,
    /// How callers are known.
    pub issuer: Issuer,
    /// Where the gateway listens.
    pub listen: SocketAddr,
    /// The cache; without it every read goes to the database.
    pub redis_url: Option<String>,
    /// Whether Redis knows a user for each process.
    pub redis_users: bool,
    /// Connections to the database, for each service.
    pub connections: u32,
    /// Insight tells numbers of several customers only of so many at least.
    pub min_group_size: u32,
    /// Insight's calendars of holidays.
    pub holidays_folder: Option<PathBuf>,
}

impl Plan {
    /// A service's configuration, once everyone's addresses are known.
    pub fn service(&self, name: &str, addresses: &Addresses) -> anyhow::Result<ServiceConfig> {
        let of = |name: &str| SERVICES.iter().position(|other| *other == name).map(|i| addresses[i]);
        let listen = of(name).with_context(|| format!("{name} is no service"))?;
        let url = |whose: &str| of(whose).map(|address| format!("http://{address}"));
        let followed = |whose: &str| url(whose).filter(|_| name == insight::NAME);
        let password = self.keys.passwords.get(name).with_context(|| format!("{name} has no password"))?;
        Ok(ServiceConfig {
            listen,
            database_url: database::role_url(&self.database_url, name, password)?,
            database_connections: self.connections,
            key_ring_file: Some(self.keys.key_ring_file()),
            key_ring: None,
            erasure_journal: self.erasure_journal.clone(),
            internal_key_file: self.keys.internal_key_file(),
            profile_url: url(profile::NAME).filter(|_| name != profile::NAME),
            contact_url: followed(contact::NAME),
            order_history_url: followed(order_history::NAME),
            interaction_url: followed(interaction::NAME),
            loyalty_url: followed(loyalty::NAME),
            consent_url: followed(consent::NAME),
            min_group_size: self.min_group_size,
            holidays_folder: self.holidays_folder.clone().filter(|_| name == insight::NAME),
            redis_url: self.redis_url(name)?,
            cache_key_file: Some(self.keys.cache_key_file()),
            drain_seconds: 0,
            operations_listen: None,
            tls_folder: None,
        })
    }

    fn redis_url(&self, name: &str) -> anyhow::Result<Option<String>> {
        let Some(url) = self.redis_url.as_ref().filter(|_| self.redis_users) else { return Ok(self.redis_url.clone()) };
        let password =
            self.keys.redis_passwords.get(name).with_context(|| format!("{name} has no password in Redis"))?;
        acl::user_url(url, name, password).map(Some)
    }

    /// The gateway's configuration, once the services' addresses are known, in the order of
    /// [`SERVICES`].
    pub fn gateway(&self, services: Addresses) -> anyhow::Result<gateway::Config> {
        let own = |path: PathBuf| path.display().to_string();
        let [profile, contact, order_history, interaction, loyalty, consent, insight] =
            services.map(|address| format!("http://{address}"));
        Ok(gateway::Config {
            listen: self.listen,
            internal_key_file: self.keys.internal_key_file(),
            jwks: self.issuer.jwks.clone().unwrap_or_else(|| own(self.keys.jwks_file())),
            issuer: self.issuer.issuer.clone().unwrap_or_else(|| ISSUER.to_owned()),
            audience: self.issuer.audience.clone().unwrap_or_else(|| AUDIENCE.to_owned()),
            profile_url: profile,
            contact_url: contact,
            order_history_url: order_history,
            interaction_url: interaction,
            loyalty_url: loyalty,
            consent_url: consent,
            insight_url: insight,
            redis_url: self.redis_url(gateway::NAME)?,
            cache_key_file: Some(self.keys.cache_key_file()),
            memory_mib: 64,
            drain_seconds: 0,
            calls_per_second: None,
            operations_listen: None,
            tls_folder: None,
        })
    }
}

/// The running services.
pub struct Suite {
    /// Where the gateway listens.
    pub address: SocketAddr,
    /// Where the services listen, in the order of [`SERVICES`].
    pub services: Addresses,
    stop: CancellationToken,
    running: JoinSet<anyhow::Result<()>>,
}

impl Suite {
    /// Starts all in this process, on a prepared database, and waits until each answers.
    pub async fn start(plan: &Plan) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        let mut listeners = Vec::new();
        for _ in SERVICES {
            listeners.push(TcpListener::bind("127.0.0.1:0").await?);
        }
        let addresses: Vec<SocketAddr> = listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
        let services: Addresses = addresses.try_into().map_err(|_| anyhow::anyhow!("an address for each"))?;
        for (name, listener) in SERVICES.into_iter().zip(listeners) {
            let config = plan.service(name, &services)?;
            let stop = stop.clone();
            match name {
                profile::NAME => running.spawn(profile::start(config, listener, stop)),
                contact::NAME => running.spawn(contact::start(config, listener, stop)),
                order_history::NAME => running.spawn(order_history::start(config, listener, stop)),
                interaction::NAME => running.spawn(interaction::start(config, listener, stop)),
                loyalty::NAME => running.spawn(loyalty::start(config, listener, stop)),
                consent::NAME => running.spawn(consent::start(config, listener, stop)),
                _ => running.spawn(insight::start(config, listener, stop)),
            };
        }
        let listener =
            TcpListener::bind(plan.listen).await.with_context(|| format!("cannot listen on {}", plan.listen))?;
        let address = listener.local_addr()?;
        running.spawn(gateway::start(plan.gateway(services)?, listener, stop.clone()));

        let mut suite = Self { address, services, stop, running };
        let ready = crate::reach::all_serving(address);
        tokio::select! {
            ready = ready => ready?,
            ended = suite.running.join_next() => {
                ended.context("nothing was started")???;
                anyhow::bail!("a service stopped before it was ready");
            }
        }
        Ok(suite)
    }

    /// Drains all services and waits for them.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        while let Some(done) = self.running.join_next().await {
            done??;
        }
        Ok(())
    }

    /// Answers when a service ends by itself, which none should.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        match self.running.join_next().await {
            Some(done) => done?,
            None => Ok(()),
        }
    }
}
