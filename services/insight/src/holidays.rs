//! Holidays by region, from calendars that the installation gives: what counts as one is the company's to say.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, bail, ensure};
use chrono::{Days, NaiveDate};
use icalendar::{Calendar, Component, DatePerhapsTime, Event, EventStatus};

/// A name has so many bytes at most.
const NAME: usize = 100;
/// A holiday has so many days at most.
const DAYS: i64 = 366;

/// The names of days by region.
#[derive(Default)]
pub struct Holidays(BTreeMap<String, BTreeMap<NaiveDate, String>>);

impl Holidays {
    /// Reads the iCalendar files (RFC 5545) of a folder, each named by the region where its days are holidays: `PT.ics`,
    /// `PT-11.ics`. Refuses what it would have to leave out.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut regions = BTreeMap::new();
        let files = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for file in files {
            let path = file?.path();
            // Beside files a mounted folder holds what its mount needs.
            if path.extension().is_some_and(|extension| extension == "ics") {
                let region = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                ensure!(is_region(&region), "{} is not named by a region", path.display());
                let days = fs::read_to_string(&path).map_err(anyhow::Error::from).and_then(|text| days(&text));
                regions.insert(region, days.with_context(|| format!("{} is no calendar of holidays", path.display()))?);
            }
        }
        Ok(Self(regions))
    }

    /// Whether there is no calendar at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Which holiday a day is in a region (`PT-11`) or else in its country (`PT`); empty for none.
    pub fn on(&self, region: &str, day: NaiveDate) -> &str {
        let country = region.split('-').next().unwrap_or_default();
        let mut names = [region, country].into_iter().filter_map(|region| self.0.get(region)?.get(&day));
        names.next().map_or("", String::as_str)
    }
}

/// Whether it is written like a country of ISO 3166-1 or a part of one (ISO 3166-2).
fn is_region(text: &str) -> bool {
    let (country, part) = text.split_once('-').map_or((text, None), |(country, part)| (country, Some(part)));
    let is_part = |part: &str| {
        (1..=3).contains(&part.len()) && part.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
    };
    country.len() == 2 && country.chars().all(|c| c.is_ascii_uppercase()) && part.is_none_or(is_part)
}

fn days(text: &str) -> anyhow::Result<BTreeMap<NaiveDate, String>> {
    let calendar: Calendar = text.parse().map_err(|error: String| anyhow::anyhow!(error))?;
    let mut days = BTreeMap::new();
    for event in calendar.events().filter(|event| event.get_status() != Some(EventStatus::Cancelled)) {
        let name = event.get_summary().unwrap_or_default().trim();
        let is_name = !name.is_empty() && name.len() <= NAME && !name.contains(char::is_control);
        ensure!(is_name, "an event has no SUMMARY of 1 to {NAME} bytes");
        let (from, until) = span(event).with_context(|| format!("of {name:?}"))?;
        for day in from.iter_days().take_while(|day| *day < until) {
            // Of two names for one day the first in the order of names stays, however the file is sorted.
            let known = days.entry(day).or_insert_with(|| name.to_owned());
            if name < known.as_str() {
                *known = name.to_owned();
            }
        }
    }
    ensure!(!days.is_empty(), "there is no event");
    Ok(days)
}

/// From which day until before which other one an event lasts.
fn span(event: &Event) -> anyhow::Result<(NaiveDate, NaiveDate)> {
    for rule in ["RRULE", "RDATE", "EXDATE", "DURATION"] {
        ensure!(event.property_value(rule).is_none(), "{rule} is not understood: give each day an event of its own");
    }
    let Some(DatePerhapsTime::Date(from)) = event.get_start() else { bail!("DTSTART is no date") };
    let until = match event.get_end() {
        None => from + Days::new(1),
        Some(DatePerhapsTime::Date(until)) => until,
        Some(_) => bail!("DTEND is no date"),
    };
    ensure!((1..=DAYS).contains(&(until - from).num_days()), "DTEND is not 1 to {DAYS} days behind DTSTART");
    Ok((from, until))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(events: &[&str]) -> String {
        let events: String = events.iter().map(|event| format!("BEGIN:VEVENT\r\n{event}\r\nEND:VEVENT\r\n")).collect();
        format!("BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//test//EN\r\n{events}END:VCALENDAR\r\n")
    }

    #[test]
    fn a_region_has_its_own_holidays_and_those_of_its_country() {
        let folder = tempfile::TempDir::new().unwrap();
        let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
        let day = |text: &str| -> NaiveDate { text.parse().unwrap() };
        write(
            "PT.ics",
            calendar(&[
                "SUMMARY:Natal\r\nDTSTART;VALUE=DATE:20251225",
                "SUMMARY:Carnaval\r\nDTSTART;VALUE=DATE:20250303\r\nDTEND;VALUE=DATE:20250305",
                "SUMMARY:Feira\r\nDTSTART;VALUE=DATE:20250601\r\nSTATUS:CANCELLED",
            ]),
        );
        write("PT-11.ics", calendar(&["SUMMARY:Santo António\\, Lisboa\r\nDTSTART;VALUE=DATE:20250613"]));
        write("readme.txt", "no calendar".into());
        let holidays = Holidays::read(folder.path()).unwrap();
        for (region, on, name) in [
            ("PT", "2025-12-25", "Natal"),
            ("PT-11", "2025-12-25", "Natal"),
            ("PT-11", "2025-06-13", "Santo António, Lisboa"),
            ("PT-13", "2025-06-13", ""),
            ("PT", "2025-03-02", ""),
            ("PT", "2025-03-03", "Carnaval"),
            ("PT", "2025-03-04", "Carnaval"),
            ("PT", "2025-03-05", ""),
            ("PT", "2025-06-01", ""),
            ("ES", "2025-12-25", ""),
            ("", "2025-12-25", ""),
        ] {
            assert_eq!(holidays.on(region, day(on)), name, "{region} {on}");
        }
        for name in ["pt.ics", "Portugal.ics", "PT-.ics", "PT-LISB.ics"] {
            write(name, calendar(&["SUMMARY:Natal\r\nDTSTART;VALUE=DATE:20251225"]));
            let error = Holidays::read(folder.path()).err().unwrap().to_string();
            assert!(error.contains("is not named by a region"), "{error}");
            fs::remove_file(folder.path().join(name)).unwrap();
        }
    }

    #[test]
    fn what_would_have_to_be_left_out_is_refused() {
        for (event, because) in [
            ("SUMMARY:Xmas\r\nDTSTART;VALUE=DATE:20251225\r\nRRULE:FREQ=YEARLY", "RRULE is not understood"),
            ("SUMMARY:Xmas\r\nDTSTART:20251225T100000Z", "DTSTART is no date"),
            ("SUMMARY:Xmas", "DTSTART is no date"),
            ("SUMMARY:Xmas\r\nDTSTART;VALUE=DATE:20251225\r\nDTEND;VALUE=DATE:20251225", "DTEND is not"),
            ("DTSTART;VALUE=DATE:20251225", "SUMMARY"),
        ] {
            let error = format!("{:#}", days(&calendar(&[event])).unwrap_err());
            assert!(error.contains(because), "{event}: {error}");
        }
        for text in ["", "no calendar", &calendar(&[])] {
            assert!(days(text).is_err(), "{text}");
        }
    }
}
