//! What the contract's rules cannot say.

use error::Violations;
use proto::{interaction::v1::*, section::v1::ResolveIdentifiersRequest, r#type::v1::Identifier};
use store::check_time;

use crate::timeline;

pub fn record(request: &RecordInteractionRequest, violations: &mut Violations) {
    let Some(interaction) = &request.interaction else { return };
    check_time("interaction.occurred_time", interaction.occurred_time.as_ref(), violations);
    if let Some(duration) = &interaction.duration
        && timeline::duration_ms(duration).is_none()
    {
        violations.add("interaction.duration", "must be 0 to 24 hours in whole milliseconds");
    }
}

/// Items of a batch are judged one by one; only the number of items is the batch's own.
pub fn batch_size(request: &BatchRecordInteractionsRequest, violations: &mut Violations) {
    if request.requests.is_empty() || request.requests.len() > 250 {
        violations.add("requests", "must have 1 to 250 items");
    }
}

pub fn resolve(request: &ResolveIdentifiersRequest, violations: &mut Violations) {
    for (i, identifier) in request.identifiers.iter().enumerate() {
        if visitor(identifier).is_none() {
            violations.add(format!("identifiers[{i}]"), "is of a kind that interaction does not know");
        }
    }
}

/// An identifier as a visitor.
pub fn visitor(identifier: &Identifier) -> Option<Visitor> {
    let Identifier { device_id, anonymous_id, .. } = identifier;
    let known = !device_id.is_empty() || !anonymous_id.is_empty();
    known.then(|| Visitor { device_id: device_id.clone(), anonymous_id: anonymous_id.clone() })
}
