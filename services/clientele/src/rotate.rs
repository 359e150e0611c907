//! Turns keys while everything is served. What was sealed stays as it is: only what wraps is new.

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use anyhow::Context;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use vault::{KeyEncryption, KeyRing, ServiceKeys, WrappedServiceKey};

use crate::{
    database::{self, schema},
    reach::Stock,
    suite::SERVICES,
};

/// Progress is told this often.
const LOOK: Duration = Duration::from_secs(1);

/// Makes new service keys and waits until the running services have wrapped all data keys by them. It may be
/// ended and run again; the services go on by themselves.
#[derive(clap::Args)]
pub struct RotateKeys {
    #[command(flatten)]
    stock: Stock,
    /// Adds a key-encryption key to the ring too and wraps the service keys by it. The services read the ring
    /// when they start, so start them again, one after the other, before the next time.
    #[arg(long)]
    key_encryption_key: bool,
}

impl RotateKeys {
    /// Turns the keys.
    pub async fn run(self) -> anyhow::Result<()> {
        let mut sql = database::connect(&self.stock.database_url()?).await?;
        let key_ring_file = self.stock.key_ring_file()?;
        let mut ring = KeyRing::read(&key_ring_file)?;
        let mut opened = Vec::new();
        for service in SERVICES {
            let keys = ServiceKeys::open(service, &stored(&mut sql, service).await?, &ring).await;
            opened.push((service, keys.context("the key ring does not fit the database")?));
        }
        if self.key_encryption_key {
            ring.rotate();
            write(&ring, &key_ring_file)?;
            for (service, keys) in &opened {
                for key in keys.wrapped_anew(&ring).await? {
                    replace(&mut sql, service, &key).await?;
                }
            }
            println!("service keys are wrapped by key-encryption key {}", ring.current());
            return Ok(());
        }
        for (service, keys) in &opened {
            let next = keys.next(&ring).await?;
            add(&mut sql, service, &next).await?;
            println!("{service}: service key {}", next.number);
        }
        loop {
            let mut left = 0;
            for service in SERVICES {
                left += left_in(&mut sql, service).await?;
            }
            if left == 0 {
                println!("every data key is wrapped by the newest service key");
                return Ok(());
            }
            println!("{left} data keys are left");
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The new ring is whole or not there.
fn write(ring: &KeyRing, file: &Path) -> anyhow::Result<()> {
    let beside = file.with_extension("new");
    let mut new = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    new.write_all(ring.to_json().as_bytes())?;
    new.sync_all()?;
    Ok(fs::rename(&beside, file)?)
}

/// The keys of a service as they are stored.
pub async fn stored(sql: &mut PgConnection, service: &str) -> anyhow::Result<Vec<WrappedServiceKey>> {
    let query = format!("select number, wrapped_by, wrapped from {}.service_keys order by number", schema(service));
    let rows =
        sqlx::query(AssertSqlSafe(query)).fetch_all(sql).await.context("the services have not been started yet")?;
    let key = |row: &sqlx::postgres::PgRow| WrappedServiceKey {
        number: row.get("number"),
        wrapped_by: row.get("wrapped_by"),
        wrapped: row.get("wrapped"),
    };
    Ok(rows.iter().map(key).collect())
}

/// Adds a new key. A number that is taken is never taken again: data keys may be wrapped by it already.
async fn add(sql: &mut PgConnection, service: &str, key: &WrappedServiceKey) -> anyhow::Result<()> {
    let query = format!(
        "insert into {}.service_keys (number, wrapped_by, wrapped) values ($1, $2, $3) on conflict do nothing",
        schema(service)
    );
    let query = sqlx::query(AssertSqlSafe(query)).bind(key.number).bind(&key.wrapped_by).bind(&key.wrapped);
    let added = query.execute(sql).await?.rows_affected();
    anyhow::ensure!(added == 1, "somebody else has just turned the keys of {service}; run it again");
    Ok(())
}

/// Replaces how a key is wrapped.
async fn replace(sql: &mut PgConnection, service: &str, key: &WrappedServiceKey) -> anyhow::Result<()> {
    let query = format!("update {}.service_keys set wrapped_by = $2, wrapped = $3 where number = $1", schema(service));
    sqlx::query(AssertSqlSafe(query)).bind(key.number).bind(&key.wrapped_by).bind(&key.wrapped).execute(sql).await?;
    Ok(())
}

async fn left_in(sql: &mut PgConnection, service: &str) -> anyhow::Result<i64> {
    let schema = schema(service);
    let query = format!(
        "select count(*) from {schema}.data_keys
         where wrapped is not null and service_key < (select max(number) from {schema}.service_keys)"
    );
    Ok(sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(sql).await?)
}
