//! Postgres as the judge. [`Db::write`] runs a repeatable write in one transaction: what is known of the
//! request, the customers' versions, the work, the changes, the reply.

mod anchor;
mod change;
mod erase;
mod fault;
mod journal;
mod keys;
mod migrate;
mod page;
mod reads;
mod request;
mod rotate;
mod section;
mod token;
mod transaction;
mod value;
mod well;
mod write;

pub use change::Change;
pub use fault::{Constraint, Fault, Result};
pub use migrate::{migrate, run};
pub use page::{Page, page_size};
pub use request::Key;
pub use section::{Body, Load, in_order, loader};
pub use transaction::Tx;
pub use value::{check_past, check_time, time, timestamp, uuid};
pub use write::{Outcome, Reply, Written};

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use aws_lc_rs::hmac;
use cache::Shared;
use client::Directory;
use sqlx::{
    ConnectOptions, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::{Notify, watch};
use tracing::Instrument;
use vault::{KeyRing, Vault};

/// A service's database: its schema under its own role, its keys, and the way to profile, who
/// knows which customers exist.
#[derive(Clone)]
pub struct Db(Arc<Inner>);

struct Inner {
    service: &'static str,
    pool: PgPool,
    vault: Vault,
    open: keys::Open,
    journal: journal::Journal,
    forget: &'static [&'static str],
    constraints: &'static [Constraint],
    directory: Option<Directory>,
    epoch: watch::Sender<[u8; 8]>,
    token_key: hmac::Key,
    page_key: hmac::Key,
    resume_key: hmac::Key,
    committed: Notify,
    cache: Option<Shared>,
    well: watch::Sender<bool>,
}

/// What a service brings to open its database.
pub struct Settings {
    /// The service's name; its schema has the same with `_` for `-`.
    pub service: &'static str,
    /// Where the database is, with the service's own role.
    pub url: String,
    /// The pool's size.
    pub max_connections: u32,
    /// The installation's keys.
    pub keys: KeyRing,
    /// The folder of the erasure journal; each service has one of its own in it.
    pub erasure_journal: PathBuf,
    /// The statements that remove what leads to the customer `$1`.
    pub forget: &'static [&'static str],
    /// Which constraint means which reason.
    pub constraints: &'static [Constraint],
    /// Profile, unless this is profile.
    pub directory: Option<Directory>,
    /// The cache, which writes have to tell.
    pub cache: Option<Shared>,
    /// The service's migrations.
    pub migrations: sqlx::migrate::Migrator,
}

impl Db {
    /// Brings the schema up to date and opens the pool.
    pub async fn open(settings: Settings) -> anyhow::Result<Self> {
        let Settings { service, url, max_connections, keys, constraints, directory, cache, migrations, .. } = settings;
        let schema = service.replace('-', "_");
        let options: PgConnectOptions = url.parse()?;
        let options = options
            .application_name(service)
            .options([
                ("search_path", schema.as_str()),
                ("statement_timeout", "30s"),
                ("idle_in_transaction_session_timeout", "30s"),
                // How long a read goes on that nobody waits for.
                ("client_connection_check_interval", "500ms"),
                // Every statement is a batch of indexed look-ups, with a plan that no parameter changes.
                // Postgres would plan those with arrays anew at each execution, and on a young table
                // without statistics join by a hash over the whole of it.
                ("plan_cache_mode", "force_generic_plan"),
                ("enable_hashjoin", "off"),
                ("enable_mergejoin", "off"),
                ("enable_seqscan", "off"),
                ("jit", "off"),
                // sqlx sets no keepalive, so a peer that died silently would keep its place in the
                // pool; the server notices for both.
                ("tcp_keepalives_idle", "30"),
                ("tcp_keepalives_interval", "10"),
                ("tcp_user_timeout", "60s"),
            ])
            .disable_statement_logging();
        migrate(&options, &schema, migrations).await?;

        let epoch = watch::Sender::new([0; 8]);
        let seen = epoch.clone();
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(Duration::from_secs(3))
            .test_before_acquire(false)
            // A failover or a restore ends the connections, so a new one is where to notice it.
            .after_connect(move |connection, _| {
                let seen = seen.clone();
                Box::pin(async move {
                    let epoch = token::epoch(connection).await?;
                    seen.send_if_modified(|seen| std::mem::replace(seen, epoch) != epoch);
                    Ok(())
                })
            })
            .connect_with(options.clone())
            .await?;
        let vault = Vault::new(&keys, service);
        let mut connection = pool.acquire().await?;
        let open = keys::Open::start(service, Box::new(keys), &mut connection).await?;
        let journal = journal::Journal::open(settings.erasure_journal.join(service), &mut connection).await?;
        drop(connection);
        let inner = Inner {
            service,
            pool,
            token_key: vault.installation_key("consistency-token"),
            page_key: vault.installation_key("page-token"),
            resume_key: vault.installation_key("resume-token"),
            committed: Notify::new(),
            cache,
            vault,
            open,
            journal,
            forget: settings.forget,
            constraints,
            directory,
            epoch,
            well: watch::Sender::new(true),
        };
        let db = Self(Arc::new(inner));
        journal::replay(&db).await.context("the erasure journal cannot be replayed")?;
        tokio::spawn(request::purge(db.clone()));
        tokio::spawn(rotate::keep(db.clone()));
        tokio::spawn(well::watch(db.clone(), options, max_connections));
        Ok(db)
    }

    /// The pool.
    pub fn pool(&self) -> &PgPool {
        &self.0.pool
    }

    /// The service's keyed hashes.
    pub fn vault(&self) -> &Vault {
        &self.0.vault
    }

    fn open_keys(&self) -> &keys::Open {
        &self.0.open
    }

    fn journal(&self) -> &journal::Journal {
        &self.0.journal
    }

    /// The service's name.
    pub fn service(&self) -> &'static str {
        self.0.service
    }

    /// The life of the database that was last seen: a promotion and a restore begin a new one.
    pub fn epoch(&self) -> [u8; 8] {
        *self.0.epoch.borrow()
    }

    /// Tells when another life of the database is seen.
    fn lives(&self) -> watch::Receiver<[u8; 8]> {
        self.0.epoch.subscribe()
    }

    /// The key that proves resume tokens.
    pub fn resume_key(&self) -> &hmac::Key {
        &self.0.resume_key
    }

    /// The cache, if there is one.
    pub fn cache(&self) -> Option<&Shared> {
        self.0.cache.as_ref()
    }

    /// Is told of commits in this process.
    pub fn committed(&self) -> &Notify {
        &self.0.committed
    }

    /// Waits for the queries in flight and closes the pool.
    pub async fn close(&self) {
        self.0.pool.close().await;
    }
}

/// Runs one statement under a span that names it in OpenTelemetry's words. The summary is a verb
/// and a table, such as `select profile.profiles`.
pub async fn sql<T>(summary: &'static str, query: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T> {
    // Outside of a call that is traced there is nothing to add to.
    if tracing::Span::current().is_none() {
        return Ok(query.await?);
    }
    let span = tracing::info_span!(
        "sql",
        otel.name = summary,
        otel.kind = "client",
        db.system.name = "postgresql",
        db.query.summary = summary,
        otel.status_code = tracing::field::Empty,
    );
    let answer = query.instrument(span.clone()).await;
    if answer.is_err() {
        span.record("otel.status_code", "ERROR");
    }
    Ok(answer?)
}
