use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::{Child, Command},
    time::Duration,
};

use clientele::Port;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{Processes, binary};

/// One more process of a service, that can be ended and begun again in its place.
pub struct Replica {
    service: String,
    environment: BTreeMap<String, String>,
    /// Where it takes calls.
    pub address: SocketAddr,
    operations: SocketAddr,
    child: Child,
    _ports: [Port; 2],
}

impl Replica {
    /// Begins one with this environment, and ports of its own.
    pub fn begin(service: &str, mut environment: BTreeMap<String, String>) -> Self {
        let ports = [(); 2].map(|()| Port::keep().unwrap());
        let [address, operations] = ports.each_ref().map(Port::address);
        environment.insert("CLIENTELE_LISTEN".into(), address.to_string());
        environment.insert("CLIENTELE_OPERATIONS_LISTEN".into(), operations.to_string());
        let child = spawn(service, &environment);
        Self { service: service.to_owned(), environment, address, operations, child, _ports: ports }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it says of itself, as a probe asks it: of its readiness by the empty name.
    pub async fn says(&self, name: &str) -> bool {
        let asked = async {
            let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", self.operations)).ok()?;
            let mut health = HealthClient::new(channel.connect().await.ok()?);
            let request = HealthCheckRequest { service: name.to_owned() };
            Some(health.check(request).await.ok()?.into_inner().status() == ServingStatus::Serving)
        };
        tokio::time::timeout(Duration::from_secs(1), asked).await.ok().flatten().unwrap_or(false)
    }

    /// Waits until it is ready.
    pub async fn ready(&self) {
        while !self.says(server::READINESS).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What it tells Prometheus.
    pub async fn metrics(&self) -> String {
        reqwest::get(format!("http://{}/metrics", self.operations)).await.unwrap().text().await.unwrap()
    }

    /// Ends it by a signal, and waits until it has ended.
    pub async fn end(&mut self, signal: &str) {
        Processes::signal(self.id(), signal);
        while self.child.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Begins it again where it was.
    pub fn again(&mut self) {
        self.child = spawn(&self.service, &self.environment);
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(service: &str, environment: &BTreeMap<String, String>) -> Child {
    Command::new(binary(service)).env_clear().envs(environment).spawn().unwrap()
}
