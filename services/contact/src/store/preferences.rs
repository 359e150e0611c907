//! How customers wish to be addressed.

use access::Call;
use proto::contact::v1::*;
use serde_json::json;
use store::{Change, Result, Tx, Written, sql, uuid};
use uuid::Uuid;

use super::Store;

impl Store {
    pub async fn preferences_set(
        &self,
        call: &Call,
        request: SetContactPreferencesRequest,
    ) -> Result<Written<SetContactPreferencesResponse>> {
        let key = self.db.key("SetContactPreferences", &request.request_id, &request)?;
        let customer = uuid(&request.customer_id)?;
        let preferences = request.preferences.unwrap_or_default();
        self.db
            .write(call, key, move |tx| {
                let preferences = preferences.clone();
                Box::pin(async move {
                    let version = tx.raise(customer).await?;
                    upsert(tx, customer, &preferences).await?;
                    let change = Change {
                        customer_id: customer,
                        version,
                        resource: "contact_preferences",
                        kind: "contact_preferences.set",
                        payload: json!({}),
                    };
                    tx.changes(vec![change]).await?;
                    let consistency_token = tx.token(customer, version);
                    Ok(SetContactPreferencesResponse { preferences: Some(preferences), consistency_token })
                })
            })
            .await
    }
}

async fn upsert(tx: &mut Tx, customer: Uuid, preferences: &ContactPreferences) -> Result<()> {
    let query = sqlx::query!(
        r#"
        insert into contact.preferences (customer_id, channels, quiet_from_minute, quiet_until_minute)
        values ($1, $2, $3, $4)
        on conflict (customer_id) do update
        set channels = excluded.channels, quiet_from_minute = excluded.quiet_from_minute,
            quiet_until_minute = excluded.quiet_until_minute, updated_at = clock_timestamp()
        "#,
        customer,
        &preferences.channels,
        preferences.quiet_from_minute,
        preferences.quiet_until_minute
    );
    sql("insert contact.preferences", query.execute(tx.sql())).await?;
    Ok(())
}
