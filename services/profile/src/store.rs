//! The SQL of profile. This is the one module that seals and opens its columns.

use std::{collections::HashMap, sync::Arc};

use access::Call;
use chrono::{DateTime, Utc};
use error::Violations;
use prost::Message;
use proto::{
    profile::v1::*,
    section::v1::Resolution,
    r#type::v1::{Consistency, ExternalId, Identifier},
};
use serde_json::{Value, json};
use store::{Change, Db, Load, Page, Result, Tx, Written, page_size, sql, timestamp, uuid};
use uuid::Uuid;
use vault::{Keys, Place, Unreadable, Vault};

use crate::{reason, request};

const MAX_EXTERNAL_IDS: i64 = 50;

#[derive(Clone)]
pub struct Store {
    pub db: Db,
}

impl Store {
    pub async fn profile_create(
        &self,
        call: &Call,
        request: CreateProfileRequest,
    ) -> Result<Written<CreateProfileResponse>> {
        let key = self.db.key("CreateProfile", &request.request_id, &request)?;
        let profile = Arc::new(request.profile.unwrap_or_default());
        let given = (!profile.customer_id.is_empty()).then(|| uuid(&profile.customer_id)).transpose()?;
        let customer = given.unwrap_or_else(Uuid::now_v7);
        self.db
            .write(call, key, move |tx| {
                let profile = profile.clone();
                Box::pin(async move {
                    let version = tx.raise(customer).await?;
                    profile_insert(tx, customer, version, &profile).await?;
                    external_ids_insert(tx, customer, &profile.external_ids).await?;
                    changed(tx, customer, version, "profile.created", json!({})).await?;
                    let profile = Some(profile_read(tx, customer).await?);
                    Ok(CreateProfileResponse { profile, consistency_token: tx.token(customer, version) })
                })
            })
            .await
    }

    pub async fn profile_update(
        &self,
        call: &Call,
        request: UpdateProfileRequest,
    ) -> Result<Written<UpdateProfileResponse>> {
        let key = self.db.key("UpdateProfile", &request.request_id, &request)?;
        let customer = uuid(&request.customer_id)?;
        let request = Arc::new(request);
        self.db
            .write(call, key, move |tx| {
                let request = request.clone();
                Box::pin(async move {
                    let version = tx.raise(customer).await?;
                    let mut profile = profile_read(tx, customer).await?;
                    if !request.etag.is_empty() && request.etag != profile.etag {
                        return Err(reason::ETAG_MISMATCH.into());
                    }
                    let paths = request.update_mask.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default();
                    let from = request.profile.clone().unwrap_or_default();
                    for path in paths {
                        request::apply(path, &from, &mut profile);
                    }
                    let mut violations = Violations::default();
                    request::facts("profile.", &profile, &mut violations);
                    violations.into_result()?;
                    profile_overwrite(tx, customer, version, &profile).await?;
                    changed(tx, customer, version, "profile.updated", json!({ "fields": paths })).await?;
                    let profile = Some(profile_read(tx, customer).await?);
                    Ok(UpdateProfileResponse { profile, consistency_token: tx.token(customer, version) })
                })
            })
            .await
    }

    /// Profiles in the order of the ids, as their sections say them; one whose external ids a section has no
    /// room for is read from the database.
    pub async fn profile_get(
        &self,
        load: &Load,
        customer_ids: &[String],
        consistency: &Option<Consistency>,
    ) -> Result<Vec<Result<Option<Profile>>>> {
        let said: Vec<Result<Option<ProfileSection>>> = self.db.say(load, customer_ids, consistency).await?;
        let ids = customer_ids.iter().map(|id| uuid(id)).collect::<Result<Vec<_>>>()?;
        let is_cut = |said: &Result<Option<ProfileSection>>| {
            let Ok(Some(section)) = said else { return false };
            section.profile.as_ref().is_some_and(|p| (p.external_ids.len() as i32) < section.external_id_total_size)
        };
        let cut = ids.iter().zip(&said).filter(|(_, said)| is_cut(said));
        let cut: Vec<Uuid> = cut.map(|(id, _)| *id).collect();
        let read = if cut.is_empty() { Vec::new() } else { self.profile_rows(&cut).await? };
        let read: HashMap<Uuid, Profile> = read.into_iter().map(|(id, _, profile)| (id, profile)).collect();
        let profile = |(id, said): (&Uuid, Result<Option<ProfileSection>>)| match read.get(id) {
            Some(profile) => Ok(Some(profile.clone())),
            None => said.map(|section| section?.profile),
        };
        Ok(ids.iter().zip(said).map(profile).collect())
    }

    async fn profile_rows(&self, ids: &[Uuid]) -> Result<Vec<(Uuid, i64, Profile)>> {
        let rows = Row::select(ids, self.db.pool()).await?;
        let keys = self.db.unlock(rows.iter().flat_map(Row::sealed)).await?;
        rows.into_iter().map(|row| row.open(&keys)).collect()
    }

    /// What a section needs of each customer, by one statement. One that cannot be opened is no other's
    /// trouble.
    pub async fn section_rows(&self, ids: &[Uuid]) -> Result<Vec<SectionRow>> {
        let rows = Row::select(ids, self.db.pool()).await?;
        let keys = self.db.unlock(rows.iter().flat_map(Row::sealed)).await?;
        let section = |row: Row| SectionRow {
            customer_id: row.customer_id,
            version: row.customer_version,
            profile: row.open(&keys).map(|(_, _, profile)| profile),
        };
        Ok(rows.into_iter().map(section).collect())
    }

    pub async fn profile_list(&self, request: &ListProfilesRequest) -> Result<Page<Profile>> {
        self.db.require(request.consistency.as_ref()).await?;
        let size = page_size(request.page_size, 100);
        let after: Uuid = self.db.cursor("ListProfiles", &request.page_token)?.unwrap_or_default();
        let ids = sql(
            "select profile.profiles",
            sqlx::query_scalar!(
                r#"
                select p.customer_id from profile.profiles p join profile.customers c using (customer_id)
                where p.customer_id > $1 and c.state <> 'erased' order by p.customer_id limit $2
                "#,
                after,
                size + 1
            )
            .fetch_all(self.db.pool()),
        )
        .await?;
        let mut rows = self.profile_rows(&ids).await?;
        rows.sort_by_key(|row| row.0);
        let page = self.db.page("ListProfiles", rows, size, |row| row.0);
        let items = page.items.into_iter().map(|row| row.2).collect();
        Ok(Page { items, next_page_token: page.next_page_token })
    }

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
                    external_ids_insert(tx, customer, std::slice::from_ref(&added)).await?;
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
            .fetch_all(self.db.pool()),
        )
        .await?;
        let mut found = vec![None; external_ids.len()];
        for row in rows {
            found[row.position as usize - 1] = Some(row.customer_id);
        }
        Ok(found)
    }

    /// The customers behind customer ids and external ids, in the order asked.
    pub async fn identifier_resolve(&self, identifiers: &[Identifier]) -> Result<Vec<Resolution>> {
        let external: Vec<ExternalId> = identifiers.iter().filter_map(|i| i.external_id.clone()).collect();
        let mut external = self.external_id_resolve(&external).await?.into_iter();
        let own = identifiers.iter().filter(|i| !i.customer_id.is_empty());
        let own = own.map(|i| uuid(&i.customer_id)).collect::<Result<Vec<_>>>()?;
        let known = sql(
            "select profile.profiles",
            sqlx::query_scalar!("select customer_id from profile.profiles where customer_id = any ($1)", &own)
                .fetch_all(self.db.pool()),
        )
        .await?;
        let resolve = |identifier: &Identifier| {
            if identifier.external_id.is_some() {
                return Ok(external.next().flatten());
            }
            let id = uuid(&identifier.customer_id)?;
            Ok(known.contains(&id).then_some(id))
        };
        let found = identifiers.iter().map(resolve).collect::<Result<Vec<Option<Uuid>>>>()?;
        Ok(found
            .into_iter()
            .map(|id| Resolution { customer_ids: id.iter().map(Uuid::to_string).collect(), ..Default::default() })
            .collect())
    }
}

/// What a section is made of.
pub struct SectionRow {
    pub customer_id: Uuid,
    pub version: i64,
    pub profile: Result<Profile>,
}

/// A profile as it is stored, with its external ids side by side.
struct Row {
    customer_id: Uuid,
    customer_version: i64,
    version: i64,
    sealed: Vec<u8>,
    gender: i32,
    language: String,
    time_zone: String,
    region: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    external_ids: Vec<Uuid>,
    systems: Vec<String>,
    sealed_ids: Vec<Vec<u8>>,
}

impl Row {
    async fn select(ids: &[Uuid], executor: impl sqlx::PgExecutor<'_>) -> Result<Vec<Self>> {
        let query = sqlx::query_as!(
            Row,
            r#"
            select
                p.customer_id, c.version as customer_version, p.version, p.sealed, p.gender, p.language,
                p.time_zone, p.region, p.created_at, p.updated_at,
                array(select e.external_id_id from profile.external_ids e where e.customer_id = p.customer_id
                      order by e.system, e.external_id_id) as "external_ids!",
                array(select e.system from profile.external_ids e where e.customer_id = p.customer_id
                      order by e.system, e.external_id_id) as "systems!",
                array(select e.sealed from profile.external_ids e where e.customer_id = p.customer_id
                      order by e.system, e.external_id_id) as "sealed_ids!"
            from profile.profiles p
            join profile.customers c using (customer_id)
            where p.customer_id = any ($1)
            "#,
            ids
        );
        sql("select profile.profiles", query.fetch_all(executor)).await
    }

    fn sealed(&self) -> impl Iterator<Item = &[u8]> {
        self.sealed_ids.iter().chain([&self.sealed]).map(Vec::as_slice)
    }

    fn open(self, keys: &Keys) -> Result<(Uuid, i64, Profile)> {
        // What is sealed is a profile with nothing but what identifies the person.
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
        Ok((self.customer_id, self.customer_version, profile))
    }
}

async fn profile_read(tx: &mut Tx, customer: Uuid) -> Result<Profile> {
    let row = Row::select(&[customer], tx.sql()).await?.pop().ok_or(reason::CUSTOMER_NOT_FOUND)?;
    tx.unlock(row.sealed()).await?;
    Ok(row.open(tx.keys())?.2)
}

async fn profile_insert(tx: &mut Tx, customer: Uuid, version: i64, profile: &Profile) -> Result<()> {
    let query = sqlx::query!(
        r#"
        insert into profile.profiles (customer_id, version, sealed, gender, language, time_zone, region)
        values ($1, $2, $3, $4, $5, $6, $7)
        "#,
        customer,
        version,
        seal(tx.keys(), customer, profile)?,
        profile.gender,
        profile.language,
        profile.time_zone,
        profile.region
    );
    sql("insert profile.profiles", query.execute(tx.sql())).await?;
    Ok(())
}

async fn profile_overwrite(tx: &mut Tx, customer: Uuid, version: i64, profile: &Profile) -> Result<()> {
    let query = sqlx::query!(
        r#"
        update profile.profiles
        set version = $2, sealed = $3, gender = $4, language = $5, time_zone = $6, region = $7, updated_at = clock_timestamp()
        where customer_id = $1
        "#,
        customer,
        version,
        seal(tx.keys(), customer, profile)?,
        profile.gender,
        profile.language,
        profile.time_zone,
        profile.region
    );
    sql("update profile.profiles", query.execute(tx.sql())).await?;
    Ok(())
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

async fn external_ids_insert(tx: &mut Tx, customer: Uuid, external_ids: &[ExternalId]) -> Result<()> {
    if external_ids.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = external_ids.iter().map(|_| Uuid::now_v7()).collect();
    let systems: Vec<String> = external_ids.iter().map(|e| e.system.clone()).collect();
    let hashes: Vec<Vec<u8>> = external_ids.iter().map(|e| hash(tx.vault(), e)).collect();
    let seal = |(id, e): (&Uuid, &ExternalId)| tx.keys().seal(customer, id_place(*id), e.id.as_bytes());
    let sealed: Vec<Vec<u8>> = ids.iter().zip(external_ids).map(seal).collect::<Result<_, _>>()?;
    let query = sqlx::query_scalar!(
        r#"
        with added as (
            insert into profile.external_ids (external_id_id, customer_id, system, hash, sealed)
            select id, $1, system, hash, sealed
            from unnest($2::uuid[], $3::text[], $4::bytea[], $5::bytea[]) as added (id, system, hash, sealed)
            order by hash, system
            returning 1
        )
        select (select count(*) from added)
               + (select count(*) from profile.external_ids where customer_id = $1) as "total!"
        "#,
        customer,
        &ids,
        &systems,
        &hashes,
        &sealed
    );
    let total = sql("insert profile.external_ids", query.fetch_one(tx.sql())).await?;
    if total > MAX_EXTERNAL_IDS { Err(reason::TOO_MANY_EXTERNAL_IDS.into()) } else { Ok(()) }
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

async fn changed(tx: &mut Tx, customer_id: Uuid, version: i64, kind: &'static str, payload: Value) -> Result<()> {
    tx.changes(vec![Change { customer_id, version, resource: "profile", kind, payload }]).await
}

fn seal(keys: &Keys, customer: Uuid, profile: &Profile) -> Result<Vec<u8>, Unreadable> {
    let personal = Profile {
        name: profile.name.clone(),
        birth_date: profile.birth_date,
        gender_description: profile.gender_description.clone(),
        ..Default::default()
    };
    keys.seal(customer, place(customer), &personal.encode_to_vec())
}

fn hash(vault: &Vault, external_id: &ExternalId) -> Vec<u8> {
    vault.index("external_ids.id", external_id.id.as_bytes()).to_vec()
}

fn place(customer: Uuid) -> Place {
    Place { table: "profiles", column: "sealed", row: customer }
}

fn id_place(external_id: Uuid) -> Place {
    Place { table: "external_ids", column: "sealed", row: external_id }
}
