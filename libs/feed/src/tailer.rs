use std::{sync::Arc, time::Duration};

use chrono::Utc;
use metrics::{METRICS, by};
use store::{Db, Result};
use tokio::sync::broadcast;

use crate::{
    cursor::Cursor,
    page::{self, Page},
};

/// What other processes commit is seen this late; what this one commits, at once.
const POLL: Duration = Duration::from_millis(80);
/// A commit waits so long for others, so that many make one poll.
const COALESCE: Duration = Duration::from_millis(4);
/// A reader that is so many pages behind reads by itself.
const KEPT: usize = 64;

/// What a stream hears.
#[derive(Clone)]
pub enum News {
    /// The next page.
    Page(Arc<Page>),
    /// Something may be missing before what comes next: read it yourself.
    Gap,
}

/// The one reader of the outbox in this process. It reads what is new and hands it to every stream.
#[derive(Clone)]
pub struct Tailer(broadcast::Sender<News>);

impl Tailer {
    /// Begins to read, for as long as the pool is open.
    pub fn start(db: Db) -> Self {
        let (sender, _) = broadcast::channel(KEPT);
        let tailer = Self(sender.clone());
        tokio::spawn(async move {
            while !db.pool().is_closed() {
                // While the process ends there is nothing left to read.
                if let Err(fault) = tail(&db, &sender).await
                    && !db.pool().is_closed()
                {
                    let reason = fault.into_failure().reason().name;
                    tracing::warn!(reason, "the outbox could not be read");
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
        tailer
    }

    /// Everything from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<News> {
        self.0.subscribe()
    }
}

/// Reads from now on, until a failure or another life of the database.
async fn tail(db: &Db, sender: &broadcast::Sender<News>) -> Result<()> {
    let epoch = db.epoch();
    let mut cursor = Cursor::Behind(page::now(db).await?);
    // Only now: who reads by itself after this word has seen at least as much as the first page begins
    // behind. Nobody listening is no failure.
    sender.send(News::Gap).ok();
    while db.epoch() == epoch {
        let page = Page::read(db, &cursor).await?;
        cursor = page.cursor(cursor.seen());
        let last = page.last;
        if let Some((.., change)) = page.changes.first() {
            let lag = store::time(change.occurred_time).map(|at| Utc::now() - at).unwrap_or_default();
            METRICS.feed_lag.get_or_create_owned(&by(db.service())).observe(lag.as_seconds_f64());
        }
        sender.send(News::Page(Arc::new(page))).ok();
        if last {
            tokio::select! {
                () = db.committed().notified() => tokio::time::sleep(COALESCE).await,
                () = tokio::time::sleep(POLL) => (),
            }
        }
    }
    Ok(())
}
