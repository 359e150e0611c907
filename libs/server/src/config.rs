use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use cache::Shared;
use figment::{Figment, providers::Env};
use serde::{Deserialize, de::DeserializeOwned};
use vault::KeyRing;

use crate::Network;

/// What a service with a schema is configured with. Each field is an environment variable with the
/// prefix `CLIENTELE_`: `CLIENTELE_DATABASE_URL`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// Where to listen: `0.0.0.0:50051`.
    pub listen: SocketAddr,
    /// The database, with the service's own role.
    pub database_url: String,
    /// The size of the connection pool; 10 unless said.
    #[serde(default = "default_connections")]
    pub database_connections: u32,
    /// The file with the key ring of the installation; this or `key_ring` is needed.
    #[serde(default)]
    pub key_ring_file: Option<PathBuf>,
    /// The key ring itself, as its file would hold it.
    #[serde(default)]
    pub key_ring: Option<String>,
    /// The folder of the erasure journal, which must outlive the database and be the same for all replicas.
    pub erasure_journal: PathBuf,
    /// The file with the secret by which the installation's processes know each other.
    pub internal_key_file: PathBuf,
    /// Where profile is, who knows which customers exist; profile itself needs none.
    pub profile_url: Option<String>,
    /// Where contact is, whom insight follows; the others need none, nor any of the following.
    #[serde(default)]
    pub contact_url: Option<String>,
    /// Where order-history is, whom insight follows.
    #[serde(default)]
    pub order_history_url: Option<String>,
    /// Where interaction is, whom insight follows.
    #[serde(default)]
    pub interaction_url: Option<String>,
    /// Where loyalty is, whom insight follows.
    #[serde(default)]
    pub loyalty_url: Option<String>,
    /// Where consent is, whom insight follows and asks before it recommends.
    #[serde(default)]
    pub consent_url: Option<String>,
    /// Insight tells demand and counts by dimension only of so many customers at least; 10 unless said.
    #[serde(default = "default_group")]
    pub min_group_size: u32,
    /// The folder with a calendar of holidays (iCalendar) for each region, `PT.ics`, by which insight divides; without it
    /// it knows none.
    #[serde(default)]
    pub holidays_folder: Option<PathBuf>,
    /// Where Redis is; without it every read goes to the database.
    #[serde(default)]
    pub redis_url: Option<String>,
    /// The file with the keys of what is cached; needed with Redis.
    #[serde(default)]
    pub cache_key_file: Option<PathBuf>,
    /// How long to answer `NOT_SERVING` before connections are closed, so that balancers notice; 0
    /// unless said.
    #[serde(default)]
    pub drain_seconds: u64,
    /// Where to tell health and metrics without encryption, `0.0.0.0:9464`; nowhere unless said.
    #[serde(default)]
    pub operations_listen: Option<SocketAddr>,
    /// The folder with `tls.crt`, `tls.key` and `ca.crt`, for TLS with the other processes; without it they speak in
    /// the clear.
    #[serde(default)]
    pub tls_folder: Option<PathBuf>,
}

/// What a process is told of its surroundings.
pub fn network(
    operations: Option<SocketAddr>,
    tls_folder: &Option<PathBuf>,
    drain_seconds: u64,
) -> anyhow::Result<Network> {
    let tls = tls_folder.as_deref().map(tls::Identity::read).transpose()?;
    Ok(Network { operations, drain: Duration::from_secs(drain_seconds), tls, ..Network::default() })
}

impl ServiceConfig {
    /// What the process is told of its surroundings.
    pub fn network(&self) -> anyhow::Result<Network> {
        network(self.operations_listen, &self.tls_folder, self.drain_seconds)
    }

    /// So many calls at once are never too many: those that need the database wait for seven others at most.
    pub fn admission_floor(&self) -> usize {
        16.max(8 * self.database_connections as usize)
    }

    /// The key ring of the installation.
    pub fn keys(&self) -> anyhow::Result<KeyRing> {
        match (&self.key_ring_file, &self.key_ring) {
            (Some(file), None) => Ok(KeyRing::read(file)?),
            (None, Some(ring)) => Ok(KeyRing::parse(ring.as_bytes())?),
            _ => anyhow::bail!("give one of CLIENTELE_KEY_RING_FILE and CLIENTELE_KEY_RING"),
        }
    }
}

fn default_connections() -> u32 {
    10
}

fn default_group() -> u32 {
    10
}

/// Reads a configuration from the environment. A missing or misspelt variable is named.
pub fn config<C: DeserializeOwned>() -> anyhow::Result<C> {
    let environment = Env::prefixed("CLIENTELE_").ignore(&["log"]);
    Figment::new().merge(environment).extract().context("the configuration (environment CLIENTELE_…) does not hold")
}

/// The cache that a configuration names, if it names one.
pub fn cache(redis_url: &Option<String>, key_file: &Option<PathBuf>) -> anyhow::Result<Option<Shared>> {
    let Some(url) = redis_url else { return Ok(None) };
    let keys = key_file.as_ref().context("CLIENTELE_REDIS_URL needs CLIENTELE_CACHE_KEY_FILE")?;
    Ok(Some(Shared::connect(url, keys, None)?))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn keys(ring: Value) -> anyhow::Result<KeyRing> {
        let mut config =
            json!({"listen": "127.0.0.1:1", "database_url": "", "erasure_journal": "", "internal_key_file": ""});
        config.as_object_mut().unwrap().extend(ring.as_object().unwrap().clone());
        serde_json::from_value::<ServiceConfig>(config).unwrap().keys()
    }

    #[test]
    fn the_key_ring_comes_from_a_file_or_from_the_environment() {
        let ring = KeyRing::generate().to_json();
        let file = std::env::temp_dir().join(format!("{}.json", uuid::Uuid::new_v4()));
        std::fs::write(&file, &ring).unwrap();
        assert_eq!(keys(json!({"key_ring_file": file})).unwrap().to_json(), ring);
        assert_eq!(keys(json!({"key_ring": ring})).unwrap().to_json(), ring);
        for unclear in [json!({}), json!({"key_ring_file": file, "key_ring": ring})] {
            let told = keys(unclear).err().unwrap().to_string();
            assert!(told.contains("CLIENTELE_KEY_RING_FILE and CLIENTELE_KEY_RING"), "{told}");
        }
        std::fs::remove_file(file).unwrap();
    }
}
