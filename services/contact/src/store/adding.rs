//! Adding contact points, one or many.

use std::collections::{BTreeMap, HashMap};

use access::Call;
use error::Failure;
use proto::contact::v1::*;
use server::validate;
use store::{Change, Fault, Key, Outcome, Reply, Result, Tx, sql, uuid};
use uuid::Uuid;

use super::{
    Store, change, refusal,
    row::{Row, hash, seal},
};
use crate::{
    normalize::{self, Normal},
    reason, request,
};

/// The method under which replies are kept, the same for a batch and a single call.
const METHOD: &str = "AddContactPoint";
const MAX_CONTACT_POINTS: i64 = 100;

/// A contact point about to be added.
struct New {
    id: Uuid,
    customer: Uuid,
    point: ContactPoint,
    normal: Normal,
}

impl Store {
    /// Adds contact points, each with an outcome of its own, in their order.
    pub async fn contact_points_add(
        &self,
        call: &Call,
        requests: Vec<AddContactPointRequest>,
    ) -> Vec<Outcome<AddContactPointResponse>> {
        let writes = requests.into_iter().map(|request| self.item(request)).collect();
        self.db.write_many(call, writes, |tx, new| Box::pin(add(tx, new))).await
    }

    fn item(&self, request: AddContactPointRequest) -> Result<(Key, New), Failure> {
        validate(&request, request::add)?;
        let key = self.db.key(METHOD, &request.request_id, &request).map_err(Fault::into_failure)?;
        let customer = uuid(&request.customer_id).map_err(Fault::into_failure)?;
        let mut point = request.contact_point.unwrap_or_default();
        let normal = normalize::contact_point(&mut point).map_err(refusal)?;
        Ok((key, New { id: Uuid::now_v7(), customer, point, normal }))
    }
}

async fn add(tx: &mut Tx, new: Vec<&New>) -> Result<Vec<Reply<AddContactPointResponse>>> {
    let mut counts: BTreeMap<Uuid, i64> = BTreeMap::new();
    new.iter().for_each(|new| *counts.entry(new.customer).or_default() += 1);
    let mut versions = tx.raise_many(&counts).await?;
    // The first change of a customer gets the first of the versions that were raised.
    versions.iter_mut().for_each(|(id, version)| *version -= counts[id]);
    let mut next = |customer: Uuid| {
        let version = versions.entry(customer).or_default();
        *version += 1;
        *version
    };
    let new: Vec<(&New, i64)> = new.into_iter().map(|new| (new, next(new.customer))).collect();
    insert(tx, &new).await?;
    let changes =
        new.iter().map(|(new, version)| change(new.customer, *version, "contact_point.added", new.id, new.normal.kind));
    let changes: Vec<Change> = changes.collect();
    tx.changes(changes).await?;
    let ids: Vec<Uuid> = new.iter().map(|(new, _)| new.id).collect();
    let rows = Row::select_each(&ids, tx.sql()).await?;
    let rows: HashMap<Uuid, Row> = rows.into_iter().map(|row| (row.contact_point_id, row)).collect();
    let reply = |(new, version): &(&New, i64)| {
        let contact_point = Some(rows.get(&new.id).ok_or(reason::INTERNAL_ERROR)?.tell(tx.keys())?);
        let consistency_token = tx.token(new.customer, *version);
        Ok((AddContactPointResponse { contact_point, consistency_token }, Some(new.customer)))
    };
    new.iter().map(reply).collect()
}

/// Writes new contact points; the first of its kind is primary.
async fn insert(tx: &mut Tx, new: &[(&New, i64)]) -> Result<()> {
    let ids: Vec<Uuid> = new.iter().map(|(new, _)| new.id).collect();
    let customers: Vec<Uuid> = new.iter().map(|(new, _)| new.customer).collect();
    let versions: Vec<i64> = new.iter().map(|(_, version)| *version).collect();
    let kinds: Vec<i32> = new.iter().map(|(new, _)| new.normal.kind as i32).collect();
    let hashes: Vec<Vec<u8>> = new.iter().map(|(new, _)| hash(tx.vault(), &new.normal)).collect();
    let sealed = new.iter().map(|(new, _)| seal(tx.keys(), new.customer, new.id, &new.point));
    let sealed: Vec<Vec<u8>> = sealed.collect::<Result<_, _>>()?;
    let query = sqlx::query!(
        r#"
        insert into contact.contact_points (contact_point_id, customer_id, version, kind, hash, sealed, is_primary)
        select id, customer_id, version, kind, hash, sealed,
               version = min(version) over (partition by customer_id, kind) and not exists (
                   select 1 from contact.contact_points p where p.customer_id = new.customer_id and p.kind = new.kind
                   -- On a young table Postgres would make a table of all contact points.
                   offset 0)
        from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::integer[], $5::bytea[], $6::bytea[])
            as new (id, customer_id, version, kind, hash, sealed)
        "#,
        &ids,
        &customers,
        &versions,
        &kinds,
        &hashes,
        &sealed
    );
    sql("insert contact.contact_points", query.execute(tx.sql())).await?;
    let query = sqlx::query_scalar!(
        r#"
        select exists (
            select 1 from contact.contact_points where customer_id = any ($1) group by customer_id
            having count(*) > $2) as "exists!"
        "#,
        &customers,
        MAX_CONTACT_POINTS
    );
    match sql("select contact.contact_points", query.fetch_one(tx.sql())).await? {
        true => Err(reason::TOO_MANY_CONTACT_POINTS.into()),
        false => Ok(()),
    }
}
