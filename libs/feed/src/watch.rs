//! One stream: what lies behind its cursor by SQL, then what the tailer reads.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use error::{Failure, reason};
use futures_util::{Stream, stream};
use proto::{
    feed::v1::{Change, WatchChangesRequest, WatchChangesResponse},
    section::v1::Section,
};
use store::{Fault, Result, sql, uuid};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use crate::{
    cursor::Cursor,
    page::{self, Page},
    service::Feed,
    tailer::News,
};

/// An idle stream gets a token this often.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A message that is not taken for so long ends the stream.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many customers' states are read at once.
const STATES: i64 = 256;

/// Where a stream is.
pub struct Watch {
    feed: Feed,
    cursor: Cursor,
    epoch: [u8; 8],
    filter: Filter,
    tail: Option<Receiver<News>>,
    sent: Option<Instant>,
    draining: CancellationToken,
    over: bool,
}

/// What a stream wants to hear of.
struct Filter {
    customers: HashSet<String>,
    types: HashSet<String>,
}

impl Filter {
    fn passes(&self, change: &Change) -> bool {
        (self.customers.is_empty() || self.customers.contains(&change.customer_id))
            && (self.types.is_empty() || self.types.contains(&change.r#type))
    }
}

impl Watch {
    /// Begins where the request says.
    pub async fn begin(feed: Feed, request: WatchChangesRequest, draining: CancellationToken) -> Result<Self> {
        let db = feed.db();
        let epoch = db.epoch();
        let cursor = match request.resume_token.as_str() {
            "" if request.initial_state => Cursor::State(page::now(db).await?, Uuid::nil()),
            "" => Cursor::Behind(page::now(db).await?),
            token => Cursor::of_token(token, db)?,
        };
        // An expired token is told before the stream begins.
        Page::read(db, &cursor).await?;
        let filter = Filter {
            customers: request.customer_ids.iter().map(|id| id.to_lowercase()).collect(),
            types: request.types.into_iter().collect(),
        };
        Ok(Self { epoch, cursor, filter, tail: None, sent: None, feed, draining, over: false })
    }

    /// The messages. Each is made when the one before was taken.
    pub fn stream(self) -> impl Stream<Item = Result<WatchChangesResponse, Status>> + Send {
        stream::try_unfold(self, |mut watch| async move {
            if watch.over {
                return Err(reason::SERVER_DRAINING.into());
            }
            let draining = watch.draining.clone();
            let next = tokio::select! {
                message = watch.next() => Some(message?),
                () = draining.cancelled() => None,
            };
            // The last word is where to go on.
            watch.over = next.is_none();
            let message = next.unwrap_or_else(|| watch.message(Vec::new()));
            watch.sent = Some(Instant::now());
            Ok::<_, Status>(Some((message, watch)))
        })
    }

    async fn next(&mut self) -> Result<WatchChangesResponse, Failure> {
        // The first message says where the stream begins.
        let Some(sent) = self.sent else { return Ok(self.message(Vec::new())) };
        if sent.elapsed() > PATIENCE {
            return Err(reason::SLOW_CONSUMER.into());
        }
        loop {
            let message = match (&self.cursor, &mut self.tail) {
                (Cursor::State(..), _) => Some(self.state().await?),
                (_, None) => self.read().await?,
                (_, Some(tail)) => match tokio::time::timeout(HEARTBEAT, tail.recv()).await {
                    Ok(Ok(News::Page(page))) => self.hear(&page),
                    Ok(Ok(News::Gap) | Err(RecvError::Lagged(_))) => {
                        self.tail = None;
                        None
                    }
                    Ok(Err(RecvError::Closed)) => return Err(reason::SERVICE_UNAVAILABLE.into()),
                    Err(_) => Some(self.message(Vec::new())),
                },
            };
            if self.epoch != self.feed.db().epoch() {
                return Err(reason::RESUME_TOKEN_EXPIRED.into());
            }
            match message {
                Some(message) => return Ok(message),
                // Also while nothing passes the filter on the way to the present.
                None if sent.elapsed() >= HEARTBEAT => return Ok(self.message(Vec::new())),
                None => (),
            }
        }
    }

    /// The next page by SQL; the tailer's pages follow once there is no more.
    async fn read(&mut self) -> Result<Option<WatchChangesResponse>, Failure> {
        // Before the page is read, so that nothing falls between. The snapshot that ends a batch is taken with its first
        // page: only behind a batch of one page is the tailer heard of everything since.
        let tail = self.feed.tailer().subscribe();
        let begins = !matches!(self.cursor, Cursor::Within(..));
        let page = Page::read(self.feed.db(), &self.cursor).await.map_err(Fault::into_failure)?;
        self.cursor = page.cursor(self.cursor.seen());
        if page.last && begins {
            self.tail = Some(tail);
        }
        let heard = page.changes.into_iter().map(|(_, _, change)| change).filter(|change| self.filter.passes(change));
        let changes: Vec<Change> = heard.collect();
        Ok((!changes.is_empty()).then(|| self.message(changes)))
    }

    /// A page of the tailer, less what was seen.
    fn hear(&mut self, page: &Page) -> Option<WatchChangesResponse> {
        let seen = self.cursor.seen();
        if !page.until.covers(seen) {
            return None;
        }
        let new = page.changes.iter().filter(|(xid, ..)| !seen.sees(*xid)).map(|(_, _, change)| change);
        let changes: Vec<Change> = new.filter(|change| self.filter.passes(change)).cloned().collect();
        self.cursor = page.cursor(seen);
        (!changes.is_empty()).then(|| self.message(changes))
    }

    /// The present state of the next customers.
    async fn state(&mut self) -> Result<WatchChangesResponse, Failure> {
        let Cursor::State(seen, after) = self.cursor.clone() else { return Err(reason::INTERNAL_ERROR.into()) };
        let states = self.states(after).await.map_err(Fault::into_failure)?;
        self.cursor = match states.last().map(|section| uuid(&section.customer_id)).transpose() {
            Ok(Some(last)) if states.len() as i64 == STATES => Cursor::State(seen, last),
            _ => Cursor::Behind(seen),
        };
        let wanted = |section: &Section| {
            self.filter.customers.is_empty() || self.filter.customers.contains(&section.customer_id)
        };
        Ok(WatchChangesResponse { states: states.into_iter().filter(wanted).collect(), ..self.message(Vec::new()) })
    }

    async fn states(&self, after: Uuid) -> Result<Vec<Section>> {
        let db = self.feed.db();
        let query = sqlx::query_scalar!(
            "select customer_id from customers where customer_id > $1 order by customer_id limit $2",
            after,
            STATES
        );
        let ids = sql("select customers", query.fetch_all(db)).await?;
        self.feed.sections(&ids).await
    }

    fn message(&self, changes: Vec<Change>) -> WatchChangesResponse {
        WatchChangesResponse { changes, states: Vec::new(), resume_token: self.token() }
    }

    fn token(&self) -> String {
        self.cursor.token(self.feed.db(), self.epoch)
    }
}
