use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use client::Client;
use serde::{Deserialize, Serialize};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    keys::{self, Keys},
    up,
};

/// Which gateway to talk to, and as whom.
#[derive(clap::Args)]
pub struct Reach {
    /// The gateway; the one that `clientele up` started unless said.
    #[arg(long, env = "CLIENTELE_URL")]
    url: Option<String>,
    /// The bearer token; one of the installation in the state folder unless said.
    #[arg(long, env = "CLIENTELE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// What the data is used for.
    #[arg(long, default_value = "service")]
    purpose: String,
    /// Where the installation keeps its keys.
    #[arg(long, default_value = up::STATE, env = "CLIENTELE_STATE")]
    pub state: PathBuf,
}

/// Which database to work on, and what opens it.
#[derive(clap::Args)]
pub struct Stock {
    /// The database, with a role that owns it; the one of `clientele up` unless said.
    #[arg(long, env = "CLIENTELE_DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// The installation's key ring; the one of the state folder unless said.
    #[arg(long, env = "CLIENTELE_KEY_RING_FILE")]
    key_ring_file: Option<PathBuf>,
    /// Where the installation keeps its keys.
    #[arg(long, default_value = up::STATE, env = "CLIENTELE_STATE")]
    state: PathBuf,
}

impl Stock {
    /// The database's URL.
    pub fn database_url(&self) -> anyhow::Result<String> {
        match &self.database_url {
            Some(url) => Ok(url.clone()),
            None => Ok(Running::read(&self.state)?.database_url),
        }
    }

    /// The key ring's file.
    pub fn key_ring_file(&self) -> anyhow::Result<PathBuf> {
        match &self.key_ring_file {
            Some(file) => Ok(file.clone()),
            None => Ok(Keys::load(&self.state)?.key_ring_file()),
        }
    }
}

/// What `clientele up` leaves behind for those who come later.
#[derive(Deserialize, Serialize)]
pub struct Running {
    /// The gateway.
    pub url: String,
    /// The database, with the role that owns it.
    pub database_url: String,
}

impl Reach {
    /// A client of the gateway.
    pub fn client(&self) -> anyhow::Result<Client> {
        let url = match &self.url {
            Some(url) => url.clone(),
            None => Running::read(&self.state)?.url,
        };
        let token = match &self.token {
            Some(token) => token.clone(),
            None => Keys::load(&self.state)?.token("operator", &[], 1)?,
        };
        Client::new(&url, &token, &self.purpose).map_err(|error| anyhow::anyhow!("{url} cannot be used: {error}"))
    }
}

impl Running {
    /// Leaves word in the state folder.
    pub fn write(&self, state: &std::path::Path) -> anyhow::Result<()> {
        keys::secret(&state.join("running.json"), serde_json::to_string_pretty(self)?.as_bytes())
    }

    fn read(state: &std::path::Path) -> anyhow::Result<Self> {
        let text = std::fs::read(state.join("running.json")).with_context(|| {
            format!("nothing runs in {}; start it with clientele up, or give a URL", state.display())
        })?;
        Ok(serde_json::from_slice(&text)?)
    }
}

/// Waits until the gateway says that every service behind it is well.
pub async fn all_serving(address: SocketAddr) -> anyhow::Result<()> {
    let mut health = HealthClient::new(client::channel(&format!("http://{address}"))?);
    for service in gateway::services() {
        let asked = HealthCheckRequest { service: service.to_owned() };
        let mut serving = false;
        while !serving {
            serving = match health.check(asked.clone()).await {
                Ok(answer) => answer.into_inner().status() == ServingStatus::Serving,
                Err(_) => false,
            };
            if !serving {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    Ok(())
}
