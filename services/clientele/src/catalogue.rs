//! The field catalogue: what every stored field holds, what for, and how long. Each column says in its comment
//! which fields of the contract it stores, and the contract says the rest.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use proto::r#type::v1::Category;
use sqlx::{PgConnection, Row};

use crate::{
    database::{self, schema},
    reach::Stock,
    suite::SERVICES,
};

/// Prints what is stored, field by field, as a page of Markdown. It fails if a column is not in the catalogue.
#[derive(clap::Args)]
pub struct Catalogue {
    #[command(flatten)]
    stock: Stock,
}

/// One column.
pub struct Entry {
    /// Whose schema it is in.
    pub service: &'static str,
    /// Table and column.
    pub column: String,
    /// How it is stored.
    pub form: Form,
    /// The fields of the contract that it stores, as `Message.field`; none where the contract has no such field.
    pub fields: Vec<String>,
    /// What it is about.
    pub categories: BTreeSet<&'static str>,
    /// What it is kept for.
    pub purposes: Vec<String>,
    /// How long it is kept.
    pub retention: Vec<String>,
}

/// How a column keeps what it holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Plain,
    /// Sealed under the customer's key.
    Sealed,
    /// As a keyed hash, to be compared with.
    Hash,
}

impl Catalogue {
    /// Prints the catalogue.
    pub async fn run(self) -> anyhow::Result<()> {
        let mut connection = database::connect(&self.stock.database_url()?).await?;
        print!("{}", page(&entries(&mut connection).await?));
        Ok(())
    }
}

/// Every column of all schemas. Fails with a list of those that have no entry or one that does not hold.
pub async fn entries(connection: &mut PgConnection) -> anyhow::Result<Vec<Entry>> {
    let contract = Contract::read()?;
    let (mut entries, mut faults) = (Vec::new(), Vec::new());
    for service in SERVICES {
        let query = sqlx::query(
            "select c.relname || '.' || a.attname as name, format_type(a.atttypid, a.atttypmod) as type,
                    col_description(c.oid, a.attnum) as comment
             from pg_class c join pg_attribute a on a.attrelid = c.oid
             where c.relnamespace = to_regnamespace($1) and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped
               -- What sqlx itself keeps.
               and c.relname not in ('migrations', 'base_migrations')
             order by c.relname, a.attnum",
        );
        for row in query.bind(schema(service)).fetch_all(&mut *connection).await? {
            let (column, kind): (String, String) = (row.get("name"), row.get("type"));
            let comment: Option<String> = row.get("comment");
            match contract.entry(service, &column, &kind, comment.as_deref().unwrap_or_default()) {
                Ok(entry) => entries.push(entry),
                Err(error) => faults.push(format!("{}.{column}: {error}", schema(service))),
            }
        }
    }
    ensure!(faults.is_empty(), "the catalogue does not hold:\n{}", faults.join("\n"));
    Ok(entries)
}

/// The page.
pub fn page(entries: &[Entry]) -> String {
    let mut page = "# What is stored\n".to_owned();
    for service in SERVICES {
        page += &format!(
            "\n## {service}\n\n| column | stored | holds | category | kept for | kept |\n|---|---|---|---|---|---|\n"
        );
        for entry in entries.iter().filter(|entry| entry.service == service) {
            let form = match entry.form {
                Form::Plain => "plain",
                Form::Sealed => "sealed",
                Form::Hash => "keyed hash",
            };
            let categories = entry.categories.iter().copied().collect::<Vec<_>>().join(", ");
            page += &format!(
                "| {} | {form} | {} | {categories} | {} | {} |\n",
                entry.column,
                entry.fields.join(", "),
                entry.purposes.join(" "),
                entry.retention.join(" "),
            );
        }
    }
    page
}

/// What the contract says about fields and categories.
struct Contract {
    pool: DescriptorPool,
}

impl Contract {
    fn read() -> anyhow::Result<Self> {
        Ok(Self { pool: DescriptorPool::decode(proto::DESCRIPTOR_SET)? })
    }

    /// Reads a comment: `sealed Profile.name, Profile.birth_date; until noon`.
    fn entry(&self, service: &'static str, column: &str, kind: &str, comment: &str) -> anyhow::Result<Entry> {
        ensure!(!comment.is_empty(), "no entry; say in a comment on the column what it holds");
        let (what, kept) = comment.split_once("; ").map_or((comment, None), |(what, kept)| (what, Some(kept)));
        let (form, what) = match what.split_once(' ') {
            Some(("sealed", what)) => (Form::Sealed, what),
            Some(("hash", what)) => (Form::Hash, what),
            _ => (Form::Plain, what),
        };
        ensure!(form == Form::Plain || kind == "bytea", "sealed values and hashes are bytes");
        let (mut fields, mut categories) = (Vec::new(), BTreeSet::new());
        for subject in what.split(", ") {
            if subject.contains('.') {
                categories.extend(categories_of(&self.field(service, subject)?)?);
                fields.push(subject.to_owned());
            } else {
                categories
                    .insert(named(&format!("CATEGORY_{subject}")).with_context(|| format!("no category {subject}"))?);
            }
        }
        let (mut purposes, mut retention) = (Vec::new(), Vec::new());
        for category in &categories {
            let handling = self.handling(*category)?;
            ensure!(form != Form::Plain || !handling.sealed, "{} must be sealed", short(*category));
            purposes.push(handling.purpose);
            retention.push(handling.retention);
        }
        if let Some(kept) = kept {
            let mut kept = kept.to_owned();
            kept[..1].make_ascii_uppercase();
            retention = vec![format!("{kept}.")];
        }
        retention.sort();
        retention.dedup();
        let (column, categories) = (column.to_owned(), categories.into_iter().map(short).collect());
        Ok(Entry { service, column, form, fields, categories, purposes, retention })
    }

    /// Follows `Message.field.field` through the service's messages.
    fn field(&self, service: &str, path: &str) -> anyhow::Result<FieldDescriptor> {
        let (message, fields) = path.split_once('.').context("no field")?;
        let full_name = format!("clientele.{}.v1.{message}", schema(service));
        let mut message = self.pool.get_message_by_name(&full_name);
        let mut found = None;
        for name in fields.split('.') {
            let field = message.and_then(|message| message.get_field_by_name(name));
            let field = field.with_context(|| format!("the contract has no {path}"))?;
            message = own_message(&field);
            found = Some(field);
        }
        found.context("no field")
    }

    fn handling(&self, category: Category) -> anyhow::Result<proto::r#type::v1::Handling> {
        let handling = self.pool.get_extension_by_name("clientele.type.v1.handling").context("no handling")?;
        let categories = self.pool.get_enum_by_name("clientele.type.v1.Category").context("no categories")?;
        let value = categories.get_value(category as i32).context("no category")?;
        let options = value.options();
        ensure!(options.has_extension(&handling), "{} does not say what it is kept for", short(category));
        let handling = options.get_extension(&handling).into_owned();
        Ok(handling.as_message().context("no message")?.transcode_to()?)
    }
}

/// A field's category, and those of the fields in it.
fn categories_of(field: &FieldDescriptor) -> anyhow::Result<BTreeSet<Category>> {
    let category = field.parent_pool().get_extension_by_name("clientele.type.v1.category").context("no categories")?;
    let declared = field.options().get_extension(&category).as_enum_number();
    let declared = declared.and_then(|number| Category::try_from(number).ok());
    let mut categories = BTreeSet::from([declared.with_context(|| format!("{} has no category", field.full_name()))?]);
    for inner in own_message(field).iter().flat_map(MessageDescriptor::fields) {
        categories.extend(categories_of(&inner)?);
    }
    Ok(categories)
}

/// The message in a field, if it is one of the contract's own.
fn own_message(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match field.kind() {
        Kind::Message(message) if message.full_name().starts_with("clientele.") => Some(message),
        _ => None,
    }
}

fn named(name: &str) -> Option<Category> {
    Category::from_str_name(name)
}

fn short(category: Category) -> &'static str {
    category.as_str_name().trim_start_matches("CATEGORY_")
}
