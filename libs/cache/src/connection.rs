use std::{
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{AsyncConnectionConfig, Client, ConnectionInfo, PushInfo, PushKind, Value, aio::MultiplexedConnection};
use tokio::{sync::Notify, task::AbortHandle};
use uuid::Uuid;

use crate::shared::customer_of;

/// An answer that takes longer is none; the database is faster.
pub(crate) const RESPONSE: Duration = Duration::from_millis(250);
/// The connection is asked this often whether it lives.
const PING: Duration = Duration::from_millis(500);
/// After a failure it is opened again this often.
const RETRY: Duration = Duration::from_millis(200);

/// What a connection that tracks fences tells.
pub enum Event {
    /// Invalidations arrive from now on.
    Open,
    /// Some may be missed from now on.
    Closed,
    /// Redis was emptied.
    Flushed,
    /// A fence of this customer has moved.
    Fence(Uuid),
}

/// What a connection is listened to with.
pub type Listener = Arc<dyn Fn(Event) + Send + Sync>;

/// One connection to Redis, which is there or is not: while it is not, nobody waits for it.
pub struct Redis {
    live: Arc<RwLock<Option<MultiplexedConnection>>>,
    task: AbortHandle,
}

impl Redis {
    /// Begins to connect, and counts each time that it did: behind each may be another Redis, or one with
    /// older data. With a listener the connection tracks the fences.
    pub fn connect(info: ConnectionInfo, openings: Arc<AtomicU64>, listener: Option<Listener>) -> Self {
        let live = Arc::new(RwLock::new(None));
        let task = tokio::spawn(keep(info, live.clone(), openings, listener)).abort_handle();
        Self { live, task }
    }

    /// The connection, if it lives.
    pub fn live(&self) -> Option<MultiplexedConnection> {
        self.live.read().expect("no holder panics").clone()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Keeps a connection open, and takes it away as soon as it does not answer.
async fn keep(
    info: ConnectionInfo,
    live: Arc<RwLock<Option<MultiplexedConnection>>>,
    openings: Arc<AtomicU64>,
    listener: Option<Listener>,
) {
    let set = |connection| *live.write().expect("no holder panics") = connection;
    let mut told = false;
    loop {
        let (lost, given_up) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        match open(&info, listener.clone(), lost.clone(), given_up.clone()).await {
            Ok(mut connection) => {
                if let Some(listener) = &listener {
                    listener(Event::Open);
                }
                openings.fetch_add(1, Ordering::SeqCst);
                set(Some(connection.clone()));
                if std::mem::take(&mut told) {
                    tracing::info!("Redis is back");
                }
                loop {
                    tokio::select! {
                        () = tokio::time::sleep(PING) => (),
                        () = lost.notified() => break,
                    }
                    if redis::cmd("PING").query_async::<()>(&mut connection).await.is_err() {
                        break;
                    }
                }
                set(None);
                given_up.store(true, Ordering::SeqCst);
                if let Some(listener) = &listener {
                    listener(Event::Closed);
                }
            }
            Err(error) if !told => {
                tracing::warn!(kind = ?error.kind(), "Redis cannot be reached; reads go to the database");
                told = true;
            }
            Err(_) => (),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn open(
    info: &ConnectionInfo,
    listener: Option<Listener>,
    lost: Arc<Notify>,
    given_up: Arc<AtomicBool>,
) -> redis::RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(1)))
        .set_response_timeout(Some(RESPONSE));
    let tracks = listener.is_some();
    let config = config.set_push_sender(move |info: PushInfo| {
        if info.kind == PushKind::Disconnection {
            lost.notify_one();
        }
        // The last words of one that was given up are not about the next.
        if let Some(listener) = listener.as_ref().filter(|_| !given_up.load(Ordering::SeqCst)) {
            hear(&info, listener);
        }
        Ok::<_, redis::aio::SendError>(())
    });
    let client = Client::open(info.clone())?;
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    if tracks {
        let mut track = redis::cmd("CLIENT");
        track.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(crate::shared::FENCES);
        track.query_async::<()>(&mut connection).await?;
    }
    Ok(connection)
}

/// One push may name several keys; a push without any says that Redis was emptied.
fn hear(info: &PushInfo, listener: &Listener) {
    match (&info.kind, info.data.first()) {
        (PushKind::Disconnection, _) => listener(Event::Closed),
        (PushKind::Invalidate, Some(Value::Array(keys))) => {
            for key in keys {
                match key {
                    Value::BulkString(key) => {
                        let customer = std::str::from_utf8(key).ok().and_then(customer_of);
                        listener(customer.map_or(Event::Flushed, Event::Fence));
                    }
                    _ => listener(Event::Flushed),
                }
            }
        }
        (PushKind::Invalidate, _) => listener(Event::Flushed),
        _ => (),
    }
}
