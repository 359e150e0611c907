//! The rows of contact points: what is sealed in them and which one is primary.

use chrono::{DateTime, Utc};
use prost::Message;
use proto::contact::v1::*;
use store::{Result, Tx, sql, timestamp};
use uuid::Uuid;
use vault::{Keys, Place, Unreadable, Vault};

use crate::{normalize::Normal, postal};

/// A contact point as it is stored.
pub struct Row {
    pub contact_point_id: Uuid,
    pub customer_id: Uuid,
    pub kind: i32,
    pub sealed: Vec<u8>,
    pub is_primary: bool,
    pub version: i64,
    pub deliverability: i32,
    pub deliverability_since: Option<DateTime<Utc>>,
    pub verified_at: Option<DateTime<Utc>>,
    pub is_shared: bool,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl Row {
    pub async fn select(id: Uuid, executor: impl sqlx::PgExecutor<'_>) -> Result<Option<Self>> {
        Ok(Self::select_each(&[id], executor).await?.pop())
    }

    /// Contact points in no order.
    pub async fn select_each(ids: &[Uuid], executor: impl sqlx::PgExecutor<'_>) -> Result<Vec<Self>> {
        let query = sqlx::query_as!(
            Row,
            r#"
            select contact_point_id, customer_id, kind, sealed, is_primary, version, deliverability,
                   deliverability_since, verified_at, created_at, updated_at,
                   exists (select 1 from contact.contact_points o where o.hash = p.hash and o.customer_id <> p.customer_id) as "is_shared!"
            from contact.contact_points p where contact_point_id = any ($1)
            "#,
            ids
        );
        sql("select contact.contact_points", query.fetch_all(executor)).await
    }

    /// The contact point as it is told: an address with the lines of its envelope.
    pub fn tell(&self, keys: &Keys) -> Result<ContactPoint> {
        let point = self.open(keys)?;
        let postal_address = point.postal_address.map(postal::told);
        Ok(ContactPoint { postal_address, ..point })
    }

    /// The contact point as it is stored, and as a section has room for it.
    pub fn open(&self, keys: &Keys) -> Result<ContactPoint> {
        // What is sealed is a contact point with its value and label alone.
        let sealed = ContactPoint::decode(keys.open(place(self.contact_point_id), &self.sealed)?.as_slice())?;
        Ok(ContactPoint {
            contact_point_id: self.contact_point_id.to_string(),
            customer_id: self.customer_id.to_string(),
            primary: self.is_primary,
            create_time: Some(timestamp(self.created_at)),
            update_time: Some(timestamp(self.updated_at)),
            etag: self.version.to_string(),
            deliverability: (self.deliverability != 0).then(|| Deliverability {
                state: self.deliverability,
                since_time: self.deliverability_since.map(timestamp),
            }),
            verified_time: self.verified_at.map(timestamp),
            shared: self.is_shared,
            ..sealed
        })
    }

    pub fn kind(&self) -> ContactPointKind {
        ContactPointKind::try_from(self.kind).unwrap_or_default()
    }
}

/// Writes a contact point's value and label anew.
pub async fn overwrite(
    tx: &mut Tx,
    id: Uuid,
    customer: Uuid,
    version: i64,
    point: &ContactPoint,
    normal: &Normal,
) -> Result<()> {
    let query = sqlx::query!(
        r#"
        update contact.contact_points set version = $2, hash = $3, sealed = $4, updated_at = clock_timestamp()
        where contact_point_id = $1
        "#,
        id,
        version,
        hash(tx.vault(), normal),
        seal(tx.keys(), customer, id, point)?
    );
    sql("update contact.contact_points", query.execute(tx.sql())).await?;
    Ok(())
}

/// Makes a contact point the primary one of its kind.
pub async fn become_primary(tx: &mut Tx, customer: Uuid, version: i64, kind: i32, id: Uuid) -> Result<()> {
    let query = sqlx::query!(
        r#"
        update contact.contact_points set is_primary = false, version = $3, updated_at = clock_timestamp()
        where customer_id = $1 and kind = $2 and is_primary and contact_point_id <> $4
        "#,
        customer,
        kind,
        version,
        id
    );
    sql("update contact.contact_points", query.execute(tx.sql())).await?;
    let query = sqlx::query!(
        r#"
        update contact.contact_points set is_primary = true, version = $2, updated_at = clock_timestamp()
        where contact_point_id = $1
        "#,
        id,
        version
    );
    sql("update contact.contact_points", query.execute(tx.sql())).await?;
    Ok(())
}

/// Finds a new primary one when the one before is gone.
pub async fn oldest_becomes_primary(tx: &mut Tx, customer: Uuid, version: i64, kind: i32) -> Result<()> {
    let query = sqlx::query_scalar!(
        r#"
        select contact_point_id from contact.contact_points
        where customer_id = $1 and kind = $2 order by contact_point_id limit 1
        "#,
        customer,
        kind
    );
    match sql("select contact.contact_points", query.fetch_optional(tx.sql())).await? {
        Some(oldest) => become_primary(tx, customer, version, kind, oldest).await,
        None => Ok(()),
    }
}

/// A contact point's value and label, sealed.
pub fn seal(keys: &Keys, customer: Uuid, id: Uuid, point: &ContactPoint) -> Result<Vec<u8>, Unreadable> {
    let personal = ContactPoint {
        email: point.email.clone(),
        phone: point.phone.clone(),
        postal_address: point.postal_address.clone().map(postal::stored),
        social_handle: point.social_handle.clone(),
        label: point.label.clone(),
        ..Default::default()
    };
    keys.seal(customer, place(id), &personal.encode_to_vec())
}

/// A value as look-ups compare it.
pub fn hash(vault: &Vault, normal: &Normal) -> Vec<u8> {
    vault.index(normal.kind.as_str_name(), normal.key.as_bytes()).to_vec()
}

fn place(id: Uuid) -> Place {
    Place { table: "contact_points", column: "sealed", row: id }
}
