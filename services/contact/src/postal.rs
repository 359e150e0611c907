//! Postal addresses by the format of their country: what is needed, how the code looks, how it is written on an
//! envelope. Pure.

use std::{
    collections::HashMap,
    sync::{LazyLock, OnceLock},
};

use proto::contact::v1::PostalAddress;
use regex::Regex;

/// What the country level of the address data says. Each field has a letter in it: recipient (N), organization (O),
/// address lines (A), dependent locality (D), locality (C), administrative area (S), postal code (Z), sorting code (X).
struct Country {
    name: &'static str,
    format: &'static str,
    /// For addresses in Latin letters; empty where it is the same.
    latin: &'static str,
    required: &'static str,
    capital: &'static str,
    postal_code: &'static str,
    compiled: OnceLock<Option<Regex>>,
}

static COUNTRIES: LazyLock<HashMap<&str, Country>> = LazyLock::new(|| {
    let rows = include_str!("postal/countries.tsv").lines().filter(|row| !row.starts_with('#'));
    let country = |row: &'static str| {
        let mut cells = row.split('\t');
        let mut cell = || cells.next().unwrap_or_default();
        let region = cell();
        let (name, format, latin, required, capital, postal_code) = (cell(), cell(), cell(), cell(), cell(), cell());
        let compiled = OnceLock::new();
        (region, Country { name, format, latin, required, capital, postal_code, compiled })
    };
    rows.map(country).collect()
});

impl Country {
    /// Whether a postal code is one of the country's; any is where no form is known.
    fn knows(&self, code: &str) -> bool {
        let compiled = self
            .compiled
            .get_or_init(|| Regex::new(&format!("^(?:{})$", self.postal_code.replace(r"\d", "[0-9]"))).ok());
        self.postal_code.is_empty() || compiled.as_ref().is_some_and(|form| form.is_match(&code.trim().to_uppercase()))
    }
}

/// What is wrong with an address, all at once: the field and a text without the value.
pub fn violations(address: &PostalAddress) -> Vec<(&'static str, &'static str)> {
    let Some(country) = COUNTRIES.get(address.region_code.as_str()) else {
        return vec![("region_code", "is not a country with a post")];
    };
    let wrong = !address.postal_code.trim().is_empty() && !country.knows(&address.postal_code);
    if wrong { vec![("postal_code", "is not a postal code of this country")] } else { Vec::new() }
}

/// The fields that a letter to there needs and the address lacks.
fn missing(address: &PostalAddress) -> Vec<&'static str> {
    let required = COUNTRIES.get(address.region_code.as_str()).map_or("", |country| country.required);
    required.chars().filter(|letter| part(address, *letter).trim().is_empty()).map(field).collect()
}

/// The address as it is told: with the lines of its envelope and what it lacks.
pub fn told(mut address: PostalAddress) -> PostalAddress {
    address.formatted = formatted(&address);
    address.missing_fields = missing(&address).into_iter().map(str::to_owned).collect();
    address
}

/// The address as it is stored: without what follows from the rest.
pub fn stored(address: PostalAddress) -> PostalAddress {
    PostalAddress { formatted: String::new(), missing_fields: Vec::new(), ..address }
}

/// The lines of an envelope, in the order of the country and ending with its name; what is written in Latin letters
/// in the order that is meant for them. Empty for a country without a post.
fn formatted(address: &PostalAddress) -> String {
    let Some(country) = COUNTRIES.get(address.region_code.as_str()) else { return String::new() };
    let written = address.address_lines.iter().chain([&address.locality, &address.administrative_area]);
    let is_latin = written.flat_map(|part| part.chars()).all(|c| !c.is_alphabetic() || c < '\u{250}');
    let format = if is_latin && !country.latin.is_empty() { country.latin } else { country.format };
    write(address, country, format)
}

fn write(address: &PostalAddress, country: &Country, format: &str) -> String {
    let mut lines = Vec::new();
    let is_big_first = format.find("%A") > format.find("%S").or(format.find("%C"));
    for line in format.split("%n") {
        // What the country's order has no place for stands beside the street.
        let unplaced =
            ['D', 'C'].into_iter().filter(|letter| line.contains("%A") && !format.contains(&format!("%{letter}")));
        let unplaced: Vec<String> = unplaced.map(|letter| capital(address, country, letter)).collect();
        let street = line_of(address, country, format, line);
        lines.extend(if is_big_first { [unplaced, vec![street]] } else { [vec![street], unplaced] }.concat());
    }
    lines.push(country.name.to_owned());
    lines.retain(|line| !line.is_empty());
    lines.join("\n")
}

/// One line. What stands between two fields is written only if both are, and what begins a line only with its field.
fn line_of(address: &PostalAddress, country: &Country, format: &str, line: &str) -> String {
    let (mut written, mut between, mut has_field, mut signs) = (String::new(), String::new(), false, line.chars());
    while let Some(sign) = signs.next() {
        if sign != '%' {
            between.push(sign);
            continue;
        }
        let letter = signs.next().unwrap_or_default();
        let mut part = capital(address, country, letter);
        if letter == 'C' && !format.contains("%X") && !address.sorting_code.is_empty() {
            part = format!("{part} {}", address.sorting_code);
        }
        if !part.is_empty() {
            written += if has_field && written.is_empty() { "" } else { &between };
            written += &part;
        }
        between.clear();
        has_field = true;
    }
    written
}

fn capital(address: &PostalAddress, country: &Country, letter: char) -> String {
    let part = part(address, letter).trim().to_owned();
    if country.capital.contains(letter) { part.to_uppercase() } else { part }
}

fn part(address: &PostalAddress, letter: char) -> String {
    match letter {
        'N' => address.recipient.clone(),
        'O' => address.organization.clone(),
        'A' => address.address_lines.join("\n"),
        'D' => address.dependent_locality.clone(),
        'C' => address.locality.clone(),
        'S' => address.administrative_area.clone(),
        'Z' => address.postal_code.clone(),
        'X' => address.sorting_code.clone(),
        _ => String::new(),
    }
}

fn field(letter: char) -> &'static str {
    match letter {
        'N' => "recipient",
        'O' => "organization",
        'A' => "address_lines",
        'D' => "dependent_locality",
        'C' => "locality",
        'S' => "administrative_area",
        'Z' => "postal_code",
        _ => "sorting_code",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Region, recipient, organization, lines, dependent locality, locality, area, code, and what is expected: the
    /// envelope in the country's own order and in the Latin one, with `/` for a new line, or the fields that are wrong.
    const VECTORS: &str = include_str!("postal/vectors.tsv");

    #[test]
    fn the_vectors_hold() {
        let rows = VECTORS.lines().filter(|row| !row.starts_with('#'));
        let mut checked = 0;
        for row in rows {
            let cells: Vec<&str> = row.split('\t').collect();
            let address = PostalAddress {
                region_code: cells[0].into(),
                recipient: cells[1].into(),
                organization: cells[2].into(),
                address_lines: vec![cells[3].into()],
                dependent_locality: cells[4].into(),
                locality: cells[5].into(),
                administrative_area: cells[6].into(),
                postal_code: cells[7].into(),
                ..Default::default()
            };
            let mut wrong: Vec<&str> = violations(&address).into_iter().map(|(field, _)| field).collect();
            wrong.extend(missing(&address));
            assert_eq!(wrong.join(","), cells[10], "{row}");
            if wrong.is_empty() && !cells[8].is_empty() {
                let country = &COUNTRIES[cells[0]];
                let latin = if country.latin.is_empty() { country.format } else { country.latin };
                for (format, expected) in [(country.format, cells[8]), (latin, cells[9])] {
                    assert_eq!(write(&address, country, format).replace('\n', "/"), expected);
                }
            }
            checked += 1;
        }
        assert_eq!(checked, 22);
    }

    #[test]
    fn every_country_reads() {
        assert_eq!(COUNTRIES.len(), 252);
        for (region, country) in COUNTRIES.iter() {
            assert!(region.len() == 2 && country.format.contains("%A"), "{region}");
            if !country.postal_code.is_empty() {
                country.knows("x");
                assert!(country.compiled.get().unwrap().is_some(), "{region}");
            }
        }
    }

    #[test]
    fn what_is_missing_takes_its_signs_with_it_and_nothing_that_is_given_is_lost() {
        let address = |region: &str, code: &str, locality: &str, dependent: &str, sorting_code: &str| PostalAddress {
            region_code: region.into(),
            address_lines: vec!["1 Rue".into()],
            postal_code: code.into(),
            locality: locality.into(),
            dependent_locality: dependent.into(),
            sorting_code: sorting_code.into(),
            ..Default::default()
        };
        for (given, expected) in [
            (address("TR", "34110", "Bursa", "", ""), "1 Rue/34110 BURSA/TURKEY"),
            (address("HR", "", "Zagreb", "", ""), "1 Rue/ZAGREB/CROATIA"),
            (address("US", "94043", "Mountain View", "", ""), "1 Rue/MOUNTAIN VIEW 94043/UNITED STATES"),
            (address("RO", "010011", "Iasi", "", ""), "1 RUE/010011 IASI/ROMANIA"),
            (address("FR", "75001", "Paris", "", "CEDEX 02"), "1 Rue/75001 PARIS CEDEX 02/FRANCE"),
            (address("GB", "SW1A 2AA", "London", "Soho", ""), "1 Rue/Soho/LONDON/SW1A 2AA/UNITED KINGDOM"),
        ] {
            assert_eq!(formatted(&given).replace('\n', "/"), expected);
        }
    }

    #[test]
    fn what_is_written_in_latin_letters_is_sent_in_the_latin_order() {
        let address = |lines: &str, locality: &str, area: &str| PostalAddress {
            region_code: "CN".into(),
            address_lines: vec![lines.into()],
            locality: locality.into(),
            administrative_area: area.into(),
            postal_code: "100010".into(),
            recipient: "Wang".into(),
            ..Default::default()
        };
        let latin = formatted(&address("1 Chang'an Ave", "Dongcheng", "Beijing"));
        assert_eq!(latin, "Wang\n1 Chang'an Ave\nDongcheng\nBEIJING, 100010\nCHINA");
        let local = formatted(&address("长安街1号", "东城区", "北京市"));
        assert_eq!(local, "100010\n北京市东城区\n长安街1号\nWang\nCHINA");
    }
}
