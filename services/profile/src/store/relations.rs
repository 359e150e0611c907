//! What customers say of each other, and whether both allow it to be used.

use access::Call;
use proto::profile::v1::*;
use serde_json::json;
use store::{Page, Result, Tx, Written, page_size, sql, timestamp, uuid};
use uuid::Uuid;

use super::{Store, changed, profile_open};
use crate::reason;

const MAX_RELATIONS: i64 = 5000;

impl Store {
    pub async fn relation_set(&self, call: &Call, request: SetRelationRequest) -> Result<Written<SetRelationResponse>> {
        let key = self.db.key("SetRelation", &request.request_id, &request)?;
        let customer = uuid(&request.customer_id)?;
        let relation = request.relation.unwrap_or_default();
        let (other, kind) = (uuid(&relation.other_customer_id)?, relation.kind());
        let permitted = (!request.removed).then_some(relation.permitted);
        self.db
            .write(call, key, move |tx| {
                Box::pin(async move {
                    // Customers are locked by their ids, so that two who name each other at once do not wait for each other.
                    if other < customer && permitted.is_some() {
                        customer_hold(tx, other).await?;
                    }
                    let version = tx.raise(customer).await?;
                    profile_open(tx, customer).await?;
                    match permitted {
                        Some(permitted) => relation_upsert(tx, customer, other, kind, permitted).await?,
                        None => relation_delete(tx, customer, other, kind).await?,
                    }
                    // Not whom: the feed outlives an erasure by days.
                    changed(tx, customer, version, "relation.set", json!({})).await?;
                    Ok(SetRelationResponse { consistency_token: tx.token(customer, version) })
                })
            })
            .await
    }

    pub async fn relation_list(&self, request: &ListRelationsRequest) -> Result<Page<Relation>> {
        let customer = uuid(&request.customer_id)?;
        self.db.require_of(request.consistency.as_ref(), &[customer]).await?;
        self.profile_must_exist(customer).await?;
        let listing = format!("ListRelations {customer}");
        let (after, after_kind): (Uuid, i32) = self.db.cursor(&listing, &request.page_token)?.unwrap_or_default();
        let size = page_size(request.page_size, 100);
        let query = sqlx::query!(
            r#"
            select r.other_customer_id, r.kind, r.permitted, r.updated_at,
                   exists (select 1 from profile.relations o
                           where o.customer_id = r.other_customer_id and o.other_customer_id = r.customer_id
                             and o.permitted) as "other_permitted!"
            from profile.relations r
            where r.customer_id = $1 and (r.other_customer_id, r.kind) > ($2, $3)
            order by r.other_customer_id, r.kind limit $4
            "#,
            customer,
            after,
            after_kind,
            size + 1
        );
        let rows = sql("select profile.relations", query.fetch_all(&self.db)).await?;
        let page = self.db.page(&listing, rows, size, |row| (row.other_customer_id, row.kind));
        let relations = page.items.into_iter().map(|row| Relation {
            other_customer_id: row.other_customer_id.to_string(),
            kind: row.kind,
            permitted: row.permitted,
            other_permitted: row.other_permitted,
            update_time: Some(timestamp(row.updated_at)),
        });
        Ok(Page { items: relations.collect(), next_page_token: page.next_page_token })
    }
}

/// Keeps a customer from being erased meanwhile.
async fn customer_hold(tx: &mut Tx, customer: Uuid) -> Result<()> {
    let query = sqlx::query!("select 1 as held from profile.customers where customer_id = $1 for share", customer);
    sql("select profile.customers", query.fetch_optional(tx.sql())).await?;
    Ok(())
}

async fn relation_upsert(tx: &mut Tx, customer: Uuid, other: Uuid, kind: RelationKind, permitted: bool) -> Result<()> {
    let query = sqlx::query!(
        r#"
        insert into profile.relations (customer_id, other_customer_id, kind, permitted)
        select $1, customer_id, $3, $4 from profile.customers where customer_id = $2 and state <> 'erased' for share
        on conflict (customer_id, other_customer_id, kind) do update
        set permitted = excluded.permitted, updated_at = clock_timestamp()
        "#,
        customer,
        other,
        kind as i32,
        permitted
    );
    let set = sql("insert profile.relations", query.execute(tx.sql())).await?;
    if set.rows_affected() == 0 {
        return Err(reason::CUSTOMER_NOT_FOUND.into());
    }
    let query =
        sqlx::query_scalar!(r#"select count(*) as "count!" from profile.relations where customer_id = $1"#, customer);
    let count = sql("select profile.relations", query.fetch_one(tx.sql())).await?;
    if count > MAX_RELATIONS { Err(reason::TOO_MANY_RELATIONS.into()) } else { Ok(()) }
}

async fn relation_delete(tx: &mut Tx, customer: Uuid, other: Uuid, kind: RelationKind) -> Result<()> {
    let query = sqlx::query!(
        "delete from profile.relations where customer_id = $1 and other_customer_id = $2 and kind = $3",
        customer,
        other,
        kind as i32
    );
    sql("delete profile.relations", query.execute(tx.sql())).await?;
    Ok(())
}
