//! What customers are counted by: what the other services' sections say, in one word for each dimension.

use prost::Message;
use proto::{
    consent::v1::{ConsentSection, Decision},
    contact::v1::ContactSection,
    insight::v1::Dimension,
    interaction::v1::{Direction, InteractionSection},
    loyalty::v1::LoyaltySection,
    profile::v1::ProfileSection,
};
use store::Result;

/// The dimensions of one service with their values, empty where not known.
pub type Traits = Vec<(Dimension, String)>;

/// An enumeration's value in one word; empty for what is not stated.
pub fn short(name: &str, prefix: &str) -> String {
    let word = name.trim_start_matches(prefix).to_lowercase();
    if word == "unspecified" { String::new() } else { word }
}

/// A dimension as it is stored.
pub fn name(dimension: Dimension) -> String {
    short(dimension.as_str_name(), "DIMENSION_")
}

pub fn of_profile(section: &[u8]) -> Result<Traits> {
    let ProfileSection { profile, last_device, .. } = ProfileSection::decode(section)?;
    let (profile, device) = (profile.unwrap_or_default(), last_device.unwrap_or_default());
    // The first digit of ISCO-08 is the major group.
    let occupation = profile.occupation.as_ref().and_then(|occupation| occupation.isco_code.get(..1));
    Ok(vec![
        (Dimension::AgeBand, short(profile.age_band().as_str_name(), "AGE_BAND_")),
        (Dimension::Gender, short(profile.gender().as_str_name(), "GENDER_")),
        (Dimension::MaritalStatus, short(profile.marital_status().as_str_name(), "MARITAL_STATUS_")),
        (Dimension::Occupation, occupation.unwrap_or_default().to_owned()),
        (Dimension::Region, profile.region),
        (Dimension::Language, profile.language),
        (Dimension::TimeZone, profile.time_zone),
        (Dimension::DeviceType, short(device.r#type().as_str_name(), "DEVICE_TYPE_")),
        (Dimension::NetworkKind, short(device.network_kind().as_str_name(), "NETWORK_KIND_")),
        (Dimension::OperatingSystem, device.operating_system),
        (Dimension::Browser, device.browser),
    ])
}

pub fn of_contact(section: &[u8]) -> Result<Traits> {
    let preferences = ContactSection::decode(section)?.preferences.unwrap_or_default();
    let first = preferences.channels().next().unwrap_or_default();
    Ok(vec![(Dimension::PreferredChannel, short(first.as_str_name(), "CHANNEL_"))])
}

pub fn of_interaction(section: &[u8]) -> Result<Traits> {
    // What we sent is not what the customer said.
    let mut interactions = InteractionSection::decode(section)?.latest_interactions.into_iter();
    let latest = interactions.find(|interaction| interaction.direction() == Direction::Inbound).unwrap_or_default();
    Ok(vec![(Dimension::ContactChannel, short(latest.channel().as_str_name(), "CHANNEL_"))])
}

pub fn of_loyalty(section: &[u8]) -> Result<Traits> {
    let oldest =
        LoyaltySection::decode(section)?.memberships.into_iter().next().and_then(|membership| membership.member);
    Ok(vec![(Dimension::LoyaltyProgramme, oldest.unwrap_or_default().programme_id)])
}

pub fn of_consent(section: &[u8]) -> Result<Traits> {
    let decisions = ConsentSection::decode(section)?.decisions;
    let given = decisions.iter().any(|decision| decision.decision() == Decision::Granted);
    Ok(vec![(Dimension::Consent, if given { "given" } else { "not_given" }.to_owned())])
}
