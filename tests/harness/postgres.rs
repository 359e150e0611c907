use std::{env, fs, path::PathBuf, process::Command};

use clientele::Port;
use tempfile::TempDir;

/// A Postgres of the test's own, with a standby, to be taken from one to the other.
pub struct Postgres {
    folder: TempDir,
    port: Port,
    standby_port: Port,
}

impl Postgres {
    /// Starts a primary and a standby that follows it.
    pub fn start() -> Self {
        let [port, standby_port] = [(); 2].map(|()| Port::keep().unwrap());
        let postgres = Self { folder: TempDir::new().unwrap(), port, standby_port };
        Self::run(Command::new("chmod").arg("777").arg(postgres.folder.path()));
        let of =
            |port: &Port| ["-h", "127.0.0.1", "-p"].map(str::to_owned).into_iter().chain([port.number().to_string()]);
        let mut init = Self::command("initdb");
        init.args(["-U", "owner", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"]);
        Self::run(init.arg("-D").arg(postgres.data("primary")));
        postgres.serve("primary", &postgres.port);
        let mut copy = Self::command("pg_basebackup");
        copy.args(of(&postgres.port)).args(["-U", "owner", "-R", "-X", "stream", "-c", "fast", "--no-sync"]);
        Self::run(copy.arg("-D").arg(postgres.data("standby")));
        postgres.serve("standby", &postgres.standby_port);
        postgres
    }

    /// The files of the primary, with its log of writes.
    pub fn files(&self) -> PathBuf {
        self.data("primary")
    }

    /// The primary's URL, which is the standby's after it took over.
    pub fn url(&self) -> String {
        Self::url_at(&self.port)
    }

    /// The standby's URL before it took over.
    pub fn standby_url(&self) -> String {
        Self::url_at(&self.standby_port)
    }

    /// The primary dies, and the standby takes over its place.
    pub fn fail_over(&self) {
        self.control("primary", &["-m", "immediate", "stop"]);
        self.control("standby", &["-w", "promote"]);
        self.control("standby", &["-m", "fast", "-w", "stop"]);
        self.serve("standby", &self.port);
    }

    /// Stops the primary in the middle of whatever it does, as a machine that has lost its disk does, until it is thawed.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let text = fs::read_to_string(self.data("primary").join("postmaster.pid")).unwrap();
        let postmaster = text.lines().next().unwrap();
        Self::run(Command::new("pkill").args([&format!("-{signal}"), "-P", postmaster]));
        Self::run(Command::new("kill").args([&format!("-{signal}"), postmaster]));
    }

    fn url_at(port: &Port) -> String {
        format!("postgres://owner@{}/postgres", port.address())
    }

    fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn serve(&self, name: &str, port: &Port) {
        let folder = self.folder.path().display();
        let options = format!("-k {folder} -p {} -h 127.0.0.1 -c max_connections=200 -c fsync=off", port.number());
        self.control(name, &["-w", "start", "-o", &options]);
    }

    fn control(&self, name: &str, arguments: &[&str]) {
        let mut control = Self::command("pg_ctl");
        control.arg("-D").arg(self.data(name)).arg("-s").arg("-l").arg(self.data(&format!("{name}.log")));
        Self::run(control.args(arguments));
    }

    /// A program of Postgres, which refuses to run as root.
    fn command(name: &str) -> Command {
        let bin = env::var("CLIENTELE_TEST_POSTGRES_BIN").expect("If you are here: run `make test`, which sets it");
        let program = format!("{bin}/{name}");
        let root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
        let mut command = Command::new(if root { "setpriv" } else { program.as_str() });
        if root {
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--", &program]);
        }
        command.current_dir("/");
        command
    }

    fn run(command: &mut Command) {
        let output = command.stdin(std::process::Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        for name in ["primary", "standby"] {
            let mut stop = Self::command("pg_ctl");
            let _ = stop.arg("-D").arg(self.data(name)).args(["-m", "immediate", "-s", "stop"]).output();
        }
        // What lies there belongs to another user.
        let _ = Command::new("rm").arg("-rf").arg(self.data("primary")).arg(self.data("standby")).status();
    }
}
