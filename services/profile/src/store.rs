//! The SQL of profile. These are the modules that seal and open its columns.

mod accounts;
mod attributes;
mod creation;
mod devices;
mod external_ids;
mod households;
mod identity;
mod observations;
mod relations;
mod row;
mod search;

use std::{collections::HashMap, sync::Arc};

use access::Call;
use chrono::{DateTime, Utc};
use error::{Failure, Violations, reason::CUSTOMER_ERASED};
use prost::Message;
use proto::{
    profile::v1::*,
    section::v1::Resolution,
    r#type::v1::{Consistency, ExternalId, Identifier},
};
use serde_json::{Value, json};
use sqlx::types::Json;
use store::{Change, Db, Fault, Load, Page, Result, Tx, Written, page_size, sql, uuid};
use uuid::Uuid;

use self::{
    accounts::{subject_hash, user_name_hash},
    attributes::{define, definitions},
    observations::{mask, observations_insert, tie},
    row::{Row, profile_overwrite},
};
use crate::{
    assess::assess,
    evidence::{self, Said, Weights},
    present::present,
    reason, request,
};

/// So large may a profile be beside its external ids: a stored reply has 64 KiB.
const MAX_BYTES: usize = 32 * 1024;

#[derive(Clone)]
pub struct Store {
    pub db: Db,
}

impl Store {
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
                    let (stored, weights, now) = profile_open(tx, customer).await?;
                    if !request.etag.is_empty() && request.etag != stored.etag {
                        return Err(reason::ETAG_MISMATCH.into());
                    }
                    let paths = request.update_mask.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default();
                    let from = request.profile.clone().unwrap_or_default();
                    let mut profile = stored.clone();
                    for path in paths {
                        request::apply(path, &from, &mut profile);
                    }
                    let mut violations = Violations::default();
                    request::facts("profile.", &profile, &mut violations);
                    violations.into_result()?;
                    let fields = paths.iter().flat_map(|path| evidence::fields(path)).collect();
                    let now = evidence::now(now, &weights, &fields);
                    let mut said = Said::new(fields, &profile, request.provenance.as_ref(), now);
                    define(&definitions(tx, [&said.profile]).await?, "profile", &mut said)?;
                    let outweighed = say(tx, version, &said, (stored, weights), "profile.updated").await?;
                    Ok(UpdateProfileResponse {
                        profile: Some(profile_read(tx, customer).await?),
                        consistency_token: tx.token(customer, version),
                        outweighed_fields: Some(mask(outweighed.into_iter())),
                    })
                })
            })
            .await
    }

    pub async fn observation_record(
        &self,
        call: &Call,
        request: RecordObservationRequest,
    ) -> Result<Written<RecordObservationResponse>> {
        let key = self.db.key("RecordObservation", &request.request_id, &request)?;
        let customer = uuid(&request.customer_id)?;
        let observation = Arc::new(request.observation.unwrap_or_default());
        self.db
            .write(call, key, move |tx| {
                let observation = observation.clone();
                Box::pin(async move {
                    let version = tx.raise(customer).await?;
                    let (stored, weights, now) = profile_open(tx, customer).await?;
                    let paths = observation.fields.iter().flat_map(|mask| &mask.paths);
                    let fields = paths.flat_map(|path| evidence::fields(path)).collect();
                    let now = evidence::now(now, &weights, &fields);
                    let profile = observation.profile.clone().unwrap_or_default();
                    let mut said = Said::new(fields, &profile, observation.provenance.as_ref(), now);
                    define(&definitions(tx, [&said.profile]).await?, "observation.profile", &mut said)?;
                    let outweighed = say(tx, version, &said, (stored, weights), "profile.observed").await?;
                    Ok(RecordObservationResponse {
                        profile: Some(profile_read(tx, customer).await?),
                        consistency_token: tx.token(customer, version),
                        outweighed_fields: Some(mask(outweighed.into_iter())),
                    })
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
            let shown = section.profile.as_ref().map_or(0, |profile| profile.external_ids.len());
            section.shortened || (shown as i32) < section.external_id_total_size
        };
        let cut = ids.iter().zip(&said).filter(|(_, said)| is_cut(said));
        let cut: Vec<Uuid> = cut.map(|(id, _)| *id).collect();
        let read = if cut.is_empty() { HashMap::new() } else { self.profile_read_each(&cut).await? };
        let profile = |(id, said): (&Uuid, Result<Option<ProfileSection>>)| match read.get(id) {
            Some(profile) => Ok(Some(profile.clone()?)),
            None => said.map(|section| section?.profile),
        };
        Ok(ids.iter().zip(said).map(profile).collect())
    }

    /// Profiles as they are told now. One that cannot be opened is no other's trouble, and who was erased is asked
    /// behind the reading.
    async fn profile_read_each(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, Result<Profile, Failure>>> {
        let told = |row: SectionRow| {
            let profile = row.profile.map(|profile| present(profile, Utc::now()));
            (row.customer_id, profile.map_err(Fault::into_failure))
        };
        let mut read: HashMap<_, _> = self.section_rows(ids).await?.into_iter().map(told).collect();
        for erased in self.db.erased(ids).await? {
            read.insert(erased, Err(CUSTOMER_ERASED.into()));
        }
        Ok(read)
    }

    /// How complete a profile is.
    pub async fn profile_assess(&self, request: &AssessProfileRequest) -> Result<AssessProfileResponse> {
        let customer = uuid(&request.customer_id)?;
        self.db.require_of(request.consistency.as_ref(), &[customer]).await?;
        let weights = self.profile_must_exist(customer).await?;
        Ok(assess(&weights, Utc::now()))
    }

    /// How much what is said of a customer weighs.
    async fn profile_must_exist(&self, customer: Uuid) -> Result<Weights> {
        self.db.refuse_erased(&[customer]).await?;
        let query = sqlx::query_scalar!(
            r#"select weights as "weights: Json<Weights>" from profile.profiles where customer_id = $1"#,
            customer
        );
        let weights = sql("select profile.profiles", query.fetch_optional(&self.db)).await?;
        Ok(weights.ok_or(reason::CUSTOMER_NOT_FOUND)?.0)
    }

    /// Profiles as they are told now, in the order of the ids, but for those of the erased.
    async fn profile_rows(&self, ids: &[Uuid]) -> Result<Vec<Profile>> {
        let mut rows = Row::select(ids, &self.db).await?;
        let places: HashMap<Uuid, usize> = ids.iter().copied().zip(0..).collect();
        rows.sort_by_key(|row| places.get(&row.customer_id));
        let keys = self.db.unlock(rows.iter().flat_map(Row::sealed)).await?;
        let told = |row: Row| match row.open(&keys) {
            Ok((profile, _)) => Some(Ok(present(profile, Utc::now()))),
            // Erased since it was found.
            Err(Fault::Refused(gone)) if gone.reason() == CUSTOMER_ERASED => None,
            Err(fault) => Some(Err(fault)),
        };
        rows.into_iter().filter_map(told).collect()
    }

    /// What a section needs of each customer, by one statement. One that cannot be opened is no other's
    /// trouble.
    pub async fn section_rows(&self, ids: &[Uuid]) -> Result<Vec<SectionRow>> {
        let rows = Row::select(ids, &self.db).await?;
        let keys = self.db.unlock(rows.iter().flat_map(Row::sealed)).await?;
        let section = |row: Row| SectionRow {
            customer_id: row.customer_id,
            version: row.customer_version,
            device: row.device(&keys),
            profile: row.open(&keys).map(|(profile, _)| profile),
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
            .fetch_all(&self.db),
        )
        .await?;
        let page = self.db.page("ListProfiles", ids, size, |id| *id);
        Ok(Page { items: self.profile_rows(&page.items).await?, next_page_token: page.next_page_token })
    }

    /// The customers behind identifiers, in the order asked.
    pub async fn identifier_resolve(&self, identifiers: &[Identifier]) -> Result<Vec<Resolution>> {
        let external: Vec<ExternalId> = identifiers.iter().filter_map(|i| i.external_id.clone()).collect();
        let mut external = self.external_id_resolve(&external).await?.into_iter();
        let account = |identifier: &Identifier| match &identifier.federated_subject {
            Some(subject) => subject_hash(self.db.vault(), subject),
            None => user_name_hash(self.db.vault(), &identifier.user_name),
        };
        let of_account = |i: &&Identifier| i.federated_subject.is_some() || !i.user_name.is_empty();
        let hashes: Vec<Vec<u8>> = identifiers.iter().filter(of_account).map(account).collect();
        let accounts: HashMap<_, _> = self.account_resolve(&hashes).await?.into_iter().collect();
        let own = identifiers.iter().filter(|i| !i.customer_id.is_empty());
        let own = own.map(|i| uuid(&i.customer_id)).collect::<Result<Vec<_>>>()?;
        let known = self.customers_known(&own).await?;
        let resolve = |identifier: &Identifier| {
            if identifier.external_id.is_some() {
                return Ok(external.next().flatten());
            }
            if of_account(&identifier) {
                return Ok(accounts.get(&account(identifier)).copied());
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

    /// Those of some customers who are there.
    async fn customers_known(&self, ids: &[Uuid]) -> Result<Vec<Uuid>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let query = sqlx::query_scalar!(
            "select customer_id from profile.customers where customer_id = any ($1) and state <> 'erased'",
            ids
        );
        sql("select profile.customers", query.fetch_all(&self.db)).await
    }
}

/// What a section is made of.
pub struct SectionRow {
    pub customer_id: Uuid,
    pub version: i64,
    pub profile: Result<Profile>,
    pub device: Result<Option<Device>>,
}

/// The profile as it is stored, to be changed, and what the database's clock says.
async fn profile_open(tx: &mut Tx, customer: Uuid) -> Result<(Profile, Weights, DateTime<Utc>)> {
    let row = Row::select(&[customer], tx.sql()).await?.pop().ok_or(reason::CUSTOMER_NOT_FOUND)?;
    tx.unlock(row.sealed()).await?;
    let now = row.now;
    let (profile, weights) = row.open(tx.keys())?;
    Ok((profile, weights, now))
}

/// The profile as it is told now.
async fn profile_read(tx: &mut Tx, customer: Uuid) -> Result<Profile> {
    Ok(present(profile_open(tx, customer).await?.0, Utc::now()))
}

/// Writes down what is said and believes what weighs more, and answers the fields that stay as they were.
async fn say(
    tx: &mut Tx,
    version: i64,
    said: &Said,
    (mut profile, mut weights): (Profile, Weights),
    kind: &'static str,
) -> Result<Vec<&'static str>> {
    let customer = uuid(&profile.customer_id)?;
    let prevailing = said.merge(&mut profile, &mut weights, tie(tx.vault(), customer));
    refuse_overfull(&profile, &weights)?;
    let recorded = observations_insert(tx, &[(customer, said)], None).await?.pop();
    if let Some(at) = recorded.filter(|_| !prevailing.is_empty()) {
        profile_overwrite(tx, customer, version, &profile, &weights, at).await?;
    }
    changed(tx, customer, version, kind, json!({ "fields": prevailing })).await?;
    Ok(said.outweighed(&profile))
}

fn refuse_overfull(profile: &Profile, weights: &Weights) -> Result<()> {
    if profile.encoded_len() > MAX_BYTES {
        return Err(reason::PROFILE_TOO_LARGE.into());
    }
    match evidence::overfull(weights) {
        Some(list) => Err(Failure::from(reason::TOO_MANY_FACTS).with("list", list).into()),
        None => Ok(()),
    }
}

async fn changed(tx: &mut Tx, customer_id: Uuid, version: i64, kind: &'static str, payload: Value) -> Result<()> {
    tx.changes(vec![Change { customer_id, version, resource: "profile", kind, payload }]).await
}
