//! Whether answers are those of a customer. Pure; which one is wrong is nobody's to know.

use std::collections::BTreeSet;

use proto::profile::v1::*;

use crate::name;

/// How far answers are those of the customer.
pub fn level(profile: &Profile, answers: &[IdentityAnswer]) -> MatchLevel {
    match answers.len() {
        _ if !answers.iter().all(|answer| is_right(profile, answer)) => MatchLevel::None,
        1 => MatchLevel::Low,
        2 => MatchLevel::Medium,
        _ => MatchLevel::High,
    }
}

fn is_right(profile: &Profile, answer: &IdentityAnswer) -> bool {
    let known = profile.name.clone().unwrap_or_default();
    let same = |known: &str, said: &str| {
        let known: BTreeSet<String> = name::tokens([known]);
        !known.is_empty() && known == name::tokens([said])
    };
    match kind(answer) {
        "given_name" => same(&known.given_name, &answer.given_name),
        "family_name" => same(&known.family_name, &answer.family_name),
        "birth_date" => profile.birth_date.is_some_and(|date| date.year > 0 && Some(date) == answer.birth_date),
        _ => answer.external_id.as_ref().is_some_and(|id| profile.external_ids.contains(id)),
    }
}

/// What an answer is about.
pub fn kind(answer: &IdentityAnswer) -> &'static str {
    if !answer.given_name.is_empty() {
        "given_name"
    } else if !answer.family_name.is_empty() {
        "family_name"
    } else if answer.birth_date.is_some() {
        "birth_date"
    } else {
        "external_id"
    }
}

#[cfg(test)]
mod tests {
    use proto::r#type::v1::PartialDate;

    use super::*;

    #[test]
    fn what_is_not_known_matches_nothing() {
        let birth_date = |year| Some(PartialDate { year, month: 2, day: 29 });
        let given = IdentityAnswer { given_name: "-".into(), ..Default::default() };
        let born = IdentityAnswer { birth_date: birth_date(0), ..Default::default() };
        let nobody = Profile { birth_date: birth_date(0), ..Default::default() };
        for answer in [given, born] {
            assert_eq!(level(&nobody, &[answer]), MatchLevel::None);
        }
    }

    #[test]
    fn one_wrong_answer_spoils_all() {
        let name =
            PersonName { given_name: "Ада".into(), family_name: "Лавлейс".into(), ..Default::default() };
        let profile = Profile { name: Some(name), ..Default::default() };
        let given = |name: &str| IdentityAnswer { given_name: name.into(), ..Default::default() };
        let family = |name: &str| IdentityAnswer { family_name: name.into(), ..Default::default() };
        assert_eq!(level(&profile, &[given("ada")]), MatchLevel::Low);
        assert_eq!(level(&profile, &[given("АДА"), family("лавлейс")]), MatchLevel::Medium);
        assert_eq!(level(&profile, &[given("Ада"), family("Байрон")]), MatchLevel::None);
    }
}
