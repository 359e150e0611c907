//! What the stories share: a whole installation on a database of its own, and calls by name.

mod call;
mod example;
mod fixture;
mod postgres;
mod processes;
mod redis;
mod replica;

pub use call::{Caller, methods};
pub use fixture::{Fixture, accrue, concluded, evidence, followed, get, order, regulars};
pub use postgres::Postgres;
pub use processes::Processes;
pub use redis::Redis;
pub use replica::Replica;

use std::{collections::BTreeMap, env, net::SocketAddr, path::Path};

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
        holidays_folder: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/harness/holidays").into()),
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
