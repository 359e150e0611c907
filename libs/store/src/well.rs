use std::time::Duration;

use metrics::{METRICS, by};
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::sync::watch;

use crate::Db;

/// The database is asked so often, and has so long for its answer.
const LOOK: Duration = Duration::from_secs(1);

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
    while !db.pool().is_closed() {
        let asked = async {
            let mut connected = match connection.take() {
                Some(connection) => connection,
                None => options.connect().await?,
            };
            connected.ping().await?;
            Ok::<_, sqlx::Error>(connected)
        };
        connection = tokio::time::timeout(LOOK, asked).await.ok().and_then(Result::ok);
        let is_well = connection.is_some();
        db.0.well.send_if_modified(|was| std::mem::replace(was, is_well) != is_well);
        let used = db.pool().size() as usize - db.pool().num_idle().min(db.pool().size() as usize);
        METRICS.database_up.get_or_create_owned(&service).set(f64::from(u8::from(is_well)));
        METRICS.connections_used.get_or_create_owned(&service).set(used as f64);
        tokio::time::sleep(LOOK).await;
    }
}
