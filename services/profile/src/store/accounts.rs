//! Accounts: names that lead to them, passwords, and the lock after wrong ones.

use std::{sync::Arc, time::Duration};

use access::Call;
use chrono::{DateTime, Utc};
use error::{Failure, reason::WRITE_CONFLICT};
use prost::Message;
use proto::{profile::v1::*, r#type::v1::FederatedSubject};
use serde_json::json;
use store::{Result, Tx, Written, sql, time, timestamp, uuid};
use uuid::Uuid;
use vault::{Keys, Place, Vault};

use super::{Store, changed, profile_open};
use crate::{password::Peppered, reason};

/// So many wrong passwords in a row lock an account.
const MAX_FAILURES: i32 = 5;

/// An account as it is stored.
struct Row {
    customer_id: Uuid,
    sealed: Vec<u8>,
    second_factors: Vec<i32>,
    verifier: Option<Vec<u8>>,
    password_at: Option<DateTime<Utc>>,
    failures: i32,
    locked_until: Option<DateTime<Utc>>,
    /// For so many seconds; less than one when it is open.
    locked_for: i64,
    last_sign_in_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
}

impl Row {
    async fn select(customer: Uuid, executor: impl sqlx::PgExecutor<'_>) -> Result<Self> {
        let query = sqlx::query_as!(
            Row,
            r#"
            select customer_id, sealed, second_factors, verifier, password_at, failures, locked_until,
                   coalesce(ceil(extract(epoch from locked_until - clock_timestamp()))::bigint, 0) as "locked_for!",
                   last_sign_in_at, created_at
            from profile.accounts where customer_id = $1
            "#,
            customer
        );
        let row = sql("select profile.accounts", query.fetch_optional(executor)).await?;
        row.ok_or_else(|| reason::ACCOUNT_NOT_FOUND.into())
    }

    fn open(self, keys: &Keys) -> Result<Account> {
        let named = Account::decode(keys.open(place(self.customer_id, "sealed"), &self.sealed)?.as_slice())?;
        Ok(Account {
            customer_id: self.customer_id.to_string(),
            second_factors: self.second_factors,
            password_time: self.password_at.map(timestamp),
            lock_end_time: self.locked_until.filter(|_| self.locked_for > 0).map(timestamp),
            last_sign_in_time: self.last_sign_in_at.map(timestamp),
            create_time: Some(timestamp(self.created_at)),
            ..named
        })
    }

    /// Refuses while no password is looked at.
    fn must_be_open(&self) -> Result<()> {
        match u64::try_from(self.locked_for) {
            Err(_) | Ok(0) => Ok(()),
            Ok(wait) => Err(Failure::from(reason::ACCOUNT_LOCKED).retry_after(Duration::from_secs(wait)).into()),
        }
    }
}

impl Store {
    pub async fn account_set(&self, call: &Call, request: SetAccountRequest) -> Result<Written<SetAccountResponse>> {
        let key = self.db.key("SetAccount", &request.request_id, &request)?;
        let customer = uuid(&request.customer_id)?;
        let account = Arc::new(request.account.unwrap_or_default());
        self.db
            .write(call, key, move |tx| {
                let account = account.clone();
                Box::pin(async move {
                    let version = tx.raise(customer).await?;
                    profile_open(tx, customer).await?;
                    account_upsert(tx, customer, &account).await?;
                    account_names_replace(tx, customer, &account).await?;
                    changed(tx, customer, version, "account.set", json!({})).await?;
                    let account = Some(account_read(tx, customer).await?);
                    Ok(SetAccountResponse { account, consistency_token: tx.token(customer, version) })
                })
            })
            .await
    }

    pub async fn account_get(&self, request: &GetAccountRequest) -> Result<Account> {
        let customer = uuid(&request.customer_id)?;
        self.db.require_of(request.consistency.as_ref(), &[customer]).await?;
        self.db.refuse_erased(&[customer]).await?;
        let row = Row::select(customer, &self.db).await?;
        let keys = self.db.unlock([row.sealed.as_slice()]).await?;
        row.open(&keys)
    }

    pub async fn password_set(&self, call: &Call, request: SetPasswordRequest) -> Result<SetPasswordResponse> {
        let customer = uuid(&request.customer_id)?;
        self.db.refuse_erased(&[customer]).await?;
        let verifier = match &request.password {
            Some(password) => Some(Peppered::new(self.db.vault(), customer, password).verifier().await?),
            None => None,
        };
        self.db
            .transact(call, move |tx| {
                let verifier = verifier.clone();
                Box::pin(async move {
                    let version = tx.raise(customer).await?;
                    let seal =
                        |verifier: &String| tx.keys().seal(customer, place(customer, "verifier"), verifier.as_bytes());
                    let sealed = verifier.as_ref().map(seal).transpose()?;
                    let query = sqlx::query!(
                        r#"
                        update profile.accounts
                        set verifier = $2, password_at = case when $2::bytea is null then null else clock_timestamp() end,
                            failures = 0, locked_until = null
                        where customer_id = $1
                        "#,
                        customer,
                        sealed
                    );
                    sql("update profile.accounts", query.execute(tx.sql())).await?;
                    let account = account_read(tx, customer).await?;
                    changed(tx, customer, version, "account.password_set", json!({})).await?;
                    Ok(SetPasswordResponse { account: Some(account), consistency_token: tx.token(customer, version) })
                })
            })
            .await
    }

    /// Tries a password. What came out is told only once the try is counted, and nobody gets more of them by asking
    /// many times at once.
    pub async fn password_verify(&self, call: &Call, request: VerifyPasswordRequest) -> Result<VerifyPasswordResponse> {
        let customer = uuid(&request.customer_id)?;
        self.db.refuse_erased(&[customer]).await?;
        let row = Row::select(customer, &self.db).await?;
        row.must_be_open()?;
        let sealed = row.verifier.ok_or(reason::PASSWORD_NOT_SET)?;
        let keys = self.db.unlock([sealed.as_slice()]).await?;
        let verifier = String::from_utf8_lossy(&keys.open(place(customer, "verifier"), &sealed)?).into_owned();
        let verified = Peppered::new(self.db.vault(), customer, &request.password).fits(verifier).await?;
        self.db
            .transact(call, move |tx| {
                let sealed = sealed.clone();
                Box::pin(async move {
                    account_lock(tx, customer).await?;
                    let row = Row::select(customer, tx.sql()).await?;
                    row.must_be_open()?;
                    if row.verifier != Some(sealed) {
                        return Err(WRITE_CONFLICT.into());
                    }
                    let failures = if verified { 0 } else { row.failures + 1 };
                    tried(tx, customer, failures).await?;
                    if failures == MAX_FAILURES {
                        let version = tx.raise(customer).await?;
                        changed(tx, customer, version, "account.locked", json!({})).await?;
                    }
                    Ok(VerifyPasswordResponse { verified, tries_left: MAX_FAILURES - failures })
                })
            })
            .await
    }

    pub async fn sign_in_record(
        &self,
        call: &Call,
        request: RecordSignInRequest,
    ) -> Result<Written<RecordSignInResponse>> {
        let key = self.db.key("RecordSignIn", &request.request_id, &request)?;
        let customer = uuid(&request.customer_id)?;
        let at = time(request.sign_in_time);
        self.db
            .write(call, key, move |tx| {
                Box::pin(async move {
                    let version = tx.raise(customer).await?;
                    let query = sqlx::query!(
                        r#"
                        update profile.accounts
                        set last_sign_in_at = greatest(last_sign_in_at, coalesce($2, clock_timestamp()))
                        where customer_id = $1
                        "#,
                        customer,
                        at
                    );
                    sql("update profile.accounts", query.execute(tx.sql())).await?;
                    let account = Some(account_read(tx, customer).await?);
                    changed(tx, customer, version, "account.signed_in", json!({})).await?;
                    Ok(RecordSignInResponse { account, consistency_token: tx.token(customer, version) })
                })
            })
            .await
    }

    /// The customers behind user names and federated subjects, by their hashes.
    pub async fn account_resolve(&self, hashes: &[Vec<u8>]) -> Result<Vec<(Vec<u8>, Uuid)>> {
        if hashes.is_empty() {
            return Ok(Vec::new());
        }
        let query = sqlx::query!("select hash, customer_id from profile.account_names where hash = any ($1)", hashes);
        let rows = sql("select profile.account_names", query.fetch_all(&self.db)).await?;
        Ok(rows.into_iter().map(|row| (row.hash, row.customer_id)).collect())
    }
}

async fn account_read(tx: &mut Tx, customer: Uuid) -> Result<Account> {
    let row = Row::select(customer, tx.sql()).await?;
    tx.unlock([row.sealed.as_slice()]).await?;
    row.open(tx.keys())
}

async fn account_lock(tx: &mut Tx, customer: Uuid) -> Result<()> {
    // Customers come before what is theirs, in every write.
    let query = sqlx::query!(
        r#"
        select 1 as locked from profile.customers c join profile.accounts a using (customer_id)
        where customer_id = $1 for update
        "#,
        customer
    );
    sql("select profile.accounts", query.fetch_optional(tx.sql())).await?;
    Ok(())
}

async fn account_upsert(tx: &mut Tx, customer: Uuid, account: &Account) -> Result<()> {
    let named = Account {
        user_name: account.user_name.clone(),
        federated_subjects: account.federated_subjects.clone(),
        ..Default::default()
    };
    let query = sqlx::query!(
        r#"
        insert into profile.accounts (customer_id, sealed, second_factors) values ($1, $2, $3)
        on conflict (customer_id) do update set sealed = excluded.sealed, second_factors = excluded.second_factors
        "#,
        customer,
        tx.keys().seal(customer, place(customer, "sealed"), &named.encode_to_vec())?,
        &account.second_factors
    );
    sql("insert profile.accounts", query.execute(tx.sql())).await?;
    Ok(())
}

async fn account_names_replace(tx: &mut Tx, customer: Uuid, account: &Account) -> Result<()> {
    let user_name = (!account.user_name.is_empty()).then(|| user_name_hash(tx.vault(), &account.user_name));
    let subjects = account.federated_subjects.iter().map(|subject| subject_hash(tx.vault(), subject));
    let mut hashes: Vec<Vec<u8>> = user_name.into_iter().chain(subjects).collect();
    hashes.sort();
    let query = sqlx::query!(
        "delete from profile.account_names where customer_id = $1 and hash <> all ($2::bytea[])",
        customer,
        &hashes
    );
    sql("delete profile.account_names", query.execute(tx.sql())).await?;
    let query = sqlx::query!(
        r#"
        insert into profile.account_names (hash, customer_id)
        select hash, $1 from unnest($2::bytea[]) as new (hash)
        where hash not in (select hash from profile.account_names where customer_id = $1)
        "#,
        customer,
        &hashes
    );
    sql("insert profile.account_names", query.execute(tx.sql())).await?;
    Ok(())
}

/// Counts a try; the last of too many wrong ones locks the account, and the count begins anew.
async fn tried(tx: &mut Tx, customer: Uuid, failures: i32) -> Result<()> {
    let query = sqlx::query!(
        r#"
        update profile.accounts
        set failures = case when $2::integer >= $3::integer then 0 else $2 end,
            locked_until = case when $2::integer >= $3::integer then clock_timestamp() + interval '15 minutes' end
        where customer_id = $1
        "#,
        customer,
        failures,
        MAX_FAILURES
    );
    sql("update profile.accounts", query.execute(tx.sql())).await?;
    Ok(())
}

/// A user name as it is looked up.
pub fn user_name_hash(vault: &Vault, user_name: &str) -> Vec<u8> {
    vault.index("account_names.user_name", user_name.trim().to_lowercase().as_bytes()).to_vec()
}

/// A federated subject as it is looked up.
pub fn subject_hash(vault: &Vault, subject: &FederatedSubject) -> Vec<u8> {
    vault.index("account_names.subject", &subject.encode_to_vec()).to_vec()
}

fn place(customer: Uuid, column: &'static str) -> Place {
    Place { table: "accounts", column, row: customer }
}
