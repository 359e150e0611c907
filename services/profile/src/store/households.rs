//! Who lives together.

use access::Call;
use proto::profile::v1::*;
use serde_json::json;
use store::{Result, Tx, Written, sql, timestamp, uuid};
use uuid::Uuid;

use super::{Store, changed, profile_open};
use crate::reason;

const MAX_MEMBERS: i64 = 30;

impl Store {
    pub async fn household_join(
        &self,
        call: &Call,
        request: JoinHouseholdRequest,
    ) -> Result<Written<JoinHouseholdResponse>> {
        let key = self.db.key("JoinHousehold", &request.request_id, &request)?;
        let (customer, role) = (uuid(&request.customer_id)?, request.role);
        let given = (!request.household_id.is_empty()).then(|| uuid(&request.household_id)).transpose()?;
        let household = given.unwrap_or_else(Uuid::now_v7);
        self.db
            .write(call, key, move |tx| {
                Box::pin(async move {
                    let version = tx.raise(customer).await?;
                    profile_open(tx, customer).await?;
                    household_lock(tx, household).await?;
                    member_insert(tx, customer, household, role).await?;
                    let household_id = household.to_string();
                    // Not which one: the feed outlives an erasure by days.
                    changed(tx, customer, version, "household.joined", json!({})).await?;
                    Ok(JoinHouseholdResponse {
                        household: Some(Household { household_id, members: members(household, tx.sql()).await? }),
                        consistency_token: tx.token(customer, version),
                    })
                })
            })
            .await
    }

    pub async fn household_leave(
        &self,
        call: &Call,
        request: LeaveHouseholdRequest,
    ) -> Result<Written<LeaveHouseholdResponse>> {
        let key = self.db.key("LeaveHousehold", &request.request_id, &request)?;
        let customer = uuid(&request.customer_id)?;
        self.db
            .write(call, key, move |tx| {
                Box::pin(async move {
                    let version = tx.raise(customer).await?;
                    let query = sqlx::query_scalar!(
                        "delete from profile.household_members where customer_id = $1 returning household_id",
                        customer
                    );
                    let left = sql("delete profile.household_members", query.fetch_optional(tx.sql())).await?;
                    let household = left.ok_or(reason::NOT_IN_HOUSEHOLD)?;
                    let household_id = household.to_string();
                    // Not which one: the feed outlives an erasure by days.
                    changed(tx, customer, version, "household.left", json!({})).await?;
                    Ok(LeaveHouseholdResponse {
                        household: Some(Household { household_id, members: members(household, tx.sql()).await? }),
                        consistency_token: tx.token(customer, version),
                    })
                })
            })
            .await
    }

    pub async fn household_get(&self, request: &GetHouseholdRequest) -> Result<Option<Household>> {
        let customer = uuid(&request.customer_id)?;
        self.db.require_of(request.consistency.as_ref(), &[customer]).await?;
        self.profile_must_exist(customer).await?;
        let query =
            sqlx::query_scalar!("select household_id from profile.household_members where customer_id = $1", customer);
        let found = sql("select profile.household_members", query.fetch_optional(&self.db)).await?;
        let Some(household) = found else { return Ok(None) };
        let members = members(household, &self.db).await?;
        Ok(Some(Household { household_id: household.to_string(), members }))
    }
}

/// Makes a household, or takes its turn in one that is there.
async fn household_lock(tx: &mut Tx, household: Uuid) -> Result<()> {
    let query = sqlx::query!(
        r#"
        insert into profile.households (household_id) values ($1)
        on conflict (household_id) do update set household_id = excluded.household_id
        "#,
        household
    );
    sql("insert profile.households", query.execute(tx.sql())).await?;
    Ok(())
}

async fn member_insert(tx: &mut Tx, customer: Uuid, household: Uuid, role: i32) -> Result<()> {
    let query = sqlx::query!(
        r#"
        insert into profile.household_members as known (customer_id, household_id, role) values ($1, $2, $3)
        on conflict (customer_id) do update set role = excluded.role where known.household_id = excluded.household_id
        "#,
        customer,
        household,
        role
    );
    let joined = sql("insert profile.household_members", query.execute(tx.sql())).await?;
    if joined.rows_affected() == 0 {
        return Err(reason::IN_ANOTHER_HOUSEHOLD.into());
    }
    let query = sqlx::query_scalar!(
        r#"select count(*) as "count!" from profile.household_members where household_id = $1"#,
        household
    );
    let count = sql("select profile.household_members", query.fetch_one(tx.sql())).await?;
    if count > MAX_MEMBERS { Err(reason::HOUSEHOLD_FULL.into()) } else { Ok(()) }
}

async fn members(household: Uuid, executor: impl sqlx::PgExecutor<'_>) -> Result<Vec<HouseholdMember>> {
    let query = sqlx::query!(
        r#"
        select customer_id, role, joined_at from profile.household_members where household_id = $1
        order by joined_at, customer_id
        "#,
        household
    );
    let rows = sql("select profile.household_members", query.fetch_all(executor)).await?;
    let members = rows.into_iter().map(|row| HouseholdMember {
        customer_id: row.customer_id.to_string(),
        role: row.role,
        join_time: Some(timestamp(row.joined_at)),
    });
    Ok(members.collect())
}
