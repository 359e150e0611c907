use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use cache::Shared;
use chrono::{TimeDelta, Utc};
use proto::feed::v1::Change;
use store::{Db, Result, sql};
use tokio::sync::broadcast::error::RecvError;
use uuid::Uuid;

use crate::tailer::{News, Tailer};

/// Redis is told so many at once.
const AT_ONCE: usize = 256;
/// While Redis refuses it is asked this often.
const RETRY: Duration = Duration::from_millis(200);
/// Fences live so long, and a value less.
const LIFETIME: TimeDelta = TimeDelta::minutes(15);
/// So many changes are read at once when fences are raised anew.
const REPLAYED: i64 = 5000;

/// Raises the fence of every change once more, so that a crash between a commit and its fence leaves
/// no stale section. It does not go on while Redis refuses. Behind every new connection there may be a
/// Redis with older fences, so those of their whole lifetime are raised anew.
pub async fn keep(db: Db, cache: Shared, tailer: Tailer) {
    let (mut tail, mut seen) = (tailer.subscribe(), 0);
    while !db.pool().is_closed() {
        let openings = cache.openings();
        if openings != seen {
            match replay(&db, &cache).await {
                Ok(()) => seen = openings,
                Err(fault) => {
                    tracing::warn!(reason = fault.into_failure().reason().name, "fences could not be raised anew");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            }
        }
        match tail.recv().await {
            Ok(News::Page(page)) => {
                let changes = page.changes.iter().map(|(_, _, change)| change);
                raise(&db, &cache, newest(changes.filter_map(version))).await;
            }
            // What was missed is in the table.
            Ok(News::Gap) | Err(RecvError::Lagged(_)) => seen = 0,
            Err(RecvError::Closed) => return,
        }
    }
}

fn version(change: &Change) -> Option<(Uuid, i64)> {
    Some((change.customer_id.parse().ok()?, change.customer_version))
}

fn newest(versions: impl Iterator<Item = (Uuid, i64)>) -> HashMap<Uuid, i64> {
    let mut newest = HashMap::new();
    for (customer, version) in versions {
        newest.entry(customer).and_modify(|known: &mut i64| *known = version.max(*known)).or_insert(version);
    }
    newest
}

/// Raises fences, however long Redis refuses.
async fn raise(db: &Db, cache: &Shared, versions: HashMap<Uuid, i64>) {
    let versions: Vec<(Uuid, i64)> = versions.into_iter().collect();
    for versions in versions.chunks(AT_ONCE) {
        while !cache.raise(db.service(), db.epoch(), versions).await && !db.pool().is_closed() {
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Raises the fences of everything that changed within their lifetime, newest first.
async fn replay(db: &Db, cache: &Shared) -> Result<()> {
    let (since, began) = (Utc::now() - LIFETIME, Instant::now());
    let (mut before, mut count) = (i64::MAX, 0);
    loop {
        let query = sqlx::query!(
            r#"
            select seq, aggregateid, customer_version, occurred_at from changes
            where seq < $1 order by seq desc limit $2
            "#,
            before,
            REPLAYED
        );
        let rows = sql("select changes", query.fetch_all(db)).await?;
        let last = rows.last().map(|row| (row.seq, row.occurred_at));
        let young = rows.iter().filter(|row| row.occurred_at >= since);
        let versions = newest(young.map(|row| (row.aggregateid, row.customer_version)));
        count += versions.len();
        raise(db, cache, versions).await;
        match last {
            Some((seq, occurred_at)) if occurred_at >= since => before = seq,
            _ => break,
        }
    }
    tracing::info!(count, seconds = began.elapsed().as_secs_f64(), "fences were raised anew");
    Ok(())
}
