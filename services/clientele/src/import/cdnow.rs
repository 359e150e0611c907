//! The CDNOW data set: purchases of a music shop's customers who first bought in the first quarter
//! of 1997. Every row of the file is a purchase and becomes an order, so the orders' total is the
//! file's to the cent:
//!
//! * 255 rows repeat another one exactly. They are kept: two purchases of the same size on one day
//!   happen, and published results for this data count their money. The number of an order is
//!   customer, day and the row's place among the customer's rows of that day, so it is the same
//!   whenever the file is read.
//! * 80 rows cost nothing. They are kept as orders with a total of 0.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use chrono::{NaiveDate, NaiveTime};
use client::Client;
use proto::{
    order_history::v1::{Order, OrderLine, OrderState, SalesChannel},
    profile::v1::{CreateProfileRequest, Profile},
    r#type::v1::ExternalId,
};
use uuid::Uuid;

use super::{
    Journal,
    customers::{self, NewCustomer, imported},
    streams,
};

const SOURCE: &str = "cdnow";

struct Purchase {
    line: usize,
    customer: String,
    date: NaiveDate,
    quantity: i64,
    cents: i64,
}

/// Imports a master file (customer, day, CDs, dollars; one header line) or a sample (with the
/// sample's own id as second column; no header).
pub async fn import(client: &Client, contents: &[u8], journal: &mut Journal) -> anyhow::Result<()> {
    let purchases = parse(std::str::from_utf8(contents).context("the file is no text")?, journal)?;
    let cents: i64 = purchases.iter().map(|purchase| purchase.cents).sum();
    let mut customers: BTreeMap<&str, usize> = BTreeMap::new();
    for purchase in &purchases {
        customers.entry(&purchase.customer).or_insert(purchase.line);
    }
    let (rows, people) = (purchases.len(), customers.len());
    println!("read {rows} rows of {people} customers, {}.{:02} dollars in all", cents / 100, cents % 100);
    let new = customers.into_iter().map(|(customer, line)| NewCustomer {
        line,
        request: profile(customer),
        contact_points: Vec::new(),
    });
    let new: Vec<NewCustomer> = new.collect();
    customers::import(client, &new, |customer| Ok(customer.clone()), false, journal).await?;

    let mut places: BTreeMap<(String, NaiveDate), u32> = BTreeMap::new();
    let orders = purchases.into_iter().map(|purchase| {
        let place = places.entry((purchase.customer.clone(), purchase.date)).or_default();
        *place += 1;
        (purchase.line, order(&purchase, *place))
    });
    streams::orders(client, orders.collect(), journal).await
}

/// The customer's id in the data set as an id here, the same whenever it is imported.
pub fn customer_id(customer: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{SOURCE}:{customer}").as_bytes())
}

fn parse(text: &str, journal: &mut Journal) -> anyhow::Result<Vec<Purchase>> {
    let mut purchases = Vec::new();
    for (line, row) in (1..).zip(text.lines()) {
        let columns: Vec<&str> = row.split_whitespace().collect();
        match purchase(line, &columns) {
            Some(purchase) => purchases.push(purchase),
            // A header and an empty last line are no rows.
            None if columns.is_empty() || (line == 1 && columns[0] == "customer_id") => (),
            None => journal.refuse(line, "INVALID_ROW", &["expected customer, day, CDs and dollars".to_owned()]),
        }
    }
    if purchases.is_empty() {
        bail!("the file has no purchases");
    }
    Ok(purchases)
}

fn purchase(line: usize, columns: &[&str]) -> Option<Purchase> {
    let (customer, rest) = match columns {
        [customer, _, rest @ ..] if rest.len() == 3 => (customer, rest),
        [customer, rest @ ..] if rest.len() == 3 => (customer, rest),
        _ => return None,
    };
    let (dollars, cents) = rest[2].split_once('.').filter(|(_, cents)| cents.len() == 2)?;
    // No sign: `-0.50` would be read as half a dollar, since there is no -0.
    let number = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<i64>().ok())?;
    Some(Purchase {
        line,
        customer: (*customer).to_owned(),
        date: NaiveDate::parse_from_str(rest[0], "%Y%m%d").ok()?,
        quantity: rest[1].parse().ok()?,
        cents: number(dollars)?.checked_mul(100)?.checked_add(number(cents)?)?,
    })
}

fn profile(customer: &str) -> CreateProfileRequest {
    let external_id = ExternalId { system: SOURCE.to_owned(), id: customer.to_owned() };
    let customer_id = customer_id(customer);
    CreateProfileRequest {
        request_id: Uuid::new_v5(&customer_id, b"create").to_string(),
        profile: Some(Profile {
            customer_id: customer_id.to_string(),
            region: "US".to_owned(),
            external_ids: vec![external_id],
            ..Default::default()
        }),
        provenance: Some(imported(SOURCE)),
    }
}

fn order(purchase: &Purchase, place: u32) -> Order {
    let Purchase { customer, date, quantity, cents, .. } = purchase;
    let line = OrderLine {
        line_number: 1,
        sku: "CD".to_owned(),
        title: "Compact discs".to_owned(),
        category_path: vec!["music".to_owned(), "cd".to_owned()],
        quantity: *quantity,
        // The file knows what a purchase cost, not what a disc did.
        unit_price_minor: None,
        amount_minor: *cents,
        ..Default::default()
    };
    let placed_at = date.and_time(NaiveTime::MIN).and_utc();
    Order {
        customer_id: customer_id(customer).to_string(),
        source: SOURCE.to_owned(),
        number: format!("{customer}-{}-{place}", date.format("%Y%m%d")),
        placed_time: Some(prost_types::Timestamp { seconds: placed_at.timestamp(), nanos: 0 }),
        channel: SalesChannel::Web.into(),
        state: OrderState::Completed.into(),
        currency_code: "USD".to_owned(),
        lines: vec![line],
        total_minor: *cents,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_have_the_same_purchases() {
        let master = purchase(1, &["00004", "19970101", "2", "29.33"]).unwrap();
        let sample = purchase(1, &["00004", "0001", "19970101", "2", "29.33"]).unwrap();
        assert_eq!((master.customer.as_str(), master.quantity, master.cents), ("00004", 2, 2933));
        assert_eq!((sample.customer, sample.date, sample.cents), (master.customer, master.date, master.cents));
        assert!(purchase(1, &["00004", "19971301", "2", "29.33"]).is_none());
        for amount in ["29", "29.3", "-0.50", "-5.25", "12.-5", "+1.00", ".50", "1.2.3"] {
            assert!(purchase(1, &["00004", "19970101", "2", amount]).is_none(), "{amount}");
        }
    }
}
