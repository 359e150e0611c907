//! What an installation on Kubernetes or compose needs before it starts: secrets, and a database with roles.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};

use crate::{
    acl, database,
    keys::{self, Keys},
    suite::SERVICES,
};

/// Writes the secrets of an installation that runs elsewhere, and prepares its database. Again and again without harm:
/// what is there stays. Of the secrets `databases` and `caches` each file is a key; `SERVICE.env` says the same to compose.
#[derive(clap::Args)]
pub struct Prepare {
    /// The database as the services reach it.
    #[arg(long, default_value = "postgres://clientele-db-rw:5432/clientele")]
    database_url: String,
    /// The same database as it is reached from here, with a role that may make roles; without it only files are written.
    #[arg(long, env = "CLIENTELE_ADMIN_URL")]
    admin_url: Option<String>,
    /// The cache as the services reach it.
    #[arg(long, default_value = "redis://valkey:6379")]
    redis_url: String,
    /// Where the secrets are written.
    #[arg(long, default_value = "secrets")]
    secrets: PathBuf,
}

impl Prepare {
    /// Does it.
    pub async fn run(self) -> anyhow::Result<()> {
        // The folder `keys` in it is what the processes read.
        let keys = Keys::load_or_create(&self.secrets)?;
        for folder in ["databases", "caches"] {
            fs::create_dir_all(self.secrets.join(folder))?;
        }
        for (name, password) in &keys.redis_passwords {
            let cache = acl::user_url(&self.redis_url, name, password)?;
            self.write(&format!("caches/{name}"), &cache)?;
            let mut own = format!("CLIENTELE_REDIS_URL={cache}\n");
            if let Some(password) = keys.passwords.get(name) {
                let url = database::role_url(&self.database_url, name, password)?;
                self.write(&format!("databases/{name}"), &url)?;
                writeln!(own, "CLIENTELE_DATABASE_URL={url}")?;
            }
            self.write(&format!("{name}.env"), &own)?;
        }
        self.write("databases/owner-password", &keys.owner_password)?;
        self.write("postgres.env", &format!("POSTGRES_PASSWORD={}\n", keys.owner_password))?;
        // Made of the owner's, so that it is the same every time.
        let operator = format!("operator {}", keys.owner_password);
        let operator: String =
            digest(&SHA256, operator.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        self.write("caches/operator-password", &operator)?;
        let users = format!("{}user operator on >{operator} ~* &* +@all\n", acl::file(&keys.redis_passwords));
        self.write("caches/users.acl", &users)?;
        println!("{} holds the secrets of {} services", self.secrets.display(), SERVICES.len() + 1);
        if let Some(admin_url) = &self.admin_url {
            database::prepare(admin_url, &keys.passwords).await?;
            println!("the database has their roles and schemas");
        }
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        keys::secret(&Path::new(&self.secrets).join(name), text.as_bytes())
    }
}
