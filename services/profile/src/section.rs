use chrono::Utc;
use proto::{
    profile::v1::ProfileSection,
    section::v1::{BatchGetSectionsRequest, BatchGetSectionsResponse},
};
use store::{Body, Result, uuid};

use crate::store::Store;

/// A section shows so many external ids.
const EXTERNAL_IDS: usize = 10;

/// The sections of up to 256 customers, by one query.
pub async fn batch_get(store: &Store, request: &BatchGetSectionsRequest) -> Result<BatchGetSectionsResponse> {
    let ids = request.customer_ids.iter().map(|id| uuid(id)).collect::<Result<Vec<_>>>()?;
    let mut bodies = std::collections::HashMap::new();
    for (customer, version, mut profile) in store.profile_rows(&ids).await? {
        let external_id_total_size = profile.external_ids.len() as i32;
        profile.external_ids.truncate(EXTERNAL_IDS);
        let section = ProfileSection { profile: Some(profile), external_id_total_size };
        bodies.insert(customer, Body::lasting(version, &section));
    }
    store.db.sections(request, Utc::now(), bodies)
}
