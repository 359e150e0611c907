use std::collections::HashMap;

use chrono::{DateTime, Utc};
use prost::Message;
use proto::{
    consent::v1::{ConsentRecord, ConsentSection},
    section::v1::Section,
};
use store::{Body, Result, in_order};
use uuid::Uuid;

use crate::{
    decision,
    store::{RecordRow, Store},
};

/// A section shows so many decisions.
const DECISIONS: usize = 40;

/// The sections of up to 256 customers, by one query. They hold until the next grant lapses.
pub async fn load(store: Store, ids: Vec<Uuid>) -> Result<Vec<Section>> {
    let as_of = Utc::now();
    let mut bodies = HashMap::new();
    for (customer, version, rows) in store.section_rows(&ids).await? {
        bodies.insert(customer, body(version, rows, as_of));
    }
    Ok(in_order(&ids, as_of, &bodies))
}

fn body(version: i64, rows: Vec<RecordRow>, as_of: DateTime<Utc>) -> Body {
    let mut by_purpose: HashMap<&str, Vec<decision::Record>> = HashMap::new();
    for row in &rows {
        by_purpose.entry(&row.purpose_id).or_default().push(row.decision_record());
    }
    let as_of = by_purpose.values().map(|records| decision::now(records)).fold(as_of, DateTime::max);
    let in_force = by_purpose.values().flat_map(|records| decision::in_force(records, as_of));
    let in_force: Vec<Uuid> = in_force.map(|record| record.record_id).collect();
    let valid_until = by_purpose.values().filter_map(|records| decision::next_lapse(records, as_of)).min();
    let mut decisions: Vec<ConsentRecord> =
        rows.into_iter().filter(|row| in_force.contains(&row.record_id)).map(RecordRow::into_brief).collect();
    decisions.sort_by(|a, b| (&a.purpose_id, a.channel).cmp(&(&b.purpose_id, b.channel)));
    let total_size = decisions.len() as i32;
    decisions.truncate(DECISIONS);
    Body { version, valid_until, body: Ok(ConsentSection { decisions, total_size }.encode_to_vec()) }
}
