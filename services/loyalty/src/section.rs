use std::collections::HashMap;

use chrono::Utc;
use prost::Message;
use proto::{
    loyalty::v1::{LoyaltySection, Membership},
    section::v1::Section,
};
use store::{Body, Result, in_order};
use uuid::Uuid;

use crate::store::Store;

/// A section shows so many memberships.
const MEMBERSHIPS: usize = 10;

/// The sections of up to 256 customers, by one query. They hold until the next points expire.
pub async fn load(store: Store, ids: Vec<Uuid>) -> Result<Vec<Section>> {
    let as_of = Utc::now();
    let mut bodies = HashMap::new();
    for row in store.section_rows(&ids, as_of).await? {
        let mut section = LoyaltySection { total_size: row.members.0.len() as i32, ..Default::default() };
        let mut valid_until = None;
        for member in row.members.0.into_iter().take(MEMBERSHIPS) {
            let (member, holding) = member.open();
            valid_until = [valid_until, holding.next_expiry(as_of)].into_iter().flatten().min();
            let balance = Some(crate::store::balance(&holding, as_of));
            section.memberships.push(Membership { member: Some(member), balance });
        }
        bodies.insert(row.customer_id, Body { version: row.version, valid_until, body: Ok(section.encode_to_vec()) });
    }
    Ok(in_order(&ids, as_of, &bodies))
}
