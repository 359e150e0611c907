//! A great many customers: copies of one that was made through the API, each with ids and sealed values of
//! its own, put into the tables.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use tests::{Fixture, Processes};
use uuid::Uuid;
use vault::{DataKey, KeyRing, Keys, Place, ServiceKeys, WrappedServiceKey};

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
        for tables in TABLES.chunk_by(|one, next| one.service == next.service) {
            let keys = keys(&mut sql, tables[0].service, &ring, template, (first, last)).await;
            for table in tables {
                copy(&mut sql, table, &keys, template, (first as i64, last as i64)).await;
            }
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

/// A data key for each copy in a service, stored, and the template's.
async fn keys(
    sql: &mut PgConnection,
    service: &'static str,
    ring: &KeyRing,
    template: Uuid,
    (first, last): (u64, u64),
) -> Keys {
    let schema = service.replace('-', "_");
    let stored = AssertSqlSafe(format!("select number, wrapped_by, wrapped from {schema}.service_keys"));
    let stored = sqlx::query(stored).fetch_all(&mut *sql).await.unwrap();
    let stored =
        stored.iter().map(|row| WrappedServiceKey { number: row.get(0), wrapped_by: row.get(1), wrapped: row.get(2) });
    let service_keys = ServiceKeys::open(service, &stored.collect::<Vec<_>>(), ring).await.unwrap();
    let mut keys = Keys::new(service);
    let own = AssertSqlSafe(format!("select key_id, service_key, wrapped from {schema}.data_keys where owner_id = $1"));
    for row in sqlx::query(own).bind(template).fetch_all(&mut *sql).await.unwrap() {
        let (id, number, wrapped): (Uuid, i32, Vec<u8>) = (row.get(0), row.get(1), row.get(2));
        keys.own(template, DataKey::unwrap(&service_keys, id, number, &wrapped).unwrap().into());
    }
    let (mut ids, mut owners, mut numbers, mut wrapped) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for n in first..=last {
        let key = DataKey::generate();
        let (number, sealed) = key.wrap(&service_keys);
        ids.push(key.id());
        owners.push(id(n));
        numbers.push(number);
        wrapped.push(sealed);
        keys.own(id(n), key.into());
    }
    let insert = AssertSqlSafe(format!(
        "insert into {schema}.data_keys (key_id, owner_id, service_key, wrapped)
         select * from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::bytea[])"
    ));
    sqlx::query(insert).bind(ids).bind(owners).bind(numbers).bind(wrapped).execute(sql).await.unwrap();
    keys
}

async fn copy(sql: &mut PgConnection, table: &Table, keys: &Keys, template: Uuid, (first, last): (i64, i64)) {
    let path = table.path();
    let (schema, _) = path.split_once('.').unwrap();
    let columns = sqlx::query(
        "select column_name::text, udt_name::text from information_schema.columns
         where table_schema = $1 and table_name = $2 and is_identity = 'NO' and is_generated = 'NEVER'",
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
    let insert = |numbers: &str| {
        let rows = table.rows;
        AssertSqlSafe(format!("insert into {path} ({names}) select {values} from {path} t {numbers} where {rows}"))
    };
    let insert = match table.sealed_by {
        None => {
            let insert = insert("cross join generate_series($2::bigint, $3::bigint) n");
            sqlx::query(insert).bind(template).bind(first).bind(last)
        }
        Some(own) => {
            let (numbers, owners, sealed) = seal(sql, table, own, keys, template, (first, last)).await;
            let sealed_rows =
                format!("join unnest($2::bigint[], $3::uuid[], $4::bytea[]) s (n, own, sealed) on s.own = t.{own}");
            sqlx::query(insert(&sealed_rows)).bind(template).bind(numbers).bind(owners).bind(sealed)
        }
    };
    insert.execute(&mut *sql).await.unwrap();
}

/// For each copy of each row its number, the original's id, and the original's value sealed anew for its place.
async fn seal(
    sql: &mut PgConnection,
    table: &Table,
    own: &str,
    keys: &Keys,
    template: Uuid,
    (first, last): (i64, i64),
) -> (Vec<i64>, Vec<Uuid>, Vec<Option<Vec<u8>>>) {
    let copy = if own == "customer_id" { ID.to_owned() } else { format!("md5(t.{own}::text || n)::uuid") };
    let rows = format!(
        "select n, t.{own}, {copy}, t.sealed from {} t, generate_series($2::bigint, $3::bigint) n where {}",
        table.path(),
        table.rows
    );
    let rows = sqlx::query(AssertSqlSafe(rows)).bind(template).bind(first).bind(last);
    let rows = rows.fetch_all(sql).await.unwrap().into_iter().map(|row| {
        let (n, original, copy, value): (i64, Uuid, Uuid, Option<Vec<u8>>) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        let place = |row| Place { table: table.name, column: "sealed", row };
        let open = |value: Vec<u8>| keys.open(place(original), &value).unwrap();
        let value = value.map(|value| keys.seal(id(n as u64), place(copy), &open(value)).unwrap());
        (n, original, value)
    });
    rows.collect()
}
