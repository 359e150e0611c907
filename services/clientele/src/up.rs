use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
};

use anyhow::Context;
use server::{LogFormat, Telemetry};
use tokio_util::sync::CancellationToken;

use crate::{
    database, import,
    keys::Keys,
    processes::Processes,
    reach::Running,
    servers::Servers,
    show,
    suite::{Issuer, Plan, Suite},
};

/// The state folder unless said.
pub const STATE: &str = ".clientele";

/// Starts all services and what they need, and stays until Ctrl-C.
#[derive(clap::Args)]
pub struct Up {
    /// Where the gateway listens.
    #[arg(long, default_value = "127.0.0.1:50050")]
    listen: SocketAddr,
    /// Where servers, keys and logs are kept.
    #[arg(long, default_value = STATE, env = "CLIENTELE_STATE")]
    state: PathBuf,
    /// Your own Postgres, with a role that may create roles; a private one unless said.
    #[arg(long, hide_env_values = true)]
    database_url: Option<String>,
    /// Your own Redis; a private one unless said.
    #[arg(long)]
    redis_url: Option<String>,
    /// Starts the eight binaries as processes of their own.
    #[arg(long)]
    processes: bool,
    /// Tells demand and counts by dimension only of so many customers at least.
    #[arg(long, default_value_t = 10, env = "CLIENTELE_MIN_GROUP_SIZE")]
    min_group_size: u32,
    /// The folder with a calendar of holidays (iCalendar) for each region: `PT.ics`.
    #[arg(long, env = "CLIENTELE_HOLIDAYS_FOLDER")]
    holidays: Option<PathBuf>,
    /// Imports the CDNOW sample and shows a customer.
    #[arg(long)]
    demo: bool,
    #[command(flatten)]
    issuer: Issuer,
}

enum Services {
    Inside(Box<Suite>),
    Outside(Processes),
}

impl Up {
    /// Runs until Ctrl-C or SIGTERM, then drains and stops all that was started.
    pub async fn run(self) -> anyhow::Result<()> {
        let telemetry = Telemetry::init("clientele", LogFormat::Text)?;
        // Fail before anything is started.
        drop(TcpListener::bind(self.listen).with_context(|| format!("cannot listen on {}", self.listen))?);
        let stop = CancellationToken::new();
        tokio::spawn(server::stop_on_signal(stop.clone()));

        let keys = Keys::load_or_create(&self.state)?;
        println!("starting Postgres and Redis in {} …", self.state.display());
        let servers = Servers::start(&self.state, &keys, self.database_url.clone(), self.redis_url.clone()).await?;
        let ran = self.serve(keys, &servers, stop).await;
        servers.stop().await?;
        telemetry.shutdown().await;
        println!("stopped");
        ran
    }

    async fn serve(&self, keys: Keys, servers: &Servers, stop: CancellationToken) -> anyhow::Result<()> {
        let plan = Plan {
            database_url: servers.database_url.clone(),
            keys,
            erasure_journal: self.state.join("erasures"),
            issuer: self.issuer.clone(),
            listen: self.listen,
            redis_url: Some(servers.redis_url.clone()),
            redis_users: self.redis_url.is_none(),
            connections: 20,
            min_group_size: self.min_group_size,
            holidays_folder: self.holidays.clone(),
        };
        println!("starting eight services …");
        let start = async {
            database::prepare(&plan.database_url, &plan.keys.passwords).await?;
            anyhow::Ok(match self.processes {
                true => Services::Outside(Processes::start(&plan).await?),
                false => Services::Inside(Box::new(Suite::start(&plan).await?)),
            })
        };
        let mut services = tokio::select! {
            services = start => services?,
            () = stop.cancelled() => return Ok(()),
        };
        let address = match &services {
            Services::Inside(suite) => suite.address,
            Services::Outside(processes) => processes.address,
        };
        let url = format!("http://{address}");
        Running { url: url.clone(), database_url: plan.database_url.clone() }.write(&self.state)?;
        println!("clientele is up: {url} (Redis at {})", servers.redis_url);
        if let Services::Outside(processes) = &services {
            processes.ids().for_each(|(name, id)| println!("  {name:<14} process {id}"));
        }
        let demo = async {
            if self.demo {
                self.show_demo(&plan.keys, &url).await?;
            }
            println!("Ctrl-C stops everything.");
            anyhow::Ok(())
        };
        tokio::select! {
            shown = demo => shown?,
            () = stop.cancelled() => (),
        }
        let ended = match &mut services {
            Services::Inside(suite) => tokio::select! {
                () = stop.cancelled() => Ok(()),
                ended = suite.ended() => ended.and_then(|()| anyhow::bail!("a service stopped by itself")),
            },
            // What runs goes on, as it would on machines of its own.
            Services::Outside(processes) => loop {
                tokio::select! {
                    () = stop.cancelled() => break Ok(()),
                    (name, status) = processes.ended() => println!("{name} ended by itself: {status}"),
                }
            },
        };
        println!("draining …");
        match services {
            Services::Inside(suite) => suite.stop().await?,
            Services::Outside(processes) => processes.stop().await?,
        }
        let _ = std::fs::remove_file(self.state.join("running.json"));
        ended
    }

    async fn show_demo(&self, keys: &Keys, url: &str) -> anyhow::Result<()> {
        let client = client::Client::new(url, &keys.token("demo", &[], 1)?, "service")
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        let customer_id = import::demo(&client, &self.state).await?;
        println!("\nEverything that is known about one of them:");
        show::customer(&client, &customer_id).await?;
        println!("\nTry next:\n  clientele={}", std::env::current_exe()?.display());
        println!("  $clientele get {customer_id} --json");
        println!("  $clientele lookup --external-id cdnow:00004");
        println!(
            "  grpcurl -plaintext -H \"authorization: Bearer $($clientele token)\" -H 'clientele-purpose: service' \\"
        );
        println!(
            "    -d '{{\"customer_id\": \"{customer_id}\"}}' {} clientele.customer.v1.CustomerService/GetCustomer\n",
            self.listen
        );
        Ok(())
    }
}
