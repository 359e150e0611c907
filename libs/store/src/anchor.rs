use std::collections::{BTreeMap, BTreeSet};

use access::Call;
use error::{Failure, reason};
use uuid::Uuid;

use crate::{Db, Fault, Result, Tx, sql};

impl Tx {
    /// Raises a customer's version by one, which locks the customer in this service.
    pub async fn raise(&mut self, customer: Uuid) -> Result<i64> {
        let raised = self.raise_many(&BTreeMap::from([(customer, 1)])).await?;
        Ok(raised[&customer])
    }

    /// Raises the versions of several customers by so many changes each, in ascending order of
    /// their ids, and answers the new versions. A customer that is new to this service must exist. The keys that
    /// seal what is written are open then.
    pub async fn raise_many(&mut self, counts: &BTreeMap<Uuid, i64>) -> Result<BTreeMap<Uuid, i64>> {
        let (versions, new) = self.raise_rows(counts).await?;
        let known: Vec<Uuid> = versions.keys().copied().filter(|id| !new.contains(id)).collect();
        self.own_held(&known).await?;
        self.own_new(&new.into_iter().collect::<Vec<_>>()).await?;
        Ok(versions)
    }

    /// The same where nothing of customers is sealed: they get no keys.
    pub async fn raise_unsealed(&mut self, counts: &BTreeMap<Uuid, i64>) -> Result<BTreeMap<Uuid, i64>> {
        Ok(self.raise_rows(counts).await?.0)
    }

    /// Answers the new versions, and who is new to this service.
    async fn raise_rows(&mut self, counts: &BTreeMap<Uuid, i64>) -> Result<(BTreeMap<Uuid, i64>, BTreeSet<Uuid>)> {
        if counts.is_empty() {
            return Ok(Default::default());
        }
        // The nil id owns the service's own keys.
        if counts.contains_key(&Uuid::nil()) {
            return Err(reason::CUSTOMER_NOT_FOUND.into());
        }
        let (ids, counts): (Vec<Uuid>, Vec<i64>) = counts.iter().map(|(id, count)| (*id, *count)).unzip();
        let rows = sql(
            "insert customers",
            sqlx::query!(
                r#"
                insert into customers (customer_id, version)
                select id, count from unnest($1::uuid[], $2::bigint[]) as raise (id, count) order by id
                on conflict (customer_id) do update set version = customers.version + excluded.version
                where customers.state = 'live'
                returning customer_id, version, xmax = 0 as "fresh!"
                "#,
                &ids,
                &counts
            )
            .fetch_all(self.sql()),
        )
        .await?;
        if rows.len() < ids.len() {
            let query = sqlx::query_scalar!(
                r#"select exists (select 1 from customers where customer_id = any ($1) and state = 'erased') as "erased!""#,
                &ids
            );
            let erased = sql("select customers", query.fetch_one(self.sql())).await?;
            return Err(if erased { reason::CUSTOMER_ERASED } else { reason::CUSTOMER_NOT_FOUND }.into());
        }
        let new: BTreeSet<Uuid> = rows.iter().filter(|row| row.fresh).map(|row| row.customer_id).collect();
        let unknown: Vec<Uuid> = new.iter().copied().filter(|id| !self.vouched.contains(id)).collect();
        if self.db.0.directory.is_some() && !unknown.is_empty() {
            return Err(Fault::Unanchored(unknown));
        }
        self.raised.extend(rows.iter().map(|row| (row.customer_id, row.version)));
        self.owner = self.owner.or(ids.first().copied());
        Ok((rows.into_iter().map(|row| (row.customer_id, row.version)).collect(), new))
    }
}

impl Db {
    /// Asks profile whether these customers exist: `CUSTOMER_NOT_FOUND` unless all do.
    pub(crate) async fn vouch(&self, call: &Call, ids: &[Uuid]) -> Result<()> {
        let Some(directory) = &self.0.directory else { return Ok(()) };
        match directory.unknown(call, ids).await?.first() {
            None => Ok(()),
            Some(id) => Err(Failure::from(reason::CUSTOMER_NOT_FOUND).with("customer_id", id.to_string()).into()),
        }
    }
}
