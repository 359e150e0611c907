//! Creating customers, one or many.

use std::collections::BTreeMap;

use access::Call;
use chrono::{DateTime, Utc};
use error::Failure;
use proto::{profile::v1::*, r#type::v1::ExternalId};
use serde_json::json;
use server::validate;
use sqlx::types::Json;
use store::{Change, Fault, Key, Outcome, Reply, Result, Tx, sql, timestamp, uuid};
use uuid::Uuid;

use super::{
    Store,
    attributes::{define, definitions},
    external_ids::external_ids_insert,
    observations::{observations_insert, tie},
    refuse_overfull,
    row::{hashes, seal},
};
use crate::{
    evidence::{Said, Weights, filled},
    present::present,
    reason, request,
};

/// The method under which replies are kept, the same for a batch and a single call.
const METHOD: &str = "CreateProfile";

/// A customer about to be created.
struct New {
    customer: Uuid,
    profile: Profile,
    provenance: Option<Provenance>,
}

/// A profile about to be written.
struct Made<'a> {
    customer: Uuid,
    version: i64,
    said: Said,
    profile: Profile,
    weights: Weights,
    external_ids: &'a [ExternalId],
}

impl Store {
    /// Creates customers, each with an outcome of its own, in their order.
    pub async fn profiles_create(
        &self,
        call: &Call,
        requests: Vec<CreateProfileRequest>,
    ) -> Vec<Outcome<CreateProfileResponse>> {
        let writes = requests.into_iter().map(|request| self.item(request)).collect();
        self.db.write_many(call, writes, |tx, new| Box::pin(create(tx, new))).await
    }

    fn item(&self, request: CreateProfileRequest) -> Result<(Key, New), Failure> {
        validate(&request, request::create)?;
        let key = self.db.key(METHOD, &request.request_id, &request).map_err(Fault::into_failure)?;
        let (profile, provenance) = (request.profile.unwrap_or_default(), request.provenance);
        let given = Some(profile.customer_id.as_str()).filter(|id| !id.is_empty());
        let customer = given.map_or_else(|| Ok(Uuid::now_v7()), uuid).map_err(Fault::into_failure)?;
        Ok((key, New { customer, profile, provenance }))
    }
}

async fn create(tx: &mut Tx, new: Vec<&New>) -> Result<Vec<Reply<CreateProfileResponse>>> {
    let mut counts = BTreeMap::new();
    new.iter().for_each(|new| *counts.entry(new.customer).or_default() += 1);
    let versions = tx.raise_many(&counts).await?;
    let definitions = definitions(tx, new.iter().map(|new| &new.profile)).await?;
    let mut made = Vec::new();
    for New { customer, profile: given, provenance } in new {
        let mut said = Said::new(filled(given), given, provenance.as_ref(), Utc::now());
        define(&definitions, "profile", &mut said)?;
        let (mut profile, mut weights) = (Profile::default(), Weights::new());
        said.merge(&mut profile, &mut weights, tie(tx.vault(), *customer));
        refuse_overfull(&profile, &weights)?;
        let (customer, version, external_ids) = (*customer, versions[customer], given.external_ids.as_slice());
        made.push(Made { customer, version, said, profile, weights, external_ids });
    }
    let at = profiles_insert(tx, &made).await?;
    let said = made.iter().filter(|made| !made.said.fields.is_empty()).map(|made| (made.customer, &made.said));
    observations_insert(tx, &said.collect::<Vec<_>>(), Some(at)).await?;
    let external_ids = made.iter().flat_map(|made| made.external_ids.iter().map(|id| (made.customer, id)));
    external_ids_insert(tx, &external_ids.collect::<Vec<_>>()).await?;
    tx.changes(made.iter().map(change).collect()).await?;
    let reply = |made: Made| {
        let consistency_token = tx.token(made.customer, made.version);
        let customer = made.customer;
        let profile = Some(present(made.into_profile(at), Utc::now()));
        (CreateProfileResponse { profile, consistency_token }, Some(customer))
    };
    Ok(made.into_iter().map(reply).collect())
}

impl Made<'_> {
    /// The profile as it is read from now on.
    fn into_profile(self, at: DateTime<Utc>) -> Profile {
        let mut external_ids = self.external_ids.to_vec();
        external_ids.sort_by(|one, other| one.system.cmp(&other.system));
        Profile {
            customer_id: self.customer.to_string(),
            external_ids,
            create_time: Some(timestamp(at)),
            update_time: Some(timestamp(at)),
            etag: self.version.to_string(),
            ..self.profile
        }
    }
}

fn change(made: &Made) -> Change {
    let (customer_id, version) = (made.customer, made.version);
    Change { customer_id, version, resource: "profile", kind: "profile.created", payload: json!({}) }
}

/// Writes new profiles with the words of their names, and answers when they were created.
async fn profiles_insert(tx: &mut Tx, made: &[Made<'_>]) -> Result<DateTime<Utc>> {
    let customers: Vec<Uuid> = made.iter().map(|made| made.customer).collect();
    let versions: Vec<i64> = made.iter().map(|made| made.version).collect();
    let sealed = made.iter().map(|made| seal(tx.keys(), made.customer, &made.profile));
    let sealed: Vec<Vec<u8>> = sealed.collect::<Result<_, _>>()?;
    let genders: Vec<i32> = made.iter().map(|made| made.profile.gender).collect();
    let languages: Vec<String> = made.iter().map(|made| made.profile.language.clone()).collect();
    let time_zones: Vec<String> = made.iter().map(|made| made.profile.time_zone.clone()).collect();
    let regions: Vec<String> = made.iter().map(|made| made.profile.region.clone()).collect();
    let weights: Vec<Json<&Weights>> = made.iter().map(|made| Json(&made.weights)).collect();
    let words = |made: &Made| {
        let customer = made.customer;
        hashes(tx.vault(), &made.profile).into_iter().map(move |hash| (hash, customer))
    };
    let (hashes, named): (Vec<Vec<u8>>, Vec<Uuid>) = made.iter().flat_map(words).unzip();
    let query = sqlx::query_scalar!(
        r#"
        with now as (select clock_timestamp() as at),
        tokens as (
            insert into profile.name_tokens (hash, customer_id)
            select hash, customer_id from unnest($9::bytea[], $10::uuid[]) as new (hash, customer_id)
        )
        insert into profile.profiles
            (customer_id, version, sealed, gender, language, time_zone, region, weights, created_at, updated_at)
        select new.*, at, at from now cross join unnest(
            $1::uuid[], $2::bigint[], $3::bytea[], $4::integer[], $5::text[], $6::text[], $7::text[], $8::jsonb[])
            as new (customer_id, version, sealed, gender, language, time_zone, region, weights)
        returning created_at
        "#,
        &customers,
        &versions,
        &sealed,
        &genders,
        &languages,
        &time_zones,
        &regions,
        &weights as _,
        &hashes,
        &named
    );
    let created = sql("insert profile.profiles", query.fetch_all(tx.sql())).await?;
    Ok(created.first().copied().ok_or(reason::INTERNAL_ERROR)?)
}
