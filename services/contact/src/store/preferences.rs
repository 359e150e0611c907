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

/// Frequency caps as they are stored: three lists side by side.
pub fn frequency_caps(purposes: Vec<String>, counts: Vec<i32>, days: Vec<i32>) -> Vec<FrequencyCap> {
    let caps = purposes.into_iter().zip(counts).zip(days);
    caps.map(|((purpose_id, max_count), days)| FrequencyCap { purpose_id, max_count, days }).collect()
}

async fn upsert(tx: &mut Tx, customer: Uuid, preferences: &ContactPreferences) -> Result<()> {
    let caps = &preferences.frequency_caps;
    let purposes: Vec<String> = caps.iter().map(|cap| cap.purpose_id.clone()).collect();
    let counts: Vec<i32> = caps.iter().map(|cap| cap.max_count).collect();
    let days: Vec<i32> = caps.iter().map(|cap| cap.days).collect();
    let query = sqlx::query!(
        r#"
        insert into contact.preferences
            (customer_id, channels, quiet_from_minute, quiet_until_minute, cap_purposes, cap_counts, cap_days,
             preferred_from_minute, preferred_until_minute)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        on conflict (customer_id) do update
        set channels = excluded.channels, quiet_from_minute = excluded.quiet_from_minute,
            quiet_until_minute = excluded.quiet_until_minute, cap_purposes = excluded.cap_purposes,
            cap_counts = excluded.cap_counts, cap_days = excluded.cap_days,
            preferred_from_minute = excluded.preferred_from_minute,
            preferred_until_minute = excluded.preferred_until_minute, updated_at = clock_timestamp()
        "#,
        customer,
        &preferences.channels,
        preferences.quiet_from_minute,
        preferences.quiet_until_minute,
        &purposes,
        &counts,
        &days,
        preferences.preferred_from_minute,
        preferences.preferred_until_minute
    );
    sql("insert contact.preferences", query.execute(tx.sql())).await?;
    Ok(())
}
