use anyhow::Context;
use client::Client;
use comfy_table::{ContentArrangement, Table};
use proto::{
    customer::v1::{Customer, GetCustomerRequest, LookupCustomerRequest},
    r#type::v1::{ExternalId, FederatedSubject, Identifier, OrderNumber, SocialIdentifier},
};
use serde_json::Value;
use tonic_types::StatusExt;

use crate::{Reach, json};

/// Shows everything that is known about one customer.
#[derive(clap::Args)]
pub struct Get {
    /// The customer's id.
    customer_id: String,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Finds a customer by any identifier and shows it.
#[derive(clap::Args)]
pub struct Lookup {
    #[command(flatten)]
    by: By,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct By {
    /// The customer's own id.
    #[arg(long)]
    customer_id: Option<String>,
    /// An id in another system, `system:id`.
    #[arg(long)]
    external_id: Option<String>,
    /// An e-mail address.
    #[arg(long)]
    email: Option<String>,
    /// A phone number in international form.
    #[arg(long)]
    phone: Option<String>,
    /// A name in a social network, `network:handle`.
    #[arg(long)]
    social_handle: Option<String>,
    /// A loyalty card's number.
    #[arg(long)]
    member_number: Option<String>,
    /// An order's number, `source:number`.
    #[arg(long)]
    order_number: Option<String>,
    /// A device's id.
    #[arg(long)]
    device_id: Option<String>,
    /// A visitor's anonymous id.
    #[arg(long)]
    anonymous_id: Option<String>,
    /// The user name of an account.
    #[arg(long)]
    user_name: Option<String>,
    /// Who the customer is to an identity provider, `iss sub` with a space between.
    #[arg(long)]
    federated_subject: Option<String>,
}

impl Get {
    /// Looks the customer up and prints it.
    pub async fn run(self) -> anyhow::Result<()> {
        let customer = get(&self.reach.client()?, &self.customer_id).await?;
        print(&customer, self.json)
    }
}

impl Lookup {
    /// Looks the customer up and prints it.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.reach.client()?;
        let request = LookupCustomerRequest { identifier: Some(self.by.identifier()?), ..Default::default() };
        let reply = client.customer().lookup_customer(request).await.map_err(failed)?;
        print(&reply.into_inner().customer.unwrap_or_default(), self.json)
    }
}

impl By {
    fn identifier(self) -> anyhow::Result<Identifier> {
        Ok(Identifier {
            customer_id: self.customer_id.unwrap_or_default(),
            external_id: self.external_id.map(pair).transpose()?.map(|(system, id)| ExternalId { system, id }),
            email: self.email.unwrap_or_default(),
            phone: self.phone.unwrap_or_default(),
            social_handle: self
                .social_handle
                .map(pair)
                .transpose()?
                .map(|(network, handle)| SocialIdentifier { network, handle }),
            member_number: self.member_number.unwrap_or_default(),
            order_number: self
                .order_number
                .map(pair)
                .transpose()?
                .map(|(source, number)| OrderNumber { source, number }),
            device_id: self.device_id.unwrap_or_default(),
            anonymous_id: self.anonymous_id.unwrap_or_default(),
            user_name: self.user_name.unwrap_or_default(),
            federated_subject: self
                .federated_subject
                .map(|text| text.split_once(' ').map(|(issuer, subject)| (issuer.to_owned(), subject.to_owned())))
                .map(|pair| pair.context("expected `iss sub`"))
                .transpose()?
                .map(|(issuer, subject)| FederatedSubject { issuer, subject }),
        })
    }
}

/// Reads a customer and prints it as a table.
pub async fn customer(client: &Client, customer_id: &str) -> anyhow::Result<()> {
    print(&get(client, customer_id).await?, false)
}

async fn get(client: &Client, customer_id: &str) -> anyhow::Result<Customer> {
    let request = GetCustomerRequest { customer_id: customer_id.to_owned(), ..Default::default() };
    Ok(client.customer().get_customer(request).await.map_err(failed)?.into_inner().customer.unwrap_or_default())
}

/// A failure as a person reads it: the text, the reason, and what is wrong with each field.
pub fn failed(status: tonic::Status) -> anyhow::Error {
    let reason = error::reason_of(&status).unwrap_or_else(|| format!("{:?}", status.code()));
    let violations = status.get_details_bad_request().into_iter().flat_map(|bad| bad.field_violations);
    let fields: String = violations.map(|v| format!("\n  {}: {}", v.field, v.description)).collect();
    anyhow::anyhow!("{} ({reason}){fields}", status.message())
}

fn pair(text: String) -> anyhow::Result<(String, String)> {
    let (left, right) =
        text.split_once(':').ok_or_else(|| anyhow::anyhow!("{text} is not two parts with a colon between"))?;
    Ok((left.to_owned(), right.to_owned()))
}

fn print(customer: &Customer, as_json: bool) -> anyhow::Result<()> {
    let value = json::to_json("clientele.customer.v1.Customer", customer)?;
    if as_json {
        println!("{}", serde_json::to_string_pretty(&value)?);
        return Ok(());
    }
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["section", "field", "value"]);
    for (section, value) in value.as_object().into_iter().flatten() {
        let mut rows = Vec::new();
        flatten("", value, &mut rows);
        for (i, (field, value)) in rows.into_iter().enumerate() {
            table.add_row([if i == 0 { section.as_str() } else { "" }, &field, &value]);
        }
    }
    println!("{table}");
    Ok(())
}

/// Fields and items as paths: `summaries[0].net_minor`.
fn flatten(path: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                flatten(&format!("{path}{dot}{name}"), value, rows);
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                flatten(&format!("{path}[{i}]"), item, rows);
            }
        }
        Value::String(text) => rows.push((path.to_owned(), text.clone())),
        other => rows.push((path.to_owned(), other.to_string())),
    }
}
