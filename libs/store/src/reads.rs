use std::fmt;

use futures_util::{FutureExt, StreamExt, TryFutureExt, TryStreamExt, future::BoxFuture, stream, stream::BoxStream};
use sqlx::{
    Describe, Either, Execute, Executor, PgConnection, Postgres, SqlStr,
    pool::PoolConnection,
    postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};

use crate::Db;

/// A read, on a connection of the pool. When nobody waits for its answer any more, that connection is closed, and Postgres,
/// which looks after whoever waits, ends the statement; sqlx alone would wait for the end of it.
impl<'c> Executor<'c> for &'c Db {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, sqlx::Result<Either<PgQueryResult, PgRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let answer = async move {
            let mut reading = self.reading().await?;
            let answer = reading.connection().fetch_many(query).try_collect::<Vec<_>>().await;
            reading.end();
            answer
        };
        answer.map_ok(|steps| stream::iter(steps).map(Ok)).try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let answer = async move {
            let mut reading = self.reading().await?;
            let answer = reading.connection().fetch_optional(query).await;
            reading.end();
            answer
        };
        answer.boxed()
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, sqlx::Result<PgStatement>>
    where
        'c: 'e,
    {
        self.pool().prepare_with(sql, parameters)
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, sqlx::Result<Describe<Postgres>>>
    where
        'c: 'e,
    {
        self.pool().describe(sql)
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_tuple("Db").field(&self.service()).finish()
    }
}

impl Db {
    /// A connection for a read, which counts as given up until its end is told.
    pub(crate) async fn reading(&self) -> sqlx::Result<Reading> {
        Ok(Reading(Some(self.pool().acquire().await?)))
    }
}

/// A connection that is in the middle of a read until that has ended.
pub(crate) struct Reading(Option<PoolConnection<Postgres>>);

impl Reading {
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        self.0.as_mut().expect("it is there until the end")
    }

    pub(crate) fn end(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}
