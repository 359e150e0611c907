//! Backup and restore. The database and the keys that open it are kept apart: with one of them alone nothing that is sealed
//! opens. What is needed to serve a restored database also needs the erasure journal, which is no part of
//! a backup: it must know who was erased since.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};
use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Executor, PgConnection};
use vault::{KeyRing, ServiceKeys, WrappedServiceKey};

use crate::{
    database::{self, schema},
    reach::Stock,
    rotate::stored,
    servers::{postgres_bin, run},
    suite::SERVICES,
};

const DUMP: &str = "database.dump";
const ABOUT: &str = "backup.json";
const RING: &str = "key-ring.json";

/// Copies all schemas as of one instant into a folder, and the key ring into another. Services go on
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
    /// The new database, with a role that owns it and may make roles.
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
    /// The wrapped keys of each service, by which a ring can be tried before anything is restored.
    service_keys: BTreeMap<String, Vec<WrappedServiceKey>>,
}

impl Backup {
    /// Makes a backup.
    pub async fn run(self) -> anyhow::Result<()> {
        let (database_url, key_ring_file) = (self.stock.database_url()?, self.stock.key_ring_file()?);
        let service_keys = service_keys(&mut database::connect(&database_url).await?).await?;
        fits(&service_keys, &KeyRing::read(&key_ring_file)?).await?;
        for folder in [&self.to, &self.keys_to] {
            fs::create_dir(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        }
        let (to, keys_to) = (self.to.canonicalize()?, self.keys_to.canonicalize()?);
        if to.starts_with(&keys_to) || keys_to.starts_with(&to) {
            [&keys_to, &to].into_iter().for_each(|folder| drop(fs::remove_dir(folder)));
            bail!("the key ring must lie apart from the database");
        }

        let dump = self.to.join(DUMP);
        let taken_at = chrono::Utc::now().to_rfc3339();
        let mut command = tool("pg_dump", &database_url)?;
        command.args(["--format=custom", "--file"]).arg(&dump);
        command.args(SERVICES.iter().map(|service| format!("--schema={}", schema(service))));
        run(&mut command, "the database cannot be backed up")?;
        let ring = self.keys_to.join(RING);
        fs::copy(&key_ring_file, &ring)?;
        // Read again: what was copied is what opens it.
        fits(&service_keys, &KeyRing::read(&ring)?).await?;
        let clientele = env!("CARGO_PKG_VERSION").to_owned();
        let about = About { clientele, taken_at, sha256: sha256(&dump)?, service_keys };
        // Written last, once all else is on disk: a backup is whole when this file is there.
        for path in [&dump, &ring, &self.keys_to, &self.to] {
            fs::File::open(path)?.sync_all()?;
        }
        let mut file = fs::File::create_new(self.to.join(ABOUT))?;
        file.write_all(serde_json::to_string_pretty(&about)?.as_bytes())?;
        file.sync_all()?;
        println!("database: {} ({} bytes)", dump.display(), fs::metadata(&dump)?.len());
        println!("key ring: {}", self.keys_to.join(RING).display());
        println!("Keep the two apart, and the erasure journal apart from both.");
        Ok(())
    }
}

impl Restore {
    /// Restores a backup: all data or none, and then the new life of the database.
    pub async fn run(self) -> anyhow::Result<()> {
        let about = fs::read(self.from.join(ABOUT))
            .with_context(|| format!("{} holds no finished backup", self.from.display()))?;
        let about: About = serde_json::from_slice(&about).context("the backup's description is damaged")?;
        let dump = self.from.join(DUMP);
        ensure!(sha256(&dump)? == about.sha256, "{} is damaged: its SHA-256 is another", dump.display());
        let ring = KeyRing::read(&self.key_ring_file)?;

        fits(&about.service_keys, &ring).await?;
        let mut connection = database::connect(&self.database_url).await?;
        make_room(&mut connection).await?;
        let mut command = tool("pg_restore", &self.database_url)?;
        command.args(["--single-transaction", "--exit-on-error"]).arg(&dump);
        run(&mut command, "the backup cannot be restored")?;
        database::finish_restore(&self.database_url)
            .await
            .context("the restore is not finished; run clientele restore-finish before any service is started on it")?;
        println!("restored what was backed up at {} by clientele {}", about.taken_at, about.clientele);
        println!(
            "Start the services with the erasure journal of the old database: they erase again who was erased since."
        );
        Ok(())
    }
}

/// The keys of all services as they are stored.
async fn service_keys(connection: &mut PgConnection) -> anyhow::Result<BTreeMap<String, Vec<WrappedServiceKey>>> {
    let mut all = BTreeMap::new();
    for service in SERVICES {
        all.insert(service.to_owned(), stored(connection, service).await?);
    }
    Ok(all)
}

/// Fails unless the ring opens every service's keys.
async fn fits(all: &BTreeMap<String, Vec<WrappedServiceKey>>, ring: &KeyRing) -> anyhow::Result<()> {
    for service in SERVICES {
        let keys = all.get(service).with_context(|| format!("the backup has no keys of {service}"))?;
        ServiceKeys::open(service, keys, ring).await.context("the key ring does not fit the database")?;
    }
    Ok(())
}

/// Removes schemas that are prepared and empty, and makes roles that are missing, without a login: `clientele up`
/// or whoever prepares the database gives them one. A schema that is not empty refuses the restore.
async fn make_room(connection: &mut PgConnection) -> anyhow::Result<()> {
    for service in SERVICES {
        let schema = schema(service);
        let role: bool = sqlx::query_scalar("select exists (select 1 from pg_roles where rolname = $1)")
            .bind(&schema)
            .fetch_one(&mut *connection)
            .await?;
        if !role {
            connection
                .execute(AssertSqlSafe(format!("create role {schema}")))
                .await
                .context("a role could not be made")?;
        }
        connection.execute(AssertSqlSafe(format!("grant {schema} to current_user"))).await?;
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
