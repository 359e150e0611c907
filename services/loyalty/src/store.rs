//! The SQL of loyalty.

mod entries;
mod members;

use access::Call;
use chrono::{DateTime, Utc};
use proto::loyalty::v1::*;
use serde::Deserialize;
use sqlx::types::Json;
use store::{Db, Page, Result, Written, page_size, sql, timestamp};
use uuid::Uuid;

pub use self::entries::balance;
use self::members::MemberRow;
use crate::ledger::{self, Holding, Lot};

#[derive(Clone)]
pub struct Store {
    pub db: Db,
}

impl Store {
    pub async fn programme_create(
        &self,
        call: &Call,
        request: CreateProgrammeRequest,
    ) -> Result<Written<CreateProgrammeResponse>> {
        let key = self.db.key("CreateProgramme", &request.request_id, &request)?;
        let programme = request.programme.unwrap_or_default();
        self.db
            .write(call, key, move |tx| {
                let mut programme = programme.clone();
                Box::pin(async move {
                    let query = sqlx::query_scalar!(
                        r#"
                        insert into loyalty.programmes (programme_id, display_name, expiry_months)
                        values ($1, $2, $3) returning created_at
                        "#,
                        programme.programme_id,
                        programme.display_name,
                        programme.expiry_months
                    );
                    let created_at = sql("insert loyalty.programmes", query.fetch_one(tx.sql())).await?;
                    programme.create_time = Some(timestamp(created_at));
                    Ok(CreateProgrammeResponse { programme: Some(programme) })
                })
            })
            .await
    }

    pub async fn programme_list(&self, request: &ListProgrammesRequest) -> Result<Page<Programme>> {
        let size = page_size(request.page_size, 100);
        let after: String = self.db.cursor("ListProgrammes", &request.page_token)?.unwrap_or_default();
        let query = sqlx::query!(
            r#"
            select programme_id, display_name, expiry_months, created_at from loyalty.programmes
            where programme_id > $1 order by programme_id limit $2
            "#,
            after,
            size + 1
        );
        let rows = sql("select loyalty.programmes", query.fetch_all(&self.db)).await?;
        let programmes = rows.into_iter().map(|row| Programme {
            programme_id: row.programme_id,
            display_name: row.display_name,
            expiry_months: row.expiry_months,
            create_time: Some(timestamp(row.created_at)),
        });
        Ok(self.db.page("ListProgrammes", programmes.collect(), size, |p| p.programme_id.clone()))
    }

    /// What a section needs of each customer, by one statement.
    pub async fn section_rows(&self, ids: &[Uuid], at: DateTime<Utc>) -> Result<Vec<SectionRow>> {
        let query = sqlx::query_as!(
            SectionRow,
            r#"
            select
                c.customer_id, c.version,
                (select coalesce(json_agg(to_json(m) order by m.enrolled_at, m.member_id), '[]') from (
                    select m.member_id, m.customer_id, m.programme_id, m.member_number, m.enrolled_at,
                        m.balance,
                        (select coalesce(json_agg(json_build_object(
                            'lot_id', l.lot_id, 'remaining', l.remaining, 'expires_at', l.expires_at)), '[]')
                         from loyalty.lots_near(m.member_id, $2) l) as lots
                    from loyalty.members m where m.customer_id = c.customer_id
                ) m) as "members!: Json<Vec<MemberJson>>"
            from loyalty.customers c
            where c.customer_id = any ($1)
            "#,
            ids,
            at
        );
        sql("select loyalty.members", query.fetch_all(&self.db)).await
    }
}

/// What a section is made of.
pub struct SectionRow {
    pub customer_id: Uuid,
    pub version: i64,
    pub members: Json<Vec<MemberJson>>,
}

/// A member with its lots, as it comes inside a section's row.
#[derive(Deserialize)]
pub struct MemberJson {
    member_id: Uuid,
    customer_id: Uuid,
    programme_id: String,
    member_number: String,
    enrolled_at: DateTime<Utc>,
    balance: i64,
    lots: Vec<LotJson>,
}

#[derive(Deserialize)]
struct LotJson {
    lot_id: Uuid,
    remaining: i64,
    expires_at: Option<DateTime<Utc>>,
}

impl MemberJson {
    pub fn open(self) -> (Member, Holding) {
        let Self { member_id, customer_id, programme_id, member_number, enrolled_at, balance, lots } = self;
        let lots = lots.into_iter().map(|l| Lot { lot_id: l.lot_id, remaining: l.remaining, expires_at: l.expires_at });
        let mut holding = Holding { total: balance, lots: lots.collect() };
        ledger::sort(&mut holding.lots);
        let row = MemberRow { member_id, customer_id, programme_id, member_number, enrolled_at };
        (row.into_proto(), holding)
    }
}
