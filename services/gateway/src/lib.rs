//! The gateway is the one endpoint: it authenticates callers, composes what all services know about
//! a customer into one answer, and passes every other public RPC through. What it keeps it can lose.

mod brief;
mod channel;
mod choose;
mod forward;
mod lookup;
mod peers;
mod reason;
mod request;
mod sections;
mod service;
mod view;
mod watch;

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, sync::Arc};

use access::{Authority, InternalKey, Jwks};
use cache::{Memory, Shared};
use proto::customer::v1::customer_service_server;
use serde::Deserialize;
use server::{Gate, Serving, Well};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{peers::Peers, sections::Sections, service::Service};

/// The service's one name.
pub const NAME: &str = "gateway";

/// What the gateway is configured with. Each field is an environment variable with the prefix
/// `CLIENTELE_`: `CLIENTELE_PROFILE_URL`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen: `0.0.0.0:50050`.
    pub listen: SocketAddr,
    /// The file with the secret by which the installation's processes know each other.
    pub internal_key_file: PathBuf,
    /// The key set of those who issue callers' tokens: a file or a URL.
    pub jwks: String,
    /// The issuer that tokens must name.
    pub issuer: String,
    /// The audience that tokens must name.
    pub audience: String,
    /// Where profile is.
    pub profile_url: String,
    /// Where contact is.
    pub contact_url: String,
    /// Where order-history is.
    pub order_history_url: String,
    /// Where interaction is.
    pub interaction_url: String,
    /// Where loyalty is.
    pub loyalty_url: String,
    /// Where consent is.
    pub consent_url: String,
    /// Where insight is.
    pub insight_url: String,
    /// Where Redis is; without it every read goes to the services.
    #[serde(default)]
    pub redis_url: Option<String>,
    /// The file with the keys of what is cached; needed with Redis.
    #[serde(default)]
    pub cache_key_file: Option<PathBuf>,
    /// How much of what was read is kept in memory, in MiB; 64 unless said.
    #[serde(default = "default_memory")]
    pub memory_mib: u64,
    /// How long to answer `NOT_SERVING` before connections are closed; 0 unless said.
    #[serde(default)]
    pub drain_seconds: u64,
    /// So many calls a second each caller may make, and as many at once; as many as it likes unless said.
    #[serde(default)]
    pub calls_per_second: Option<NonZeroU32>,
    /// Where to tell health and metrics without encryption, `0.0.0.0:9464`; nowhere unless said.
    #[serde(default)]
    pub operations_listen: Option<SocketAddr>,
    /// The folder with `tls.crt`, `tls.key` and `ca.crt`, for TLS with the services, and for callers, who need no
    /// certificate; without it all is in the clear.
    #[serde(default)]
    pub tls_folder: Option<PathBuf>,
}

/// So many calls at once are never too many: none of them holds anything scarce.
const ADMISSION_FLOOR: usize = 256;

fn default_memory() -> u64 {
    64
}

/// The public services behind the gateway, by their full names in the contract.
pub fn services() -> [&'static str; 7] {
    peers::SERVICES.map(|(.., service)| service)
}

/// Serves until `stop`. Refuses to start without issuer, audience and keys.
pub async fn start(config: Config, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
    let authority = Authority::new(Jwks::parse(&config.jwks), &config.issuer, &config.audience);
    let authority = authority.await.map_err(|error| anyhow::anyhow!("callers cannot be authenticated: {error}"))?;
    let key = InternalKey::read(NAME, &config.internal_key_file)?;
    let network = server::network(config.operations_listen, &config.tls_folder, config.drain_seconds)?;
    let peers = Arc::new(Peers::connect(&config, &key, network.tls.as_ref())?);

    let upstreams = peers.all().map(|owner| (owner.service, Well::Upstream(owner.peer.channel.clone())));
    let services = upstreams.chain([(customer_service_server::SERVICE_NAME, Well::Always)]).collect();
    let memory = Arc::new(Memory::new(config.memory_mib << 20));
    let shared = match (&config.redis_url, &config.cache_key_file) {
        (None, _) => None,
        (Some(url), Some(keys)) => Some(Shared::connect(url, keys, Some(Sections::listener(memory.clone())))?),
        (Some(_), None) => anyhow::bail!("CLIENTELE_REDIS_URL needs CLIENTELE_CACHE_KEY_FILE"),
    };
    let sections = Arc::new(Sections::new(&peers, memory, shared));
    let service = Service { peers: peers.clone(), sections };
    server::serve(Serving {
        name: NAME,
        services,
        ready: Well::Always,
        routes: forward::add(Routes::new(service), &peers),
        gate: Gate::External(Arc::new(authority)),
        listener,
        network,
        admission_floor: ADMISSION_FLOOR,
        calls_per_second: config.calls_per_second,
        stop,
    })
    .await
}
