use std::collections::HashMap;

use chrono::Utc;
use proto::{contact::v1::ContactSection, section::v1::Section};
use store::{Body, Result, in_order};
use uuid::Uuid;

use crate::store::Store;

/// The sections of up to 256 customers, by one query.
pub async fn load(store: Store, ids: Vec<Uuid>) -> Result<Vec<Section>> {
    let mut sections = HashMap::new();
    for row in store.section_rows(&ids).await? {
        let (_, section) =
            sections.entry(row.customer_id).or_insert_with(|| (row.customer_version, Ok(ContactSection::default())));
        match (row.contact_point, &mut *section) {
            (Ok(contact_point), Ok(section)) => {
                section.total_size = row.total as i32;
                section.preferences = row.preferences;
                section.contact_points.extend(contact_point);
            }
            (Err(fault), section) => *section = Err(fault),
            (Ok(_), Err(_)) => (),
        }
    }
    let bodies = sections.into_iter().map(|(id, (version, section))| (id, Body::lasting(version, section)));
    Ok(in_order(&ids, Utc::now(), &bodies.collect()))
}
