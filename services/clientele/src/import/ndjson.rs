//! One JSON object a line, in the protobuf JSON mapping of the contract: `{"profile": Profile}`, `{"customer": …}`,
//! `{"order": Order}` or `{"interaction": Interaction}`, in any mixture. Customers are created first.

use std::collections::HashMap;

use anyhow::Context;
use client::Client;
use proto::{
    interaction::v1::{Interaction, RecordInteractionRequest},
    order_history::v1::Order,
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Journal,
    customers::{self, NewCustomer},
    streams,
};
use crate::json::from_json;

/// A row that is not read yet.
struct Line<'a> {
    number: usize,
    text: &'a str,
    /// Which of equal rows it is.
    place: u32,
}

/// What a row tells of its kind at a glance.
#[derive(Deserialize)]
struct Kind {
    profile: Option<IgnoredAny>,
    customer: Option<IgnoredAny>,
}

const NO_ROW: &str = "expected a profile, a customer, an order or an interaction";

/// Imports a file. A line that is no row of the contract is refused by itself.
pub async fn import(client: &Client, contents: &[u8], dry_run: bool, journal: &mut Journal) -> anyhow::Result<()> {
    let text = std::str::from_utf8(contents).context("the file is no text")?;
    let (mut customers, mut orders, mut interactions) = (Vec::new(), Vec::new(), Vec::new());
    let mut places: HashMap<&str, u32> = HashMap::new();
    for (number, text) in (1..).zip(text.lines()).filter(|(_, row)| !row.trim().is_empty()) {
        let place = places.entry(text).or_default();
        *place += 1;
        let line = Line { number, text, place: *place };
        if serde_json::from_str::<Kind>(text).is_ok_and(|kind| kind.profile.is_some() || kind.customer.is_some()) {
            customers.push(line);
            continue;
        }
        match parse(&line) {
            Ok(Row::Order(order)) => orders.push((number, order)),
            Ok(Row::Interaction(request)) => interactions.push((number, request)),
            // The parser's own text may quote the row.
            Ok(Row::Customer(_)) | Err(_) => journal.refuse(number, "INVALID_ROW", &[NO_ROW.into()]),
        }
    }
    println!("read {} profiles, {} orders, {} interactions", customers.len(), orders.len(), interactions.len());
    if !customers.is_empty() {
        let read = |line: &Line| match parse(line) {
            Ok(Row::Customer(customer)) => Ok(customer),
            _ => Err((line.number, NO_ROW)),
        };
        customers::import(client, &customers, read, dry_run, journal).await?;
    }
    if dry_run {
        // Their accounts need the customers, so there is nothing more to tell.
        return Ok(());
    }
    if !orders.is_empty() {
        streams::orders(client, orders, journal).await?;
    }
    if !interactions.is_empty() {
        streams::interactions(client, interactions, journal).await?;
    }
    Ok(())
}

#[expect(clippy::large_enum_variant, reason = "each lives for a moment")]
enum Row {
    Customer(NewCustomer),
    Order(Order),
    Interaction(RecordInteractionRequest),
}

fn parse(&Line { number: line, text: row, place }: &Line) -> anyhow::Result<Row> {
    let Value::Object(object) = serde_json::from_str(row)? else { anyhow::bail!("no object") };
    let mut fields = object.into_iter();
    let (Some((kind, value)), None) = (fields.next(), fields.next()) else { anyhow::bail!("not one field") };
    // The same row is the same request, whenever it is imported and wherever it stands; of equal rows
    // in one file each is its own.
    let request_id = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{place} {row}").as_bytes());
    Ok(match kind.as_str() {
        "profile" => Row::Customer(customers::parse(json!({ "profile": value }), request_id, line)?),
        "customer" => Row::Customer(customers::parse(value, request_id, line)?),
        "order" => Row::Order(from_json("clientele.order_history.v1.Order", value)?),
        "interaction" => {
            let interaction: Interaction = from_json("clientele.interaction.v1.Interaction", value)?;
            let request_id = request_id.to_string();
            Row::Interaction(RecordInteractionRequest { request_id, interaction: Some(interaction) })
        }
        _ => anyhow::bail!("unknown kind"),
    })
}
