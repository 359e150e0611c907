use std::collections::HashMap;

use chrono::Utc;
use proto::{profile::v1::ProfileSection, section::v1::Section};
use store::{Body, Result, in_order};
use uuid::Uuid;

use crate::store::Store;

/// A section shows so many external ids.
const EXTERNAL_IDS: usize = 10;

/// The sections of up to 256 customers, by one query.
pub async fn load(store: Store, ids: Vec<Uuid>) -> Result<Vec<Section>> {
    let mut bodies = HashMap::new();
    for row in store.section_rows(&ids).await? {
        let section = row.profile.map(|mut profile| {
            let external_id_total_size = profile.external_ids.len() as i32;
            profile.external_ids.truncate(EXTERNAL_IDS);
            ProfileSection { profile: Some(profile), external_id_total_size }
        });
        bodies.insert(row.customer_id, Body::lasting(row.version, section));
    }
    Ok(in_order(&ids, Utc::now(), &bodies))
}
