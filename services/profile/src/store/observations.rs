//! What was said of customers, and what they were said to be at a time.

use chrono::{DateTime, Utc};
use prost::Message;
use prost_types::FieldMask;
use proto::profile::v1::*;
use store::{Page, Result, Tx, page_size, sql, time, timestamp, uuid};
use uuid::Uuid;
use vault::{Keys, Place, Vault};

use super::{Row, Store};
use crate::{
    evidence::{self, Said, Weights},
    fact,
    present::{self, present},
    reason,
};

/// An observation as it is stored.
struct Stored {
    observation_id: Uuid,
    fields: Vec<String>,
    sealed: Vec<u8>,
    source: i32,
    source_name: String,
    observed_at: DateTime<Utc>,
    confidence_percent: i32,
    recorded_at: DateTime<Utc>,
}

impl Stored {
    fn open(&self, keys: &Keys) -> Result<Said> {
        let profile = Profile::decode(keys.open(place(self.observation_id), &self.sealed)?.as_slice())?;
        let provenance = Provenance {
            source: self.source,
            source_name: self.source_name.clone(),
            observed_time: Some(timestamp(self.observed_at)),
            confidence_percent: self.confidence_percent,
        };
        let fields = self.fields.iter().flat_map(|path| evidence::fields(path)).collect();
        Ok(Said { fields, profile, provenance, observed_at: self.observed_at })
    }
}

impl Store {
    /// What was said of a customer, the latest recorded first.
    pub async fn observation_list(&self, request: &ListObservationsRequest) -> Result<Page<Observation>> {
        let customer = uuid(&request.customer_id)?;
        self.db.require_of(request.consistency.as_ref(), &[customer]).await?;
        let listing = format!("ListObservations {customer}");
        let after_all = (DateTime::from_timestamp_nanos(i64::MAX), Uuid::max());
        let (before, before_id) = self.db.cursor(&listing, &request.page_token)?.unwrap_or(after_all);
        let size = page_size(request.page_size, 100);
        let row = Row::select(&[customer], &self.db).await?.pop().ok_or(reason::CUSTOMER_NOT_FOUND)?;
        let query = sqlx::query_as!(
            Stored,
            r#"
            select observation_id, fields, sealed, source, source_name, observed_at, confidence_percent, recorded_at
            from profile.observations
            where customer_id = $1 and (recorded_at, observation_id) < ($2, $3)
            order by recorded_at desc, observation_id desc limit $4
            "#,
            customer,
            before,
            before_id,
            size + 1
        );
        let stored = sql("select profile.observations", query.fetch_all(&self.db)).await?;
        let sealed = stored.iter().map(|stored| stored.sealed.as_slice());
        let keys = self.db.unlock(row.sealed().chain(sealed)).await?;
        let (_, weights) = row.open(&keys)?;
        let page = self.db.page(&listing, stored, size, |stored| (stored.recorded_at, stored.observation_id));
        let told = |stored: &Stored| {
            let said = stored.open(&keys)?;
            let prevails = |field: &&str| said.prevails(field, &weights, tie(self.db.vault(), customer));
            let prevailing = said.fields.iter().copied().filter(prevails);
            Ok(Observation {
                observation_id: stored.observation_id.to_string(),
                record_time: Some(timestamp(stored.recorded_at)),
                prevailing_fields: Some(mask(prevailing)),
                fields: Some(mask(said.fields.iter().copied())),
                provenance: Some(said.provenance),
                profile: Some(present::expire(said.profile, Utc::now())),
            })
        };
        let items = page.items.iter().map(told).collect::<Result<_>>()?;
        Ok(Page { items, next_page_token: page.next_page_token })
    }

    /// A profile as it was: what had been recorded until then, the age of that day. `None` from before the first word.
    pub async fn profile_as_of(&self, customer: Uuid, at: DateTime<Utc>) -> Result<Option<Profile>> {
        self.db.refuse_erased(&[customer]).await?;
        let Some(row) = Row::select(&[customer], &self.db).await?.pop() else { return Ok(None) };
        let query = sqlx::query_as!(
            Stored,
            r#"
            select observation_id, fields, sealed, source, source_name, observed_at, confidence_percent, recorded_at
            from profile.observations where customer_id = $1 and recorded_at <= $2 order by recorded_at, observation_id
            "#,
            customer,
            at
        );
        let stored = sql("select profile.observations", query.fetch_all(&self.db)).await?;
        let keys = self.db.unlock(row.sealed().chain(stored.iter().map(|stored| stored.sealed.as_slice()))).await?;
        let (now, _) = row.open(&keys)?;
        if time(now.create_time).is_none_or(|created| created > at) {
            return Ok(None);
        }
        let mut then = Profile {
            customer_id: now.customer_id,
            external_ids: now.external_ids,
            create_time: now.create_time,
            update_time: now.create_time,
            ..Default::default()
        };
        let mut weights = Weights::new();
        for stored in &stored {
            if !stored.open(&keys)?.merge(&mut then, &mut weights, tie(self.db.vault(), customer)).is_empty() {
                then.update_time = Some(timestamp(stored.recorded_at));
            }
        }
        // What has expired since is not told of any time.
        Ok(Some(present::expire(present(then, at), Utc::now())))
    }
}

/// Writes down what is said of customers, at a time or now, and answers the times; none for what was said before.
pub async fn observations_insert(
    tx: &mut Tx,
    said: &[(Uuid, &Said)],
    at: Option<DateTime<Utc>>,
) -> Result<Vec<DateTime<Utc>>> {
    let ids: Vec<Uuid> = said.iter().map(|_| Uuid::now_v7()).collect();
    let customers: Vec<Uuid> = said.iter().map(|(customer, _)| *customer).collect();
    let fields = |said: &Said| said.fields.iter().copied().collect::<Vec<_>>().join(",");
    let fields: Vec<String> = said.iter().map(|(_, said)| fields(said)).collect();
    let seal = |(id, (customer, said)): (&Uuid, &(Uuid, &Said))| {
        tx.keys().seal(*customer, place(*id), &said.profile.encode_to_vec())
    };
    let sealed: Vec<Vec<u8>> = ids.iter().zip(said).map(seal).collect::<Result<_, _>>()?;
    let sources: Vec<i32> = said.iter().map(|(_, said)| said.provenance.source).collect();
    let source_names: Vec<String> = said.iter().map(|(_, said)| said.provenance.source_name.clone()).collect();
    let observed: Vec<DateTime<Utc>> = said.iter().map(|(_, said)| said.observed_at).collect();
    let confidences: Vec<i32> = said.iter().map(|(_, said)| said.provenance.confidence_percent).collect();
    let contents: Vec<Vec<u8>> = said.iter().map(|(customer, said)| content(tx.vault(), *customer, said)).collect();
    let query = sqlx::query_scalar!(
        r#"
        insert into profile.observations
            (observation_id, customer_id, fields, sealed, source, source_name, observed_at, confidence_percent, content,
             recorded_at)
        select id, new.customer_id, string_to_array(fields, ','), sealed, source, source_name, observed_at,
               confidence_percent, content, coalesce($10, greatest(
                   clock_timestamp(),
                   -- Times of a customer rise, whatever the clock of the next primary says.
                   (select updated_at + interval '1 microsecond' from profile.profiles p
                    where p.customer_id = new.customer_id)))
        from unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[], $5::integer[], $6::text[], $7::timestamptz[],
                    $8::integer[], $9::bytea[])
            as new (id, customer_id, fields, sealed, source, source_name, observed_at, confidence_percent, content)
        on conflict (customer_id, content) do nothing
        returning recorded_at
        "#,
        &ids,
        &customers,
        &fields,
        &sealed,
        &sources,
        &source_names,
        &observed,
        &confidences,
        &contents,
        at
    );
    sql("insert profile.observations", query.fetch_all(tx.sql())).await
}

/// By what it is known again.
fn content(vault: &Vault, customer: Uuid, said: &Said) -> Vec<u8> {
    let content = [
        customer.as_bytes().to_vec(),
        fact::timeless(said.profile.clone()).encode_length_delimited_to_vec(),
        mask(said.fields.iter().copied()).encode_length_delimited_to_vec(),
        said.provenance.encode_length_delimited_to_vec(),
    ];
    vault.index("observations.content", &content.concat()).to_vec()
}

/// The keyed hash by which two statements of the same weight are told apart.
/// Equal values of two customers do not show.
pub fn tie(vault: &Vault, customer: Uuid) -> impl Fn(&[u8]) -> i64 + Copy {
    move |value| {
        let hash = vault.index("observations.value", &[customer.as_bytes(), value].concat());
        i64::from_be_bytes(*hash.first_chunk().expect("a hash has 32 bytes"))
    }
}

/// A mask of fields.
pub fn mask<'a>(fields: impl Iterator<Item = &'a str>) -> FieldMask {
    FieldMask { paths: fields.map(str::to_owned).collect() }
}

fn place(observation_id: Uuid) -> Place {
    Place { table: "observations", column: "sealed", row: observation_id }
}
