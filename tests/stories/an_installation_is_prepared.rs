//! `clientele prepare` leaves all that a process needs which runs elsewhere.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use clientele::Port;
use tempfile::TempDir;
use tests::{Postgres, Replica, binary};

/// A program that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The variables of a service as compose reads them.
fn variables(file: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => drop(all.insert(path.display().to_string(), fs::read(&path).unwrap())),
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_prepared_is_enough_to_start_a_service_and_stays_when_it_is_prepared_again() {
    // The roles of the other tests' server have passwords that they know.
    let postgres = Postgres::start();
    let (redis, folder) = (Port::keep().unwrap(), TempDir::new().unwrap());
    let secrets = folder.path().join("secrets");
    let prepare = || {
        let mut prepare = Command::new(binary("clientele"));
        prepare.args(["prepare", "--database-url", &postgres.url(), "--admin-url", &postgres.url()]);
        prepare.args(["--redis-url", &format!("redis://{}", redis.address()), "--secrets"]).arg(&secrets);
        assert!(prepare.stdout(Stdio::null()).status().unwrap().success());
    };
    prepare();
    let first = files(&secrets);
    prepare();
    assert!(files(&secrets) == first, "who prepares twice locks out those who have started");

    let mut server = Command::new("redis-server");
    server.args(["--bind", "127.0.0.1", "--port", &redis.number().to_string(), "--save", "", "--aclfile"]);
    let _redis = Running(server.arg(secrets.join("caches/users.acl")).stdout(Stdio::null()).spawn().unwrap());

    let mut environment = variables(&secrets.join("profile.env"));
    let migrate = || Command::new(binary("profile")).arg("migrate").env_clear().envs(&environment).status().unwrap();
    assert!(migrate().success() && migrate().success());
    for (variable, file) in [
        ("CLIENTELE_INTERNAL_KEY_FILE", "keys/internal.key"),
        ("CLIENTELE_CACHE_KEY_FILE", "keys/cache-key-ring.json"),
        ("CLIENTELE_KEY_RING_FILE", "keys/key-ring.json"),
        ("CLIENTELE_ERASURE_JOURNAL", "erasures"),
    ] {
        environment.insert(variable.to_owned(), secrets.join(file).display().to_string());
    }
    let profile = Replica::begin("profile", environment);
    tokio::time::timeout(std::time::Duration::from_secs(30), profile.ready()).await.unwrap();
}
