//! Turns service keys every month, and wraps the data keys anew while everything is served. What was sealed
//! stays as it is.

use std::time::Duration;

use crate::{Db, Fault, Result, journal};

/// A service key wraps for so long.
const AGE: &str = "30 days";
/// A turned key is noticed this often, and open keys are looked at for those to be wiped.
const LOOK: Duration = Duration::from_secs(10);
/// So many are wrapped anew by one transaction.
const AT_ONCE: i64 = 1000;
/// Progress is told after so many.
const TOLD: usize = 100_000;

/// Keeps the keys young for as long as the process runs. Several processes share the work: each takes what
/// no other has locked, and one that ends in the middle leaves the rest to be found.
pub(crate) async fn keep(db: Db) {
    let mut lives = db.lives();
    while !db.pool().is_closed() {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => db.open_keys().sweep(),
            _ = lives.changed() => renew(&db).await,
        }
        if let Err(fault) = turn(&db).await {
            let reason = fault.into_failure().reason().name;
            tracing::warn!(reason, "keys could not be turned");
        }
    }
}

/// A standby or a backup may not have every key that is open here, nor every erasure.
async fn renew(db: &Db) {
    while !db.pool().is_closed() {
        db.open_keys().clear();
        match renewed(db).await {
            Ok(()) => return,
            Err(error) => tracing::error!(%error, "the erasure journal cannot be replayed"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn renewed(db: &Db) -> anyhow::Result<()> {
    let mut connection = db.pool().acquire().await?;
    db.service_keys_read(&mut connection).await.map_err(Fault::named)?;
    drop(connection);
    journal::replay(db).await
}

async fn turn(db: &Db) -> Result<()> {
    let query = sqlx::query!(
        r#"
        select max(number) as newest, coalesce(max(created_at) < now() - $1::text::interval, false) as "old!"
        from service_keys
        "#,
        AGE
    );
    let stored = query.fetch_one(db).await?;
    if stored.old {
        db.service_key_turn().await?;
    } else if stored.newest != db.open_keys().service().newest() {
        db.service_keys_read(&mut *db.pool().acquire().await?).await?;
    }
    let (mut done, mut told) = (0, 0);
    loop {
        let query = sqlx::query_scalar!(
            r#"
            select exists (select 1 from data_keys where wrapped is not null
                           and service_key < (select max(number) from service_keys)) as "left!"
            "#
        );
        if !query.fetch_one(db).await? {
            break;
        }
        let began = std::time::Instant::now();
        let rewrapped = db.rewrap(AT_ONCE).await?;
        done += rewrapped;
        if done - told >= TOLD {
            told = done;
            tracing::info!(done, "data keys are being wrapped anew");
        }
        if rewrapped == 0 {
            // Another process has the rest, or it does not open.
            break;
        }
        // The database is there for others too.
        tokio::time::sleep(began.elapsed()).await;
    }
    if done > 0 {
        tracing::info!(done, "data keys were wrapped by the newest service key");
    }
    Ok(())
}
