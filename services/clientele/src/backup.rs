//! Backup and restore. The database and the keys that open it are kept apart: whoever has one of them has
//! nothing. What is needed to serve a restored database also needs the erasure journal, which is no part of
//! a backup: it must know who was erased since.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{self, Path, PathBuf},
};

use anyhow::{Context, ensure};
use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::process::Command;
use vault::{KeyRing, ServiceKeys};

use crate::{
    database::{self, schema},
    reach::Stock,
    rotate::stored,
    servers::postgres_bin,
    suite::SERVICES,
};

const DUMP: &str = "database.dump";
const ABOUT: &str = "backup.json";
const RING: &str = "key-ring.json";

/// Copies the six schemas as of one instant into a folder, and the key ring into another. Services go on
/// serving meanwhile.
#[derive(clap::Args)]
pub struct Backup {
    #[command(flatten)]
    stock: Stock,
    /// A new folder for the database.
    #[arg(long)]
    to: PathBuf,
    /// A new folder for the key ring, which should lie where the database's backup does not.
    #[arg(long)]
    keys_to: PathBuf,
}

/// Brings a backup into a database that has no customers yet. Then the services may be started on it with the
/// erasure journal of the old one: each erases again who was erased since, before it answers anything.
#[derive(clap::Args)]
pub struct Restore {
    /// The new database, with a role that owns it; the services' roles must be there.
    #[arg(long, env = "CLIENTELE_DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// The key ring that belongs to the backup, or the installation's own if it still has those keys.
    #[arg(long, env = "CLIENTELE_KEY_RING_FILE")]
    key_ring_file: PathBuf,
    /// The folder with the database's backup.
    #[arg(long)]
    from: PathBuf,
}

/// What a backup says of itself.
#[derive(Deserialize, Serialize)]
struct About {
    clientele: String,
    taken_at: String,
    sha256: String,
}

impl Backup {
    /// Makes a backup.
    pub async fn run(self) -> anyhow::Result<()> {
        let (database_url, key_ring_file) = (self.stock.database_url()?, self.stock.key_ring_file()?);
        let mut connection = database::connect(&database_url).await?;
        fits(&mut connection, &KeyRing::read(&key_ring_file)?).await?;
        connection.close().await?;
        let (to, keys_to) = (path::absolute(&self.to)?, path::absolute(&self.keys_to)?);
        ensure!(
            !to.starts_with(&keys_to) && !keys_to.starts_with(&to),
            "the key ring must lie apart from the database"
        );
        for folder in [&self.to, &self.keys_to] {
            fs::create_dir(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        }

        let dump = self.to.join(DUMP);
        let taken_at = chrono::Utc::now().to_rfc3339();
        let mut command = tool("pg_dump", &database_url)?;
        command.args(["--format=custom", "--file"]).arg(&dump);
        command.args(SERVICES.iter().map(|service| format!("--schema={}", schema(service))));
        finish(command).await?;
        fs::copy(&key_ring_file, self.keys_to.join(RING))?;
        let about = About { clientele: env!("CARGO_PKG_VERSION").to_owned(), taken_at, sha256: sha256(&dump)? };
        // Written last: a backup is whole when this file is there.
        fs::write(self.to.join(ABOUT), serde_json::to_string_pretty(&about)?)?;
        println!("database: {} ({} bytes)", dump.display(), fs::metadata(&dump)?.len());
        println!("key ring: {}", self.keys_to.join(RING).display());
        println!("Keep the two apart, and the erasure journal apart from both.");
        Ok(())
    }
}

impl Restore {
    /// Restores a backup, all of it or nothing.
    pub async fn run(self) -> anyhow::Result<()> {
        let about = fs::read(self.from.join(ABOUT))
            .with_context(|| format!("{} holds no finished backup", self.from.display()))?;
        let about: About = serde_json::from_slice(&about).context("the backup's description is damaged")?;
        let dump = self.from.join(DUMP);
        ensure!(sha256(&dump)? == about.sha256, "{} is damaged: its SHA-256 is another", dump.display());
        let ring = KeyRing::read(&self.key_ring_file)?;

        let mut connection = database::connect(&self.database_url).await?;
        make_room(&mut connection).await?;
        let mut command = tool("pg_restore", &self.database_url)?;
        command.args(["--single-transaction", "--exit-on-error"]).arg(&dump);
        finish(command).await?;
        fits(&mut connection, &ring).await?;
        database::finish_restore(&self.database_url).await?;
        println!("restored what was backed up at {} by clientele {}", about.taken_at, about.clientele);
        println!(
            "Start the services with the erasure journal of the old database: they erase again who was erased since."
        );
        Ok(())
    }
}

/// Fails unless the ring opens every service's keys.
async fn fits(connection: &mut PgConnection, ring: &KeyRing) -> anyhow::Result<()> {
    for service in SERVICES {
        let keys = stored(connection, service).await?;
        ServiceKeys::open(service, &keys, ring).await.context("the key ring does not fit the database")?;
    }
    Ok(())
}

/// Removes schemas that are prepared and empty. Others stay, and so the restore is refused.
async fn make_room(connection: &mut PgConnection) -> anyhow::Result<()> {
    for service in SERVICES {
        let schema = schema(service);
        let role: bool = sqlx::query_scalar("select exists (select 1 from pg_roles where rolname = $1)")
            .bind(&schema)
            .fetch_one(&mut *connection)
            .await?;
        ensure!(role, "the role {schema} is missing; make the services' roles first");
        let tables: i64 = sqlx::query_scalar("select count(*) from pg_tables where schemaname = $1")
            .bind(&schema)
            .fetch_one(&mut *connection)
            .await?;
        ensure!(tables == 0, "the schema {schema} has tables already; restore into a new database");
        connection.execute(AssertSqlSafe(format!("drop schema if exists {schema}"))).await?;
    }
    Ok(())
}

/// One of Postgres's own programs, connected without a password in its arguments.
fn tool(name: &str, database_url: &str) -> anyhow::Result<Command> {
    let mut url: reqwest::Url = database_url.parse().context("the database URL is malformed")?;
    let password =
        url.password().map(|password| percent_encoding::percent_decode_str(password).decode_utf8_lossy().into_owned());
    url.set_password(None).ok().context("the database URL takes no password")?;
    let mut command = Command::new(postgres_bin()?.join(name));
    command.arg("--dbname").arg(url.as_str());
    if let Some(password) = password {
        command.env("PGPASSWORD", password);
    }
    Ok(command)
}

async fn finish(mut command: Command) -> anyhow::Result<()> {
    let program = Path::new(command.as_std().get_program()).file_name().map(|name| name.display().to_string());
    let program = program.unwrap_or_default();
    let output = command.output().await.with_context(|| format!("{program} does not start"))?;
    ensure!(output.status.success(), "{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => context.update(&buffer[..read]),
        }
    }
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}
