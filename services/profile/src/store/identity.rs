//! Whether somebody is who they say: the throttle and the log.

use std::{sync::Arc, time::Duration};

use access::Call;
use chrono::{DateTime, Utc};
use error::Failure;
use proto::profile::v1::*;
use serde_json::json;
use store::{Page, Result, Tx, Written, page_size, sql, timestamp, uuid};
use uuid::Uuid;

use super::{Store, changed, profile_open};
use crate::{
    identity::{kind, level},
    reason,
};

/// So many failures within a quarter of an hour, whoever asks.
const MAX_FAILURES: i64 = 5;

/// A check as it is stored.
struct Row {
    check_id: Uuid,
    checked_at: DateTime<Utc>,
    caller: String,
    purpose: String,
    asked: Vec<String>,
    level: i32,
}

impl Store {
    pub async fn identity_verify(
        &self,
        call: &Call,
        request: VerifyIdentityRequest,
    ) -> Result<Written<VerifyIdentityResponse>> {
        let key = self.db.key("VerifyIdentity", &request.request_id, &request)?;
        let customer = uuid(&request.customer_id)?;
        let (answers, caller) = (Arc::new(request.answers), call.caller.clone());
        self.db
            .write(call, key, move |tx| {
                let (answers, caller) = (answers.clone(), caller.clone());
                Box::pin(async move {
                    let version = tx.raise(customer).await?;
                    let (profile, ..) = profile_open(tx, customer).await?;
                    let failures = failures(tx, customer).await?;
                    let level = level(&profile, &answers);
                    let asked: Vec<String> = answers.iter().map(|answer| kind(answer).to_owned()).collect();
                    let query = sqlx::query!(
                        r#"
                        insert into profile.identity_checks (check_id, customer_id, caller, purpose, asked, level)
                        values ($1, $2, $3, $4, $5, $6)
                        "#,
                        Uuid::now_v7(),
                        customer,
                        caller.subject.as_ref(),
                        caller.purpose.name(),
                        &asked,
                        level as i32
                    );
                    sql("insert profile.identity_checks", query.execute(tx.sql())).await?;
                    let told = json!({ "level": level.as_str_name() });
                    changed(tx, customer, version, "identity.checked", told).await?;
                    let failed = i64::from(level == MatchLevel::None);
                    Ok(VerifyIdentityResponse {
                        level: level.into(),
                        failures_left: (MAX_FAILURES - failures - failed) as i32,
                        consistency_token: tx.token(customer, version),
                    })
                })
            })
            .await
    }

    pub async fn identity_check_list(&self, request: &ListIdentityChecksRequest) -> Result<Page<IdentityCheck>> {
        let customer = uuid(&request.customer_id)?;
        self.db.require_of(request.consistency.as_ref(), &[customer]).await?;
        self.profile_must_exist(customer).await?;
        let listing = format!("ListIdentityChecks {customer}");
        let after_all = (DateTime::from_timestamp_nanos(i64::MAX), Uuid::max());
        let (before, before_id) = self.db.cursor(&listing, &request.page_token)?.unwrap_or(after_all);
        let size = page_size(request.page_size, 100);
        let query = sqlx::query_as!(
            Row,
            r#"
            select check_id, checked_at, caller, purpose, asked, level from profile.identity_checks
            where customer_id = $1 and (checked_at, check_id) < ($2, $3)
            order by checked_at desc, check_id desc limit $4
            "#,
            customer,
            before,
            before_id,
            size + 1
        );
        let rows = sql("select profile.identity_checks", query.fetch_all(&self.db)).await?;
        let page = self.db.page(&listing, rows, size, |row| (row.checked_at, row.check_id));
        let check = |row: Row| IdentityCheck {
            check_id: row.check_id.to_string(),
            check_time: Some(timestamp(row.checked_at)),
            caller: row.caller,
            purpose: row.purpose,
            asked: row.asked,
            level: row.level,
        };
        Ok(Page { items: page.items.into_iter().map(check).collect(), next_page_token: page.next_page_token })
    }
}

/// How many checks failed within a quarter of an hour; refused when there were too many.
async fn failures(tx: &mut Tx, customer: Uuid) -> Result<i64> {
    let query = sqlx::query!(
        r#"
        select count(*) as "count!",
               extract(epoch from min(checked_at) + interval '15 minutes' - now())::bigint as wait
        from profile.identity_checks
        where customer_id = $1 and checked_at > now() - interval '15 minutes' and level = $2
        "#,
        customer,
        MatchLevel::None as i32
    );
    let failed = sql("select profile.identity_checks", query.fetch_one(tx.sql())).await?;
    if failed.count < MAX_FAILURES {
        return Ok(failed.count);
    }
    let wait = u64::try_from(failed.wait.unwrap_or_default()).unwrap_or_default() + 1;
    Err(Failure::from(reason::TOO_MANY_IDENTITY_CHECKS).retry_after(Duration::from_secs(wait)).into())
}
