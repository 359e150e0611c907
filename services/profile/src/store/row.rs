//! The rows of profiles: what is sealed in them, and the words by which they are found.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use prost::Message;
use proto::{profile::v1::*, r#type::v1::ExternalId};
use sqlx::types::Json;
use store::{Result, Tx, sql, timestamp};
use uuid::Uuid;
use vault::{Keys, Place, Unreadable, Vault};

use super::{devices, external_ids::id_place};
use crate::{evidence::Weights, name};

/// A profile as it is stored, with its external ids side by side.
pub struct Row {
    pub customer_id: Uuid,
    pub customer_version: i64,
    version: i64,
    sealed: Vec<u8>,
    gender: i32,
    language: String,
    time_zone: String,
    region: String,
    weights: Json<Weights>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    /// The database's clock.
    pub now: DateTime<Utc>,
    external_ids: Vec<Uuid>,
    systems: Vec<String>,
    sealed_ids: Vec<Vec<u8>>,
    device_row_id: Option<Uuid>,
    device: Option<Vec<u8>>,
}

impl Row {
    pub async fn select(ids: &[Uuid], executor: impl sqlx::PgExecutor<'_>) -> Result<Vec<Self>> {
        let query = sqlx::query_as!(
            Row,
            r#"
            select
                p.customer_id, c.version as customer_version, p.version, p.sealed, p.gender, p.language,
                p.time_zone, p.region, p.weights as "weights: Json<Weights>", p.created_at, p.updated_at,
                clock_timestamp() as "now!",
                array(select e.external_id_id from profile.external_ids e where e.customer_id = p.customer_id
                      order by e.system, e.external_id_id) as "external_ids!",
                array(select e.system from profile.external_ids e where e.customer_id = p.customer_id
                      order by e.system, e.external_id_id) as "systems!",
                array(select e.sealed from profile.external_ids e where e.customer_id = p.customer_id
                      order by e.system, e.external_id_id) as "sealed_ids!",
                d.device_row_id as "device_row_id?", d.sealed as "device?"
            from profile.profiles p
            join profile.customers c using (customer_id)
            left join lateral (
                select device_row_id, sealed from profile.devices where customer_id = p.customer_id
                order by last_seen_at desc, device_row_id limit 1
            ) d on true
            where p.customer_id = any ($1)
            "#,
            ids
        );
        sql("select profile.profiles", query.fetch_all(executor)).await
    }

    pub fn sealed(&self) -> impl Iterator<Item = &[u8]> {
        self.sealed_ids.iter().chain([&self.sealed]).chain(&self.device).map(Vec::as_slice)
    }

    /// The device that was seen last, with what a section shows of it.
    pub fn device(&self, keys: &Keys) -> Result<Option<Device>> {
        let Some((row_id, sealed)) = self.device_row_id.zip(self.device.as_ref()) else { return Ok(None) };
        let device = Device::decode(keys.open(devices::place(row_id), sealed)?.as_slice())?;
        let (device_id, network, provider) = Default::default();
        Ok(Some(Device { device_id, network, provider, ..device }))
    }

    /// The profile as it is stored, and what weighs in it.
    pub fn open(self, keys: &Keys) -> Result<(Profile, Weights)> {
        // What is sealed is a profile without what has a column or table of its own.
        let sealed = Profile::decode(keys.open(place(self.customer_id), &self.sealed)?.as_slice())?;
        let external_ids = self.external_ids.iter().zip(self.systems).zip(&self.sealed_ids);
        let external_ids = external_ids.map(|((id, system), sealed)| {
            let id = String::from_utf8_lossy(&keys.open(id_place(*id), sealed)?).into_owned();
            Ok(ExternalId { system, id })
        });
        let profile = Profile {
            customer_id: self.customer_id.to_string(),
            gender: self.gender,
            language: self.language,
            time_zone: self.time_zone,
            region: self.region,
            external_ids: external_ids.collect::<Result<_>>()?,
            create_time: Some(timestamp(self.created_at)),
            update_time: Some(timestamp(self.updated_at)),
            etag: self.version.to_string(),
            ..sealed
        };
        Ok((profile, self.weights.0))
    }
}

/// Writes a profile anew.
pub async fn profile_overwrite(
    tx: &mut Tx,
    customer: Uuid,
    version: i64,
    profile: &Profile,
    weights: &Weights,
    at: DateTime<Utc>,
) -> Result<()> {
    let query = sqlx::query!(
        r#"
        with written as (
            update profile.profiles
            set version = $2, sealed = $3, gender = $4, language = $5, time_zone = $6, region = $7, weights = $8,
                updated_at = $9
            where customer_id = $1
        ),
        gone as (delete from profile.name_tokens where customer_id = $1 and hash <> all ($10::bytea[]))
        insert into profile.name_tokens (hash, customer_id) select hash, $1 from unnest($10::bytea[]) as new (hash)
        on conflict do nothing
        "#,
        customer,
        version,
        seal(tx.keys(), customer, profile)?,
        profile.gender,
        profile.language,
        profile.time_zone,
        profile.region,
        Json(weights) as _,
        at,
        &hashes(tx.vault(), profile)
    );
    sql("update profile.profiles", query.execute(tx.sql())).await?;
    Ok(())
}

/// The words of the name as they are looked up.
pub fn hashes(vault: &Vault, profile: &Profile) -> Vec<Vec<u8>> {
    let tokens = profile.name.as_ref().map_or_else(BTreeSet::new, name::tokens_of);
    tokens.iter().map(|token| super::search::hash(vault, token)).collect()
}

/// What has no column or table of its own, sealed.
pub fn seal(keys: &Keys, customer: Uuid, profile: &Profile) -> Result<Vec<u8>, Unreadable> {
    let personal = Profile {
        customer_id: String::new(),
        gender: 0,
        language: String::new(),
        time_zone: String::new(),
        region: String::new(),
        external_ids: Vec::new(),
        create_time: None,
        update_time: None,
        etag: String::new(),
        ..profile.clone()
    };
    keys.seal(customer, place(customer), &personal.encode_to_vec())
}

fn place(customer: Uuid) -> Place {
    Place { table: "profiles", column: "sealed", row: customer }
}
