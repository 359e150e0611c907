//! A private Postgres and Redis in the state folder, from the servers installed on this machine.
//! They die with this process, even when it is killed, and a survivor of an earlier run is stopped.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tokio::process::Child;

use crate::{Port, acl, keys::Keys};

const PATIENCE: Duration = Duration::from_secs(60);

/// Two running servers.
pub struct Servers {
    postgres: Option<Child>,
    redis: Option<Child>,
    /// The database, with its owner.
    pub database_url: String,
    /// The cache.
    pub redis_url: String,
}

impl Servers {
    /// Starts what is not given by URL.
    pub async fn start(
        state: &Path,
        keys: &Keys,
        database_url: Option<String>,
        redis_url: Option<String>,
    ) -> anyhow::Result<Self> {
        let mut servers = Self { postgres: None, redis: None, database_url: String::new(), redis_url: String::new() };
        servers.database_url = match database_url {
            Some(url) => url,
            None => servers.start_postgres(state, &keys.owner_password).await?,
        };
        servers.redis_url = match redis_url {
            Some(url) => url,
            None => servers.start_redis(state, &acl::file(&keys.redis_passwords)).await?,
        };
        Ok(servers)
    }

    /// Stops both in good order. Postgres ends its sessions and writes a checkpoint.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        for (name, child, signal) in [("postgres", self.postgres.take(), "-INT"), ("redis", self.redis.take(), "-TERM")]
        {
            let Some(mut child) = child else { continue };
            if let Some(pid) = child.id() {
                run(Command::new("kill").args([signal, &pid.to_string()]), "a server cannot be signalled")?;
            }
            let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
            ended.with_context(|| format!("{name} does not stop"))??;
        }
        Ok(())
    }

    async fn start_postgres(&mut self, state: &Path, password: &str) -> anyhow::Result<String> {
        let bin = postgres_bin()?;
        let user = Runner::new("postgres")?;
        let folder = user.reachable(state, "postgres")?;
        let data = folder.join("data");
        if !data.join("PG_VERSION").exists() {
            // Half an initialisation is none.
            if data.exists() {
                fs::remove_dir_all(&data)?;
            }
            let secret = folder.join("owner.password");
            fs::write(&secret, password)?;
            user.own(&folder)?;
            let mut initdb = user.command(&bin.join("initdb"));
            initdb.args(["-U", "clientele", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "-D"]);
            initdb.arg(&data).arg("--pwfile").arg(&secret).args(["--no-instructions"]);
            run(&mut initdb, "the private database could not be made")?;
            fs::remove_file(&secret)?;
        }
        let mut stop = user.command(&bin.join("pg_ctl"));
        stop.args(["stop", "-s", "-w", "-m", "fast", "-D"]).arg(&data).stderr(Stdio::null());
        // Fails when none survived, which is as it should be.
        let _ = stop.status();

        let kept = Port::keep()?;
        let port = kept.number();
        let log = fs::File::create(state.join("postgres.log"))?;
        let mut postgres = user.command(&bin.join("postgres"));
        postgres.arg("-D").arg(&data).args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k", ""]);
        for setting in ["shared_buffers=256MB", "max_connections=200", "max_wal_size=4GB", "wal_compression=on"] {
            postgres.args(["-c", setting]);
        }
        self.postgres = Some(spawn(postgres, log)?);
        wait_for(port, "Postgres", &state.join("postgres.log")).await?;
        Ok(format!("postgres://clientele:{password}@127.0.0.1:{port}/postgres"))
    }

    async fn start_redis(&mut self, state: &Path, users: &str) -> anyhow::Result<String> {
        let redis = find("redis-server")
            .context("redis-server is not installed: apt-get install -y redis-server, or give --redis-url")?;
        let user = Runner::new("redis")?;
        let folder = user.reachable(state, "redis")?;
        let acl_file = folder.join("users.acl");
        fs::write(&acl_file, users)?;
        fs::set_permissions(&acl_file, fs::Permissions::from_mode(0o600))?;
        user.own(&folder)?;
        let kept = Port::keep()?;
        let port = kept.number();
        let mut command = user.command(&redis);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no", "--dir"]);
        command.arg(&folder).arg("--aclfile").arg(&acl_file);
        self.redis = Some(spawn(command, fs::File::create(state.join("redis.log"))?)?);
        wait_for(port, "Redis", &state.join("redis.log")).await?;
        Ok(format!("redis://127.0.0.1:{port}"))
    }
}

/// Who runs a server: Postgres refuses to run as root.
struct Runner {
    user: Option<String>,
}

impl Runner {
    fn new(preferred: &str) -> anyhow::Result<Self> {
        if fs::metadata("/proc/self")?.uid() != 0 {
            return Ok(Self { user: None });
        }
        let passwd = fs::read_to_string("/etc/passwd")?;
        let exists = passwd.lines().any(|line| line.split(':').next() == Some(preferred));
        Ok(Self { user: Some(if exists { preferred } else { "nobody" }.to_owned()) })
    }

    /// A folder of the server's own below the state folder, or below `/var/tmp` when the server's
    /// user cannot pass through to it, as into root's home.
    fn reachable(&self, state: &Path, name: &str) -> anyhow::Result<PathBuf> {
        fs::create_dir_all(state)?;
        let state = state.canonicalize()?;
        let open = |path: &Path| fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o001 != 0);
        let folder = if self.user.is_none() || state.ancestors().all(open) {
            state.join(name)
        } else {
            let path = state.display().to_string().replace('/', "-");
            PathBuf::from(format!("/var/tmp/clientele{path}")).join(name)
        };
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    fn own(&self, folder: &Path) -> anyhow::Result<()> {
        let Some(user) = &self.user else { return Ok(()) };
        run(Command::new("chown").args(["-R", &format!("{user}:")]).arg(folder), "a folder cannot be given away")
    }

    /// A command under the runner's user that is interrupted when this process dies.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "INT"]);
        if let Some(user) = &self.user {
            command.args([format!("--reuid={user}"), format!("--regid={user}"), "--init-groups".to_owned()]);
        }
        command.arg("--").arg(program).current_dir("/");
        command
    }
}

/// Starts a server apart from the terminal's Ctrl-C, which is ours to pass on.
fn spawn(mut command: Command, log: fs::File) -> anyhow::Result<Child> {
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let mut command = tokio::process::Command::from(command);
    command.process_group(0);
    Ok(command.spawn()?)
}

/// Runs a program to its end; what it says when it fails is the error.
pub fn run(command: &mut Command, failure: &str) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| failure.to_owned())?;
    if !output.status.success() {
        bail!("{failure}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

async fn wait_for(port: u16, name: &str, log: &Path) -> anyhow::Result<()> {
    let began = Instant::now();
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        if began.elapsed() > PATIENCE {
            bail!("{name} does not answer; see {}", log.display());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.exists())
}

/// The folder with the newest Postgres: Debian keeps it out of the path.
pub fn postgres_bin() -> anyhow::Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter(|entry| entry.path().join("bin/postgres").exists())
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin"))))
        .max();
    let in_path = || find("postgres").and_then(|path| path.parent().map(Path::to_owned));
    newest
        .map(|(_, bin)| bin)
        .or_else(in_path)
        .context("Postgres is not installed: apt-get install -y postgresql, or give --database-url")
}
