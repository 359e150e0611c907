//! The SQL of contact. These are the modules that seal and open its columns.

mod adding;
mod delivery;
mod preferences;
mod row;
mod verification;

use std::sync::Arc;

use access::Call;
use cache::Batcher;
use error::Failure;
use futures_util::future::try_join_all;
use proto::contact::v1::*;
use serde_json::json;
use store::{Change, Db, Fault, Page, Result, Tx, Written, page_size, sql, uuid};
use uuid::Uuid;

use self::row::{Row, become_primary, hash, oldest_becomes_primary, overwrite};
use crate::{
    normalize::{self, Broken},
    reason, request,
};

#[derive(Clone)]
pub struct Store {
    pub db: Db,
    lookups: Arc<Batcher<Key, Vec<String>>>,
}

/// A value as look-ups compare it.
#[derive(Clone)]
struct Key {
    kind: i32,
    hash: Vec<u8>,
}

impl Store {
    pub fn new(db: Db) -> Self {
        let asked = db.clone();
        let lookups = Batcher::new("contact_points", move |keys| {
            let db = asked.clone();
            async move { look_up(&db, &keys).await.map_err(Fault::into_failure) }
        });
        Self { db, lookups: Arc::new(lookups) }
    }

    pub async fn contact_point_update(
        &self,
        call: &Call,
        request: UpdateContactPointRequest,
    ) -> Result<Written<UpdateContactPointResponse>> {
        let key = self.db.key("UpdateContactPoint", &request.request_id, &request)?;
        let id = uuid(&request.contact_point_id)?;
        let request = Arc::new(request);
        self.db
            .write(call, key, move |tx| {
                let request = request.clone();
                Box::pin(async move {
                    let (customer, version, row) = locked(tx, id).await?;
                    if !request.etag.is_empty() && request.etag != row.version.to_string() {
                        return Err(reason::ETAG_MISMATCH.into());
                    }
                    let mut point = open(tx, &row).await?;
                    let before = normalize::contact_point(&mut point.clone()).map_err(refusal)?;
                    apply(&request, &mut point);
                    let normal = normalize::contact_point(&mut point).map_err(refusal)?;
                    if normal.kind != before.kind {
                        return Err(reason::CONTACT_POINT_KIND_FIXED.into());
                    }
                    overwrite(tx, id, customer, version, &point, &normal).await?;
                    if normal != before {
                        delivery::forget(tx, id).await?;
                    }
                    changed(tx, customer, version, "contact_point.updated", id, row.kind()).await?;
                    let contact_point = Some(select(tx, id).await?);
                    Ok(UpdateContactPointResponse { contact_point, consistency_token: tx.token(customer, version) })
                })
            })
            .await
    }

    pub async fn contact_point_remove(
        &self,
        call: &Call,
        request: RemoveContactPointRequest,
    ) -> Result<Written<RemoveContactPointResponse>> {
        let key = self.db.key("RemoveContactPoint", &request.request_id, &request)?;
        let id = uuid(&request.contact_point_id)?;
        self.db
            .write(call, key, move |tx| {
                Box::pin(async move {
                    let (customer, version, row) = locked(tx, id).await?;
                    let query = sqlx::query!("delete from contact.contact_points where contact_point_id = $1", id);
                    sql("delete contact.contact_points", query.execute(tx.sql())).await?;
                    if row.is_primary {
                        oldest_becomes_primary(tx, customer, version, row.kind).await?;
                    }
                    changed(tx, customer, version, "contact_point.removed", id, row.kind()).await?;
                    Ok(RemoveContactPointResponse { consistency_token: tx.token(customer, version) })
                })
            })
            .await
    }

    pub async fn contact_point_set_primary(
        &self,
        call: &Call,
        request: SetPrimaryContactPointRequest,
    ) -> Result<Written<SetPrimaryContactPointResponse>> {
        let key = self.db.key("SetPrimaryContactPoint", &request.request_id, &request)?;
        let id = uuid(&request.contact_point_id)?;
        self.db
            .write(call, key, move |tx| {
                Box::pin(async move {
                    let (customer, version, row) = locked(tx, id).await?;
                    become_primary(tx, customer, version, row.kind, id).await?;
                    changed(tx, customer, version, "contact_point.made_primary", id, row.kind()).await?;
                    let contact_point = Some(select(tx, id).await?);
                    Ok(SetPrimaryContactPointResponse { contact_point, consistency_token: tx.token(customer, version) })
                })
            })
            .await
    }

    pub async fn contact_point_get(&self, request: &GetContactPointRequest) -> Result<ContactPoint> {
        self.db.require(request.consistency.as_ref()).await?;
        let row = Row::select(uuid(&request.contact_point_id)?, &self.db).await?;
        let row = row.ok_or(reason::CONTACT_POINT_NOT_FOUND)?;
        self.db.refuse_erased(&[row.customer_id]).await?;
        row.tell(&self.db.unlock([row.sealed.as_slice()]).await?)
    }

    pub async fn contact_point_list(&self, request: &ListContactPointsRequest) -> Result<Page<ContactPoint>> {
        self.db.require_of(request.consistency.as_ref(), &[uuid(&request.customer_id)?]).await?;
        let size = page_size(request.page_size, 100);
        let listing = format!("ListContactPoints {}", request.customer_id);
        let after: Uuid = self.db.cursor(&listing, &request.page_token)?.unwrap_or_default();
        let query = sqlx::query_as!(
            Row,
            r#"
            select contact_point_id, customer_id, kind, sealed, is_primary, version, deliverability,
                   deliverability_since, verified_at, created_at, updated_at,
                   exists (select 1 from contact.contact_points o where o.hash = p.hash and o.customer_id <> p.customer_id) as "is_shared!"
            from contact.contact_points p
            where customer_id = $1 and contact_point_id > $2
            order by contact_point_id
            limit $3
            "#,
            uuid(&request.customer_id)?,
            after,
            size + 1
        );
        let rows = sql("select contact.contact_points", query.fetch_all(&self.db)).await?;
        let page = self.db.page(&listing, rows, size, |row| row.contact_point_id);
        let keys = self.db.unlock(page.items.iter().map(|row| row.sealed.as_slice())).await?;
        let items = page.items.into_iter().map(|row| row.tell(&keys)).collect::<Result<_>>()?;
        Ok(Page { items, next_page_token: page.next_page_token })
    }

    /// Who has each value, in the order asked. What callers ask for at the same time is one statement.
    pub async fn contact_point_lookup(&self, values: &[ContactPointValue]) -> Result<Vec<LookupContactPointsResult>> {
        let result = |value| {
            let asked = normalize::value(value)
                .map(|normal| self.lookups.get(Key { kind: normal.kind as i32, hash: hash(self.db.vault(), &normal) }));
            async move {
                let failure = match asked {
                    Ok(asked) => {
                        return Ok(LookupContactPointsResult { customer_ids: asked.await?, ..Default::default() });
                    }
                    Err(_) => error::reason::INVALID_FIELDS.name.to_owned(),
                };
                Ok(LookupContactPointsResult { failure, ..Default::default() })
            }
        };
        try_join_all(values.iter().map(result)).await
    }

    /// What a section needs of each customer, by one statement: the customer's first 20 contact
    /// points, a row each, or one row without any.
    pub async fn section_rows(&self, ids: &[Uuid]) -> Result<Vec<SectionRow>> {
        let query = sqlx::query!(
            r#"
            select
                c.customer_id, c.version as customer_version,
                (select count(*) from contact.contact_points where customer_id = c.customer_id) as "total!",
                w.channels as "channels?", w.quiet_from_minute, w.quiet_until_minute,
                w.preferred_from_minute, w.preferred_until_minute,
                w.cap_purposes as "cap_purposes?", w.cap_counts as "cap_counts?", w.cap_days as "cap_days?",
                p.contact_point_id as "contact_point_id?", p.kind as "kind?", p.sealed as "sealed?",
                p.is_primary as "is_primary?", p.version as "version?", p.deliverability as "deliverability?",
                p.deliverability_since, p.verified_at, p.is_shared as "is_shared?",
                p.created_at as "created_at?", p.updated_at as "updated_at?"
            from contact.customers c
            left join contact.preferences w using (customer_id)
            left join lateral (
                select contact_point_id, kind, sealed, is_primary, version, deliverability, deliverability_since,
                       verified_at, created_at, updated_at,
                       exists (select 1 from contact.contact_points o
                               where o.hash = q.hash and o.customer_id <> q.customer_id) as is_shared
                from contact.contact_points q where customer_id = c.customer_id
                order by is_primary desc, contact_point_id limit 20
            ) p on true
            where c.customer_id = any ($1)
            order by c.customer_id, p.is_primary desc, p.contact_point_id
            "#,
            ids
        );
        let rows = sql("select contact.contact_points", query.fetch_all(&self.db)).await?;
        let keys = self.db.unlock(rows.iter().filter_map(|row| row.sealed.as_deref())).await?;
        let open = |row: Row| row.open(&keys);
        let rows = rows
            .into_iter()
            .map(|row| {
                let point = (|| {
                    Some(Row {
                        contact_point_id: row.contact_point_id?,
                        customer_id: row.customer_id,
                        kind: row.kind?,
                        sealed: row.sealed?,
                        is_primary: row.is_primary?,
                        version: row.version?,
                        deliverability: row.deliverability?,
                        deliverability_since: row.deliverability_since,
                        verified_at: row.verified_at,
                        is_shared: row.is_shared?,
                        created_at: row.created_at?,
                        updated_at: row.updated_at?,
                    })
                })();
                SectionRow {
                    preferences: row.channels.map(|channels| ContactPreferences {
                        channels,
                        quiet_from_minute: row.quiet_from_minute,
                        quiet_until_minute: row.quiet_until_minute,
                        frequency_caps: preferences::frequency_caps(
                            row.cap_purposes.unwrap_or_default(),
                            row.cap_counts.unwrap_or_default(),
                            row.cap_days.unwrap_or_default(),
                        ),
                        preferred_from_minute: row.preferred_from_minute,
                        preferred_until_minute: row.preferred_until_minute,
                    }),
                    customer_id: row.customer_id,
                    customer_version: row.customer_version,
                    total: row.total,
                    contact_point: point.map(open).transpose(),
                }
            })
            .collect();
        Ok(rows)
    }
}

/// The customers who have each value, at most 20, by one statement.
async fn look_up(db: &Db, keys: &[Key]) -> Result<Vec<Result<Vec<String>, Failure>>> {
    let kinds: Vec<i32> = keys.iter().map(|key| key.kind).collect();
    let hashes: Vec<Vec<u8>> = keys.iter().map(|key| key.hash.clone()).collect();
    let query = sqlx::query!(
        r#"
        select asked.position as "position!", found.customer_id
        from unnest($1::bytea[], $2::integer[]) with ordinality as asked (hash, kind, position)
        cross join lateral (
            select p.customer_id from contact.contact_points p
            where p.hash = asked.hash and p.kind = asked.kind
            order by p.customer_id limit 20
        ) as found
        order by position, customer_id
        "#,
        &hashes,
        &kinds
    );
    let rows = sql("select contact.contact_points", query.fetch_all(db)).await?;
    let mut found = vec![Vec::new(); keys.len()];
    rows.into_iter().for_each(|row| found[row.position as usize - 1].push(row.customer_id.to_string()));
    Ok(found.into_iter().map(Ok).collect())
}

/// One contact point of a customer's section.
pub struct SectionRow {
    pub customer_id: Uuid,
    pub customer_version: i64,
    pub total: i64,
    pub preferences: Option<ContactPreferences>,
    /// Unless it cannot be opened.
    pub contact_point: Result<Option<ContactPoint>>,
}

/// Copies what the update mask names; the request was checked.
fn apply(request: &UpdateContactPointRequest, point: &mut ContactPoint) {
    let from = request.contact_point.clone().unwrap_or_default();
    let names = |path| request.update_mask.iter().flat_map(|mask| &mask.paths).any(|named| named == path);
    if request::changes_value(request) {
        point.email = from.email;
        point.phone = from.phone;
        point.postal_address = from.postal_address;
        point.social_handle = from.social_handle;
    }
    if names("label") {
        point.label = from.label;
    }
}

/// Locks the customer who has a contact point, then reads it.
async fn locked(tx: &mut Tx, id: Uuid) -> Result<(Uuid, i64, Row)> {
    let row = Row::select(id, tx.sql()).await?.ok_or(reason::CONTACT_POINT_NOT_FOUND)?;
    let version = tx.raise(row.customer_id).await?;
    // Another write may have changed or removed it before the lock was ours.
    let row = Row::select(id, tx.sql()).await?.ok_or(reason::CONTACT_POINT_NOT_FOUND)?;
    Ok((row.customer_id, version, row))
}

async fn select(tx: &mut Tx, id: Uuid) -> Result<ContactPoint> {
    let row = Row::select(id, tx.sql()).await?.ok_or(reason::CONTACT_POINT_NOT_FOUND)?;
    open(tx, &row).await
}

async fn open(tx: &mut Tx, row: &Row) -> Result<ContactPoint> {
    tx.unlock([row.sealed.as_slice()]).await?;
    row.tell(tx.keys())
}

async fn changed(
    tx: &mut Tx,
    customer_id: Uuid,
    version: i64,
    what: &'static str,
    id: Uuid,
    kind: ContactPointKind,
) -> Result<()> {
    tx.changes(vec![change(customer_id, version, what, id, kind)]).await
}

fn change(customer_id: Uuid, version: i64, what: &'static str, id: Uuid, kind: ContactPointKind) -> Change {
    let payload = json!({"contact_point_id": id, "kind": kind.as_str_name()});
    Change { customer_id, version, resource: "contact_point", kind: what, payload }
}

fn refusal((field, text): Broken) -> Failure {
    Failure::invalid(format!("contact_point.{field}"), text)
}
