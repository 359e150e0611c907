use chrono::{DateTime, Utc};
use error::reason;
use proto::feed::v1::Change;
use store::{Db, Fault, Result, sql, timestamp};
use uuid::Uuid;

use crate::{PAGE, cursor::Cursor, snapshot::Snapshot};

/// A part of a batch, in the order of `seq`.
#[derive(Clone)]
pub struct Page {
    /// The snapshot that ends the batch.
    pub until: Snapshot,
    /// The changes with the transactions that made them.
    pub changes: Vec<(u64, i64, Change)>,
    /// Whether the batch ends here.
    pub last: bool,
}

struct Row {
    until: String,
    purged: i64,
    seq: Option<i64>,
    xid: Option<i64>,
    id: Option<Uuid>,
    aggregatetype: Option<String>,
    aggregateid: Option<Uuid>,
    kind: Option<String>,
    payload: Option<String>,
    customer_version: Option<i64>,
    occurred_at: Option<DateTime<Utc>>,
    traceparent: Option<String>,
}

impl Row {
    fn open(self, service: &str) -> Option<(u64, i64, Change)> {
        let change = Change {
            change_id: self.id?.to_string(),
            service: service.to_owned(),
            customer_id: self.aggregateid?.to_string(),
            customer_version: self.customer_version?,
            resource: self.aggregatetype?,
            r#type: self.kind?,
            payload: self.payload?,
            occurred_time: Some(timestamp(self.occurred_at?)),
            traceparent: self.traceparent?,
        };
        Some((u64::try_from(self.xid?).ok()?, self.seq?, change))
    }
}

impl Page {
    /// Reads what follows a cursor. `RESUME_TOKEN_EXPIRED` when some of it was purged.
    pub async fn read(db: &Db, cursor: &Cursor) -> Result<Self> {
        let limit = PAGE as i64 + 1;
        let rows = match cursor {
            Cursor::Within(seen, until, seq) => {
                let (seen, until) = (seen.to_string(), until.to_string());
                let query = sqlx::query_file_as!(Row, "queries/rest.sql", seen, until, *seq, limit);
                sql("select changes", query.fetch_all(db)).await?
            }
            Cursor::Behind(seen) | Cursor::State(seen, _) => {
                let query = sqlx::query_file_as!(Row, "queries/unseen.sql", seen.to_string(), limit);
                sql("select changes", query.fetch_all(db)).await?
            }
        };
        let first = rows.first().ok_or(Fault::Database(sqlx::Error::RowNotFound))?;
        let until = snapshot(&first.until)?;
        if u64::try_from(first.purged).unwrap_or(0) >= cursor.seen().oldest_unseen(&until) {
            return Err(reason::RESUME_TOKEN_EXPIRED.into());
        }
        let service = db.service();
        let mut changes: Vec<_> = rows.into_iter().filter_map(|row| row.open(service)).collect();
        let last = changes.len() <= PAGE;
        changes.truncate(PAGE);
        Ok(Self { until, changes, last })
    }

    /// Where a reader is behind this page.
    pub fn cursor(&self, seen: &Snapshot) -> Cursor {
        match self.changes.last() {
            Some((_, seq, _)) if !self.last => Cursor::Within(seen.clone(), self.until.clone(), *seq),
            _ => Cursor::Behind(self.until.clone()),
        }
    }
}

/// The present.
pub async fn now(db: &Db) -> Result<Snapshot> {
    let query = sqlx::query_scalar!(r#"select pg_current_snapshot()::text as "now!""#);
    snapshot(&sql("select pg_current_snapshot", query.fetch_one(db)).await?)
}

fn snapshot(text: &str) -> Result<Snapshot> {
    text.parse().map_err(|_| Fault::Database(sqlx::Error::Protocol("not a snapshot".into())))
}
