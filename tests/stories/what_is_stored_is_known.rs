use std::collections::BTreeSet;

use clientele::catalogue::{entries, page};
use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};
use sqlx::Executor;
use tests::Installation;

/// What is worked out from what is stored, whenever it is asked for.
const COMPUTED: [&str; 15] = [
    "Observation.prevailing_fields",
    "Profile.name_forms",
    "Profile.age",
    "Profile.age_band",
    "ContactPoint.shared",
    "Case.state",
    "Balance.next_lots",
    "Balance.as_of",
    "OrderSummary.net_minor",
    "OrderSummary.average_minor",
    "OrderSummary.mean_gap_seconds",
    "Relation.other_permitted",
    "ValueTier.as_of_day",
    "ValueTier.tier",
    "ValueTier.segment",
];

/// The fields of a message that no path leads to.
fn missing(prefix: &str, message: &MessageDescriptor, stored: &BTreeSet<&str>) -> Vec<String> {
    let mut missing_here = Vec::new();
    for field in message.fields() {
        let path = format!("{prefix}.{}", field.name());
        let inner = format!("{path}.");
        match field.kind() {
            _ if stored.contains(path.as_str()) || COMPUTED.contains(&path.as_str()) => (),
            Kind::Message(message) if stored.iter().any(|stored| stored.starts_with(&inner)) => {
                missing_here.extend(missing(&path, &message, stored));
            }
            _ => missing_here.push(path),
        }
    }
    missing_here
}

#[tokio::test]
async fn every_column_and_every_field_is_in_the_catalogue() {
    let installation = Installation::start().await;
    let mut sql = installation.sql().await;
    let catalogue = entries(&mut sql).await.unwrap();
    let pool = DescriptorPool::decode(proto::DESCRIPTOR_SET).unwrap();
    for service in clientele::suite::SERVICES {
        let of_service = catalogue.iter().filter(|entry| entry.service == service);
        let stored: BTreeSet<&str> = of_service.flat_map(|entry| &entry.fields).map(String::as_str).collect();
        let messages: BTreeSet<&str> = stored.iter().filter_map(|path| path.split('.').next()).collect();
        assert!(!messages.is_empty(), "{service}");
        for name in messages {
            let message = format!("clientele.{}.v1.{name}", service.replace('-', "_"));
            let message = pool.get_message_by_name(&message).unwrap();
            assert_eq!(missing(name, &message, &stored), Vec::<String>::new(), "stored nowhere, or not said where");
        }
    }
    let page = page(&catalogue);
    assert!(page.contains(
        "| contact_points.sealed | sealed | ContactPoint.email, ContactPoint.phone, ContactPoint.postal_address, \
         ContactPoint.social_handle, ContactPoint.label |"
    ));

    // What nobody has thought about is found, and so is what should have been sealed.
    sql.execute(
        "alter table profile.profiles add column shoe_size integer, add column nickname text, add column gone text;
         comment on column profile.profiles.nickname is 'Profile.name.preferred_name';
         comment on column profile.profiles.gone is 'Profile.hair_colour';",
    )
    .await
    .unwrap();
    let faults = entries(&mut sql).await.err().unwrap().to_string();
    assert!(faults.contains("profile.profiles.shoe_size: no entry"), "{faults}");
    assert!(faults.contains("profile.profiles.nickname: NAME must be sealed"), "{faults}");
    assert!(faults.contains("profile.profiles.gone: the contract has no Profile.hair_colour"), "{faults}");
}
