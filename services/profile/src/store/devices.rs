//! With what customers come.

use std::sync::Arc;

use access::Call;
use chrono::{DateTime, Utc};
use prost::Message;
use proto::profile::v1::*;
use serde_json::json;
use store::{Result, Tx, Written, sql, time, timestamp, uuid};
use uuid::Uuid;
use vault::{Keys, Place};

use super::{Store, changed, profile_open};
use crate::{device, reason};

const MAX_DEVICES: i64 = 100;

/// A device as it is stored.
struct Row {
    device_row_id: Uuid,
    sealed: Vec<u8>,
    first_seen_at: DateTime<Utc>,
    last_seen_at: DateTime<Utc>,
}

impl Row {
    fn open(&self, keys: &Keys) -> Result<Device> {
        Ok(Device {
            first_seen_time: Some(timestamp(self.first_seen_at)),
            last_seen_time: Some(timestamp(self.last_seen_at)),
            ..Device::decode(keys.open(place(self.device_row_id), &self.sealed)?.as_slice())?
        })
    }
}

impl Store {
    pub async fn device_record(
        &self,
        call: &Call,
        request: RecordDeviceRequest,
    ) -> Result<Written<RecordDeviceResponse>> {
        let key = self.db.key("RecordDevice", &request.request_id, &request)?;
        let customer = uuid(&request.customer_id)?;
        let seen_at = time(request.seen_time);
        let device = device::read(request.device.unwrap_or_default(), &request.user_agent, &request.ip_address);
        let device = Arc::new(device);
        self.db
            .write(call, key, move |tx| {
                let device = device.clone();
                Box::pin(async move {
                    let version = tx.raise(customer).await?;
                    let (.., now) = profile_open(tx, customer).await?;
                    let stored = device_upsert(tx, customer, &device, seen_at.unwrap_or(now)).await?;
                    let kind = device.r#type().as_str_name();
                    changed(tx, customer, version, "device.recorded", json!({ "type": kind })).await?;
                    Ok(RecordDeviceResponse { device: Some(stored), consistency_token: tx.token(customer, version) })
                })
            })
            .await
    }

    pub async fn device_list(&self, request: &ListDevicesRequest) -> Result<Vec<Device>> {
        let customer = uuid(&request.customer_id)?;
        self.db.require_of(request.consistency.as_ref(), &[customer]).await?;
        self.profile_must_exist(customer).await?;
        let query = sqlx::query_as!(
            Row,
            r#"
            select device_row_id, sealed, first_seen_at, last_seen_at from profile.devices where customer_id = $1
            order by last_seen_at desc, device_row_id limit $2
            "#,
            customer,
            MAX_DEVICES
        );
        let rows = sql("select profile.devices", query.fetch_all(&self.db)).await?;
        let keys = self.db.unlock(rows.iter().map(|row| row.sealed.as_slice())).await?;
        rows.iter().map(|row| row.open(&keys)).collect()
    }
}

/// Writes a device, or what is newer of one that is known.
async fn device_upsert(tx: &mut Tx, customer: Uuid, device: &Device, seen_at: DateTime<Utc>) -> Result<Device> {
    let hash = tx.vault().index("devices.key", &[customer.as_bytes(), device::key(device).as_slice()].concat());
    let query = sqlx::query_scalar!(
        "select device_row_id from profile.devices where customer_id = $1 and hash = $2",
        customer,
        &hash[..]
    );
    let known = sql("select profile.devices", query.fetch_optional(tx.sql())).await?;
    let row_id = known.unwrap_or_else(Uuid::now_v7);
    let query = sqlx::query_as!(
        Row,
        r#"
        insert into profile.devices as known (device_row_id, customer_id, hash, sealed, first_seen_at, last_seen_at)
        values ($1, $2, $3, $4, $5, $5)
        on conflict (customer_id, hash) do update
        set sealed = case when excluded.last_seen_at >= known.last_seen_at then excluded.sealed else known.sealed end,
            first_seen_at = least(known.first_seen_at, excluded.first_seen_at),
            last_seen_at = greatest(known.last_seen_at, excluded.last_seen_at)
        returning device_row_id, sealed, first_seen_at, last_seen_at
        "#,
        row_id,
        customer,
        &hash[..],
        tx.keys().seal(customer, place(row_id), &device.encode_to_vec())?,
        seen_at
    );
    let row = sql("insert profile.devices", query.fetch_one(tx.sql())).await?;
    if known.is_none() {
        let query =
            sqlx::query_scalar!(r#"select count(*) as "count!" from profile.devices where customer_id = $1"#, customer);
        if sql("select profile.devices", query.fetch_one(tx.sql())).await? > MAX_DEVICES {
            return Err(reason::TOO_MANY_DEVICES.into());
        }
    }
    tx.unlock([row.sealed.as_slice()]).await?;
    row.open(tx.keys())
}

pub fn place(device_row: Uuid) -> Place {
    Place { table: "devices", column: "sealed", row: device_row }
}
