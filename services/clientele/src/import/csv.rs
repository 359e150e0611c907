//! A table of any shape, with a mapping that says what its columns mean: a row of the contract, as NDJSON has it, with
//! `{column}` where a value goes and `{column|%Y-%m-%d}` where a date does. What has no value in a row is left out,
//! and so is an object whose columns are all empty, or one whose `{column!}` is.

use std::{collections::HashMap, path::Path};

use anyhow::{Context, bail};
use chrono::{Datelike, NaiveDate};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    Journal,
    customers::{NewCustomer, NoCustomer, parse},
};

/// A row of a table as the mapping has it: a row of the contract, in JSON.
pub struct Row {
    line: usize,
    text: String,
    request_id: Uuid,
}

impl Row {
    /// The customer that it makes.
    pub fn customer(&self) -> Result<NewCustomer, NoCustomer> {
        let customer = serde_json::from_str(&self.text).ok();
        let customer = customer.and_then(|customer| parse(customer, self.request_id, self.line).ok());
        customer.ok_or((self.line, "the mapping makes no customer of it"))
    }
}

/// Reads the rows of a table. One that does not fit is refused by itself.
pub fn read(contents: &[u8], mapping: &Path, journal: &mut Journal) -> anyhow::Result<Vec<Row>> {
    let text = std::fs::read(mapping).with_context(|| format!("{} cannot be read", mapping.display()))?;
    let mapping: Value = serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", mapping.display()))?;
    let mut table = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(contents);
    let columns: Vec<String> = table.headers().context("the table has no header")?.iter().map(str::to_owned).collect();
    if let Some(twice) = columns.iter().enumerate().find(|(i, name)| columns[..*i].contains(name)) {
        bail!("the table has two columns {}", twice.1);
    }
    if let Some(text) = texts(&mapping).into_iter().find(|text| text.contains('|') && date_of(text).is_none()) {
        bail!("a date stands alone, as {{column|%Y-%m-%d}}, and not in {text}");
    }
    let unknown: Vec<String> = named(&mapping).into_iter().filter(|name| !columns.contains(name)).collect();
    if !unknown.is_empty() {
        bail!("the table has no column {}", unknown.join(", "));
    }
    let mut lines = Lines { contents, at: 0, line: 1 };
    if !mapping.pointer("/profile/external_ids").is_some_and(Value::is_array) {
        println!("the mapping gives no external ids: imported again after eight days, each row is another customer");
    }
    let mut rows: Vec<Row> = Vec::new();
    let mut places: HashMap<String, u32> = HashMap::new();
    for record in table.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let line = lines.of(error.position());
                journal.refuse(line, "INVALID_ROW", &["is not as wide as the header, or no text".into()]);
                continue;
            }
        };
        let line = lines.of(record.position());
        if record.iter().any(|cell| cell.len() > 1 && cell.starts_with('"') && cell.ends_with('"')) {
            journal.refuse(line, "INVALID_ROW", &["a quote stands behind a blank, where it quotes nothing".into()]);
            continue;
        }
        let cells = columns.iter().map(String::as_str).zip(&record).collect();
        let filled = match fill(&mapping, &cells) {
            Ok(filled) if filled.is_empty => {
                journal.refuse(line, "INVALID_ROW", &["has nothing in the columns of the mapping".into()]);
                continue;
            }
            Ok(filled) => filled.value,
            Err(column) => {
                journal.refuse(line, "INVALID_ROW", &[format!("{column}: is not a date as the mapping says")]);
                continue;
            }
        };
        // Equal rows are customers of their own.
        let text = filled.to_string();
        let place = places.entry(text.clone()).or_default();
        *place += 1;
        let request_id = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{place} {text}").as_bytes());
        rows.push(Row { line, text, request_id });
    }
    // A quote that nobody closes makes one cell of all that follows.
    let last = contents.get(lines.at..).unwrap_or_default();
    if last.iter().filter(|byte| **byte == b'"').count() % 2 == 1 {
        rows.retain(|row| row.line != lines.line);
        journal.refuse(lines.line, "INVALID_ROW", &["a quote is not closed, here or in a line after it".into()]);
    }
    Ok(rows)
}

/// Counts lines: the table's own count is one behind where lines end as on Windows.
struct Lines<'a> {
    contents: &'a [u8],
    at: usize,
    line: usize,
}

impl Lines<'_> {
    /// The line in which a record begins; records come in their order.
    fn of(&mut self, position: Option<&csv::Position>) -> usize {
        let mut begin = position.map_or(self.at, |position| position.byte() as usize);
        while matches!(self.contents.get(begin), Some(b'\r' | b'\n')) {
            begin += 1;
        }
        let passed = self.contents.get(self.at..begin).unwrap_or_default();
        self.line += passed.iter().filter(|byte| **byte == b'\n').count();
        self.at = self.at.max(begin);
        self.line
    }
}

/// A template with the values of a row.
struct Filled {
    value: Value,
    /// Whether it has columns in it, and all of them are empty.
    is_empty: bool,
    /// Whether it lacks a column without which the object around it is nothing.
    lacks: bool,
}

fn fill(template: &Value, cells: &HashMap<&str, &str>) -> Result<Filled, String> {
    let all_empty = |parts: &[bool]| !parts.is_empty() && parts.iter().all(|empty| *empty);
    match template {
        Value::String(text) => text_of(text, cells),
        Value::Array(items) => {
            let items = items.iter().map(|item| fill(item, cells)).collect::<Result<Vec<_>, _>>()?;
            let empty: Vec<bool> = items.iter().map(|item| item.is_empty).collect();
            let lacks = items.iter().any(|item| item.lacks);
            let left = items.into_iter().filter(|item| !item.is_empty).map(|item| item.value).collect();
            Ok(Filled { value: Value::Array(left), is_empty: all_empty(&empty), lacks })
        }
        Value::Object(fields) => {
            let (mut left, mut asked, mut lacks) = (Map::new(), Vec::new(), false);
            for (name, template) in fields {
                let field = fill(template, cells)?;
                lacks |= field.lacks;
                if !named(template).is_empty() {
                    asked.push(field.is_empty);
                }
                if !field.is_empty {
                    left.insert(name.clone(), field.value);
                }
            }
            Ok(Filled { value: Value::Object(left), is_empty: lacks || all_empty(&asked), lacks: false })
        }
        constant => Ok(Filled { value: constant.clone(), is_empty: false, lacks: false }),
    }
}

/// A text with its columns filled in, or a date. The column that is no date is the error.
fn text_of(text: &str, cells: &HashMap<&str, &str>) -> Result<Filled, String> {
    if let Some((column, format)) = date_of(text) {
        let cell = cells.get(column).copied().unwrap_or_default();
        if cell.is_empty() {
            return Ok(Filled { value: Value::Null, is_empty: true, lacks: false });
        }
        let date = NaiveDate::parse_from_str(cell, format).map_err(|_| column.to_owned())?;
        let value = json!({"year": date.year(), "month": date.month(), "day": date.day()});
        return Ok(Filled { value, is_empty: false, lacks: false });
    }
    let (mut written, mut given, mut lacks, mut rest) = (String::new(), false, false, text);
    while let Some((before, after)) = rest.split_once('{') {
        let Some((column, after)) = after.split_once('}') else { break };
        let (column, needed) = column.strip_suffix('!').map_or((column, false), |column| (column, true));
        let cell = cells.get(column).copied().unwrap_or_default();
        given |= !cell.is_empty();
        lacks |= needed && cell.is_empty();
        written += before;
        written += cell;
        rest = after;
    }
    written += rest;
    let is_empty = !given && !columns_of(text).is_empty();
    Ok(Filled { value: written.trim().into(), is_empty, lacks })
}

/// A column and the form of its date, if a text is one.
fn date_of(text: &str) -> Option<(&str, &str)> {
    let whole = text.strip_prefix('{')?.strip_suffix('}')?;
    whole.split_once('|').filter(|_| !whole.contains(['{', '}']))
}

/// The texts of a template.
fn texts(template: &Value) -> Vec<&str> {
    match template {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(fields) => fields.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// The columns that a template names.
fn named(template: &Value) -> Vec<String> {
    texts(template).into_iter().flat_map(columns_of).collect()
}

fn columns_of(text: &str) -> Vec<String> {
    let named = text.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
    named.map(|(column, _)| column.split(['|', '!']).next().unwrap_or_default().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_is_left_out_and_so_is_what_holds_nothing_else() {
        let mapping = json!({
            "profile": {"external_ids": [{"system": "crm", "id": "{id}"}], "name": {"given_name": "{first}"},
                        "birth_date": "{born|%Y%m%d}", "language": "en"},
            "contact_points": [{"email": {"address": "{mail}"}},
                               {"postal_address": {"region_code": "AU", "address_lines": ["{number} {street}"]}},
                               {"phone": {"number": "{phone!}", "region_code": "{country}"}}],
        });
        let row = |cells: &[(&'static str, &'static str)]| {
            fill(&mapping, &cells.iter().copied().collect()).map(|filled| filled.value)
        };
        assert_eq!(
            row(&[("id", "7"), ("born", "20000229"), ("street", "High St"), ("country", "AU")]).unwrap(),
            json!({
                "profile": {"external_ids": [{"system": "crm", "id": "7"}],
                            "birth_date": {"year": 2000, "month": 2, "day": 29}, "language": "en"},
                "contact_points": [{"postal_address": {"region_code": "AU", "address_lines": ["High St"]}}],
            })
        );
        assert_eq!(row(&[("id", "7"), ("born", "20010229")]).unwrap_err(), "born");
        assert_eq!(named(&mapping), ["mail", "number", "street", "phone", "country", "born", "id", "first"]);
    }
}
