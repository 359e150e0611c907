//! What the stories share: a whole installation on a database of its own, and calls by name.

mod call;
mod example;
mod fixture;
mod postgres;
mod redis;

pub use call::{Caller, methods};
pub use fixture::{Fixture, accrue, concluded, evidence, followed, get, order, regulars};
pub use postgres::Postgres;
pub use redis::Redis;

use std::{
    collections::BTreeMap,
    env,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use access::{InternalKey, Purpose};
use client::Client;
use clientele::{
    database,
    keys::Keys,
    suite::{Issuer, Plan, SERVICES, Suite},
};
use proto::keys::v1::{DestroyKeysRequest, DestroyKeysResponse, key_service_client::KeyServiceClient};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tempfile::TempDir;
use tonic::Status;

/// What is told of several customers is told of so many at least.
pub const MIN_GROUP_SIZE: u32 = 5;

/// All services in this process, on a database of their own.
pub struct Installation {
    /// The running services.
    pub suite: Suite,
    /// How they were started.
    pub plan: Plan,
    /// Where the keys are.
    pub state: TempDir,
}

/// A database of the test's own, prepared, and the keys that go with it.
pub async fn plan() -> (Plan, TempDir) {
    let admin_url = env::var("CLIENTELE_TEST_DATABASE_URL")
        .expect("If you are here because a test found no database: run `make test`, which starts one");
    plan_on(&admin_url).await
}

/// The same on a server of the test's own.
pub async fn plan_on(admin_url: &str) -> (Plan, TempDir) {
    let mut admin = PgConnection::connect(admin_url).await.unwrap();
    drop_what_is_left(&mut admin).await;
    let name = format!("t_{}_{}", std::process::id(), uuid::Uuid::new_v4().simple());
    admin.execute(AssertSqlSafe(format!("create database {name}"))).await.unwrap();
    let (server, _) = admin_url.rsplit_once('/').unwrap();
    let database_url = format!("{server}/{name}");

    let state = TempDir::new().unwrap();
    let mut keys = Keys::load_or_create(state.path()).unwrap();
    // The roles belong to the server, which all tests share.
    keys.passwords =
        SERVICES.map(|service| (service.to_owned(), "test".to_owned())).into_iter().collect::<BTreeMap<_, _>>();
    // Advisory locks belong to a database, so those who prepare others take turns here.
    admin.execute("select pg_advisory_lock(1)").await.unwrap();
    database::prepare(&database_url, &keys.passwords).await.unwrap();
    admin.close().await.unwrap();

    let issuer = Issuer { jwks: None, issuer: None, audience: None };
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let redis_url = env::var("CLIENTELE_TEST_REDIS_URL").ok();
    let erasure_journal = state.path().join("erasures");
    let plan = Plan {
        database_url,
        keys,
        erasure_journal,
        issuer,
        listen,
        redis_url,
        redis_users: false,
        connections: 5,
        min_group_size: MIN_GROUP_SIZE,
    };
    (plan, state)
}

/// Drops the databases of tests whose process has ended, so that a run needs the disk of a few and not of all.
async fn drop_what_is_left(admin: &mut PgConnection) {
    // Room is not worth waiting for.
    admin.execute("set statement_timeout = '10s'").await.unwrap();
    let names = sqlx::query_scalar::<_, String>("select datname from pg_database where datname like 't\\_%'");
    for name in names.fetch_all(&mut *admin).await.unwrap() {
        let process = name.split('_').nth(1).unwrap();
        if !Path::new("/proc").join(process).exists() {
            // Another test may be dropping the same.
            let _ = admin.execute(AssertSqlSafe(format!("drop database {name} with (force)"))).await;
        }
    }
    admin.execute("reset statement_timeout").await.unwrap();
}

impl Installation {
    /// Starts one.
    pub async fn start() -> Self {
        let (plan, state) = plan().await;
        let suite = Suite::start(&plan).await.unwrap();
        Self { suite, plan, state }
    }

    /// The gateway's URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.suite.address)
    }

    /// A token that allows all purposes.
    pub fn token(&self) -> String {
        self.plan.keys.token("test", &[], 1).unwrap()
    }

    /// A typed client.
    pub fn client(&self) -> Client {
        Client::new(&self.url(), &self.token(), "service").unwrap()
    }

    /// Calls by name.
    pub fn caller(&self) -> Caller {
        Caller::new(&self.url(), &self.token())
    }

    /// The database, with the role that owns everything.
    pub async fn sql(&self) -> PgConnection {
        PgConnection::connect(&self.plan.database_url).await.unwrap()
    }

    /// A service's database, as the service sees it.
    pub async fn db(&self, service: &'static str) -> store::Db {
        let mut migrations = sqlx::migrate::Migrator::with_migrations(Vec::new());
        migrations.set_ignore_missing(true);
        let settings = store::Settings {
            service,
            url: database::role_url(&self.plan.database_url, service, "test").unwrap(),
            max_connections: 2,
            keys: vault::KeyRing::read(&self.plan.keys.key_ring_file()).unwrap(),
            erasure_journal: self.plan.erasure_journal.clone(),
            forget: &[],
            constraints: &[],
            directory: None,
            cache: None,
            migrations,
        };
        store::Db::open(settings).await.unwrap()
    }

    /// Destroys a customer's keys in each service, as the erasure of a customer does.
    pub async fn destroy_keys(&self, customer_id: &str) -> Vec<DestroyKeysResponse> {
        let mut destroyed = Vec::new();
        for i in 0..SERVICES.len() {
            destroyed.push(self.destroy_keys_in(i, customer_id).await.unwrap());
        }
        destroyed
    }

    /// The same in one service, in the order of [`SERVICES`].
    pub async fn destroy_keys_in(&self, service: usize, customer_id: &str) -> Result<DestroyKeysResponse, Status> {
        let caller = access::Caller { subject: "x".into(), purpose: Purpose::parse("service").unwrap() };
        let key = InternalKey::read("gateway", &self.plan.keys.internal_key_file()).unwrap();
        let channel = client::channel(&format!("http://{}", self.suite.services[service])).unwrap();
        let mut request = tonic::Request::new(DestroyKeysRequest { customer_id: customer_id.to_owned() });
        request.metadata_mut().insert("authorization", key.authorization(&caller));
        KeyServiceClient::new(channel).destroy_keys(request).await.map(tonic::Response::into_inner)
    }

    /// How many rows a query counts.
    pub async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&mut self.sql().await).await.unwrap()
    }
}

/// How much of something a long test does: a little, unless `CLIENTELE_SOAK_…` asks for more.
pub fn soak(what: &str, little: u64) -> u64 {
    env::var(format!("CLIENTELE_SOAK_{what}")).map_or(little, |number| number.parse().expect("a number"))
}

/// Where the chance of long tests begins.
pub fn seed() -> u64 {
    soak("SEED", 7)
}

/// The reason in a failure.
pub fn reason(status: &tonic::Status) -> String {
    error::reason_of(status).unwrap_or_else(|| format!("{:?} without a reason: {}", status.code(), status.message()))
}

/// The fields that a failure complains of.
pub fn violations(status: &tonic::Status) -> Vec<String> {
    let details = tonic_types::StatusExt::get_details_bad_request(status);
    details.into_iter().flat_map(|details| details.field_violations).map(|violation| violation.field).collect()
}

/// A binary of the workspace, which `make test` builds before the tests run.
pub fn binary(name: &str) -> std::path::PathBuf {
    let test = env::current_exe().unwrap();
    let folder = test.parent().unwrap();
    // Tests lie one folder deeper than programs.
    let folder = if folder.ends_with("deps") { folder.parent().unwrap() } else { folder };
    let path = folder.join(name);
    assert!(path.exists(), "If you are here because {} is missing: run `make test`, which builds it", path.display());
    path
}

/// Waits until a server says of each of these services that it serves.
async fn ready(url: &str, services: &[&str]) {
    let mut health = tonic_health::pb::health_client::HealthClient::new(client::channel(url).unwrap());
    for service in services {
        let asked = tonic_health::pb::HealthCheckRequest { service: (*service).to_owned() };
        while !health.check(asked.clone()).await.is_ok_and(|answer| answer.into_inner().status == 1) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

/// `clientele up --processes`: eight processes on a database of their own.
pub struct Processes {
    /// The gateway.
    pub url: String,
    /// A token that allows all purposes.
    pub token: String,
    /// The process ids by service.
    pub ids: BTreeMap<String, u32>,
    /// What they were started with.
    pub plan: Plan,
    child: std::process::Child,
    more: Arc<Mutex<Vec<std::process::Child>>>,
    /// Where the keys are, and what is logged if the environment says what to log.
    pub state: TempDir,
}

impl Processes {
    /// Starts them with an environment of their own.
    pub async fn start(environment: &[(&str, String)]) -> Self {
        let (plan, state) = plan().await;
        Self::start_as(plan, state, environment).await
    }

    /// Starts them as planned.
    pub async fn start_as(plan: Plan, state: TempDir, environment: &[(&str, String)]) -> Self {
        use std::io::{BufRead, BufReader};
        let mut passwords: BTreeMap<&str, &str> = SERVICES.into_iter().map(|service| (service, "test")).collect();
        passwords.insert("owner", "unused");
        let passwords = serde_json::to_string(&passwords).unwrap();
        std::fs::write(state.path().join("keys/passwords.json"), passwords).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut child = std::process::Command::new(binary("clientele"))
            .args([
                "up",
                "--processes",
                "--redis-url",
                plan.redis_url.as_deref().unwrap(),
                "--listen",
                &format!("127.0.0.1:{port}"),
            ])
            .args(["--database-url", &plan.database_url, "--state"])
            .arg(state.path())
            .envs(environment.iter().map(|(name, value)| (*name, value.as_str())))
            .stdout(std::process::Stdio::piped())
            .stderr(match environment.iter().any(|(name, _)| *name == "RUST_LOG") {
                true => std::fs::File::create(state.path().join("log")).unwrap().into(),
                false => std::process::Stdio::inherit(),
            })
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut ids = BTreeMap::new();
        let mut lines = lines.map_while(Result::ok);
        for line in lines.by_ref() {
            if let [name, "process", id] = line.split_whitespace().collect::<Vec<_>>().as_slice() {
                ids.insert((*name).to_owned(), id.parse().unwrap());
            }
            if line.contains("Ctrl-C") {
                break;
            }
        }
        // Someone must read on, or its last words would have nowhere to go.
        std::thread::spawn(move || lines.for_each(drop));
        assert_eq!(ids.len(), 8, "clientele up --processes did not start");
        let token = plan.keys.token("test", &[], 1).unwrap();
        Self { url: format!("http://127.0.0.1:{port}"), token, ids, plan, child, more: Arc::default(), state }
    }

    /// A typed client.
    pub fn client(&self) -> Client {
        Client::new(&self.url, &self.token, "service").unwrap()
    }

    /// Where a service listens.
    pub fn service_url(&self, service: &str) -> String {
        let variable = format!("CLIENTELE_{}_URL", service.replace('-', "_").to_uppercase());
        let gateway = self.environment("gateway");
        gateway.into_iter().find(|(name, _)| *name == variable).expect("the gateway knows every service").1
    }

    /// What a service's process tells Prometheus.
    pub async fn metrics(&self, service: &str) -> String {
        let environment = self.environment(service);
        let operations = environment.into_iter().find(|(name, _)| name == "CLIENTELE_OPERATIONS_LISTEN").unwrap().1;
        reqwest::get(format!("http://{operations}/metrics")).await.unwrap().text().await.unwrap()
    }

    /// One more gateway before the same services, with another environment. Answers its URL and process.
    pub async fn gateway(&self, environment: &[(&str, &str)]) -> (String, u32) {
        let (url, process) = self.one_more("gateway", environment);
        ready(&url, &gateway::services()).await;
        (url, process)
    }

    /// All services once more and a gateway before them, on the same database, that know no Redis. Answers the
    /// services' URLs, and the gateway's URL and process.
    pub async fn without_redis(&self) -> (Vec<String>, (String, u32)) {
        let no_redis = [("CLIENTELE_REDIS_URL", ""), ("CLIENTELE_CACHE_KEY_FILE", "")];
        let urls: Vec<String> = SERVICES.map(|service| self.one_more(service, &no_redis).0).into();
        let variables = SERVICES.map(|service| format!("CLIENTELE_{}_URL", service.replace('-', "_").to_uppercase()));
        let own = variables.iter().zip(&urls).map(|(variable, url)| (variable.as_str(), url.as_str()));
        let environment: Vec<_> = no_redis.into_iter().chain(own).collect();
        let gateway = self.gateway(&environment).await;
        (urls, gateway)
    }

    /// One more process of a service, with what the first one has in its environment and some other values;
    /// an empty one takes a variable away.
    fn one_more(&self, service: &str, environment: &[(&str, &str)]) -> (String, u32) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let mut process = std::process::Command::new(binary(service));
        process.env_clear().envs(self.environment(service)).env("CLIENTELE_LISTEN", address.to_string());
        process.env_remove("CLIENTELE_OPERATIONS_LISTEN");
        for (variable, value) in environment {
            match *value {
                "" => process.env_remove(variable),
                value => process.env(variable, value),
            };
        }
        let process = process.spawn().unwrap();
        let id = process.id();
        self.more.lock().unwrap().push(process);
        (format!("http://{address}"), id)
    }

    fn environment(&self, service: &str) -> Vec<(String, String)> {
        let own = std::fs::read(format!("/proc/{}/environ", self.ids[service])).unwrap();
        let own = String::from_utf8(own).unwrap();
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        own.split('\0').filter_map(|variable| variable.split_once('=')).map(pair).collect()
    }

    /// Kills a service's process, and gives what brings it back in its place, as a process with this id.
    pub fn kill(&self, service: &str) -> impl Fn() -> u32 + use<> {
        let environment = self.environment(service);
        Self::signal(self.ids[service], "-KILL");
        let (binary, more) = (binary(service), self.more.clone());
        move || {
            let process = std::process::Command::new(&binary).env_clear().envs(environment.clone()).spawn().unwrap();
            let id = process.id();
            more.lock().unwrap().push(process);
            id
        }
    }

    /// Sends a signal to a process.
    pub fn signal(id: u32, signal: &str) {
        std::process::Command::new("kill").args([signal, &id.to_string()]).status().unwrap();
    }

    /// Ends them in good order, and waits.
    pub fn stop(mut self) -> std::process::ExitStatus {
        Self::signal(self.child.id(), "-TERM");
        self.child.wait().unwrap()
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // After a failed assertion nobody has stopped it; its children die with it.
        let _ = self.child.kill();
        self.more.lock().unwrap().iter_mut().for_each(|child| drop(child.kill()));
    }
}
