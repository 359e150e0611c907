use access::InternalKey;
use client::Peer;
use error::Failure;
use proto::{
    consent::v1::consent_service_server, contact::v1::contact_service_server, customer::v1::SectionName,
    insight::v1::insight_service_server, interaction::v1::interaction_service_server,
    loyalty::v1::loyalty_service_server, order_history::v1::order_history_service_server,
    profile::v1::profile_service_server, r#type::v1::Identifier,
};
use tls::Identity;
use tonic::Status;

use crate::{Config, reason};

/// The services by their sections, their names and their full names in the contract.
pub const SERVICES: [(SectionName, &str, &str); 7] = [
    (SectionName::Profile, "profile", profile_service_server::SERVICE_NAME),
    (SectionName::Contact, "contact", contact_service_server::SERVICE_NAME),
    (SectionName::OrderHistory, "order-history", order_history_service_server::SERVICE_NAME),
    (SectionName::Interaction, "interaction", interaction_service_server::SERVICE_NAME),
    (SectionName::Loyalty, "loyalty", loyalty_service_server::SERVICE_NAME),
    (SectionName::Consent, "consent", consent_service_server::SERVICE_NAME),
    (SectionName::Insight, "insight", insight_service_server::SERVICE_NAME),
];

/// A service behind the gateway.
#[derive(Clone)]
pub struct Owner {
    /// The section it owns.
    pub section: SectionName,
    /// Its public service, by the full name in the contract.
    pub service: &'static str,
    /// Its one name.
    pub name: &'static str,
    /// The way to it.
    pub peer: Peer,
}

/// The seven services behind the gateway, profile first.
pub struct Peers(Vec<Owner>);

impl Peers {
    /// Prepares the channels; each connects when it is first used.
    pub fn connect(
        config: &Config,
        key: &InternalKey,
        identity: Option<&Identity>,
    ) -> Result<Self, tonic::transport::Error> {
        let Config { profile_url, contact_url, order_history_url, interaction_url, .. } = config;
        let Config { loyalty_url, consent_url, insight_url, .. } = config;
        let urls =
            [profile_url, contact_url, order_history_url, interaction_url, loyalty_url, consent_url, insight_url];
        let owners = SERVICES.into_iter().zip(urls).map(|((section, name, service), url)| {
            Ok(Owner { section, name, service, peer: Peer::new(client::channel_as(url, identity)?, key.clone()) })
        });
        Ok(Self(owners.collect::<Result<_, tonic::transport::Error>>()?))
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Owner> {
        self.0.iter()
    }

    /// The way to who owns a section.
    pub fn peer(&self, section: SectionName) -> Result<&Peer, Failure> {
        let owner = self.all().find(|owner| owner.section == section);
        Ok(&owner.ok_or(reason::SERVICE_UNAVAILABLE)?.peer)
    }

    /// Who knows identifiers of this kind.
    pub fn owner_of(&self, identifier: &Identifier) -> Option<&Owner> {
        let of_profile = [
            !identifier.customer_id.is_empty(),
            identifier.external_id.is_some(),
            !identifier.user_name.is_empty(),
            identifier.federated_subject.is_some(),
        ];
        let section = if of_profile.contains(&true) {
            SectionName::Profile
        } else if identifier.order_number.is_some() {
            SectionName::OrderHistory
        } else if !identifier.member_number.is_empty() {
            SectionName::Loyalty
        } else if !identifier.device_id.is_empty() || !identifier.anonymous_id.is_empty() {
            SectionName::Interaction
        } else {
            SectionName::Contact
        };
        self.all().find(|owner| owner.section == section)
    }
}

/// A peer's own word, such as that there is no such purpose; a dead or a slow one has none.
pub fn told(status: Status) -> Status {
    match error::reason_of(&status) {
        Some(_) => status,
        None => client::unreachable(&status).into(),
    }
}
