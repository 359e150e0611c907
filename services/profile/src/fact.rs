//! Facts of which a profile has many, each believed by its key: preferences, traits, attributes, social standings.

use proto::profile::v1::*;

/// The fields that hold them.
pub const LISTS: [&str; 4] = ["preferences", "traits", "attributes", "social_standings"];

/// So many keys of a list can be spoken of.
pub const MAX_KEYS: usize = 200;

/// One such fact.
pub trait Fact: Clone + PartialEq {
    /// What it speaks of.
    fn key(&self) -> String;
    /// Whether it says anything but that there is nothing any more.
    fn holds(&self) -> bool;
    /// Where it says who says so.
    fn provenance(&mut self) -> &mut Option<Provenance>;
}

impl Fact for Preference {
    fn key(&self) -> String {
        format!("{} {}", self.dimension, self.value.to_lowercase())
    }

    fn holds(&self) -> bool {
        self.polarity() != Polarity::None
    }

    fn provenance(&mut self) -> &mut Option<Provenance> {
        &mut self.provenance
    }
}

impl Fact for Trait {
    fn key(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }

    fn holds(&self) -> bool {
        self.score_percent > 0
    }

    fn provenance(&mut self) -> &mut Option<Provenance> {
        &mut self.provenance
    }
}

impl Fact for Attribute {
    fn key(&self) -> String {
        self.name.clone()
    }

    fn holds(&self) -> bool {
        self.value.is_some()
    }

    fn provenance(&mut self) -> &mut Option<Provenance> {
        &mut self.provenance
    }
}

impl Fact for SocialStanding {
    fn key(&self) -> String {
        self.network.clone()
    }

    fn holds(&self) -> bool {
        [self.friend_count, self.fan_count, self.follower_count].iter().any(Option::is_some)
    }

    fn provenance(&mut self) -> &mut Option<Provenance> {
        &mut self.provenance
    }
}

/// Each fact of a list by its key, in a profile that says nothing else.
pub fn each(list: &str, profile: &Profile) -> Vec<(String, Profile)> {
    match list {
        "preferences" => alone(&profile.preferences, |preferences| Profile { preferences, ..Default::default() }),
        "traits" => alone(&profile.traits, |traits| Profile { traits, ..Default::default() }),
        "attributes" => alone(&profile.attributes, |attributes| Profile { attributes, ..Default::default() }),
        _ => alone(&profile.social_standings, |social_standings| Profile { social_standings, ..Default::default() }),
    }
}

/// Puts the facts of all lists of one profile into another, in the place of those with their keys.
pub fn put(from: &Profile, to: &mut Profile) {
    replace(&from.preferences, &mut to.preferences);
    replace(&from.traits, &mut to.traits);
    replace(&from.attributes, &mut to.attributes);
    replace(&from.social_standings, &mut to.social_standings);
}

/// Writes into each fact who says so, or nobody.
pub fn sign(profile: &mut Profile, by: Option<&Provenance>) {
    profile.preferences.iter_mut().for_each(|fact| *fact.provenance() = by.cloned());
    profile.traits.iter_mut().for_each(|fact| *fact.provenance() = by.cloned());
    profile.attributes.iter_mut().for_each(|fact| *fact.provenance() = by.cloned());
    profile.social_standings.iter_mut().for_each(|fact| *fact.provenance() = by.cloned());
}

/// The profile without what time alone decides: until when its facts are told.
pub fn timeless(mut profile: Profile) -> Profile {
    profile.attributes.iter_mut().for_each(|attribute| attribute.expire_time = None);
    profile
}

/// The profile with what its facts say, and not who says so.
pub fn unsigned(mut profile: Profile) -> Profile {
    sign(&mut profile, None);
    timeless(profile)
}

fn alone<F: Fact>(facts: &[F], profile: fn(Vec<F>) -> Profile) -> Vec<(String, Profile)> {
    facts.iter().map(|fact| (fact.key(), profile(vec![fact.clone()]))).collect()
}

fn replace<F: Fact>(from: &[F], to: &mut Vec<F>) {
    for fact in from {
        to.retain(|other| other.key() != fact.key());
        if fact.holds() {
            to.push(fact.clone());
        }
    }
    to.sort_by_key(F::key);
}
