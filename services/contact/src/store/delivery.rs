//! What was heard of contact points.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use access::Call;
use chrono::{DateTime, Utc};
use proto::contact::v1::*;
use serde_json::json;
use store::{Change, Result, Tx, sql, time, timestamp, uuid};
use uuid::Uuid;

use super::Store;
use crate::{delivery::Heard, reason};

/// Whose a contact point is, and what is said of it so far.
struct Known {
    contact_point_id: Uuid,
    customer_id: Uuid,
    erased: bool,
    deliverability: i32,
}

impl Store {
    /// Records events and answers each. What is heard again changes nothing.
    pub async fn deliveries_record(
        &self,
        call: &Call,
        request: RecordDeliveryEventsRequest,
    ) -> Result<Vec<RecordDeliveryEventsResult>> {
        let mut heard: BTreeMap<Uuid, Heard> = BTreeMap::new();
        for event in &request.events {
            let at = time(event.occurred_time).unwrap_or_default();
            heard.entry(uuid(&event.contact_point_id)?).or_default().add(event.kind, at, at);
        }
        let heard = Arc::new(heard);
        let recorded = self.db.transact(call, move |tx| {
            let heard = heard.clone();
            Box::pin(async move { record(tx, &heard).await })
        });
        let recorded = recorded.await?;
        let result =
            |event: &DeliveryEvent| Ok(recorded.get(&uuid(&event.contact_point_id)?).cloned().unwrap_or_default());
        request.events.iter().map(result).collect()
    }
}

async fn record(tx: &mut Tx, heard: &BTreeMap<Uuid, Heard>) -> Result<HashMap<Uuid, RecordDeliveryEventsResult>> {
    let ids: Vec<Uuid> = heard.keys().copied().collect();
    let customers = known(tx, &ids).await?.into_iter().filter(|known| !known.erased);
    let customers: BTreeMap<Uuid, i64> = customers.map(|known| (known.customer_id, 1)).collect();
    let versions = tx.raise_many(&customers).await?;
    // Now that they are locked, what is read stays.
    let mut known = known(tx, &ids).await?;
    known.retain(|known| known.erased || versions.contains_key(&known.customer_id));
    let refused =
        |reason: error::Reason| RecordDeliveryEventsResult { failure: reason.name.to_owned(), ..Default::default() };
    let mut results: HashMap<Uuid, RecordDeliveryEventsResult> =
        ids.iter().map(|id| (*id, refused(reason::CONTACT_POINT_NOT_FOUND))).collect();
    results.extend(
        known
            .iter()
            .filter(|known| known.erased)
            .map(|known| (known.contact_point_id, refused(error::reason::CUSTOMER_ERASED))),
    );
    let live: BTreeMap<Uuid, Uuid> =
        known.iter().filter(|known| !known.erased).map(|known| (known.contact_point_id, known.customer_id)).collect();
    insert(tx, heard, &live).await?;
    let before: HashMap<Uuid, i32> = known.iter().map(|known| (known.contact_point_id, known.deliverability)).collect();
    let mut moved: BTreeMap<Uuid, Vec<Uuid>> = versions.keys().map(|customer| (*customer, Vec::new())).collect();
    let after = states(tx, &live).await?;
    for (id, customer) in &live {
        let (state, since) = after.get(id).map_or_else(|| Heard::default().state(), Heard::state);
        update(tx, *id, state, since, versions[customer]).await?;
        if before.get(id) != Some(&state.into()) {
            moved.entry(*customer).or_default().push(*id);
        }
        let result = RecordDeliveryEventsResult {
            failure: String::new(),
            deliverability: Some(Deliverability { state: state.into(), since_time: since.map(timestamp) }),
            consistency_token: tx.token(*customer, versions[customer]),
        };
        results.insert(*id, result);
    }
    let change = |(customer_id, moved): (Uuid, Vec<Uuid>)| Change {
        customer_id,
        version: versions[&customer_id],
        resource: "contact_point",
        kind: "contact_point.delivery_recorded",
        payload: json!({ "state_changed": moved }),
    };
    tx.changes(moved.into_iter().map(change).collect()).await?;
    Ok(results)
}

async fn known(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<Known>> {
    let query = sqlx::query_as!(
        Known,
        r#"
        select p.contact_point_id, p.customer_id, c.state = 'erased' as "erased!", p.deliverability
        from contact.contact_points p join contact.customers c using (customer_id)
        where p.contact_point_id = any ($1)
        "#,
        ids
    );
    sql("select contact.contact_points", query.fetch_all(tx.sql())).await
}

async fn insert(tx: &mut Tx, heard: &BTreeMap<Uuid, Heard>, live: &BTreeMap<Uuid, Uuid>) -> Result<()> {
    let (mut ids, mut kinds, mut days, mut firsts, mut lasts) = (vec![], vec![], vec![], vec![], vec![]);
    for (id, heard) in heard.iter().filter(|(id, _)| live.contains_key(id)) {
        for (kind, day, first, last) in heard.days() {
            ids.push(*id);
            kinds.push(kind);
            days.push(day);
            firsts.push(first);
            lasts.push(last);
        }
    }
    let query = sqlx::query!(
        r#"
        insert into contact.deliveries as known (contact_point_id, kind, day, first_at, last_at)
        select new.contact_point_id, new.kind, new.day,
               case when new.first_at >= coalesce(p.value_since, '-infinity') then new.first_at else new.last_at end,
               new.last_at
        from unnest($1::uuid[], $2::integer[], $3::date[], $4::timestamptz[], $5::timestamptz[])
            as new (contact_point_id, kind, day, first_at, last_at)
        join contact.contact_points p using (contact_point_id)
        -- What was heard late may be of a value that it has no more.
        where new.last_at >= coalesce(p.value_since, '-infinity')
        on conflict (contact_point_id, kind, day) do update
        set first_at = least(known.first_at, excluded.first_at), last_at = greatest(known.last_at, excluded.last_at)
        "#,
        &ids,
        &kinds,
        &days,
        &firsts,
        &lasts
    );
    sql("insert contact.deliveries", query.execute(tx.sql())).await?;
    Ok(())
}

/// All that was heard of some contact points.
async fn states(tx: &mut Tx, live: &BTreeMap<Uuid, Uuid>) -> Result<HashMap<Uuid, Heard>> {
    let ids: Vec<Uuid> = live.keys().copied().collect();
    let query = sqlx::query!(
        "select contact_point_id, kind, first_at, last_at from contact.deliveries where contact_point_id = any ($1)",
        &ids
    );
    let mut all: HashMap<Uuid, Heard> = HashMap::new();
    for row in sql("select contact.deliveries", query.fetch_all(tx.sql())).await? {
        all.entry(row.contact_point_id).or_default().add(row.kind, row.first_at, row.last_at);
    }
    Ok(all)
}

async fn update(
    tx: &mut Tx,
    id: Uuid,
    state: DeliverabilityState,
    since: Option<DateTime<Utc>>,
    version: i64,
) -> Result<()> {
    let query = sqlx::query!(
        r#"
        update contact.contact_points
        set deliverability = $2, deliverability_since = $3, version = $4, updated_at = clock_timestamp()
        where contact_point_id = $1 and (deliverability, deliverability_since) is distinct from ($2, $3)
        "#,
        id,
        i32::from(state),
        since,
        version
    );
    sql("update contact.contact_points", query.execute(tx.sql())).await?;
    Ok(())
}

/// Forgets what was heard and verified of a contact point, which has another value now.
pub async fn forget(tx: &mut Tx, id: Uuid) -> Result<()> {
    let query = sqlx::query!(
        r#"
        with heard as (delete from contact.deliveries where contact_point_id = $1),
        verifying as (
            update contact.verifications set expires_at = now() where contact_point_id = $1 and expires_at > now()
        )
        update contact.contact_points
        set deliverability = 0, deliverability_since = null, verified_at = null, value_since = clock_timestamp()
        where contact_point_id = $1
        "#,
        id
    );
    sql("update contact.contact_points", query.execute(tx.sql())).await?;
    Ok(())
}
