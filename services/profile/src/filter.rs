//! The filter of a search, in the grammar of AIP-160 (<https://google.aip.dev/160>): the fields that it may speak of
//! and what each means. Pure. As that grammar has it, OR binds tighter than AND, and what stands side by side is
//! joined by AND.

use aip_160::{
    Arg, Comparable,
    Comparator::{self, Equal, GreaterThan, GreaterThanOrEqual, Has, LessThan, LessThanOrEqual, NotEqual},
    Expression, FilterError, Member, Restriction, Value, parse_filter_with_max_depth,
};
use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, TimeDelta, Timelike, Utc};
use proto::profile::v1::Gender;

use crate::name;

/// So many parentheses within each other,
const MAX_DEPTH: usize = 8;
/// and so many comparisons and words.
const MAX_TESTS: usize = 32;

/// What a search asks of a customer.
#[derive(Clone, PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub enum Filter {
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Not(Box<Filter>),
    /// The name holds a word.
    Word(String),
    /// The home region is this one.
    Region(String),
    /// The home region is a country or lies in it.
    Country(String),
    /// The language is this one.
    Language(String),
    /// The language is this one or a variant of it.
    Within(String),
    Gender(i32),
    CreatedBefore(DateTime<Utc>),
    CreatedFrom(DateTime<Utc>),
}

/// What is wrong with a filter, without its values.
pub type Broken = String;

impl Filter {
    /// What the words of a query and a filter ask together. Either may be empty.
    pub fn read(query: &str, filter: &str) -> Result<Self, Broken> {
        let mut all: Vec<Filter> = name::tokens([query]).into_iter().map(Filter::Word).collect();
        let parsed = parse_filter_with_max_depth(filter, MAX_DEPTH).map_err(|error| match error {
            FilterError::Syntax { offset, message } => format!("cannot be read from byte {offset} on: {message}"),
            _ => format!("has more than {MAX_DEPTH} parentheses within each other"),
        })?;
        if let Some(expression) = parsed.expression {
            all.push(of(expression)?);
        }
        let filter = Filter::All(all);
        match filter.tests() {
            0 => Err("or a query must ask something".to_owned()),
            tests if tests > MAX_TESTS => Err(format!("has more than {MAX_TESTS} comparisons and words")),
            _ => Ok(filter),
        }
    }

    /// What must hold whatever else does.
    fn held(&self) -> Vec<&Filter> {
        match self {
            Filter::All(filters) => filters.iter().flat_map(Filter::held).collect(),
            filter => vec![filter],
        }
    }

    /// The words that a name must hold in any case.
    pub fn words(&self) -> Vec<&str> {
        self.held()
            .into_iter()
            .filter_map(|held| if let Filter::Word(word) = held { Some(&**word) } else { None })
            .collect()
    }

    /// Whether it asks for nothing but words.
    pub fn is_words(&self) -> bool {
        self.held().iter().all(|held| matches!(held, Filter::Word(_)))
    }

    /// The country that the home region must be or lie in, in any case.
    pub fn country(&self) -> Option<&str> {
        self.held().into_iter().find_map(|held| match held {
            Filter::Country(country) => Some(country.as_str()),
            Filter::Region(region) => region.split('-').next(),
            _ => None,
        })
    }

    /// From when on and before when a customer must have been created, in any case.
    pub fn created(&self) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
        let held = self.held();
        let from = held.iter().filter_map(|held| if let Filter::CreatedFrom(at) = held { Some(*at) } else { None });
        let before = held.iter().filter_map(|held| if let Filter::CreatedBefore(at) = held { Some(*at) } else { None });
        (from.max(), before.min())
    }

    fn tests(&self) -> usize {
        match self {
            Filter::All(filters) | Filter::Any(filters) => filters.iter().map(Filter::tests).sum(),
            Filter::Not(filter) => filter.tests(),
            _ => 1,
        }
    }
}

fn of(expression: Expression) -> Result<Filter, Broken> {
    let each = |of: Vec<Expression>| of.into_iter().map(self::of).collect::<Result<Vec<_>, _>>();
    match expression {
        Expression::And(parts) | Expression::Sequence(parts) => Ok(Filter::All(each(parts)?)),
        Expression::Or(parts) => Ok(Filter::Any(each(parts)?)),
        Expression::Not(part) => Ok(not(self::of(*part)?)),
        Expression::Restriction(restriction) => compared(restriction),
        Expression::Global(Comparable::Member(member)) => words(&text(member)?),
        Expression::Global(Comparable::Function(_)) => Err("calls a function, and there is none".to_owned()),
    }
}

fn compared(restriction: Restriction) -> Result<Filter, Broken> {
    let (Comparable::Member(field), Arg::Comparable(Comparable::Member(value))) =
        (restriction.comparable, restriction.arg)
    else {
        return Err("compares something else than a field with a value".to_owned());
    };
    let (field, value) = (text(field)?, text(value)?);
    let filter = match field.as_str() {
        "name" => (restriction.comparator == Has).then(|| words(&value)).transpose()?,
        "region" => region(restriction.comparator, value)?,
        "language" => language(restriction.comparator, value)?,
        "gender" => gender(restriction.comparator, &value)?,
        "create_time" => create_time(restriction.comparator, &value)?,
        _ => return Err("speaks of a field that is none of name, region, language, gender, create_time".to_owned()),
    };
    // The field's name is one of these now.
    filter.ok_or_else(|| format!("compares {field} in a way that it cannot be"))
}

fn region(comparator: Comparator, value: String) -> Result<Option<Filter>, Broken> {
    let (country, part) = value.split_once('-').map_or((value.as_str(), None), |(country, part)| (country, Some(part)));
    let of = |text: &str, lengths: &[usize], is: fn(&u8) -> bool| {
        lengths.contains(&text.len()) && text.as_bytes().iter().all(is)
    };
    let is_part = |part| of(part, &[1, 2, 3], |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    if !of(country, &[2], u8::is_ascii_uppercase) || !part.is_none_or(is_part) {
        return Err("compares region with what is none".to_owned());
    }
    Ok(match (comparator, part) {
        (Has, None) => Some(Filter::Country(value)),
        (Has, Some(_)) => Some(Filter::Region(value)),
        _ => equal(comparator, Filter::Region(value)),
    })
}

fn language(comparator: Comparator, value: String) -> Result<Option<Filter>, Broken> {
    if !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err("compares language with what is none".to_owned());
    }
    Ok(if comparator == Has { Some(Filter::Within(value)) } else { equal(comparator, Filter::Language(value)) })
}

fn gender(comparator: Comparator, value: &str) -> Result<Option<Filter>, Broken> {
    let gender = Gender::from_str_name(value).ok_or("compares gender with what is no value of Gender")?;
    Ok(equal(comparator, Filter::Gender(gender.into())))
}

/// The database keeps microseconds, so two tests say all.
fn create_time(comparator: Comparator, value: &str) -> Result<Option<Filter>, Broken> {
    let at = time(value).ok_or("compares create_time with what is neither a day nor a quoted RFC 3339 time")?;
    let after = at + TimeDelta::microseconds(1);
    let then = Filter::All(vec![Filter::CreatedFrom(at), Filter::CreatedBefore(after)]);
    Ok(match comparator {
        LessThan => Some(Filter::CreatedBefore(at)),
        LessThanOrEqual => Some(Filter::CreatedBefore(after)),
        GreaterThanOrEqual => Some(Filter::CreatedFrom(at)),
        GreaterThan => Some(Filter::CreatedFrom(after)),
        _ => equal(comparator, then),
    })
}

/// A day begins at midnight UTC.
fn time(value: &str) -> Option<DateTime<Utc>> {
    let day = || NaiveDate::parse_from_str(value, "%Y-%m-%d").ok().map(|day| day.and_time(NaiveTime::MIN).and_utc());
    let at = DateTime::parse_from_rfc3339(value).ok().map(|at| at.to_utc()).or_else(day)?;
    // Those that the database and its neighbours know.
    Some(at).filter(|at| (1..=9998).contains(&at.year()) && at.nanosecond() % 1000 == 0)
}

fn equal(comparator: Comparator, filter: Filter) -> Option<Filter> {
    match comparator {
        Equal => Some(filter),
        NotEqual => Some(not(filter)),
        _ => None,
    }
}

fn not(filter: Filter) -> Filter {
    Filter::Not(Box::new(filter))
}

fn words(text: &str) -> Result<Filter, Broken> {
    let words: Vec<Filter> = name::tokens([text]).into_iter().map(Filter::Word).collect();
    if words.is_empty() { Err("has a word without a letter".to_owned()) } else { Ok(Filter::All(words)) }
}

fn text(member: Member) -> Result<String, Broken> {
    match member.value {
        Value::Text(text) | Value::String(text) if member.fields.is_empty() => Ok(text),
        _ => Err("has a dot outside of quotes".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(filter: &str) -> Filter {
        let Ok(Filter::All(mut all)) = Filter::read("", filter) else { panic!("{filter}") };
        all.remove(0)
    }

    fn region(region: &str) -> Filter {
        Filter::Region(region.to_owned())
    }

    #[test]
    fn or_binds_tighter_than_and() {
        let either = Filter::Any(vec![region("DE"), region("AT")]);
        let language = Filter::Language("de".into());
        let all = Filter::All(vec![language.clone(), either]);
        assert_eq!(read("language = de AND region = DE OR region = AT"), all);
        assert_eq!(read("language = de region = DE OR region = AT"), all, "side by side is AND");
        let one = Filter::All(vec![language, region("DE")]);
        assert_eq!(read("(language = de AND region = DE) OR region = AT"), Filter::Any(vec![one, region("AT")]));
        assert_eq!(read("NOT region = DE"), read("-region = DE"));
        assert_eq!(read("region != DE"), not(region("DE")));
    }

    #[test]
    fn what_a_name_must_hold_in_any_case_leads() {
        let words = |query, filter| {
            let filter = Filter::read(query, filter).unwrap();
            filter.words().into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(words("Anna Müller", ""), ["anna", "muller"]);
        assert_eq!(words("Anna", "name:\"Schmidt-Lee\" AND (Eva region = DE)"), ["anna", "lee", "schmidt", "eva"]);
        assert!(words("", "Anna OR Eva").is_empty() && words("", "NOT Anna").is_empty());
    }

    #[test]
    fn a_country_holds_its_regions_and_a_language_its_variants() {
        assert_eq!(read("region:DE"), Filter::Country("DE".into()));
        assert_eq!(read("region:DE-BY"), region("DE-BY"));
        assert_eq!(read("language:pt"), Filter::Within("pt".into()));
    }

    #[test]
    fn a_day_begins_at_midnight_and_times_have_microseconds() {
        let at = |text| DateTime::parse_from_rfc3339(text).unwrap().to_utc();
        assert_eq!(read("create_time >= 2026-01-31"), Filter::CreatedFrom(at("2026-01-31T00:00:00Z")));
        let filter = read("create_time > \"2026-01-31T10:00:00.5+02:00\"");
        assert_eq!(filter, Filter::CreatedFrom(at("2026-01-31T08:00:00.500001Z")));
        assert_eq!(read("create_time <= 2026-01-31"), Filter::CreatedBefore(at("2026-01-31T00:00:00.000001Z")));
    }

    #[test]
    fn a_listing_begins_and_ends_where_it_must() {
        let at = |text| Some(DateTime::parse_from_rfc3339(text).unwrap().to_utc());
        let filter =
            "create_time >= 2026-01-01 AND (region = \"DE-BY\" create_time > 2026-02-01) create_time < 2026-03-01";
        let read = Filter::read("", filter).unwrap();
        assert_eq!(read.created(), (at("2026-02-01T00:00:00.000001Z"), at("2026-03-01T00:00:00Z")));
        assert_eq!(read.country(), Some("DE"));
        let either = Filter::read("", "create_time >= 2026-01-01 OR region:DE").unwrap();
        assert_eq!((either.created(), either.country()), ((None, None), None));
        assert_eq!(Filter::read("", "NOT region:DE").unwrap().country(), None);
    }

    #[test]
    fn what_cannot_be_asked_is_refused_without_its_values() {
        for filter in [
            "",
            "region",
            "region = secret AND",
            "region = secret",
            "region < DE",
            "name = secret",
            "birth_date = secret",
            "secret.x = 1",
            "secret(1)",
            "gender = secret",
            "create_time = secret",
            "language = \"secret*\"",
            "create_time = 2026-02-30",
            "create_time : 2026-01-01",
            "region = (DE)",
            "\"…\"",
            "((((((((( secret )))))))))",
            &"-secret ".repeat(40),
        ] {
            // A word alone is asked of names.
            match Filter::read("", filter) {
                Err(broken) => assert!(!broken.contains("secret"), "{broken}"),
                Ok(_) => assert_eq!(filter, "region"),
            }
        }
    }
}
