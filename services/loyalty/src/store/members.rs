//! Members and their card numbers.

use access::Call;
use chrono::{DateTime, Utc};
use proto::{loyalty::v1::*, section::v1::Resolution, r#type::v1::Identifier};
use serde_json::json;
use store::{Change, Result, Tx, Written, sql, timestamp, uuid};
use uuid::Uuid;

use super::Store;
use crate::{ledger, reason, request};

impl Store {
    pub async fn member_enroll(&self, call: &Call, request: EnrollRequest) -> Result<Written<EnrollResponse>> {
        let key = self.db.key("Enroll", &request.request_id, &request)?;
        let customer_id = uuid(&request.customer_id)?;
        let programme_id = request.programme_id;
        self.db
            .write(call, key, move |tx| {
                let programme_id = programme_id.clone();
                Box::pin(async move {
                    let version = tx.raise(customer_id).await?;
                    let member = member_insert(tx, customer_id, &programme_id).await?;
                    let payload = json!({"member_id": member.member_id, "programme_id": programme_id});
                    let change = Change { customer_id, version, resource: "member", kind: "member.enrolled", payload };
                    tx.changes(vec![change]).await?;
                    let consistency_token = tx.token(customer_id, version);
                    Ok(EnrollResponse { member: Some(member.into_proto()), consistency_token })
                })
            })
            .await
    }

    pub async fn member_get(&self, request: &GetMemberRequest) -> Result<Member> {
        self.db.require(request.consistency.as_ref()).await?;
        let id = (!request.member_id.is_empty()).then(|| uuid(&request.member_id)).transpose()?;
        let query = sqlx::query_as!(
            MemberRow,
            r#"
            select member_id, customer_id, programme_id, member_number, enrolled_at from loyalty.members
            where member_id = $1 or member_number = $2
            "#,
            id,
            request::digits(&request.member_number)
        );
        let row = sql("select loyalty.members", query.fetch_optional(&self.db)).await?;
        let row = row.ok_or(reason::MEMBER_NOT_FOUND)?;
        self.db.refuse_erased(&[row.customer_id]).await?;
        Ok(row.into_proto())
    }

    /// The customers behind card numbers, in the order asked.
    pub async fn identifier_resolve(&self, identifiers: &[Identifier]) -> Result<Vec<Resolution>> {
        let numbers: Vec<String> = identifiers.iter().map(|i| request::digits(&i.member_number)).collect();
        let query = sqlx::query!(
            r#"
            select asked.position as "position!", found.customer_id
            from unnest($1::text[]) with ordinality as asked (member_number, position)
            join loyalty.members as found using (member_number)
            join loyalty.customers as c using (customer_id)
            where c.state <> 'erased'
            "#,
            &numbers
        );
        let rows = sql("select loyalty.members", query.fetch_all(&self.db)).await?;
        let mut found = vec![Resolution::default(); identifiers.len()];
        for row in rows {
            found[row.position as usize - 1].customer_ids.push(row.customer_id.to_string());
        }
        Ok(found)
    }
}

async fn member_insert(tx: &mut Tx, customer_id: Uuid, programme_id: &str) -> Result<MemberRow> {
    let query =
        sqlx::query_scalar!(r#"select nextval(pg_get_serial_sequence('loyalty.members', 'serial')) as "serial!""#);
    let serial = sql("select loyalty.members", query.fetch_one(tx.sql())).await?;
    let query = sqlx::query_as!(
        MemberRow,
        r#"
        insert into loyalty.members (member_id, customer_id, programme_id, serial, member_number)
        overriding system value values ($1, $2, $3, $4, $5)
        returning member_id, customer_id, programme_id, member_number, enrolled_at
        "#,
        Uuid::now_v7(),
        customer_id,
        programme_id,
        serial,
        ledger::member_number(serial)
    );
    sql("insert loyalty.members", query.fetch_one(tx.sql())).await
}

pub struct MemberRow {
    pub member_id: Uuid,
    pub customer_id: Uuid,
    pub programme_id: String,
    pub member_number: String,
    pub enrolled_at: DateTime<Utc>,
}

impl MemberRow {
    pub fn into_proto(self) -> Member {
        Member {
            member_id: self.member_id.to_string(),
            customer_id: self.customer_id.to_string(),
            programme_id: self.programme_id,
            member_number: self.member_number,
            enroll_time: Some(timestamp(self.enrolled_at)),
        }
    }
}
