//! Ids in other systems.

use access::Call;
use proto::{profile::v1::*, r#type::v1::ExternalId};
use serde_json::json;
use store::{Result, Tx, Written, sql, uuid};
use uuid::Uuid;
use vault::{Place, Vault};

use super::{Store, changed, profile_read};
use crate::reason;

const MAX_EXTERNAL_IDS: i64 = 50;

impl Store {
    pub async fn external_id_add(
        &self,
        call: &Call,
        request: AddExternalIdRequest,
    ) -> Result<Written<AddExternalIdResponse>> {
        let key = self.db.key("AddExternalId", &request.request_id, &request)?;
        let customer = uuid(&request.customer_id)?;
        let added = request.external_id.unwrap_or_default();
        self.db
            .write(call, key, move |tx| {
                let added = added.clone();
                Box::pin(async move {
                    let version = tx.raise(customer).await?;
                    profile_touch(tx, customer, version).await?;
                    external_ids_insert(tx, &[(customer, &added)]).await?;
                    refuse_too_many(tx, customer).await?;
                    changed(tx, customer, version, "external_id.added", json!({ "system": added.system })).await?;
                    let profile = Some(profile_read(tx, customer).await?);
                    Ok(AddExternalIdResponse { profile, consistency_token: tx.token(customer, version) })
                })
            })
            .await
    }

    pub async fn external_id_remove(
        &self,
        call: &Call,
        request: RemoveExternalIdRequest,
    ) -> Result<Written<RemoveExternalIdResponse>> {
        let key = self.db.key("RemoveExternalId", &request.request_id, &request)?;
        let customer = uuid(&request.customer_id)?;
        let removed = request.external_id.unwrap_or_default();
        self.db
            .write(call, key, move |tx| {
                let removed = removed.clone();
                Box::pin(async move {
                    let version = tx.raise(customer).await?;
                    profile_touch(tx, customer, version).await?;
                    external_id_delete(tx, customer, &removed).await?;
                    changed(tx, customer, version, "external_id.removed", json!({ "system": removed.system })).await?;
                    let profile = Some(profile_read(tx, customer).await?);
                    Ok(RemoveExternalIdResponse { profile, consistency_token: tx.token(customer, version) })
                })
            })
            .await
    }

    /// The customer behind each external id.
    pub async fn external_id_resolve(&self, external_ids: &[ExternalId]) -> Result<Vec<Option<Uuid>>> {
        if external_ids.is_empty() {
            return Ok(Vec::new());
        }
        let systems: Vec<String> = external_ids.iter().map(|e| e.system.clone()).collect();
        let hashes: Vec<Vec<u8>> = external_ids.iter().map(|e| hash(self.db.vault(), e)).collect();
        let rows = sql(
            "select profile.external_ids",
            sqlx::query!(
                r#"
                select asked.position as "position!", found.customer_id
                from unnest($1::text[], $2::bytea[]) with ordinality as asked (system, hash, position)
                join profile.external_ids as found using (system, hash)
                "#,
                &systems,
                &hashes
            )
            .fetch_all(&self.db),
        )
        .await?;
        let mut found = vec![None; external_ids.len()];
        for row in rows {
            found[row.position as usize - 1] = Some(row.customer_id);
        }
        Ok(found)
    }
}

/// Gives the profile a new etag.
async fn profile_touch(tx: &mut Tx, customer: Uuid, version: i64) -> Result<()> {
    let query = sqlx::query!(
        "update profile.profiles set version = $2, updated_at = clock_timestamp() where customer_id = $1",
        customer,
        version
    );
    let touched = sql("update profile.profiles", query.execute(tx.sql())).await?;
    if touched.rows_affected() == 0 { Err(reason::CUSTOMER_NOT_FOUND.into()) } else { Ok(()) }
}

pub async fn external_ids_insert(tx: &mut Tx, external_ids: &[(Uuid, &ExternalId)]) -> Result<()> {
    if external_ids.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = external_ids.iter().map(|_| Uuid::now_v7()).collect();
    let customers: Vec<Uuid> = external_ids.iter().map(|(customer, _)| *customer).collect();
    let systems: Vec<String> = external_ids.iter().map(|(_, e)| e.system.clone()).collect();
    let hashes: Vec<Vec<u8>> = external_ids.iter().map(|(_, e)| hash(tx.vault(), e)).collect();
    let seal =
        |(id, (customer, e)): (&Uuid, &(Uuid, &ExternalId))| tx.keys().seal(*customer, id_place(*id), e.id.as_bytes());
    let sealed: Vec<Vec<u8>> = ids.iter().zip(external_ids).map(seal).collect::<Result<_, _>>()?;
    let query = sqlx::query!(
        r#"
        insert into profile.external_ids (external_id_id, customer_id, system, hash, sealed)
        select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[], $5::bytea[])
            as new (id, customer_id, system, hash, sealed)
        order by hash, system
        "#,
        &ids,
        &customers,
        &systems,
        &hashes,
        &sealed
    );
    sql("insert profile.external_ids", query.execute(tx.sql())).await?;
    Ok(())
}

async fn refuse_too_many(tx: &mut Tx, customer: Uuid) -> Result<()> {
    let query = sqlx::query_scalar!(
        r#"select count(*) as "count!" from profile.external_ids where customer_id = $1"#,
        customer
    );
    let count = sql("select profile.external_ids", query.fetch_one(tx.sql())).await?;
    if count > MAX_EXTERNAL_IDS { Err(reason::TOO_MANY_EXTERNAL_IDS.into()) } else { Ok(()) }
}

async fn external_id_delete(tx: &mut Tx, customer: Uuid, external_id: &ExternalId) -> Result<()> {
    let query = sqlx::query!(
        "delete from profile.external_ids where customer_id = $1 and system = $2 and hash = $3",
        customer,
        external_id.system,
        hash(tx.vault(), external_id)
    );
    let deleted = sql("delete profile.external_ids", query.execute(tx.sql())).await?;
    if deleted.rows_affected() == 0 { Err(reason::EXTERNAL_ID_NOT_FOUND.into()) } else { Ok(()) }
}

fn hash(vault: &Vault, external_id: &ExternalId) -> Vec<u8> {
    vault.index("external_ids.id", external_id.id.as_bytes()).to_vec()
}

pub fn id_place(external_id: Uuid) -> Place {
    Place { table: "external_ids", column: "sealed", row: external_id }
}
