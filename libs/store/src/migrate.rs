use std::time::Duration;

use anyhow::Context;
use server::ServiceConfig;
use sqlx::{ConnectOptions, Connection, PgConnection, migrate::Migrator, postgres::PgConnectOptions};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Brings a schema up to date: first what every service has, then what is its own.
///
/// sqlx's own lock is one for the whole database and a failed migration never releases it, so
/// another schema would wait for ever. This lock is one per schema and dies with its connection.
pub async fn migrate(options: &PgConnectOptions, schema: &str, own: Migrator) -> anyhow::Result<()> {
    let mut connection = options.connect().await.context("the database cannot be reached")?;
    let standby: bool = sqlx::query_scalar("select pg_is_in_recovery()").fetch_one(&mut connection).await?;
    anyhow::ensure!(!standby, "the database is a standby; services are started on its primary");
    let migrated = locked(&mut connection, schema, own).await;
    connection.close().await?;
    migrated.with_context(|| format!("the schema {schema} could not be migrated"))
}

async fn locked(connection: &mut PgConnection, schema: &str, own: Migrator) -> anyhow::Result<()> {
    let lock = || {
        sqlx::query_scalar!(r#"select pg_try_advisory_lock(hashtextextended('migrate ' || $1, 0)) as "held!""#, schema)
    };
    while !lock().fetch_one(&mut *connection).await? {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for (mut migrator, table) in [(sqlx::migrate!(), "base_migrations"), (own, "migrations")] {
        migrator.set_locking(false).dangerous_set_table_name(table);
        migrator.run_direct(None, connection, false).await?;
    }
    Ok(())
}

/// The `main` of a service with a schema. With the argument `migrate` it brings the schema up to date and ends, before
/// any process of a new version starts.
pub async fn run<S, F>(service: &'static str, migrations: fn() -> Migrator, start: S) -> anyhow::Result<()>
where
    S: FnOnce(ServiceConfig, TcpListener, CancellationToken) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    match std::env::args().nth(1).as_deref() {
        None => server::run(service, |config: &ServiceConfig| config.listen, start).await,
        Some("migrate") => {
            let url = std::env::var("CLIENTELE_DATABASE_URL").context("CLIENTELE_DATABASE_URL is not set")?;
            let schema = service.replace('-', "_");
            let options = url.parse::<PgConnectOptions>()?.application_name(service);
            migrate(&options.options([("search_path", &schema)]), &schema, migrations()).await
        }
        Some(other) => anyhow::bail!("{other} is not understood; there is only migrate"),
    }
}
