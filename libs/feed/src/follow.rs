//! For those who derive something of their own from another service's changes.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, LazyLock},
    time::Duration,
};

use access::Call;
use chrono::{DateTime, Utc};
use client::Peer;
use error::reason;
use futures_util::{StreamExt, future::BoxFuture, stream};
use metrics::{METRICS, by};
use proto::feed::v1::{WatchChangesRequest, WatchChangesResponse};
use sqlx::postgres::types::PgInterval;
use store::{Db, Result, Tx, sql};
use tonic::Status;
use uuid::Uuid;

/// After a failure the feed is asked again this often.
const RETRY: Duration = Duration::from_millis(500);
/// So many messages that have arrived are taken at once: who is behind catches up by greater steps.
const AT_ONCE: usize = 256;
/// A message tells at most so many changes.
const MAX_CHANGES: usize = 1000;
/// Who moves a cursor, which happens every second at least, has the feed for so long.
const LEASE: Duration = Duration::from_secs(5);

/// This process among those that follow the same feeds.
static PROCESS: LazyLock<Uuid> = LazyLock::new(Uuid::new_v4);

/// Follows the feed of a service for as long as the pool is open, from its beginning with everyone's
/// present state. What a message leads to is read before a transaction begins, while the one of the message before is under way, so
/// that none waits for another service; then it is derived from in one transaction with the cursor, and only if the cursor
/// is where the message begins: however often and wherever this is interrupted, and by however many
/// it is done at once, each has its effect once. One message is read after the other, so what was read earlier never replaces
/// what was read later. Of several processes one does it, and another goes on when that one has ended. An expired token ends it
/// with that failure, since what was derived has a gap.
pub async fn follow<R, F, T, W>(
    db: &Db,
    peer: &Peer,
    call: &Call,
    feed: &'static str,
    read: R,
    work: W,
) -> Result<(), Status>
where
    R: Fn(WatchChangesResponse) -> F,
    F: Future<Output = Result<T>>,
    T: Send + Sync + 'static,
    W: for<'t> Fn(&'t mut Tx, Arc<T>) -> BoxFuture<'t, Result<()>> + Clone + Send + Sync + 'static,
{
    let mut known = Utc::now();
    while !db.pool().is_closed() {
        let passed = pass(db, peer, call, feed, &read, &work, &mut known).await;
        tell_lag(feed, known);
        match passed {
            Err(status) if status.code() == tonic::Code::OutOfRange => return Err(status),
            Err(status) => {
                let reason = error::reason_of(&status);
                tracing::warn!(feed, reason, "the feed broke off and is asked again");
            }
            Ok(()) => (),
        }
        tokio::time::sleep(RETRY).await;
    }
    Ok(())
}

async fn pass<R, F, T, W>(
    db: &Db,
    peer: &Peer,
    call: &Call,
    feed: &'static str,
    read: &R,
    work: &W,
    known: &mut DateTime<Utc>,
) -> Result<(), Status>
where
    R: Fn(WatchChangesResponse) -> F,
    F: Future<Output = Result<T>>,
    T: Send + Sync + 'static,
    W: for<'t> Fn(&'t mut Tx, Arc<T>) -> BoxFuture<'t, Result<()>> + Clone + Send + Sync + 'static,
{
    let query = sqlx::query!(
        r#"
        select resume_token, followed_at, follower <> $2 and held_until > clock_timestamp() as is_held
        from cursors where feed = $1
        "#,
        feed,
        *PROCESS
    );
    let cursor = sql("select cursors", query.fetch_optional(db)).await?;
    if let Some(held) = cursor.as_ref().filter(|cursor| cursor.is_held == Some(true)) {
        *known = held.followed_at.unwrap_or(*known);
        return Ok(());
    }
    let mut before = cursor.map(|cursor| cursor.resume_token);
    let request = WatchChangesRequest {
        initial_state: before.is_none(),
        resume_token: before.clone().unwrap_or_default(),
        ..Default::default()
    };
    let messages = peer.feed.clone().watch_changes(peer.stream(call, request)).await?.into_inner();
    let messages = messages.ready_chunks(AT_ONCE).flat_map(|messages| stream::iter(together(messages)));
    let steps = messages.map(|message| {
        let message = message?;
        Ok::<_, Status>((Step::of(&message, before.replace(message.resume_token.clone())), message))
    });
    let mut read = pin!(steps.then(async |step| {
        let (step, message) = step?;
        let news = match message.changes.is_empty() && message.states.is_empty() {
            true => None,
            false => Some(Arc::new(read(message).await?)),
        };
        Ok::<_, Status>((step, news))
    }));
    let mut next = read.next().await;
    while let Some(step) = next {
        let (step, news) = step?;
        // What begins says nothing of when it was so.
        if !step.begins {
            *known = step.last.unwrap_or_else(Utc::now);
        }
        tell_lag(feed, *known);
        let (work, call) = (work.clone(), call.renewed());
        let write = db.transact(&call, move |tx| {
            let (work, step, news) = (work.clone(), step.clone(), news.clone());
            Box::pin(async move {
                cursor_move(tx, feed, &step).await?;
                match news {
                    Some(news) => work(tx, news).await,
                    None => Ok(()),
                }
            })
        });
        // The next is read meanwhile: one after the other, so that none is read before what it follows.
        let following = async { Ok(read.next().await) };
        (_, next) = tokio::try_join!(write, following)?;
    }
    Ok(())
}

/// Tells how old the last is that is known: also while nothing can be heard.
fn tell_lag(feed: &'static str, known: DateTime<Utc>) {
    METRICS.follower_lag.get_or_create_owned(&by(feed)).set((Utc::now() - known).as_seconds_f64());
}

/// Puts messages together that tell of changes alone, in their order, until one has as many as one may have.
fn together(messages: Vec<Result<WatchChangesResponse, Status>>) -> Vec<Result<WatchChangesResponse, Status>> {
    let mut together: Vec<Result<WatchChangesResponse, Status>> = Vec::new();
    for message in messages {
        match (together.last_mut(), message) {
            (Some(Ok(last)), Ok(message))
                if last.states.is_empty()
                    && message.states.is_empty()
                    && last.changes.len() + message.changes.len() <= MAX_CHANGES =>
            {
                last.changes.extend(message.changes);
                last.resume_token = message.resume_token;
            }
            (_, message) => together.push(message),
        }
    }
    together
}

/// From where a message leads to where.
#[derive(Clone)]
struct Step {
    from: Option<String>,
    to: String,
    /// Whether it tells present states, or is the first.
    begins: bool,
    /// When the last of its changes happened.
    last: Option<DateTime<Utc>>,
}

impl Step {
    fn of(message: &WatchChangesResponse, from: Option<String>) -> Self {
        Self {
            begins: !message.states.is_empty() || from.is_none(),
            last: message.changes.last().and_then(|change| store::time(change.occurred_time)),
            to: message.resume_token.clone(),
            from,
        }
    }
}

/// Moves the cursor, unless somebody else has moved it, and notes until when all is known: until the last change of a
/// message, or until now when there is none.
async fn cursor_move(tx: &mut Tx, feed: &str, step: &Step) -> Result<()> {
    let query = sqlx::query!(
        r#"
        with moved as (
            update cursors set resume_token = $3, followed_at = case when not $4 then coalesce($5, clock_timestamp()) end,
                follower = $6, held_until = clock_timestamp() + $7
            where feed = $1 and resume_token = $2
            returning feed
        ),
        begun as (
            insert into cursors (feed, resume_token, follower, held_until)
            select $1, $3, $6, clock_timestamp() + $7 where $2::text is null
            on conflict do nothing
            returning feed
        )
        select count(*) as "count!" from (select feed from moved union all select feed from begun) steps
        "#,
        feed,
        step.from.as_deref(),
        step.to,
        step.begins,
        step.last,
        *PROCESS,
        PgInterval::try_from(LEASE).expect("whole seconds")
    );
    match sql("update cursors", query.fetch_one(tx.sql())).await?.count {
        0 => Err(reason::WRITE_CONFLICT.into()),
        _ => Ok(()),
    }
}

/// Leaves the feeds that this process follows to another one, at its end.
pub async fn let_go(db: &Db) -> Result<()> {
    let query = sqlx::query!("update cursors set held_until = clock_timestamp() where follower = $1", *PROCESS);
    sql("update cursors", query.execute(db.pool())).await?;
    Ok(())
}

/// Forgets how far a feed was followed, so that it is followed from everyone's present state again.
pub async fn begin_anew(db: &Db, feed: &str) -> Result<()> {
    let query = sqlx::query!("delete from cursors where feed = $1", feed);
    sql("delete cursors", query.execute(db.pool())).await?;
    Ok(())
}
