use std::collections::HashMap;

use chrono::Utc;
use proto::{interaction::v1::InteractionSection, section::v1::Section};
use store::{Body, Result, in_order};
use uuid::Uuid;
use vault::Keys;

use crate::{
    case,
    store::{SectionRow, Store},
};

/// The sections of up to 256 customers, by one query.
pub async fn load(store: Store, ids: Vec<Uuid>) -> Result<Vec<Section>> {
    let rows = store.section_rows(&ids).await?;
    let sealed: Vec<&[u8]> = rows.iter().flat_map(|row| &row.cases.0).map(case::Row::sealed).collect();
    let keys = store.db.unlock(sealed).await?;
    let bodies = rows.into_iter().map(|row| (row.customer_id, Body::lasting(row.version, section(&keys, row))));
    Ok(in_order(&ids, Utc::now(), &bodies.collect::<HashMap<_, _>>()))
}

fn section(keys: &Keys, row: SectionRow) -> Result<InteractionSection> {
    let cases = row.cases.0.into_iter().map(|case| case.open(keys));
    let mut open_cases = cases.collect::<Result<Vec<_>>>()?;
    open_cases.iter_mut().for_each(|case| case.description.clear());
    Ok(InteractionSection {
        open_cases,
        latest_interactions: row.interactions.0.into_iter().map(|row| row.into_proto()).collect(),
        open_case_total_size: row.open_cases as i32,
        interaction_total_size: row.total as i32,
    })
}
