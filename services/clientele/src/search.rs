use comfy_table::{ContentArrangement, Table};
use proto::customer::v1::{Customer, SearchCustomersRequest};

use crate::{Reach, json, show::failed};

/// Finds customers by words of their names and by a filter.
#[derive(clap::Args)]
pub struct Search {
    /// Words that the name must hold.
    words: Vec<String>,
    /// What else must hold: 'region:DE AND create_time >= 2026-01-01'.
    #[arg(long, default_value = "")]
    filter: String,
    /// At most so many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Prints JSON, a customer a line, instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

impl Search {
    /// Prints who was found.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.reach.client()?;
        let mut request =
            SearchCustomersRequest { query: self.words.join(" "), filter: self.filter, ..Default::default() };
        let (mut found, limit) = (Vec::new(), self.limit as usize);
        loop {
            request.page_size = (limit - found.len()).min(100) as i32;
            let page = client.customer().search_customers(request.clone()).await.map_err(failed)?.into_inner();
            found.extend(page.customers);
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() || found.len() >= limit {
                break;
            }
        }
        if self.json {
            for customer in &found {
                println!("{}", json::to_json("clientele.customer.v1.Customer", customer)?);
            }
            return Ok(());
        }
        println!("{}", listed(&found));
        if !request.page_token.is_empty() {
            println!("there are more; ask with a greater --limit");
        }
        Ok(())
    }
}

fn listed(found: &[Customer]) -> Table {
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["customer", "name", "region", "language", "e-mail"]);
    for customer in found {
        let profile = customer.profile.clone().unwrap_or_default().profile.unwrap_or_default();
        let points = customer.contact.iter().flat_map(|section| &section.contact_points);
        let email = points.filter_map(|point| point.email.as_ref()).map(|email| email.address.clone()).next();
        let name = profile.name_forms.unwrap_or_default().display;
        let email = email.unwrap_or_default();
        table.add_row([&customer.customer_id, &name, &profile.region, &profile.language, &email]);
    }
    table
}
