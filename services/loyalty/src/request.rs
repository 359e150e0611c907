//! What the contract's rules cannot say.

use error::Violations;
use proto::section::v1::ResolveIdentifiersRequest;

pub fn resolve(request: &ResolveIdentifiersRequest, violations: &mut Violations) {
    for (i, identifier) in request.identifiers.iter().enumerate() {
        if identifier.member_number.is_empty() {
            violations.add(format!("identifiers[{i}]"), "is of a kind that loyalty does not know");
        }
    }
}

/// Card numbers are compared as digits: spaces and hyphens are how people write them.
pub fn digits(member_number: &str) -> String {
    member_number.chars().filter(|c| !matches!(c, ' ' | '-')).collect()
}
