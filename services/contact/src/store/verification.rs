//! Verification by a code that only whoever can be reached there can know.

use access::Call;
use aws_lc_rs::{constant_time::verify_slices_are_equal, rand};
use chrono::{DateTime, Utc};
use proto::contact::v1::*;
use store::{Result, Tx, Written, sql, timestamp, uuid};
use uuid::Uuid;
use vault::Vault;

use super::{Store, changed, locked};
use crate::reason;

const MAX_TRIES: i32 = 5;
const MAX_PER_HOUR: i64 = 5;
/// Of all contact points of a customer, also of those that are gone.
const MAX_PER_CUSTOMER: i64 = 20;

/// A verification as it is stored.
struct Started {
    contact_point_id: Uuid,
    code: Vec<u8>,
    tries: i32,
    over: bool,
}

impl Store {
    pub async fn verification_start(
        &self,
        call: &Call,
        request: StartVerificationRequest,
    ) -> Result<Written<StartVerificationResponse>> {
        let key = self.db.key("StartVerification", &request.request_id, &request)?;
        let id = uuid(&request.contact_point_id)?;
        let (verification_id, code) = (Uuid::now_v7(), code());
        self.db
            .write(call, key, move |tx| {
                let code = code.clone();
                Box::pin(async move {
                    let (customer, version, row) = locked(tx, id).await?;
                    let expires_at = insert(tx, customer, id, verification_id, &code).await?;
                    changed(tx, customer, version, "contact_point.verification_started", id, row.kind()).await?;
                    Ok(StartVerificationResponse {
                        verification_id: verification_id.to_string(),
                        code,
                        expire_time: Some(timestamp(expires_at)),
                        consistency_token: tx.token(customer, version),
                    })
                })
            })
            .await
    }

    pub async fn verification_check(
        &self,
        call: &Call,
        request: CheckVerificationRequest,
    ) -> Result<Written<CheckVerificationResponse>> {
        let key = self.db.key("CheckVerification", &request.request_id, &request)?;
        let verification_id = uuid(&request.verification_id)?;
        let code = hash(self.db.vault(), verification_id, &request.code);
        self.db
            .write(call, key, move |tx| {
                let code = code.clone();
                Box::pin(async move {
                    let point = select(tx, verification_id).await?.contact_point_id;
                    let (customer, version, row) = locked(tx, point).await?;
                    let started = select(tx, verification_id).await?;
                    let (result, tries) = match () {
                        () if started.over => (VerificationResult::Expired, started.tries),
                        () if started.tries >= MAX_TRIES => (VerificationResult::Exhausted, started.tries),
                        () if verify_slices_are_equal(&started.code, &code).is_ok() => {
                            (VerificationResult::Verified, started.tries + 1)
                        }
                        () => (VerificationResult::WrongCode, started.tries + 1),
                    };
                    tried(tx, verification_id, tries, result).await?;
                    if result == VerificationResult::Verified {
                        verified(tx, point, version).await?;
                    }
                    let kind = match result {
                        VerificationResult::Verified => "contact_point.verified",
                        _ => "contact_point.verification_failed",
                    };
                    changed(tx, customer, version, kind, point, row.kind()).await?;
                    Ok(CheckVerificationResponse {
                        result: result.into(),
                        tries_left: MAX_TRIES - tries,
                        consistency_token: tx.token(customer, version),
                    })
                })
            })
            .await
    }
}

/// Begins a verification, and ends those before.
async fn insert(tx: &mut Tx, customer: Uuid, id: Uuid, verification_id: Uuid, code: &str) -> Result<DateTime<Utc>> {
    let query = sqlx::query!(
        r#"
        with old as (
            delete from contact.verifications where verification_id in (
                select verification_id from contact.verifications where started_at < now() - interval '1 hour'
                limit 100 for update skip locked)
        )
        select count(*) filter (where contact_point_id = $2) as "of_point!", count(*) as "of_customer!"
        from contact.verifications where customer_id = $1 and started_at >= now() - interval '1 hour'
        "#,
        customer,
        id
    );
    let begun = sql("select contact.verifications", query.fetch_one(tx.sql())).await?;
    if begun.of_point >= MAX_PER_HOUR || begun.of_customer >= MAX_PER_CUSTOMER {
        return Err(reason::TOO_MANY_VERIFICATIONS.into());
    }
    let query = sqlx::query_scalar!(
        r#"
        with before as (
            update contact.verifications set expires_at = now() where contact_point_id = $2 and expires_at > now()
        )
        insert into contact.verifications (verification_id, contact_point_id, code, customer_id) values ($1, $2, $3, $4)
        returning expires_at
        "#,
        verification_id,
        id,
        hash(tx.vault(), verification_id, code),
        customer
    );
    sql("insert contact.verifications", query.fetch_one(tx.sql())).await
}

async fn select(tx: &mut Tx, verification_id: Uuid) -> Result<Started> {
    let query = sqlx::query_as!(
        Started,
        r#"
        select contact_point_id, code, tries, expires_at <= clock_timestamp() as "over!"
        from contact.verifications where verification_id = $1 and started_at >= now() - interval '1 hour'
        "#,
        verification_id
    );
    let started = sql("select contact.verifications", query.fetch_optional(tx.sql())).await?;
    started.ok_or_else(|| reason::VERIFICATION_NOT_FOUND.into())
}

/// Counts a try. A code is good once.
async fn tried(tx: &mut Tx, verification_id: Uuid, tries: i32, result: VerificationResult) -> Result<()> {
    let query = sqlx::query!(
        r#"
        update contact.verifications set tries = $2, expires_at = case when $3 then now() else expires_at end
        where verification_id = $1
        "#,
        verification_id,
        tries,
        result == VerificationResult::Verified
    );
    sql("update contact.verifications", query.execute(tx.sql())).await?;
    Ok(())
}

async fn verified(tx: &mut Tx, id: Uuid, version: i64) -> Result<()> {
    let query = sqlx::query!(
        r#"
        update contact.contact_points set verified_at = clock_timestamp(), version = $2, updated_at = clock_timestamp()
        where contact_point_id = $1
        "#,
        id,
        version
    );
    sql("update contact.contact_points", query.execute(tx.sql())).await?;
    Ok(())
}

/// Six digits, each code as likely as any other.
fn code() -> String {
    const CODES: u32 = 1_000_000;
    loop {
        let mut bytes = [0; 4];
        rand::fill(&mut bytes).expect("the system's random source answers");
        let number = u32::from_be_bytes(bytes);
        // What is left over above the last whole million would make small codes likelier.
        if number < u32::MAX - u32::MAX % CODES {
            return format!("{:06}", number % CODES);
        }
    }
}

/// A code as it is stored: without the key ring it would take a million guesses to read it.
fn hash(vault: &Vault, verification_id: Uuid, code: &str) -> Vec<u8> {
    vault.index("verifications.code", &[verification_id.as_bytes(), code.as_bytes()].concat()).to_vec()
}
