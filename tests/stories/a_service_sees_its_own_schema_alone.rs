use clientele::{database, suite::SERVICES};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tests::{Fixture, Installation};

#[tokio::test]
async fn no_role_reads_or_writes_another_schema() {
    let installation = Installation::start().await;
    Fixture::create(&installation.client()).await;
    let tables: Vec<(String, String)> = sqlx::query_as(
        "select schemaname::text, tablename::text from pg_tables where schemaname not in ('pg_catalog', 'information_schema')",
    )
    .fetch_all(&mut installation.sql().await)
    .await
    .unwrap();
    assert!(tables.len() > 30);
    for service in SERVICES {
        let url = database::role_url(&installation.plan.database_url, service, "test").unwrap();
        let mut role = PgConnection::connect(&url).await.unwrap();
        for (schema, table) in &tables {
            let read =
                sqlx::query(AssertSqlSafe(format!("select 1 from {schema}.{table} limit 1"))).execute(&mut role).await;
            assert_eq!(read.is_ok(), *schema == database::schema(service), "{service} and {schema}.{table}");
        }
        let create = sqlx::query("create table public.mine ()").execute(&mut role).await;
        assert!(create.is_err(), "{service} can write in public");
    }
}

#[tokio::test]
async fn what_identifies_a_person_is_not_in_the_database() {
    let installation = Installation::start().await;
    let fixture = Fixture::create(&installation.client()).await;
    let mut sql = installation.sql().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select schemaname || '.' || tablename from pg_tables where schemaname not in ('pg_catalog', 'information_schema')",
    )
    .fetch_all(&mut sql)
    .await
    .unwrap();
    let hidden = [
        "Lovelace".to_owned(),
        format!("{}@example.org", fixture.tag),
        "Where is my parcel".to_owned(),
        "Parcel is late".to_owned(),
    ];
    let mut order_numbers = 0;
    for table in tables {
        let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!("select t::text from {table} t")))
            .fetch_all(&mut sql)
            .await
            .unwrap();
        for row in rows {
            // bytea prints as hexadecimal, so both forms are looked for.
            for secret in &hidden {
                let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
                assert!(!row.contains(secret) && !row.contains(&hex), "{table}");
            }
            order_numbers += usize::from(row.contains(&fixture.tag));
        }
    }
    // The search itself works: an order's number is a column by intent.
    assert!(order_numbers > 0);
}
