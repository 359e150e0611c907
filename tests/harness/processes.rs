use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use client::Client;
use clientele::{
    Port,
    suite::{Plan, SERVICES},
};
use tempfile::TempDir;

use crate::{Replica, binary, plan};

/// Waits until a server says of each of these services that it serves.
async fn ready(url: &str, services: &[&str]) {
    let mut health = tonic_health::pb::health_client::HealthClient::new(client::channel(url).unwrap());
    for service in services {
        let asked = tonic_health::pb::HealthCheckRequest { service: (*service).to_owned() };
        while !health.check(asked.clone()).await.is_ok_and(|answer| answer.into_inner().status == 1) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

/// One more process, and the port that is kept for it, unless it has another one's.
type OneMore = (std::process::Child, Option<Port>);

/// `clientele up --processes`: eight processes on a database of their own.
pub struct Processes {
    /// The gateway.
    pub url: String,
    /// A token that allows all purposes.
    pub token: String,
    /// The process ids by service.
    pub ids: BTreeMap<String, u32>,
    /// What they were started with.
    pub plan: Plan,
    child: std::process::Child,
    more: Arc<Mutex<Vec<OneMore>>>,
    _port: Port,
    /// Where the keys are, and what is logged if the environment says what to log.
    pub state: TempDir,
}

impl Processes {
    /// Starts them with an environment of their own.
    pub async fn start(environment: &[(&str, String)]) -> Self {
        let (plan, state) = plan().await;
        Self::start_as(plan, state, environment).await
    }

    /// Starts them as planned.
    pub async fn start_as(plan: Plan, state: TempDir, environment: &[(&str, String)]) -> Self {
        use std::io::{BufRead, BufReader};
        let mut passwords: BTreeMap<&str, &str> = SERVICES.into_iter().map(|service| (service, "test")).collect();
        passwords.insert("owner", "unused");
        let passwords = serde_json::to_string(&passwords).unwrap();
        std::fs::write(state.path().join("keys/passwords.json"), passwords).unwrap();
        let port = Port::keep().unwrap();
        let mut child = std::process::Command::new(binary("clientele"))
            .args([
                "up",
                "--processes",
                "--redis-url",
                plan.redis_url.as_deref().unwrap(),
                "--listen",
                &port.address().to_string(),
            ])
            .args(["--database-url", &plan.database_url, "--state"])
            .arg(state.path())
            .envs(environment.iter().map(|(name, value)| (*name, value.as_str())))
            .stdout(std::process::Stdio::piped())
            .stderr(match environment.iter().any(|(name, _)| *name == "RUST_LOG") {
                true => std::fs::File::create(state.path().join("log")).unwrap().into(),
                false => std::process::Stdio::inherit(),
            })
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut ids = BTreeMap::new();
        let mut lines = lines.map_while(Result::ok);
        for line in lines.by_ref() {
            if let [name, "process", id] = line.split_whitespace().collect::<Vec<_>>().as_slice() {
                ids.insert((*name).to_owned(), id.parse().unwrap());
            }
            if line.contains("Ctrl-C") {
                break;
            }
        }
        // Someone must read on, or its last words would have nowhere to go.
        std::thread::spawn(move || lines.for_each(drop));
        assert_eq!(ids.len(), 8, "clientele up --processes did not start");
        let token = plan.keys.token("test", &[], 1).unwrap();
        Self {
            url: format!("http://{}", port.address()),
            token,
            ids,
            plan,
            child,
            more: Arc::default(),
            _port: port,
            state,
        }
    }

    /// A typed client.
    pub fn client(&self) -> Client {
        Client::new(&self.url, &self.token, "service").unwrap()
    }

    /// Where a service listens.
    pub fn service_url(&self, service: &str) -> String {
        let variable = format!("CLIENTELE_{}_URL", service.replace('-', "_").to_uppercase());
        let gateway = self.environment("gateway");
        gateway.into_iter().find(|(name, _)| *name == variable).expect("the gateway knows every service").1
    }

    /// Waits until a service says that it serves.
    pub async fn ready(&self, service: &str) {
        ready(&self.service_url(service), &[""]).await;
    }

    /// What a service's process tells Prometheus.
    pub async fn metrics(&self, service: &str) -> String {
        let environment = self.environment(service);
        let operations = environment.into_iter().find(|(name, _)| name == "CLIENTELE_OPERATIONS_LISTEN").unwrap().1;
        reqwest::get(format!("http://{operations}/metrics")).await.unwrap().text().await.unwrap()
    }

    /// One more gateway before the same services, with another environment. Answers its URL and process.
    pub async fn gateway(&self, environment: &[(&str, &str)]) -> (String, u32) {
        let (url, process) = self.one_more("gateway", environment);
        ready(&url, &gateway::services()).await;
        (url, process)
    }

    /// All services once more and a gateway before them, on the same database, that know no Redis. Answers the
    /// services' URLs, and the gateway's URL and process.
    pub async fn without_redis(&self) -> (Vec<String>, (String, u32)) {
        let no_redis = [("CLIENTELE_REDIS_URL", ""), ("CLIENTELE_CACHE_KEY_FILE", "")];
        let urls: Vec<String> = SERVICES.map(|service| self.one_more(service, &no_redis).0).into();
        let variables = SERVICES.map(|service| format!("CLIENTELE_{}_URL", service.replace('-', "_").to_uppercase()));
        let own = variables.iter().zip(&urls).map(|(variable, url)| (variable.as_str(), url.as_str()));
        let environment: Vec<_> = no_redis.into_iter().chain(own).collect();
        let gateway = self.gateway(&environment).await;
        (urls, gateway)
    }

    /// One more process of a service, with what the first one has in its environment and some other values;
    /// an empty one takes a variable away.
    fn one_more(&self, service: &str, environment: &[(&str, &str)]) -> (String, u32) {
        let port = Port::keep().unwrap();
        let address = port.address();
        let mut process = std::process::Command::new(binary(service));
        process.env_clear().envs(self.environment(service)).env("CLIENTELE_LISTEN", address.to_string());
        process.env_remove("CLIENTELE_OPERATIONS_LISTEN");
        for (variable, value) in environment {
            match *value {
                "" => process.env_remove(variable),
                value => process.env(variable, value),
            };
        }
        let process = process.spawn().unwrap();
        let id = process.id();
        self.more.lock().unwrap().push((process, Some(port)));
        (format!("http://{address}"), id)
    }

    /// One more process of a service, that can be ended and begun again in its place.
    pub fn replica(&self, service: &str, environment: &[(&str, &str)]) -> Replica {
        let mut all: BTreeMap<String, String> = self.environment(service).into_iter().collect();
        all.extend(environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Replica::begin(service, all)
    }

    fn environment(&self, service: &str) -> Vec<(String, String)> {
        let own = std::fs::read(format!("/proc/{}/environ", self.ids[service])).unwrap();
        let own = String::from_utf8(own).unwrap();
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        own.split('\0').filter_map(|variable| variable.split_once('=')).map(pair).collect()
    }

    /// Kills a service's process, and gives what brings it back in its place, as a process with this id.
    pub fn kill(&self, service: &str) -> impl AsyncFn() -> u32 + use<> {
        let environment = self.environment(service);
        Self::signal(self.ids[service], "-KILL");
        let (binary, more) = (binary(service), self.more.clone());
        let listen = environment.iter().find(|(name, _)| name == "CLIENTELE_LISTEN").unwrap().1.clone();
        async move || {
            // Who was killed a moment ago may not be gone yet.
            while std::net::TcpListener::bind(&listen).is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            let process = std::process::Command::new(&binary).env_clear().envs(environment.clone()).spawn().unwrap();
            let id = process.id();
            more.lock().unwrap().push((process, None));
            id
        }
    }

    /// Sends a signal to a process.
    pub fn signal(id: u32, signal: &str) {
        std::process::Command::new("kill").args([signal, &id.to_string()]).status().unwrap();
    }

    /// Ends them in good order, and waits.
    pub fn stop(mut self) -> std::process::ExitStatus {
        Self::signal(self.child.id(), "-TERM");
        self.child.wait().unwrap()
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // After a failed assertion nobody has stopped it; its children die with it.
        let _ = self.child.kill();
        self.more.lock().unwrap().iter_mut().for_each(|(child, _)| drop(child.kill()));
    }
}
