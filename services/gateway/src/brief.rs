//! What an agent should know in ten seconds: what of a customer's view matters for the next sentence. Pure.

use std::cmp::Reverse;

use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use proto::{
    consent::v1::Decision,
    contact::v1::DeliverabilityState,
    customer::v1::{Caution, Customer, ServiceBrief},
    interaction::v1::{Case, CaseKind, Interaction},
    profile::v1::Polarity,
};

use crate::channel;

/// So many of each list are told.
const TOLD: usize = 3;
const PREFERENCES: usize = 5;

/// The brief at an instant.
pub fn brief(customer: Customer, now: DateTime<Utc>) -> ServiceBrief {
    let cautions = cautions(&customer, now).into_iter().map(i32::from).collect();
    let Customer { customer_id, profile, order_history, interaction, loyalty, unavailable, .. } = customer;
    let profile = profile.and_then(|section| section.profile).unwrap_or_default();
    let forms = profile.name_forms.clone().unwrap_or_default();
    let zone: Option<chrono_tz::Tz> = profile.time_zone.parse().ok();
    let mut preferences = profile.preferences.clone();
    let strength = |percent: i32| if percent == 0 { 100 } else { percent };
    preferences.sort_by_key(|p| (Reverse(strength(p.strength_percent)), p.polarity() != Polarity::Dislike));
    preferences.truncate(PREFERENCES);
    let orders = order_history.unwrap_or_default();
    let mut summaries = orders.summaries;
    summaries.sort_by_key(|summary| Reverse(summary.order_count));
    summaries.truncate(TOLD);
    let passed = interaction.unwrap_or_default();
    let mut memberships = loyalty.unwrap_or_default().memberships;
    memberships.truncate(TOLD);
    ServiceBrief {
        customer_id,
        display_name: forms.display,
        address_as: forms.address,
        age_band: profile.age_band,
        pronouns: profile.pronouns,
        language: profile.language,
        local_time: zone.map(|zone| now.with_timezone(&zone).format("%H:%M").to_string()).unwrap_or_default(),
        customer_since_time: profile.create_time,
        preferences,
        open_cases: passed.open_cases.into_iter().take(TOLD).map(without_text).collect(),
        open_case_total_size: passed.open_case_total_size,
        latest_interaction: passed.latest_interactions.into_iter().next().map(without_transcript),
        latest_order: orders.latest_orders.into_iter().next(),
        order_summaries: summaries,
        memberships,
        cautions,
        unavailable,
        brief_time: Some(Timestamp { seconds: now.timestamp(), nanos: 0 }),
    }
}

/// What to mind before the first word.
fn cautions(customer: &Customer, now: DateTime<Utc>) -> Vec<Caution> {
    let mut cautions = Vec::new();
    if customer.interaction.iter().flat_map(|s| &s.open_cases).any(|case| case.kind() == CaseKind::Complaint) {
        cautions.push(Caution::OpenComplaint);
    }
    let zone = customer.profile.as_ref().and_then(|section| section.profile.as_ref()).map(|p| p.time_zone.as_str());
    if let Some(contact) = &customer.contact {
        if channel::quiet_until(contact, zone.unwrap_or_default(), now).is_some() {
            cautions.push(Caution::QuietHours);
        }
        use DeliverabilityState::{Complained, Unreachable, Unsubscribed};
        let state = |point: &proto::contact::v1::ContactPoint| point.deliverability.as_ref().map(|known| known.state());
        let is_dead = |point| matches!(state(point), Some(Complained | Unreachable | Unsubscribed));
        if contact.contact_points.iter().all(is_dead) {
            cautions.push(Caution::Unreachable);
        }
    }
    let refused = |decision| matches!(decision, Decision::Refused | Decision::Withdrawn);
    if customer.consent.iter().flat_map(|section| &section.decisions).any(|record| refused(record.decision())) {
        cautions.push(Caution::ConsentRefused);
    }
    cautions
}

/// A case as it is listed: its story is read where it is worked on.
fn without_text(case: Case) -> Case {
    Case { description: String::new(), resolution: String::new(), ..case }
}

fn without_transcript(interaction: Interaction) -> Interaction {
    Interaction { transcript: String::new(), ..interaction }
}

#[cfg(test)]
mod tests {
    use proto::{
        consent::v1::{ConsentRecord, ConsentSection},
        contact::v1::{ContactPoint, ContactSection, Deliverability},
        interaction::v1::InteractionSection,
        order_history::v1::{OrderHistorySection, OrderSummary},
        profile::v1::{Preference, Profile, ProfileSection},
    };

    use super::*;

    #[test]
    fn the_strongest_preferences_and_the_oldest_cases() {
        let preference = |value: &str, polarity: Polarity, strength_percent| Preference {
            value: value.into(),
            polarity: polarity.into(),
            strength_percent,
            ..Default::default()
        };
        let preferences = vec![
            preference("a", Polarity::Like, 10),
            preference("b", Polarity::Like, 90),
            preference("c", Polarity::Dislike, 90),
            preference("d", Polarity::Like, 0),
            preference("e", Polarity::Like, 50),
            preference("f", Polarity::Like, 20),
        ];
        let profile = Profile { preferences, time_zone: "Asia/Tokyo".into(), ..Default::default() };
        let case = |kind: CaseKind| Case { kind: kind.into(), description: "long".into(), ..Default::default() };
        let open_cases = [CaseKind::Question, CaseKind::Question, CaseKind::Praise, CaseKind::Complaint].map(case);
        let summary = |order_count| OrderSummary { order_count, ..Default::default() };
        let customer = Customer {
            profile: Some(ProfileSection { profile: Some(profile), ..Default::default() }),
            interaction: Some(InteractionSection { open_cases: open_cases.into(), ..Default::default() }),
            order_history: Some(OrderHistorySection {
                summaries: [1, 9, 3, 2].map(summary).into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let brief = brief(customer, "2026-06-15T22:05:00Z".parse().unwrap());
        let told: String = brief.preferences.iter().map(|preference| preference.value.as_str()).collect();
        assert_eq!(told, "dcbef", "of equals what is disliked comes first");
        assert_eq!(brief.local_time, "07:05");
        assert_eq!(brief.open_cases.len(), 3);
        assert!(brief.open_cases.iter().all(|case| case.description.is_empty()));
        assert_eq!(brief.cautions, [i32::from(Caution::OpenComplaint)], "also of a case that is not told");
        assert_eq!(brief.order_summaries.iter().map(|s| s.order_count).collect::<Vec<_>>(), [9, 3, 2]);
    }

    #[test]
    fn what_to_mind() {
        let point = |state: DeliverabilityState| ContactPoint {
            deliverability: Some(Deliverability { state: state.into(), ..Default::default() }),
            ..Default::default()
        };
        let of = |states: &[DeliverabilityState], decision: Decision| {
            let contact_points = states.iter().copied().map(point).collect();
            let record = ConsentRecord { decision: decision.into(), ..Default::default() };
            let customer = Customer {
                contact: Some(ContactSection { contact_points, ..Default::default() }),
                consent: Some(ConsentSection { decisions: vec![record], ..Default::default() }),
                ..Default::default()
            };
            cautions(&customer, Utc::now())
        };
        use DeliverabilityState::{SoftBouncing, Unreachable};
        assert_eq!(of(&[Unreachable, SoftBouncing], Decision::Granted), []);
        assert_eq!(of(&[Unreachable], Decision::Granted), [Caution::Unreachable]);
        assert_eq!(of(&[SoftBouncing], Decision::Withdrawn), [Caution::ConsentRefused]);
        // A section that is not there says nothing.
        assert_eq!(cautions(&Customer::default(), Utc::now()), []);
    }
}
