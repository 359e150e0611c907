use std::collections::HashMap;

use chrono::Utc;
use prost::Message;
use proto::{
    profile::v1::{Profile, ProfileSection},
    section::v1::Section,
};
use store::{Body, Result, in_order};
use uuid::Uuid;

use crate::{
    present::{present, valid_until},
    store::Store,
};

/// A section shows so many of each list.
const SHOWN: usize = 10;

/// And of all of them together so many bytes, since a section has 16 KiB.
const BYTES: usize = 15 * 1024;

/// The sections of up to 256 customers, by one query.
pub async fn load(store: Store, ids: Vec<Uuid>) -> Result<Vec<Section>> {
    let (mut bodies, now) = (HashMap::new(), Utc::now());
    for row in store.section_rows(&ids).await? {
        let valid_until = row.profile.as_ref().ok().and_then(|profile| valid_until(profile, now));
        let section = row.profile.and_then(|profile| {
            let profile = present(profile, now);
            let external_id_total_size = profile.external_ids.len() as i32;
            let (profile, shortened) = shorten(profile);
            Ok(ProfileSection { profile: Some(profile), external_id_total_size, shortened, last_device: row.device? })
        });
        bodies.insert(row.customer_id, Body { valid_until, ..Body::lasting(row.version, section) });
    }
    Ok(in_order(&ids, now, &bodies))
}

/// The profile with what a section has room for, and whether anything is missing.
fn shorten(mut profile: Profile) -> (Profile, bool) {
    let sizes = |p: &Profile| {
        [p.external_ids.len(), p.preferences.len(), p.traits.len(), p.attributes.len(), p.social_standings.len()]
    };
    let before = sizes(&profile);
    for shown in (0..=SHOWN).rev() {
        profile.external_ids.truncate(shown);
        profile.preferences.truncate(shown);
        profile.traits.truncate(shown);
        profile.attributes.truncate(shown);
        profile.social_standings.truncate(shown);
        if profile.encoded_len() <= BYTES {
            break;
        }
    }
    let shortened = sizes(&profile) != before;
    (profile, shortened)
}
