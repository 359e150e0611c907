//! Roles and schemas: each service gets a login role that owns its schema and can see nothing else.

use std::collections::BTreeMap;

use anyhow::Context;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::suite::SERVICES;

/// Prepares a database for the services, again and again without harm. The URL is that of a role
/// that may create roles and owns the database.
pub async fn prepare(url: &str, passwords: &BTreeMap<String, String>) -> anyhow::Result<()> {
    // Roles belong to the whole cluster and locks to a database: who prepares another database at the
    // same moment makes this fail with "tuple concurrently updated".
    let mut attempts = 0;
    loop {
        match attempt(url, passwords).await {
            Err(error) if attempts < 10 && format!("{error:#}").contains("concurrently updated") => attempts += 1,
            done => return done,
        }
    }
}

async fn attempt(url: &str, passwords: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let mut connection = connect(url).await?;
    connection.execute("revoke all on schema public from public").await?;
    for service in SERVICES {
        let role = schema(service);
        let password = passwords.get(service).with_context(|| format!("{service} has no password"))?;
        let known: bool = sqlx::query_scalar("select exists (select 1 from pg_roles where rolname = $1)")
            .bind(&role)
            .fetch_one(&mut connection)
            .await?;
        let statement = if known { "alter role %I login password %L" } else { "create role %I login password %L" };
        let statement: String = sqlx::query_scalar("select format($1, $2, $3)")
            .bind(statement)
            .bind(&role)
            .bind(password)
            .fetch_one(&mut connection)
            .await?;
        connection.execute(AssertSqlSafe(statement)).await.context("a role could not be made")?;
        // The names are ours.
        let grant = format!("grant {role} to current_user");
        connection.execute(AssertSqlSafe(grant)).await?;
        let create = format!("create schema if not exists {role} authorization {role}");
        connection.execute(AssertSqlSafe(create)).await?;
    }
    connection.close().await?;
    Ok(())
}

/// What has to be done to a database that was restored or moved to another cluster, before traffic
/// opens: it begins a new life, so that tokens of the one before are refused, and the changes it
/// brought belong to a transaction of this cluster.
pub async fn finish_restore(url: &str) -> anyhow::Result<()> {
    let mut connection = connect(url).await?;
    for service in SERVICES {
        let role = schema(service);
        let statement = format!(
            "begin; set local role {role};
             update {role}.feed set epoch = epoch + 1, purged_xid = '0';
             update {role}.changes set xid = pg_current_xact_id(); commit"
        );
        connection.execute(AssertSqlSafe(statement)).await.with_context(|| format!("{service} was not restored"))?;
    }
    connection.close().await?;
    Ok(())
}

/// A connection, or a word on why there is none.
pub async fn connect(url: &str) -> anyhow::Result<PgConnection> {
    PgConnection::connect(url).await.context("the database cannot be reached")
}

/// A service's schema and role: its name with `_` for `-`.
pub fn schema(service: &str) -> String {
    service.replace('-', "_")
}

/// The URL of a service's own role in the same database.
pub fn role_url(url: &str, service: &str, password: &str) -> anyhow::Result<String> {
    let mut url: reqwest::Url = url.parse().context("the database URL is malformed")?;
    url.set_username(&schema(service)).ok().context("the database URL takes no user")?;
    url.set_password(Some(password)).ok().context("the database URL takes no password")?;
    Ok(url.into())
}
