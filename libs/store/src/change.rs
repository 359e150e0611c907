use serde_json::Value;
use uuid::Uuid;

use crate::{Result, Tx, sql};

/// One row of the outbox. The payload holds names of changed fields, ids, states, amounts and
/// times, never what identifies a person.
pub struct Change {
    /// Whose.
    pub customer_id: Uuid,
    /// The customer's version that this change made.
    pub version: i64,
    /// What changed: `profile`, `order`.
    pub resource: &'static str,
    /// What happened: `profile.created`.
    pub kind: &'static str,
    /// The facts.
    pub payload: Value,
}

impl Tx {
    /// Writes changes into the outbox, in the order given.
    pub async fn changes(&mut self, changes: Vec<Change>) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut rows = Rows::default();
        for change in changes {
            rows.ids.push(Uuid::now_v7());
            rows.resources.push(change.resource.to_owned());
            rows.customers.push(change.customer_id);
            rows.kinds.push(change.kind.to_owned());
            rows.payloads.push(change.payload);
            rows.versions.push(change.version);
        }
        let traceparent = self.call.traceparent.to_string();
        let Rows { ids, resources, customers, kinds, payloads, versions } = rows;
        sql(
            "insert changes",
            sqlx::query!(
                r#"
                insert into changes (id, aggregatetype, aggregateid, type, payload, customer_version, traceparent)
                select *, $7
                from unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::jsonb[], $6::bigint[])
                "#,
                &ids,
                &resources,
                &customers,
                &kinds,
                &payloads,
                &versions,
                traceparent
            )
            .execute(self.sql()),
        )
        .await?;
        Ok(())
    }
}

#[derive(Default)]
struct Rows {
    ids: Vec<Uuid>,
    resources: Vec<String>,
    customers: Vec<Uuid>,
    kinds: Vec<String>,
    payloads: Vec<Value>,
    versions: Vec<i64>,
}
