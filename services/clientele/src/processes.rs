//! The eight binaries as eight processes, as they run in production.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use tokio::process::{Child, Command};

use crate::{
    Port,
    suite::{Addresses, Plan, SERVICES},
};

/// A process gets so long to drain.
const PATIENCE: Duration = Duration::from_secs(30);

/// The running processes.
pub struct Processes {
    /// Where the gateway listens.
    pub address: SocketAddr,
    children: Vec<(&'static str, Child)>,
    _ports: Vec<Port>,
}

impl Processes {
    /// Starts the binaries that lie beside this one and waits until each answers.
    pub async fn start(plan: &Plan) -> anyhow::Result<Self> {
        // One for the calls of each service, and one for the probes of each process.
        let ports = (0..=2 * SERVICES.len()).map(|_| Port::keep()).collect::<Result<Vec<_>, _>>()?;
        let mut addresses: Vec<SocketAddr> = ports.iter().map(Port::address).collect();
        let mut operations = addresses.split_off(SERVICES.len()).into_iter().map(|address| address.to_string());
        let services: Addresses = addresses.try_into().map_err(|_| anyhow::anyhow!("an address for each"))?;

        let mut children = Vec::new();
        for name in SERVICES {
            let config = plan.service(name, &services)?;
            let mut command = binary(name)?;
            command
                .env("CLIENTELE_LISTEN", config.listen.to_string())
                .env("CLIENTELE_DATABASE_URL", config.database_url)
                .env("CLIENTELE_DATABASE_CONNECTIONS", config.database_connections.to_string())
                .env("CLIENTELE_KEY_RING_FILE", plan.keys.key_ring_file())
                .env("CLIENTELE_ERASURE_JOURNAL", config.erasure_journal)
                .env("CLIENTELE_INTERNAL_KEY_FILE", config.internal_key_file)
                .env("CLIENTELE_MIN_GROUP_SIZE", config.min_group_size.to_string());
            let upstreams = [
                ("CLIENTELE_PROFILE_URL", config.profile_url),
                ("CLIENTELE_CONTACT_URL", config.contact_url),
                ("CLIENTELE_ORDER_HISTORY_URL", config.order_history_url),
                ("CLIENTELE_INTERACTION_URL", config.interaction_url),
                ("CLIENTELE_LOYALTY_URL", config.loyalty_url),
                ("CLIENTELE_CONSENT_URL", config.consent_url),
            ];
            for (variable, url) in upstreams {
                command.envs(url.map(|url| (variable, url)));
            }
            command.envs(config.holidays_folder.map(|folder| ("CLIENTELE_HOLIDAYS_FOLDER", folder)));
            cached(&mut command, &config.redis_url, &config.cache_key_file);
            command.envs(operations.next().map(|address| ("CLIENTELE_OPERATIONS_LISTEN", address)));
            children.push((name, command.spawn().with_context(|| format!("{name} does not start"))?));
        }
        let config = plan.gateway(services)?;
        let mut command = binary(gateway::NAME)?;
        command
            .env("CLIENTELE_LISTEN", config.listen.to_string())
            .env("CLIENTELE_INTERNAL_KEY_FILE", config.internal_key_file)
            .env("CLIENTELE_JWKS", config.jwks)
            .env("CLIENTELE_ISSUER", config.issuer)
            .env("CLIENTELE_AUDIENCE", config.audience)
            .env("CLIENTELE_PROFILE_URL", config.profile_url)
            .env("CLIENTELE_CONTACT_URL", config.contact_url)
            .env("CLIENTELE_ORDER_HISTORY_URL", config.order_history_url)
            .env("CLIENTELE_INTERACTION_URL", config.interaction_url)
            .env("CLIENTELE_LOYALTY_URL", config.loyalty_url)
            .env("CLIENTELE_CONSENT_URL", config.consent_url)
            .env("CLIENTELE_INSIGHT_URL", config.insight_url);
        cached(&mut command, &config.redis_url, &config.cache_key_file);
        command.envs(operations.next().map(|address| ("CLIENTELE_OPERATIONS_LISTEN", address)));
        children.push((gateway::NAME, command.spawn().context("the gateway does not start")?));
        let mut processes = Self { address: plan.listen, children, _ports: ports };
        tokio::select! {
            ready = crate::reach::all_serving(plan.listen) => ready?,
            (name, status) = processes.ended() => anyhow::bail!("{name} ended before it was ready: {status}"),
        }
        Ok(processes)
    }

    /// Answers when a process ends by itself, which one, and how. Each is told once.
    pub async fn ended(&mut self) -> (&'static str, String) {
        if self.children.is_empty() {
            return std::future::pending().await;
        }
        let waits = self.children.iter_mut().map(|(_, child)| Box::pin(child.wait()));
        let (status, i, _) = futures_util::future::select_all(waits).await;
        let (name, _) = self.children.remove(i);
        (name, status.map_or_else(|error| error.to_string(), |status| status.to_string()))
    }

    /// The process id of each service.
    pub fn ids(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.children.iter().filter_map(|(name, child)| Some((*name, child.id()?)))
    }

    /// Lets every process drain and waits for it. One that does not end in time is killed.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        for (_, id) in self.ids() {
            std::process::Command::new("kill").args(["-TERM", &id.to_string()]).status()?;
        }
        for (name, child) in &mut self.children {
            if tokio::time::timeout(PATIENCE, child.wait()).await.is_err() {
                println!("{name} does not drain and is killed");
                child.kill().await?;
            }
        }
        Ok(())
    }
}

fn cached(command: &mut Command, redis_url: &Option<String>, key_file: &Option<PathBuf>) {
    if let (Some(url), Some(file)) = (redis_url, key_file) {
        command.env("CLIENTELE_REDIS_URL", url).env("CLIENTELE_CACHE_KEY_FILE", file);
    }
}

/// A binary beside this one with none of our own settings in its environment. It dies with us, and
/// the terminal's Ctrl-C is ours to pass on.
fn binary(name: &str) -> anyhow::Result<Command> {
    let path: PathBuf = std::env::current_exe()?.with_file_name(name);
    anyhow::ensure!(path.exists(), "{} is not built: cargo build --workspace", path.display());
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(path).process_group(0).kill_on_drop(true);
    for (variable, _) in std::env::vars_os() {
        if variable.to_str().is_some_and(|name| name.starts_with("CLIENTELE_")) {
            command.env_remove(variable);
        }
    }
    Ok(command)
}
