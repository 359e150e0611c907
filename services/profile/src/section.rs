use std::collections::HashMap;

use chrono::Utc;
use proto::{profile::v1::ProfileSection, section::v1::Section};
use store::{Body, Result, in_order};
use uuid::Uuid;

use crate::{
    present::{present, valid_until},
    store::Store,
};

/// A section shows so many external ids.
const EXTERNAL_IDS: usize = 10;

/// The sections of up to 256 customers, by one query.
pub async fn load(store: Store, ids: Vec<Uuid>) -> Result<Vec<Section>> {
    let (mut bodies, now) = (HashMap::new(), Utc::now());
    for row in store.section_rows(&ids).await? {
        let valid_until = row.profile.as_ref().ok().and_then(|profile| valid_until(profile, now));
        let section = row.profile.map(|profile| {
            let mut profile = present(profile, now);
            let external_id_total_size = profile.external_ids.len() as i32;
            profile.external_ids.truncate(EXTERNAL_IDS);
            ProfileSection { profile: Some(profile), external_id_total_size }
        });
        bodies.insert(row.customer_id, Body { valid_until, ..Body::lasting(row.version, section) });
    }
    Ok(in_order(&ids, now, &bodies))
}
