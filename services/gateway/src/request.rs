//! What the contract's rules cannot say: which sections a mask names.

use error::Violations;
use prost_types::FieldMask;
use proto::customer::v1::{
    BatchGetCustomersRequest, ChooseChannelRequest, GetCustomerRequest, LookupCustomerRequest, SearchCustomersRequest,
    SectionName, WatchCustomersRequest,
};

/// The sections by the names of their fields in a customer.
pub const SECTIONS: [(&str, SectionName); 7] = [
    ("profile", SectionName::Profile),
    ("contact", SectionName::Contact),
    ("order_history", SectionName::OrderHistory),
    ("interaction", SectionName::Interaction),
    ("loyalty", SectionName::Loyalty),
    ("consent", SectionName::Consent),
    ("insight", SectionName::Insight),
];

pub fn get(request: &GetCustomerRequest, violations: &mut Violations) {
    mask(request.read_mask.as_ref(), violations);
}

pub fn batch_get(request: &BatchGetCustomersRequest, violations: &mut Violations) {
    mask(request.read_mask.as_ref(), violations);
}

/// An initial state is a beginning.
pub fn watch(request: &WatchCustomersRequest, violations: &mut Violations) {
    if request.initial_state && !request.resume_token.is_empty() {
        violations.add("initial_state", "needs an empty token");
    }
    if request.sections.contains(&SectionName::Unspecified.into()) {
        violations.add("sections", "must name sections");
    }
}

pub fn lookup(request: &LookupCustomerRequest, violations: &mut Violations) {
    mask(request.read_mask.as_ref(), violations);
}

pub fn search(request: &SearchCustomersRequest, violations: &mut Violations) {
    mask(request.read_mask.as_ref(), violations);
}

pub fn choose(request: &ChooseChannelRequest, violations: &mut Violations) {
    // Years that consent's database knows.
    if request.at_time.is_some_and(|at| !(0..=253_402_300_799).contains(&at.seconds) || at.nanos % 1000 != 0) {
        violations.add("at_time", "must lie between the years 1970 and 9999, no finer than a microsecond");
    }
}

/// The sections that a mask names; without a mask or with an empty one, all.
pub fn sections(mask: Option<&FieldMask>) -> Vec<SectionName> {
    let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
    let named = |name: &str| paths.is_empty() || paths.iter().any(|path| path == name);
    SECTIONS.into_iter().filter(|(name, _)| named(name)).map(|(_, section)| section).collect()
}

fn mask(mask: Option<&FieldMask>, violations: &mut Violations) {
    for path in mask.into_iter().flat_map(|mask| &mask.paths) {
        if !SECTIONS.iter().any(|(name, _)| name == path) {
            violations.add("read_mask", "names something that is no section");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_or_empty_mask_means_everything() {
        assert_eq!(sections(None).len(), 7);
        assert_eq!(sections(Some(&FieldMask::default())).len(), 7);
        let mask = FieldMask { paths: vec!["loyalty".into(), "profile".into()] };
        assert_eq!(sections(Some(&mask)), [SectionName::Profile, SectionName::Loyalty]);
    }
}
