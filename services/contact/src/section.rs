use std::collections::HashMap;

use chrono::Utc;
use proto::{
    contact::v1::ContactSection,
    section::v1::{BatchGetSectionsRequest, BatchGetSectionsResponse},
};
use store::{Body, Result, uuid};

use crate::store::Store;

/// The sections of up to 256 customers, by one query.
pub async fn batch_get(store: &Store, request: &BatchGetSectionsRequest) -> Result<BatchGetSectionsResponse> {
    let ids = request.customer_ids.iter().map(|id| uuid(id)).collect::<Result<Vec<_>>>()?;
    let mut sections = HashMap::new();
    for row in store.section_rows(&ids).await? {
        let (_, section) =
            sections.entry(row.customer_id).or_insert_with(|| (row.customer_version, ContactSection::default()));
        section.total_size = row.total as i32;
        section.contact_points.extend(row.contact_point);
    }
    let bodies = sections.into_iter().map(|(id, (version, section))| (id, Body::lasting(version, &section)));
    store.db.sections(request, Utc::now(), bodies.collect())
}
