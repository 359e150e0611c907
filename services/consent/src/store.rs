//! The SQL of consent. This is the one module that seals and opens its columns.

use std::collections::HashMap;

use access::Call;
use aws_lc_rs::digest;
use chrono::{DateTime, Utc};
use error::Failure;
use prost::Message;
use proto::consent::v1::*;
use serde::Deserialize;
use serde_json::json;
use sqlx::types::Json;
use store::{Change, Db, Key, Page, Result, Tx, Written, page_size, sql, time, timestamp, uuid};
use uuid::Uuid;
use vault::{Keys, Place};

use crate::{
    decision::{self, Record},
    reason,
    request::Statement,
};

#[derive(Clone)]
pub struct Store {
    pub db: Db,
}

impl Store {
    pub async fn purpose_create(
        &self,
        call: &Call,
        request: CreatePurposeRequest,
    ) -> Result<Written<CreatePurposeResponse>> {
        let key = self.db.key("CreatePurpose", &request.request_id, &request)?;
        let purpose = request.purpose.unwrap_or_default();
        self.db
            .write(call, key, move |tx| {
                let purpose = purpose.clone();
                Box::pin(async move {
                    let query = sqlx::query!(
                        r#"
                        insert into consent.purposes (purpose_id, display_name, legal_basis, notice_version)
                        values ($1, $2, $3, 1)
                        "#,
                        purpose.purpose_id,
                        purpose.display_name,
                        purpose.legal_basis
                    );
                    sql("insert consent.purposes", query.execute(tx.sql())).await?;
                    notice_insert(tx, &purpose.purpose_id, 1, &purpose.notice_texts).await?;
                    Ok(CreatePurposeResponse { purpose_id: purpose.purpose_id, notice_version: 1 })
                })
            })
            .await
    }

    pub async fn notice_publish(
        &self,
        call: &Call,
        request: PublishNoticeRequest,
    ) -> Result<Written<PublishNoticeResponse>> {
        let key = self.db.key("PublishNotice", &request.request_id, &request)?;
        self.db
            .write(call, key, move |tx| {
                let (purpose_id, texts) = (request.purpose_id.clone(), request.notice_texts.clone());
                Box::pin(async move {
                    let query = sqlx::query_scalar!(
                        r#"
                        update consent.purposes set notice_version = notice_version + 1
                        where purpose_id = $1 returning notice_version
                        "#,
                        purpose_id
                    );
                    let version = sql("update consent.purposes", query.fetch_optional(tx.sql())).await?;
                    let notice_version = version.ok_or(reason::PURPOSE_NOT_FOUND)?;
                    notice_insert(tx, &purpose_id, notice_version, &texts).await?;
                    Ok(PublishNoticeResponse { purpose_id, notice_version })
                })
            })
            .await
    }

    pub async fn purpose_list(&self, request: &ListPurposesRequest) -> Result<Page<Purpose>> {
        let size = page_size(request.page_size, 20);
        let after: String = self.db.cursor("ListPurposes", &request.page_token)?.unwrap_or_default();
        let query = sqlx::query!(
            r#"
            select
                purpose_id, display_name, legal_basis, notice_version, created_at,
                (select coalesce(jsonb_agg(jsonb_build_object(
                    'language', n.language, 'text', n.text, 'sha256', n.sha256) order by n.language), '[]')
                 from consent.notices n
                 where n.purpose_id = p.purpose_id and n.version = p.notice_version
                ) as "texts!: Json<Vec<TextJson>>"
            from consent.purposes p
            where purpose_id > $1
            order by purpose_id
            limit $2
            "#,
            after,
            size + 1
        );
        let rows = sql("select consent.purposes", query.fetch_all(&self.db)).await?;
        let purposes = rows.into_iter().map(|row| Purpose {
            purpose_id: row.purpose_id,
            display_name: row.display_name,
            legal_basis: row.legal_basis,
            notice_version: row.notice_version,
            notice_texts: row.texts.0.into_iter().map(TextJson::into_proto).collect(),
            create_time: Some(timestamp(row.created_at)),
        });
        Ok(self.db.page("ListPurposes", purposes.collect(), size, |purpose| purpose.purpose_id.clone()))
    }

    /// Adds a record to a customer's chain. Grant, refusal and withdrawal differ in their replies alone.
    pub async fn record_add<T>(
        &self,
        call: &Call,
        key: Key,
        statement: Statement,
        reply: fn(ConsentRecord, String) -> T,
    ) -> Result<Written<T>>
    where
        T: Message + Default + Send + 'static,
    {
        let customer_id = uuid(&statement.customer_id)?;
        let record_id = Uuid::now_v7();
        self.db
            .write(call, key, move |tx| {
                let statement = statement.clone();
                Box::pin(async move {
                    // Not before the request id is known to be new: a repetition may come after the end.
                    if time(statement.expire_time).is_some_and(|expire_time| expire_time <= Utc::now()) {
                        return Err(Failure::invalid("expire_time", "must lie in the future").into());
                    }
                    let version = tx.raise(customer_id).await?;
                    let row = RecordRow::next(tx, record_id, customer_id, version, &statement).await?;
                    record_insert(tx, version, &row).await?;
                    let record = row.into_proto(tx.keys())?;
                    let payload = json!({
                        "record_id": record_id, "purpose_id": record.purpose_id,
                        "channel": record.channel().as_str_name(), "decision": record.decision().as_str_name(),
                    });
                    let change =
                        Change { customer_id, version, resource: "consent", kind: "consent.recorded", payload };
                    tx.changes(vec![change]).await?;
                    Ok(reply(record, tx.token(customer_id, version)))
                })
            })
            .await
    }

    pub async fn record_list(&self, request: &ListConsentRecordsRequest) -> Result<Page<ConsentRecord>> {
        self.db.require_of(request.consistency.as_ref(), &[uuid(&request.customer_id)?]).await?;
        let size = page_size(request.page_size, 100);
        let listing = format!("ListConsentRecords {}", request.customer_id);
        let before: i64 = self.db.cursor(&listing, &request.page_token)?.unwrap_or(i64::MAX);
        let query = sqlx::query_as!(
            RecordRow,
            r#"
            select record_id, customer_id, version, purpose_id, channel, decision, method, notice_version, language,
                   sealed, recorded_at, expires_at, previous_hash, hash
            from consent.records
            where customer_id = $1 and version < $2
            order by version desc
            limit $3
            "#,
            uuid(&request.customer_id)?,
            before,
            size + 1
        );
        let rows = sql("select consent.records", query.fetch_all(&self.db)).await?;
        let page = self.db.page(&listing, rows, size, |row| row.version);
        let keys = self.db.unlock(page.items.iter().map(|row| row.sealed.as_slice())).await?;
        let items = page.items.into_iter().map(|row| row.into_proto(&keys)).collect::<Result<_>>()?;
        Ok(Page { items, next_page_token: page.next_page_token })
    }

    /// Decides from the database alone.
    pub async fn decide(&self, request: &CheckConsentRequest) -> Result<CheckConsentResponse> {
        self.db.refuse_erased(&[uuid(&request.customer_id)?]).await?;
        let query = sqlx::query!(
            r#"
            select p.legal_basis, r.record_id as "record_id?"
            from consent.purposes p
            left join consent.records r on r.purpose_id = p.purpose_id and r.customer_id = $1
            where p.purpose_id = $2
            "#,
            uuid(&request.customer_id)?,
            request.purpose_id
        );
        let rows = sql("select consent.records", query.fetch_all(&self.db)).await?;
        let basis = rows.first().ok_or(reason::PURPOSE_NOT_FOUND)?.legal_basis;
        let ids: Vec<Uuid> = rows.iter().filter_map(|row| row.record_id).collect();
        let mut rows = RecordRow::select(&ids, &self.db).await?;
        let records: Vec<Record> = rows.iter().map(RecordRow::decision_record).collect();
        let basis = LegalBasis::try_from(basis).unwrap_or_default();
        let at = time(request.at).unwrap_or_else(|| decision::now(&records));
        let answer = decision::decide(&records, basis, request.channel(), at);
        rows.retain(|row| Some(row.record_id) == answer.deciding);
        let keys = self.db.unlock(rows.iter().map(|row| row.sealed.as_slice())).await?;
        Ok(CheckConsentResponse {
            allowed: answer.allowed,
            deciding_record: rows.pop().map(|row| row.into_proto(&keys)).transpose()?,
            as_of: Some(timestamp(at)),
        })
    }

    /// The customers' versions and records, by one statement.
    pub async fn section_rows(&self, ids: &[Uuid]) -> Result<Vec<(Uuid, i64, Vec<RecordRow>)>> {
        let query = sqlx::query!(
            r#"
            select
                c.customer_id as "id!", c.version as "customer_version!",
                r.record_id as "record_id?", r.version as "version?", r.purpose_id as "purpose_id?",
                r.channel as "channel?", r.decision as "decision?", r.method as "method?",
                r.notice_version as "notice_version?", r.language as "language?", r.recorded_at as "recorded_at?",
                r.expires_at
            from consent.customers c
            left join consent.records r using (customer_id)
            where c.customer_id = any ($1)
            "#,
            ids
        );
        let rows = sql("select consent.records", query.fetch_all(&self.db)).await?;
        let mut customers: HashMap<Uuid, (i64, Vec<RecordRow>)> = HashMap::new();
        for row in rows {
            let (_, records) = customers.entry(row.id).or_insert((row.customer_version, Vec::new()));
            records.extend((|| {
                Some(RecordRow {
                    record_id: row.record_id?,
                    customer_id: row.id,
                    version: row.version?,
                    purpose_id: row.purpose_id?,
                    channel: row.channel?,
                    decision: row.decision?,
                    method: row.method?,
                    notice_version: row.notice_version?,
                    language: row.language?,
                    recorded_at: row.recorded_at?,
                    expires_at: row.expires_at,
                    sealed: Vec::new(),
                    previous_hash: Vec::new(),
                    hash: Vec::new(),
                })
            })());
        }
        Ok(customers.into_iter().map(|(id, (version, records))| (id, version, records)).collect())
    }
}

#[derive(Debug, Deserialize)]
struct TextJson {
    language: String,
    text: String,
    sha256: String,
}

impl TextJson {
    fn into_proto(self) -> NoticeText {
        NoticeText { language: self.language, text: self.text, sha256: self.sha256 }
    }
}

/// A record as it is stored.
pub struct RecordRow {
    pub record_id: Uuid,
    customer_id: Uuid,
    version: i64,
    pub purpose_id: String,
    channel: i32,
    decision: i32,
    method: String,
    notice_version: i32,
    language: String,
    sealed: Vec<u8>,
    recorded_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    previous_hash: Vec<u8>,
    hash: Vec<u8>,
}

impl RecordRow {
    /// The next link of a customer's chain, under the customer's lock.
    async fn next(
        tx: &mut Tx,
        record_id: Uuid,
        customer_id: Uuid,
        version: i64,
        statement: &Statement,
    ) -> Result<Self> {
        let query = sqlx::query!(
            r#"
            select coalesce((select hash from consent.records where customer_id = $1 order by version desc limit 1), '')
                as "hash!", clock_timestamp() as "now!"
            "#,
            customer_id
        );
        let last = sql("select consent.records", query.fetch_one(tx.sql())).await?;
        let evidence = &statement.evidence;
        let sealed = tx.keys().seal(customer_id, place(record_id), evidence.reference.as_bytes())?;
        let mut row = Self {
            record_id,
            customer_id,
            version,
            purpose_id: statement.purpose_id.clone(),
            channel: statement.channel,
            decision: statement.decision as i32,
            method: evidence.method.clone(),
            notice_version: evidence.notice_version,
            language: evidence.language.clone(),
            sealed,
            recorded_at: last.now,
            expires_at: time(statement.expire_time),
            previous_hash: last.hash,
            hash: Vec::new(),
        };
        let reference = tx.vault().index("records.reference", evidence.reference.as_bytes());
        row.hash = row.chained(&reference);
        Ok(row)
    }

    fn chained(&self, reference: &[u8]) -> Vec<u8> {
        let micros = |time: DateTime<Utc>| time.timestamp_micros().to_be_bytes();
        decision::chain(
            &self.previous_hash,
            &[
                self.record_id.as_bytes(),
                self.customer_id.as_bytes(),
                &self.version.to_be_bytes(),
                self.purpose_id.as_bytes(),
                &self.channel.to_be_bytes(),
                &self.decision.to_be_bytes(),
                self.method.as_bytes(),
                &self.notice_version.to_be_bytes(),
                self.language.as_bytes(),
                reference,
                &micros(self.recorded_at),
                &self.expires_at.map(micros).unwrap_or_default(),
            ],
        )
    }

    async fn select(ids: &[Uuid], executor: impl sqlx::PgExecutor<'_>) -> Result<Vec<Self>> {
        let query = sqlx::query_as!(
            RecordRow,
            r#"
            select record_id, customer_id, version, purpose_id, channel, decision, method, notice_version, language,
                   sealed, recorded_at, expires_at, previous_hash, hash
            from consent.records where record_id = any ($1)
            "#,
            ids
        );
        sql("select consent.records", query.fetch_all(executor)).await
    }

    /// What a decision looks at.
    pub fn decision_record(&self) -> Record {
        Record {
            record_id: self.record_id,
            version: self.version,
            channel: ConsentChannel::try_from(self.channel).unwrap_or_default(),
            decision: Decision::try_from(self.decision).unwrap_or_default(),
            recorded_at: self.recorded_at,
            expires_at: self.expires_at,
        }
    }

    /// The record without what is sealed and without its place in the chain.
    pub fn into_brief(self) -> ConsentRecord {
        ConsentRecord {
            record_id: self.record_id.to_string(),
            customer_id: self.customer_id.to_string(),
            purpose_id: self.purpose_id,
            channel: self.channel,
            decision: self.decision,
            evidence: Some(Evidence {
                method: self.method,
                reference: String::new(),
                notice_version: self.notice_version,
                language: self.language,
            }),
            record_time: Some(timestamp(self.recorded_at)),
            expire_time: self.expires_at.map(timestamp),
            ..Default::default()
        }
    }

    fn into_proto(self, keys: &Keys) -> Result<ConsentRecord> {
        let reference = keys.open(place(self.record_id), &self.sealed)?;
        let (previous_hash, hash) = (hex(&self.previous_hash), hex(&self.hash));
        let mut record = ConsentRecord { previous_hash, hash, ..self.into_brief() };
        if let Some(evidence) = &mut record.evidence {
            evidence.reference = String::from_utf8_lossy(&reference).into_owned();
        }
        Ok(record)
    }
}

async fn record_insert(tx: &mut Tx, version: i64, row: &RecordRow) -> Result<()> {
    let query = sqlx::query!(
        r#"
        insert into consent.records (
            record_id, customer_id, version, purpose_id, channel, decision, method, notice_version, language,
            sealed, recorded_at, expires_at, previous_hash, hash)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
        "#,
        row.record_id,
        row.customer_id,
        version,
        row.purpose_id,
        row.channel,
        row.decision,
        row.method,
        row.notice_version,
        row.language,
        row.sealed,
        row.recorded_at,
        row.expires_at,
        row.previous_hash,
        row.hash
    );
    sql("insert consent.records", query.execute(tx.sql())).await?;
    Ok(())
}

async fn notice_insert(tx: &mut Tx, purpose_id: &str, version: i32, texts: &[NoticeText]) -> Result<()> {
    let query =
        sqlx::query!("insert into consent.notice_versions (purpose_id, version) values ($1, $2)", purpose_id, version);
    sql("insert consent.notice_versions", query.execute(tx.sql())).await?;
    let languages: Vec<String> = texts.iter().map(|text| text.language.clone()).collect();
    let bodies: Vec<String> = texts.iter().map(|text| text.text.clone()).collect();
    let hashes: Vec<String> = texts.iter().map(|text| sha256(&text.text)).collect();
    let query = sqlx::query!(
        r#"
        insert into consent.notices (purpose_id, version, language, text, sha256)
        select $1, $2, language, body, sha256
        from unnest($3::text[], $4::text[], $5::text[]) as notice (language, body, sha256)
        "#,
        purpose_id,
        version,
        &languages,
        &bodies,
        &hashes
    );
    sql("insert consent.notices", query.execute(tx.sql())).await?;
    Ok(())
}

fn sha256(text: &str) -> String {
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn place(record_id: Uuid) -> Place {
    Place { table: "records", column: "sealed", row: record_id }
}
