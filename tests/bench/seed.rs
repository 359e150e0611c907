//! A great many customers: copies of one that was made through the API, each with ids and sealed values of
//! its own, put into the tables.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use tests::{Fixture, Processes};
use uuid::Uuid;
use vault::{KeyRing, Place, Vault};

/// So many customers are copied at once.
const CHUNK: u64 = 10_000;

/// A table, whose rows there belong to a customer, and the id that its sealed values are bound to.
struct Table {
    service: &'static str,
    name: &'static str,
    rows: &'static str,
    sealed_by: Option<&'static str>,
}

const OF_CUSTOMER: &str = "t.customer_id = $1";
const OF_ORDER: &str = "t.order_id in (select order_id from order_history.orders where customer_id = $1)";
const OF_MEMBER: &str = "t.member_id in (select member_id from loyalty.members where customer_id = $1)";

const fn table(service: &'static str, name: &'static str) -> Table {
    Table { service, name, rows: OF_CUSTOMER, sealed_by: None }
}

const TABLES: [Table; 18] = [
    table("profile", "customers"),
    Table { sealed_by: Some("customer_id"), ..table("profile", "profiles") },
    Table { sealed_by: Some("external_id_id"), ..table("profile", "external_ids") },
    table("contact", "customers"),
    Table { sealed_by: Some("contact_point_id"), ..table("contact", "contact_points") },
    table("order-history", "customers"),
    Table { sealed_by: Some("order_id"), ..table("order-history", "orders") },
    Table { rows: OF_ORDER, ..table("order-history", "order_lines") },
    table("order-history", "order_summaries"),
    table("interaction", "customers"),
    Table { sealed_by: Some("interaction_id"), ..table("interaction", "interactions") },
    Table { sealed_by: Some("case_id"), ..table("interaction", "cases") },
    table("loyalty", "customers"),
    table("loyalty", "members"),
    Table { rows: OF_MEMBER, ..table("loyalty", "transactions") },
    Table { rows: OF_MEMBER, ..table("loyalty", "lots") },
    table("consent", "customers"),
    Table { sealed_by: Some("record_id"), ..table("consent", "records") },
];

/// The id of the n-th copy.
pub fn id(n: u64) -> Uuid {
    Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0000 | u128::from(n))
}

const ID: &str = "('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid";

/// Copies a customer to those numbered above `from` and up to `to`.
pub async fn seed(processes: &Processes, template: &Fixture, from: u64, to: u64) {
    let mut sql = PgConnection::connect(&processes.plan.database_url).await.unwrap();
    // Neither triggers nor foreign keys: what is copied was checked.
    sql.execute("set session_replication_role = replica").await.unwrap();
    let ring = KeyRing::read(&processes.plan.keys.key_ring_file()).unwrap();
    let template = Uuid::parse_str(&template.customer_id).unwrap();
    for first in (from + 1..=to).step_by(CHUNK as usize) {
        let last = (first + CHUNK - 1).min(to);
        for table in &TABLES {
            copy(&mut sql, table, &Vault::new(&ring, table.service), template, (first as i64, last as i64)).await;
        }
    }
    for table in &TABLES {
        let analyze = format!("vacuum analyze {}", table.path());
        sql.execute(AssertSqlSafe(analyze)).await.unwrap();
    }
    sql.execute("checkpoint").await.unwrap();
}

impl Table {
    fn path(&self) -> String {
        format!("{}.{}", self.service.replace('-', "_"), self.name)
    }
}

async fn copy(sql: &mut PgConnection, table: &Table, vault: &Vault, template: Uuid, (first, last): (i64, i64)) {
    let path = table.path();
    let (schema, _) = path.split_once('.').unwrap();
    let columns = sqlx::query(
        "select column_name::text, udt_name::text from information_schema.columns
         where table_schema = $1 and table_name = $2 and is_identity = 'NO'",
    );
    let columns = columns.bind(schema).bind(table.name).fetch_all(&mut *sql).await.unwrap();
    let columns: Vec<(String, String)> = columns.iter().map(|row| (row.get(0), row.get(1))).collect();
    let value = |(name, kind): &(String, String)| match (name.as_str(), kind.as_str()) {
        ("customer_id", _) => ID.to_owned(),
        (_, "uuid") => format!("md5(t.{name}::text || n)::uuid"),
        ("sealed", _) => "s.sealed".to_owned(),
        ("hash" | "content", "bytea") => format!("sha256(t.{name} || n::text::bytea)"),
        ("number" | "member_number", _) => format!("t.{name} || '-' || n"),
        _ => format!("t.{name}"),
    };
    let values = columns.iter().map(value).collect::<Vec<_>>().join(", ");
    let names = columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    let (own, rows) = (table.sealed_by.unwrap_or("customer_id"), table.rows);
    let is_sealed = table.sealed_by.is_some();
    let (mut numbers, mut owners, mut sealed) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(own) = table.sealed_by {
        let place = if own == "customer_id" { ID.to_owned() } else { format!("md5(t.{own}::text || n)::uuid") };
        let rows = format!(
            "select n, t.{own}, {place}, t.sealed from {path} t, generate_series($2::bigint, $3::bigint) n where {rows}"
        );
        let rows = sqlx::query(AssertSqlSafe(rows)).bind(template).bind(first).bind(last);
        for row in rows.fetch_all(&mut *sql).await.unwrap() {
            let (n, original, copy): (i64, Uuid, Uuid) = (row.get(0), row.get(1), row.get(2));
            let place = |row| Place { table: table.name, column: "sealed", row };
            let value: Option<Vec<u8>> = row.get(3);
            let value = value.map(|value| vault.seal(place(copy), &vault.open(place(original), &value).unwrap()));
            numbers.push(n);
            owners.push(original);
            sealed.push(value);
        }
    }
    let numbers_of = match is_sealed {
        true => format!("join unnest($4::bigint[], $5::uuid[], $6::bytea[]) s (n, own, sealed) on s.own = t.{own}"),
        false => "cross join generate_series($2::bigint, $3::bigint) n".to_owned(),
    };
    // Every parameter is named, so that one list of binds fits both.
    let insert = format!(
        "insert into {path} ({names}) select {values} from {path} t {numbers_of}
         where {rows} and $2::bigint <= $3::bigint and cardinality($4::bigint[]) = cardinality($5::uuid[])
         and cardinality($6::bytea[]) >= 0"
    );
    let insert = sqlx::query(AssertSqlSafe(insert)).bind(template).bind(first).bind(last);
    insert.bind(numbers).bind(owners).bind(sealed).execute(&mut *sql).await.unwrap();
}
