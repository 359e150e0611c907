//! What the contract's rules cannot say: whether a value is an address or a number.

use std::collections::HashSet;

use error::Violations;
use proto::{contact::v1::*, section::v1::ResolveIdentifiersRequest, r#type::v1::Identifier};
use store::check_past;

use crate::{normalize, postal};

pub fn add(request: &AddContactPointRequest, violations: &mut Violations) {
    if let Some(point) = &request.contact_point {
        value(point, violations);
    }
}

pub fn update(request: &UpdateContactPointRequest, violations: &mut Violations) {
    let (Some(point), Some(mask)) = (&request.contact_point, &request.update_mask) else { return };
    if mask.paths.is_empty() {
        violations.add("update_mask", "must name at least one field");
    }
    if changes_value(request) {
        value(point, violations);
    }
    for path in &mask.paths {
        let given = match path.as_str() {
            "label" => true,
            "email" => point.email.is_some(),
            "phone" => point.phone.is_some(),
            "postal_address" => point.postal_address.is_some(),
            "social_handle" => point.social_handle.is_some(),
            _ => {
                violations.add("update_mask", "names a field that cannot be changed here");
                continue;
            }
        };
        if !given {
            violations.add(format!("contact_point.{path}"), "is named by the mask and must be given");
        }
    }
}

pub fn preferences(request: &SetContactPreferencesRequest, violations: &mut Violations) {
    let Some(preferences) = &request.preferences else { return };
    for (hours, from, until) in [
        ("quiet", preferences.quiet_from_minute, preferences.quiet_until_minute),
        ("preferred", preferences.preferred_from_minute, preferences.preferred_until_minute),
    ] {
        let until_field = || format!("preferences.{hours}_until_minute");
        if from.is_some() != until.is_some() {
            violations.add(until_field(), format!("is given with {hours}_from_minute or not at all"));
        } else if from.is_some() && from == until {
            violations.add(until_field(), format!("must not be {hours}_from_minute"));
        }
    }
    let mut seen = HashSet::new();
    for (i, cap) in preferences.frequency_caps.iter().enumerate() {
        if !seen.insert(&cap.purpose_id) {
            violations.add(format!("preferences.frequency_caps[{i}]"), "is for a purpose that has one already");
        }
    }
}

pub fn deliveries(request: &RecordDeliveryEventsRequest, violations: &mut Violations) {
    for (i, event) in request.events.iter().enumerate() {
        check_past(&format!("events[{i}].occurred_time"), event.occurred_time.as_ref(), violations);
    }
}

/// Whether an update changes more than the label.
pub fn changes_value(request: &UpdateContactPointRequest) -> bool {
    request.update_mask.iter().flat_map(|mask| &mask.paths).any(|path| path != "label")
}

pub fn resolve(request: &ResolveIdentifiersRequest, violations: &mut Violations) {
    for (i, identifier) in request.identifiers.iter().enumerate() {
        if contact_value(identifier).is_none() {
            violations.add(format!("identifiers[{i}]"), "is of a kind that contact does not know");
        }
    }
}

/// An identifier as a value to look up.
pub fn contact_value(identifier: &Identifier) -> Option<ContactPointValue> {
    let mut value = ContactPointValue::default();
    if !identifier.email.is_empty() {
        value.email = Some(EmailAddress { address: identifier.email.clone(), ..Default::default() });
    } else if !identifier.phone.is_empty() {
        value.phone = Some(PhoneNumber { number: identifier.phone.clone(), ..Default::default() });
    } else {
        let social = identifier.social_handle.clone()?;
        value.social_handle = Some(SocialHandle { network: social.network, handle: social.handle });
    }
    Some(value)
}

fn value(point: &ContactPoint, violations: &mut Violations) {
    if let Err((field, text)) = normalize::contact_point(&mut point.clone()) {
        violations.add(format!("contact_point.{field}"), text);
    }
    for (field, text) in point.postal_address.iter().flat_map(postal::violations) {
        violations.add(format!("contact_point.postal_address.{field}"), text);
    }
}

#[cfg(test)]
mod tests {
    use proto::contact::v1::ContactPreferences;

    use super::*;

    #[test]
    fn hours_have_both_ends_or_none_and_are_never_empty() {
        for (quiet, preferred, told) in [
            ((None, None), (None, None), vec![]),
            ((Some(0), Some(60)), (Some(1200), Some(60)), vec![]),
            (
                (Some(0), None),
                (None, Some(60)),
                vec!["preferences.quiet_until_minute", "preferences.preferred_until_minute"],
            ),
            (
                (Some(7), Some(7)),
                (Some(0), Some(0)),
                vec!["preferences.quiet_until_minute", "preferences.preferred_until_minute"],
            ),
        ] {
            let preferences = ContactPreferences {
                quiet_from_minute: quiet.0,
                quiet_until_minute: quiet.1,
                preferred_from_minute: preferred.0,
                preferred_until_minute: preferred.1,
                ..Default::default()
            };
            let mut violations = Violations::default();
            let request = SetContactPreferencesRequest { preferences: Some(preferences), ..Default::default() };
            super::preferences(&request, &mut violations);
            let texts = violations.into_result().err().map(|failure| failure.invalid_fields()).unwrap_or_default();
            let fields: Vec<&str> = texts.iter().filter_map(|text| text.split(':').next()).collect();
            assert_eq!(fields, told);
        }
    }
}
