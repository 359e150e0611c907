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

pub fn count(request: &CountOutboundInteractionsRequest, violations: &mut Violations) {
    check_time("after_time", request.after_time.as_ref(), violations);
    check_time("until_time", request.until_time.as_ref(), violations);
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
