use std::time::Duration;

use metrics::{METRICS, by};
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::sync::watch;

use crate::Db;

/// The database is asked so often, and has so long for its answer.
const LOOK: Duration = Duration::from_secs(1);
/// After a look in vain the next one comes so soon.
const AGAIN: Duration = Duration::from_millis(100);

impl Db {
    /// Whether the database answers.
    pub fn well(&self) -> watch::Receiver<bool> {
        self.0.well.subscribe()
    }
}

/// Asks the database how it is, on a connection of its own: a pool that is busy is no database that is away.
pub(crate) async fn watch(db: Db, options: PgConnectOptions, max_connections: u32) {
    METRICS.begin_schema(db.service());
    let service = by(db.service());
    METRICS.connections_max.get_or_create_owned(&service).set(max_connections.into());
    let mut connection: Option<PgConnection> = None;
    let mut looked_in_vain = 0;
    while !db.pool().is_closed() {
        let asked = async {
            // A failover ends connections, and says nothing of who has taken over.
            if let Some(mut connected) = connection.take()
                && connected.ping().await.is_ok()
            {
                return Ok::<_, sqlx::Error>(connected);
            }
            let mut connected = options.connect().await?;
            connected.ping().await?;
            Ok(connected)
        };
        connection = tokio::time::timeout(LOOK, asked).await.ok().and_then(Result::ok);
        looked_in_vain = if connection.is_some() { 0 } else { looked_in_vain + 1 };
        // One slow answer is no reason to send everybody away.
        let is_well = looked_in_vain < 2;
        db.0.well.send_if_modified(|was| std::mem::replace(was, is_well) != is_well);
        let used = db.pool().size() as usize - db.pool().num_idle().min(db.pool().size() as usize);
        METRICS.database_up.get_or_create_owned(&service).set(f64::from(u8::from(is_well)));
        METRICS.connections_used.get_or_create_owned(&service).set(used as f64);
        tokio::time::sleep(if connection.is_some() { LOOK } else { AGAIN }).await;
    }
}
