//! Importing through the public API: customers in batches, orders and interactions
//! over the acknowledged streams. Everything is repeatable, so an import that broke off goes on where
//! it was acknowledged, and one that is run again changes nothing.

mod cdnow;
mod csv;
mod customers;
mod journal;
mod ndjson;
mod streams;

use std::{path::PathBuf, time::Instant};

use clap::Subcommand;
use client::Client;

use crate::Reach;
use journal::Journal;

/// Imports a file through the public API.
#[derive(Subcommand)]
pub enum Import {
    /// The CDNOW purchases, master or sample: each row becomes an order.
    Cdnow(File),
    /// One JSON object a line: {"profile": …}, {"customer": {"profile": …, "contact_points": […]}}, {"order": …} or
    /// {"interaction": …}.
    Ndjson(Rows),
    /// A table with a header in its first line; each row becomes a customer with contact points.
    Csv(Table),
}

#[derive(clap::Args)]
pub struct Rows {
    #[command(flatten)]
    file: File,
    /// Checks the customers as the services would, and writes nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(clap::Args)]
pub struct Table {
    #[command(flatten)]
    rows: Rows,
    /// What the columns mean: a JSON object {"profile": …, "contact_points": […]} with {column} where a value goes and
    /// {column|%Y-%m-%d} where a date does; an object whose {column!} is empty is left out.
    #[arg(long)]
    mapping: PathBuf,
}

#[derive(clap::Args)]
pub struct File {
    /// The file.
    file: PathBuf,
    /// Where rows that were refused are written, one JSON object a line; beside the journal in the
    /// state folder unless said.
    #[arg(long)]
    errors: Option<PathBuf>,
    #[command(flatten)]
    reach: Reach,
}

impl Import {
    /// Imports, and fails when any row was refused.
    pub async fn run(self) -> anyhow::Result<()> {
        let (file, dry_run) = match &self {
            Import::Cdnow(file) => (file, false),
            Import::Ndjson(rows) | Import::Csv(Table { rows, .. }) => (&rows.file, rows.dry_run),
        };
        let client = file.reach.client()?;
        let contents = tokio::fs::read(&file.file).await?;
        let mut journal = Journal::open(&file.reach.state, &contents, file.errors.clone(), dry_run)?;
        match &self {
            Import::Cdnow(_) => cdnow::import(&client, &contents, &mut journal).await?,
            Import::Ndjson(_) => ndjson::import(&client, &contents, dry_run, &mut journal).await?,
            Import::Csv(table) => {
                let rows = csv::read(&contents, &table.mapping, &mut journal)?;
                customers::import(&client, &rows, csv::Row::customer, dry_run, &mut journal).await?;
            }
        }
        journal.finish()
    }
}

/// Imports the sample that the project carries and answers one customer's id.
pub async fn demo(client: &Client, state: &std::path::Path) -> anyhow::Result<String> {
    let sample = include_bytes!("../../data/cdnow_sample.txt");
    println!("importing the CDNOW sample: purchases of 2,357 customers of a music shop, 1997 to 1998");
    let mut journal = Journal::open(state, sample, None, false)?;
    cdnow::import(client, sample, &mut journal).await?;
    journal.finish()?;
    Ok(cdnow::customer_id("00004").to_string())
}

/// What an import did with items of one kind.
#[derive(Default)]
pub struct Tally {
    pub created: u64,
    pub unchanged: u64,
    pub revised: u64,
    pub refused: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.created += other.created;
        self.unchanged += other.unchanged;
        self.revised += other.revised;
        self.refused += other.refused;
    }

    /// Counts a write, or its repetition.
    fn written(&mut self, replayed: bool) {
        *if replayed { &mut self.unchanged } else { &mut self.created } += 1;
    }

    fn print(&self, what: &str, began: Instant) {
        let Self { created, unchanged, revised, refused } = self;
        let seconds = began.elapsed().as_secs_f64();
        let rate = (created + unchanged + revised + refused) as f64 / seconds.max(0.001);
        println!(
            "{what}: {created} created, {unchanged} unchanged, {revised} revised, {refused} refused \
             in {seconds:.1} s ({rate:.0} a second)"
        );
    }
}

/// A bar that shows how far an import is, when a person watches.
fn bar(len: u64, what: &'static str) -> indicatif::ProgressBar {
    let style = "{msg:<13} {wide_bar} {pos}/{len} {per_sec} {eta}";
    let style = indicatif::ProgressStyle::with_template(style).unwrap_or(indicatif::ProgressStyle::default_bar());
    indicatif::ProgressBar::new(len).with_style(style).with_message(what)
}
