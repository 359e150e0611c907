use std::collections::BTreeMap;

use aws_lc_rs::digest;
use cache::Token;
use error::reason;
use proto::r#type::v1::Consistency;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{Db, Fault, Result, Tx, sql};

impl Tx {
    /// Names the write that gave the customer this version.
    pub fn token(&self, customer: Uuid, version: i64) -> String {
        let inner = &self.db.0;
        Token { epoch: self.db.epoch(), service: inner.service.to_owned(), customer, version }.encode(&inner.token_key)
    }
}

impl Db {
    /// Answers when this database has seen every write that the tokens of this service name, else
    /// `CONSISTENCY_TOKEN_EXPIRED`.
    pub async fn require(&self, consistency: Option<&Consistency>) -> Result<()> {
        self.seen(self.required(consistency)?).await
    }

    /// The same for a read of certain customers, which passes over tokens of others.
    pub async fn require_of(&self, consistency: Option<&Consistency>, customers: &[Uuid]) -> Result<()> {
        let mut required = self.required(consistency)?;
        required.retain(|customer, _| customers.contains(customer));
        self.seen(required).await?;
        self.refuse_erased(customers).await
    }

    async fn seen(&self, required: BTreeMap<Uuid, i64>) -> Result<()> {
        if required.is_empty() {
            return Ok(());
        }
        let ids: Vec<Uuid> = required.keys().copied().collect();
        let versions = sql(
            "select customers",
            sqlx::query!("select customer_id, version from customers where customer_id = any ($1)", &ids)
                .fetch_all(self),
        )
        .await?;
        let versions: BTreeMap<Uuid, i64> = versions.into_iter().map(|row| (row.customer_id, row.version)).collect();
        let met = required.iter().all(|(id, version)| versions.get(id).is_some_and(|have| have >= version));
        if met { Ok(()) } else { Err(reason::CONSISTENCY_TOKEN_EXPIRED.into()) }
    }

    /// The version that each customer must have at least. A token of another life of the database
    /// asks for what can never be.
    pub fn required(&self, consistency: Option<&Consistency>) -> Result<BTreeMap<Uuid, i64>> {
        let tokens = consistency.map(|c| c.consistency_tokens.as_slice()).unwrap_or_default();
        let epoch = self.epoch();
        let mut required = BTreeMap::new();
        for token in tokens {
            let token = Token::decode(token, &self.0.token_key)
                .ok_or_else(|| Fault::from(reason::CONSISTENCY_TOKEN_INVALID))?;
            if token.service == self.0.service {
                let version = if token.epoch == epoch { token.version } else { i64::MAX };
                let highest = required.entry(token.customer).or_insert(version);
                *highest = version.max(*highest);
            }
        }
        Ok(required)
    }
}

/// The life of the database: another cluster or database, a promoted standby and a restore each begin
/// a new one.
/// The timeline is that of the log being written: what `pg_control_checkpoint()` says is the last
/// checkpoint's, which after a promotion is the old one's for minutes. A standby has no such log, so
/// it is refused here.
pub(crate) async fn epoch(connection: &mut PgConnection) -> sqlx::Result<[u8; 8]> {
    let row = sqlx::query!(
        r#"
        select system_identifier::text || ' ' ||
               substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) || ' ' || epoch || ' ' || pg_database.oid as "life!"
        from pg_control_system(), feed, pg_database where datname = current_database()
        "#
    )
    .fetch_one(connection)
    .await?;
    let hash = digest::digest(&digest::SHA256, row.life.as_bytes());
    Ok(*hash.as_ref().first_chunk().expect("SHA-256 is 32 bytes"))
}
