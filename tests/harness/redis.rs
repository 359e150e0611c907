use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use client::Client;
use clientele::{Port, suite::Suite};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::Installation;

/// A Redis of the test's own, to be ill-treated.
pub struct Redis {
    port: Port,
    folder: TempDir,
    child: Child,
}

impl Redis {
    /// Starts one.
    pub fn start() -> Self {
        let port = Port::keep().unwrap();
        let folder = TempDir::new().unwrap();
        let child = Self::spawn(port.number(), &folder);
        Self { port, folder, child }
    }

    fn spawn(port: u16, folder: &TempDir) -> Child {
        let mut redis = Command::new("redis-server");
        redis.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
        // Who searches the dump must find what is in it.
        redis.args(["--rdbcompression", "no", "--enable-debug-command", "yes", "--dir"]).arg(folder.path());
        redis.stdout(Stdio::null()).spawn().unwrap()
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port.number())
    }

    /// Runs a command.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let output =
            Command::new("redis-cli").args(["-p", &self.port.number().to_string()]).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again with nothing in it.
    pub fn come_back(&mut self) {
        let _ = std::fs::remove_file(self.dump());
        self.child = Self::spawn(self.port.number(), &self.folder);
    }

    /// Keeps what is in it now, to come back with.
    pub fn keep(&self) {
        self.cli(&["save"]);
        std::fs::rename(self.dump(), self.kept()).unwrap();
    }

    /// Starts it again with what was kept, if something was.
    pub fn come_back_as_kept(&mut self) {
        let _ = std::fs::copy(self.kept(), self.dump());
        self.child = Self::spawn(self.port.number(), &self.folder);
    }

    /// All that is in it.
    pub fn contents(&self) -> Vec<u8> {
        self.cli(&["save"]);
        std::fs::read(self.dump()).unwrap()
    }

    fn dump(&self) -> PathBuf {
        self.folder.path().join("dump.rdb")
    }

    fn kept(&self) -> PathBuf {
        self.folder.path().join("kept.rdb")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Installation {
    /// Starts one on a Redis of the test's own, or on none.
    pub async fn on_redis(redis: Option<&Redis>) -> Self {
        let (mut plan, state) = crate::plan().await;
        plan.redis_url = redis.map(Redis::url);
        let suite = Suite::start(&plan).await.unwrap();
        Self { suite, plan, state }
    }

    /// One more gateway before the same services.
    pub async fn second_gateway(&self) -> Client {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let config = self.plan.gateway(self.suite.services).unwrap();
        tokio::spawn(gateway::start(config, listener, CancellationToken::new()));
        Client::new(&url, &self.token(), "service").unwrap()
    }
}
