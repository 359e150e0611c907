//! The keys of a service in its database: unwrapped by name, made for owners, destroyed with them. What is
//! open is kept for five minutes, so that most work asks for none.

use std::{
    collections::BTreeSet,
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use anyhow::Context;
use metrics::{METRICS, by};
use quick_cache::sync::Cache;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;
use vault::{DataKey, KeyEncryption, Keys, ServiceKeys, WrappedServiceKey, named};

use crate::{Db, Result, Tx, sql};

/// So many data keys are kept open,
const HELD: usize = 20_000;
/// and each so long.
const LIFETIME: Duration = Duration::from_secs(300);

/// What is open in this process.
pub(crate) struct Open {
    ring: Box<dyn KeyEncryption>,
    service: RwLock<Arc<ServiceKeys>>,
    named: Cache<Uuid, Held>,
    owned: Cache<Uuid, Held>,
}

#[derive(Clone)]
struct Held {
    key: Arc<DataKey>,
    since: Instant,
}

/// A data key as it is stored. A destroyed one has neither number nor wrapping.
struct Stored {
    key_id: Uuid,
    service_key: Option<i32>,
    wrapped: Option<Vec<u8>>,
}

impl Open {
    /// Unwraps the keys of a service, and makes the first one where there is none.
    pub async fn start(
        service: &'static str,
        ring: Box<dyn KeyEncryption>,
        connection: &mut PgConnection,
    ) -> anyhow::Result<Self> {
        let misfit = "the key ring does not fit the database; give the one that it was written with";
        let mut keys = ServiceKeys::open(service, &stored(&mut *connection).await?, &*ring).await.context(misfit)?;
        if keys.newest().is_none() {
            add(&keys.next(&*ring).await?, &mut *connection).await?;
            keys = ServiceKeys::open(service, &stored(&mut *connection).await?, &*ring).await.context(misfit)?;
        }
        let held = || Cache::new(HELD);
        Ok(Self { ring, service: RwLock::new(Arc::new(keys)), named: held(), owned: held() })
    }

    /// The service's keys.
    pub fn service(&self) -> Arc<ServiceKeys> {
        self.service.read().expect("no holder panics").clone()
    }

    fn hold(&self, owner: Option<Uuid>, key: &Arc<DataKey>) {
        let held = Held { key: key.clone(), since: Instant::now() };
        if let Some(owner) = owner {
            self.owned.insert(owner, held.clone());
        }
        self.named.insert(key.id(), held);
    }

    /// What a transaction has made may be used by others once it has committed.
    pub fn hold_made(&self, made: Vec<(Uuid, Arc<DataKey>)>) {
        made.iter().for_each(|(owner, key)| self.hold(Some(*owner), key));
    }

    fn held(cache: &Cache<Uuid, Held>, id: Uuid) -> Option<Arc<DataKey>> {
        cache.get(&id).filter(|held| held.since.elapsed() < LIFETIME).map(|held| held.key)
    }

    /// Wipes what was open for long enough.
    pub fn sweep(&self) {
        for cache in [&self.named, &self.owned] {
            cache.retain(|_, held| held.since.elapsed() < LIFETIME);
        }
    }

    /// Wipes everything.
    pub fn clear(&self) {
        self.named.clear();
        self.owned.clear();
    }

    /// Forgets what is open of an owner.
    fn forget(&self, owner: Uuid, keys: &[Uuid]) {
        self.owned.remove(&owner);
        keys.iter().for_each(|id| drop(self.named.remove(id)));
    }
}

impl Db {
    /// Opens the keys that sealed values name, by one query for those that are not open yet.
    pub async fn unlock<'a>(&self, sealed: impl IntoIterator<Item = &'a [u8]>) -> Result<Keys> {
        let mut keys = Keys::new(self.service());
        let missing = self.take_held(&mut keys, sealed);
        if !missing.is_empty() {
            let mut reading = self.reading().await?;
            let fetched = self.fetch(&mut keys, &missing, reading.connection()).await;
            reading.end();
            fetched?;
        }
        Ok(keys)
    }

    /// Takes the keys that are open already, and answers the names of the others.
    fn take_held<'a>(&self, keys: &mut Keys, sealed: impl IntoIterator<Item = &'a [u8]>) -> Vec<Uuid> {
        let ids: BTreeSet<Uuid> = sealed.into_iter().filter_map(named).filter(|id| !keys.knows(*id)).collect();
        let mut missing = Vec::new();
        for id in ids {
            match Open::held(&self.open_keys().named, id) {
                Some(key) => keys.add(id, Some(key)),
                None => missing.push(id),
            }
        }
        missing
    }

    async fn fetch(&self, keys: &mut Keys, missing: &[Uuid], connection: &mut PgConnection) -> Result<()> {
        let query = sqlx::query_as!(
            Stored,
            "select key_id, service_key, wrapped from data_keys where key_id = any ($1)",
            missing
        );
        for stored in sql("select data_keys", query.fetch_all(&mut *connection)).await? {
            let id = stored.key_id;
            if stored.wrapped.is_none() {
                keys.add(id, None);
            } else if let Some(key) = self.unwrap(stored, connection).await? {
                self.open_keys().hold(None, &key);
                keys.add(id, Some(key));
            }
        }
        Ok(())
    }

    /// A key that does not open is left out, so that what it sealed counts as broken. It asks on the
    /// connection that its caller has: another one might not be had while all are waiting for theirs.
    async fn unwrap(&self, stored: Stored, connection: &mut PgConnection) -> Result<Option<Arc<DataKey>>> {
        let (Some(number), Some(wrapped)) = (stored.service_key, stored.wrapped) else { return Ok(None) };
        // Another process may have turned the service key since.
        if self.open_keys().service().newest() < Some(number) {
            self.service_keys_read(connection).await?;
        }
        let key = DataKey::unwrap(&self.open_keys().service(), stored.key_id, number, &wrapped).map(Arc::new);
        METRICS.keys_opened.get_or_create_owned(&by(self.service())).inc();
        if key.is_none() {
            tracing::error!(service_key = number, "a data key could not be opened");
        }
        Ok(key)
    }

    /// Reads the service keys anew.
    pub(crate) async fn service_keys_read(&self, connection: &mut PgConnection) -> Result<()> {
        let stored = stored(connection).await?;
        match ServiceKeys::open(self.service(), &stored, &*self.open_keys().ring).await {
            Ok(keys) => *self.open_keys().service.write().expect("no holder panics") = Arc::new(keys),
            Err(error) => tracing::error!(%error, "a service key could not be opened"),
        }
        Ok(())
    }

    /// Makes a new service key, unless another process was faster.
    pub(crate) async fn service_key_turn(&self) -> Result<()> {
        match self.open_keys().service().next(&*self.open_keys().ring).await {
            Ok(next) => add(&next, self.pool()).await?,
            Err(error) => tracing::error!(%error, "a service key could not be turned"),
        }
        self.service_keys_read(&mut *self.pool().acquire().await?).await
    }

    /// Wraps a number of data keys by the newest service key, and answers how many.
    pub(crate) async fn rewrap(&self, at_once: i64) -> Result<usize> {
        let service = self.open_keys().service();
        #[expect(clippy::disallowed_methods, reason = "it runs in a task of its own")]
        let mut tx = self.pool().begin().await?;
        let query = sqlx::query!(
            r#"
            select key_id, service_key as "service_key!", wrapped as "wrapped!" from data_keys
            where service_key < $1 and wrapped is not null limit $2 for update skip locked
            "#,
            service.newest(),
            at_once
        );
        let rows = query.fetch_all(&mut *tx).await?;
        let (mut ids, mut numbers, mut wrapped) = (Vec::new(), Vec::new(), Vec::new());
        for row in &rows {
            match service.rewrap(row.key_id, row.service_key, &row.wrapped) {
                Some((number, anew)) => {
                    ids.push(row.key_id);
                    numbers.push(number);
                    wrapped.push(anew);
                }
                None => tracing::error!(service_key = row.service_key, "a data key could not be opened"),
            }
        }
        let query = sqlx::query!(
            r#"
            update data_keys k set service_key = anew.number, wrapped = anew.wrapped
            from unnest($1::uuid[], $2::integer[], $3::bytea[]) as anew (key_id, number, wrapped)
            where k.key_id = anew.key_id
            "#,
            &ids,
            &numbers,
            &wrapped
        );
        query.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(ids.len())
    }
}

impl Tx {
    /// The keys that this transaction has asked for.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Opens the keys that sealed values name.
    pub async fn unlock<'a>(&mut self, sealed: impl IntoIterator<Item = &'a [u8]>) -> Result<()> {
        let db = self.db.clone();
        let missing = db.take_held(&mut self.keys, sealed);
        if missing.is_empty() {
            return Ok(());
        }
        let mut keys = std::mem::replace(&mut self.keys, Keys::new(db.service()));
        let fetched = db.fetch(&mut keys, &missing, self.sql()).await;
        self.keys = keys;
        fetched
    }

    /// Opens the keys that seal for owners, and makes those that are not there. Customers who are raised
    /// have theirs already.
    pub async fn own(&mut self, owners: &[Uuid]) -> Result<()> {
        let missing = owners.iter().copied().filter(|owner| !self.keys.owns(*owner)).collect();
        self.own_stored(missing).await
    }

    /// The same for customers who are locked and live, and the service itself. Their keys are destroyed by nobody now, so those
    /// that are open already hold; a visitor's may have gone to a customer since, and been destroyed.
    pub(crate) async fn own_held(&mut self, owners: &[Uuid]) -> Result<()> {
        let mut missing: BTreeSet<Uuid> = owners.iter().copied().filter(|owner| !self.keys.owns(*owner)).collect();
        missing.retain(|owner| match Open::held(&self.db.open_keys().owned, *owner) {
            Some(key) => {
                self.keys.own(*owner, key);
                false
            }
            None => true,
        });
        self.own_stored(missing).await
    }

    async fn own_stored(&mut self, mut missing: BTreeSet<Uuid>) -> Result<()> {
        if missing.is_empty() {
            return Ok(());
        }
        let asked: Vec<Uuid> = missing.iter().copied().collect();
        let query = sqlx::query!(
            r#"
            select distinct on (owner_id) owner_id, key_id, service_key, wrapped from data_keys
            where owner_id = any ($1) and wrapped is not null order by owner_id, created_at desc
            "#,
            &asked
        );
        for row in sql("select data_keys", query.fetch_all(self.sql())).await? {
            let stored = Stored { key_id: row.key_id, service_key: row.service_key, wrapped: row.wrapped };
            let db = self.db.clone();
            if let Some(key) = db.unwrap(stored, self.sql()).await? {
                self.db.open_keys().hold(Some(row.owner_id), &key);
                self.keys.own(row.owner_id, key);
                missing.remove(&row.owner_id);
            }
        }
        self.own_new(&missing.into_iter().collect::<Vec<_>>()).await
    }

    /// Makes keys for owners who have none.
    pub(crate) async fn own_new(&mut self, owners: &[Uuid]) -> Result<()> {
        if owners.is_empty() {
            return Ok(());
        }
        let service = self.db.open_keys().service();
        let made: Vec<Arc<DataKey>> = owners.iter().map(|_| Arc::new(DataKey::generate())).collect();
        let ids: Vec<Uuid> = made.iter().map(|key| key.id()).collect();
        let (numbers, wrapped): (Vec<i32>, Vec<Vec<u8>>) = made.iter().map(|key| key.wrap(&service)).unzip();
        let query = sqlx::query!(
            r#"
            insert into data_keys (key_id, owner_id, service_key, wrapped)
            select * from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::bytea[])
            "#,
            &ids,
            owners,
            &numbers,
            &wrapped
        );
        sql("insert data_keys", query.execute(self.sql())).await?;
        for (owner, key) in owners.iter().zip(made) {
            self.keys.own(*owner, key.clone());
            self.made.push((*owner, key));
        }
        Ok(())
    }

    /// Gives one owner's keys to another: nothing is sealed anew.
    pub async fn keys_give(&mut self, from: Uuid, to: Uuid) -> Result<()> {
        let query = sqlx::query!("update data_keys set owner_id = $2 where owner_id = $1", from, to);
        sql("update data_keys", query.execute(self.sql())).await?;
        Ok(())
    }

    /// Destroys an owner's keys.
    pub async fn keys_destroy(&mut self, owner: Uuid) -> Result<()> {
        let query = sqlx::query_scalar!(
            r#"
            update data_keys set wrapped = null, service_key = null, destroyed_at = clock_timestamp()
            where owner_id = $1 and wrapped is not null returning key_id
            "#,
            owner
        );
        let destroyed = sql("update data_keys", query.fetch_all(self.sql())).await?;
        self.db.open_keys().forget(owner, &destroyed);
        Ok(())
    }
}

async fn stored(executor: impl PgExecutor<'_>) -> sqlx::Result<Vec<WrappedServiceKey>> {
    let query =
        sqlx::query_as!(WrappedServiceKey, "select number, wrapped_by, wrapped from service_keys order by number");
    query.fetch_all(executor).await
}

async fn add(key: &WrappedServiceKey, executor: impl PgExecutor<'_>) -> sqlx::Result<()> {
    let query = sqlx::query!(
        "insert into service_keys (number, wrapped_by, wrapped) values ($1, $2, $3) on conflict do nothing",
        key.number,
        key.wrapped_by,
        key.wrapped
    );
    query.execute(executor).await.map(drop)
}
