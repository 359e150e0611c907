use std::{collections::BTreeMap, sync::Arc, time::Instant};

use access::Call;
use error::reason;
use futures_util::future::BoxFuture;
use metrics::{METRICS, by};
use sqlx::{AssertSqlSafe, PgConnection, Postgres, SqlSafeStr, Transaction};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use uuid::Uuid;
use vault::{DataKey, Keys, Vault};

use crate::{Db, Fault, Result};

/// A transaction under way.
pub struct Tx {
    transaction: Transaction<'static, Postgres>,
    pub(crate) db: Db,
    pub(crate) call: Call,
    /// Customers that profile has vouched for in this write.
    pub(crate) vouched: Vec<Uuid>,
    /// The versions that this write has given.
    pub(crate) raised: BTreeMap<Uuid, i64>,
    /// The customer whose erasure deletes the stored reply.
    pub(crate) owner: Option<Uuid>,
    /// The data keys that are open.
    pub(crate) keys: Keys,
    /// The data keys that this write has made, and their owners.
    pub(crate) made: Vec<(Uuid, Arc<DataKey>)>,
}

impl Db {
    /// Runs a transaction that is repeatable by itself. It runs in a task of its own, so a caller
    /// that goes away never leaves it half done, and one that goes before it begins ends it; and once more when it
    /// met another one.
    pub async fn transact<T, W>(&self, call: &Call, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Send + Sync + 'static,
    {
        let (db, call) = (self.clone(), call.clone());
        let gone = CancellationToken::new();
        let _goes_with_the_caller = gone.clone().drop_guard();
        let attempts = async move {
            let mut vouched = Vec::new();
            let mut retried = false;
            loop {
                match db.attempt(&call, &gone, &vouched, &work).await {
                    Err(Fault::Unanchored(ids)) if vouched.is_empty() => {
                        db.vouch(&call, &ids).await?;
                        vouched = ids;
                    }
                    // A customer anchored by another write since needs no voucher; a new one does.
                    Err(Fault::Unanchored(ids)) if ids.iter().any(|id| !vouched.contains(id)) => {
                        db.vouch(&call, &ids).await?;
                        vouched.extend(ids);
                    }
                    // Every one of these was answered meanwhile, so this ends.
                    Err(Fault::Answered) => {}
                    Err(fault) if fault.is_transient() && !retried => retried = true,
                    done => return done.map_err(|fault| fault.judge(db.0.constraints)),
                }
            }
        };
        match tokio::spawn(attempts.in_current_span()).await {
            Ok(done) => done,
            Err(_) => {
                tracing::error!("a transaction panicked");
                Err(reason::INTERNAL_ERROR.into())
            }
        }
    }

    async fn attempt<T, W>(&self, call: &Call, gone: &CancellationToken, vouched: &[Uuid], work: &W) -> Result<T>
    where
        W: for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T>>,
    {
        let left = call.deadline.saturating_duration_since(Instant::now()).as_millis();
        if left == 0 {
            return Err(reason::DEADLINE_EXCEEDED.into());
        }
        // The number is ours, so the text is safe.
        let begin = AssertSqlSafe(format!("begin; set local statement_timeout = {}", left.min(30_000)));
        let began = Instant::now();
        let connection = tokio::select! {
            connection = self.pool().acquire() => connection?,
            // What nobody waits for any more does not stand in the way of others.
            () = gone.cancelled() => return Err(reason::DEADLINE_EXCEEDED.into()),
        };
        let wait = METRICS.connection_wait.get_or_create_owned(&by(self.service()));
        wait.observe(began.elapsed().as_secs_f64());
        // Dropped while it begins, sqlx would put the connection back inside of a transaction.
        #[expect(clippy::disallowed_methods, reason = "this is the one place, and it runs in a task of its own")]
        let transaction = Transaction::begin(connection, Some(begin.into_sql_str())).await?;
        let mut tx = Tx {
            transaction,
            db: self.clone(),
            call: call.clone(),
            vouched: vouched.to_vec(),
            raised: BTreeMap::new(),
            owner: None,
            keys: Keys::new(self.service()),
            made: Vec::new(),
        };
        let done = work(&mut tx).await?;
        let Tx { transaction, raised, made, .. } = tx;
        transaction.commit().await?;
        self.0.committed.notify_one();
        self.open_keys().hold_made(made);
        if let Some(cache) = self.cache().cloned().filter(|_| !raised.is_empty()) {
            // Nobody waits for it: whoever must see this write has its token. Should it fail, the
            // follower of `changes` does it again.
            let (service, life, versions) = (self.service(), self.epoch(), raised.into_iter().collect::<Vec<_>>());
            tokio::spawn(async move { cache.raise(service, life, &versions).await });
        }
        Ok(done)
    }
}

impl Tx {
    /// The connection, for statements.
    pub fn sql(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    /// The service's keyed hashes.
    pub fn vault(&self) -> &Vault {
        self.db.vault()
    }
}
