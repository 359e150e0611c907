//! What may be concluded, for people: tables, and a chart in the terminal where one would rather look than read.

use client::{Client, retry};
use comfy_table::{ContentArrangement, Table};
use proto::insight::v1::*;

use crate::{Reach, show::failed};

/// Looks at what may be concluded from purchases.
#[derive(clap::Subcommand)]
pub enum Insight {
    /// Shows the customers by tier and segment: a chart of recency and frequency, and what each is worth.
    Tiers(Of),
    /// Fits the model of when and for how much customers buy, and shows it.
    Fit(Of),
    /// Shows what to recommend to a customer, and why.
    Recommend(Recommend),
}

#[derive(clap::Args)]
pub struct Of {
    /// The currency: EUR.
    #[arg(long)]
    currency: String,
    /// The last day that counts: 1997-09-30; the present unless said.
    #[arg(long, default_value = "")]
    as_of: String,
    #[command(flatten)]
    reach: Reach,
}

#[derive(clap::Args)]
pub struct Recommend {
    /// The customer's id.
    customer_id: String,
    /// The purpose, as consent knows it, that the customer must have allowed.
    #[arg(long)]
    purpose_id: String,
    /// Recommends categories instead of stock keeping units.
    #[arg(long)]
    categories: bool,
    #[command(flatten)]
    reach: Reach,
}

impl Insight {
    /// Asks and prints.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Tiers(of) => tiers(&of.reach.client()?, of.currency, of.as_of).await,
            Self::Fit(of) => fit(&of.reach.client()?, of.currency, of.as_of).await,
            Self::Recommend(recommend) => recommend.run().await,
        }
    }
}

async fn tiers(client: &Client, currency_code: String, as_of_day: String) -> anyhow::Result<()> {
    let request = CountValueTiersRequest { currency_code: currency_code.clone(), as_of_day };
    let call = || async { client.insight().count_value_tiers(request.clone()).await };
    let counted = retry(call).await.map_err(failed)?.into_inner();
    println!("{} customers bought in {currency_code}\n\n{}", counted.customer_count, chart(&counted.cells));
    let mut table = table(&["tier", "customers", "share", "spent, minor units"]);
    for tier in &counted.tiers {
        let share = 100.0 * tier.customer_count as f64 / counted.customer_count.max(1) as f64;
        let name = tier.tier().as_str_name().trim_start_matches("TIER_").to_lowercase().replace('_', " ");
        table.add_row([name, tier.customer_count.to_string(), format!("{share:.1} %"), tier.net_minor.to_string()]);
    }
    println!("{table}");
    Ok(())
}

/// Recency upwards, frequency to the right; the darker, the more customers.
fn chart(cells: &[ValueCell]) -> String {
    let most = cells.iter().map(|cell| cell.customer_count).max().unwrap_or_default().max(1);
    let mut chart = String::new();
    for recency in (1..=5).rev() {
        chart += &format!("R{recency} ");
        for frequency in 1..=5 {
            let cell = cells.iter().find(|cell| (cell.recency_score, cell.frequency_score) == (recency, frequency));
            let count = cell.map_or(0, |cell| cell.customer_count);
            let shade = [' ', '░', '▒', '▓', '█'][((4 * count + most - 1) / most) as usize];
            chart += &format!("│{0}{0} {count:>7} ", shade);
        }
        chart += "│\n";
    }
    let axis: String = (1..=5).map(|frequency| format!("{:^12}", format!("F{frequency}"))).collect();
    format!("{chart}    {}\n", axis.trim_end())
}

async fn fit(client: &Client, currency_code: String, as_of_day: String) -> anyhow::Result<()> {
    let request = FitLifetimeModelRequest { currency_code, as_of_day };
    let call = || async { client.insight().fit_lifetime_model(request.clone()).await };
    let model = retry(call).await.map_err(failed)?.into_inner().model.unwrap_or_default();
    println!(
        "{} until {}: {} customers, {} of them came back",
        model.currency_code, model.as_of_day, model.customer_count, model.repeat_customer_count
    );
    let mut table = table(&["parameter", "value", "standard error"]);
    let names = ["r", "alpha", "a", "b", "p", "q", "gamma"];
    let parameters = [model.r, model.alpha, model.a, model.b, model.p, model.q, model.gamma];
    for (name, parameter) in names.into_iter().zip(parameters) {
        let Some(Parameter { value, standard_error }) = parameter else { continue };
        table.add_row([name.to_owned(), format!("{value:.6}"), format!("{standard_error:.6}")]);
    }
    println!("{table}\nlog-likelihood of the purchases {:.4}", model.log_likelihood);
    if model.p.is_some() {
        println!("log-likelihood of the amounts {:.4}", model.spend_log_likelihood);
    }
    Ok(())
}

impl Recommend {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.reach.client()?;
        let level = if self.categories { ItemLevel::Category } else { ItemLevel::Sku };
        let request = ListRecommendationsRequest {
            customer_id: self.customer_id,
            purpose_id: self.purpose_id,
            level: level.into(),
            ..Default::default()
        };
        let call = || async { client.insight().list_recommendations(request.clone()).await };
        let listed = retry(call).await.map_err(failed)?.into_inner();
        let mut table = table(&["kind", "item", "why", "due"]);
        for recommendation in &listed.recommendations {
            let item = recommendation.item.clone().unwrap_or_default();
            let item = [item.title, item.sku, item.category_path.join(" / ")].into_iter().find(|name| !name.is_empty());
            let kind = recommendation.kind().as_str_name().trim_start_matches("RECOMMENDATION_KIND_").to_lowercase();
            let (why, due) = (recommendation.reason.clone(), recommendation.due_day.clone());
            table.add_row([kind.replace('_', " "), item.unwrap_or_default(), why, due]);
        }
        println!("{table}");
        Ok(())
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    table
}
