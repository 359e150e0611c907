use std::collections::HashMap;

use chrono::Utc;
use proto::{
    interaction::v1::InteractionSection,
    section::v1::{BatchGetSectionsRequest, BatchGetSectionsResponse},
};
use store::{Body, Result, uuid};

use crate::store::Store;

/// The sections of up to 256 customers, by one query.
pub async fn batch_get(store: &Store, request: &BatchGetSectionsRequest) -> Result<BatchGetSectionsResponse> {
    let ids = request.customer_ids.iter().map(|id| uuid(id)).collect::<Result<Vec<_>>>()?;
    let mut bodies = HashMap::new();
    for row in store.section_rows(&ids).await? {
        let cases = row.cases.0.into_iter().map(|case| case.open(store.db.vault()));
        let mut open_cases = cases.collect::<Result<Vec<_>>>()?;
        open_cases.iter_mut().for_each(|case| case.description.clear());
        let section = InteractionSection {
            open_cases,
            latest_interactions: row.interactions.0.into_iter().map(|row| row.into_proto()).collect(),
            open_case_total_size: row.open_cases as i32,
            interaction_total_size: row.total as i32,
        };
        bodies.insert(row.customer_id, Body::lasting(row.version, &section));
    }
    store.db.sections(request, Utc::now(), bodies)
}
