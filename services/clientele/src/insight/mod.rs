//! What may be concluded, for people: tables, and a chart in the terminal where one would rather look than read.

mod chart;

use std::{collections::BTreeSet, path::PathBuf};

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
    /// Shows what was bought month by month, and where it goes.
    Demand(OfDemand),
    /// Shows all customers by age, region, device and so on.
    Base(Base),
}

#[derive(clap::Args)]
pub struct OfDemand {
    /// The currency: EUR.
    #[arg(long)]
    currency: String,
    /// Only this stock keeping unit.
    #[arg(long, default_value = "", conflicts_with = "category")]
    sku: String,
    /// Only this category, from the widest: --category Home --category Cups.
    #[arg(long)]
    category: Vec<String>,
    /// Divided by item, store, sales-channel, region, age-band or gender.
    #[arg(long, default_value = "item", value_parser = division)]
    by: DemandDivision,
    /// The first month: 2017-01; eleven before the last unless said.
    #[arg(long, default_value = "")]
    from: String,
    /// The last month; the last that has ended unless said.
    #[arg(long, default_value = "")]
    until: String,
    /// Draws the first six into this file.
    #[arg(long)]
    png: Option<PathBuf>,
    #[command(flatten)]
    reach: Reach,
}

#[derive(clap::Args)]
pub struct Base {
    #[command(flatten)]
    reach: Reach,
}

fn division(name: &str) -> Result<DemandDivision, String> {
    let proto = format!("DEMAND_DIVISION_{}", name.to_uppercase().replace('-', "_"));
    DemandDivision::from_str_name(&proto).ok_or_else(|| "is no way to divide demand".to_owned())
}

#[derive(clap::Args)]
pub struct Of {
    /// The currency: EUR.
    #[arg(long)]
    currency: String,
    /// The last day that counts: 1997-09-30; the present unless said.
    #[arg(long, default_value = "")]
    as_of: String,
    /// Draws a chart into this file.
    #[arg(long)]
    png: Option<PathBuf>,
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
            Self::Tiers(of) => tiers(of).await,
            Self::Fit(of) => fit(of).await,
            Self::Recommend(recommend) => recommend.run().await,
            Self::Demand(of) => of.run().await,
            Self::Base(base) => base.run().await,
        }
    }
}

async fn tiers(Of { currency, as_of, png, reach }: Of) -> anyhow::Result<()> {
    let (client, currency_code) = (reach.client()?, currency);
    let request = CountValueTiersRequest { currency_code: currency_code.clone(), as_of_day: as_of };
    let counted = client.insight().count_value_tiers(request).await.map_err(failed)?.into_inner();
    println!("{} customers bought in {currency_code}\n\n{}", counted.customer_count, chart(&counted.cells));
    let mut table = table(&["tier", "customers", "share", "spent, minor units"]);
    for tier in &counted.tiers {
        let share = 100.0 * tier.customer_count as f64 / counted.customer_count.max(1) as f64;
        let name = tier.tier().as_str_name().trim_start_matches("TIER_").to_lowercase().replace('_', " ");
        table.add_row([name, tier.customer_count.to_string(), format!("{share:.1} %"), tier.net_minor.to_string()]);
    }
    println!("{table}");
    match png {
        Some(file) => chart::heat_map(&file, &format!("Customers who bought in {currency_code}"), &counted.cells),
        None => Ok(()),
    }
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

async fn fit(Of { currency, as_of, png, reach }: Of) -> anyhow::Result<()> {
    let client = reach.client()?;
    let request = FitLifetimeModelRequest { currency_code: currency, as_of_day: as_of };
    let fitted = client.insight().fit_lifetime_model(request).await.map_err(failed)?.into_inner();
    let model = fitted.model.unwrap_or_default();
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
    let mut table = self::table(&["came back on days", "customers", "expected"]);
    for count in &fitted.repeat_counts {
        let expected = format!("{:.1}", count.expected_customer_count);
        table.add_row([count.repeat_count.to_string(), count.customer_count.to_string(), expected]);
    }
    println!("{table}");
    let title = format!("How often customers came back in {} until {}", model.currency_code, model.as_of_day);
    match png {
        Some(file) => chart::actual_and_expected(&file, &title, &fitted.repeat_counts),
        None => Ok(()),
    }
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
        let listed = client.insight().list_recommendations(request).await.map_err(failed)?.into_inner();
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

impl OfDemand {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.reach.client()?;
        let request = GetDemandRequest {
            currency_code: self.currency,
            sku: self.sku,
            category_path: self.category,
            division: self.by.into(),
            first_month: self.from,
            last_month: self.until,
        };
        let reply = client.insight().get_demand(request.clone()).await.map_err(failed)?.into_inner();
        let months: BTreeSet<&String> = reply.demands.iter().flat_map(|d| d.months.iter().map(|m| &m.month)).collect();
        let months: Vec<String> = months.into_iter().cloned().collect();
        let mut table = table(&["what", "minor units", "by month", "a month more", "from", "to", "pieces next"]);
        for demand in &reply.demands {
            let total: i64 = demand.months.iter().map(|month| month.net_minor).sum();
            let trend = demand.trend.map(|trend| [trend.monthly_change_minor, trend.lower_minor, trend.upper_minor]);
            let [change, lower, upper] = trend.map_or_else(Default::default, |trend| trend.map(|n| format!("{n:.0}")));
            let next = demand
                .forecast
                .as_ref()
                .map(|next| format!("{:.0} ({:.0}–{:.0})", next.quantity, next.lower_quantity, next.upper_quantity));
            let row = [called(demand), total.to_string(), sparks(demand, &months), change, lower, upper];
            table.add_row(row.into_iter().chain([next.unwrap_or_default()]));
        }
        println!("{table}\nat least {} customers are behind each number", reply.min_group_size);
        let told = reply.demands.iter().filter(|demand| !demand.merged);
        let told: Vec<(String, &Demand)> = told.take(6).map(|demand| (called(demand), demand)).collect();
        match self.png {
            Some(file) => chart::trend(&file, &format!("Demand in {}", request.currency_code), &months, &told),
            None => Ok(()),
        }
    }
}

/// What people call what a demand is for.
fn called(demand: &Demand) -> String {
    let item = demand.item.clone().unwrap_or_default();
    let category = item.category_path.last().cloned().unwrap_or_default();
    let names = [item.title, item.sku, category, demand.value.clone()];
    match (demand.merged, names.into_iter().find(|name| !name.is_empty())) {
        (true, _) => "(too few to tell apart)".to_owned(),
        (false, name) => name.unwrap_or_else(|| "(all, or not known)".to_owned()),
    }
}

/// One character for each month: the higher, the more money.
fn sparks(demand: &Demand, months: &[String]) -> String {
    let most = demand.months.iter().map(|month| month.net_minor).max().unwrap_or_default().max(1);
    let spark = |month: &String| match demand.months.iter().find(|of| of.month == *month) {
        Some(of) => ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'][(of.net_minor.max(0) * 7 / most) as usize],
        None => ' ',
    };
    months.iter().map(spark).collect()
}

impl Base {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.reach.client()?;
        let reply =
            client.insight().count_customers(CountCustomersRequest::default()).await.map_err(failed)?.into_inner();
        let mut table = table(&["dimension", "value", "customers", "share"]);
        for count in &reply.counts {
            let dimension = count.dimension().as_str_name().trim_start_matches("DIMENSION_").to_lowercase();
            for value in &count.values {
                let name = match (value.merged, value.value.as_str()) {
                    (true, _) => "(too few to tell apart)",
                    (false, "") => "(not known)",
                    (false, value) => value,
                };
                let share = format!("{:.1} %", 100.0 * value.customer_count as f64 / reply.customer_count as f64);
                let customers = value.customer_count.to_string();
                table.add_row([dimension.replace('_', " "), name.to_owned(), customers, share]);
            }
        }
        println!("{} customers\n{table}", reply.customer_count);
        Ok(())
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    table
}
