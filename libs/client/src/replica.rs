//! The replicas of a service: where they are, how busy, and whether they are well.

use std::{
    net::SocketAddr,
    sync::{
        Arc, RwLock, Weak,
        atomic::{
            AtomicBool, AtomicU8, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use hyper_util::rt::TokioIo;
use metrics::METRICS;
use tls::Identity;
use tokio::net::TcpStream;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Uri};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// A replica that is well is asked so often how it is, and one that is not, how often.
const CALM: Duration = Duration::from_secs(1);
const ANXIOUS: Duration = Duration::from_millis(100);
/// A replica that does not answer for so long is not well.
const PATIENCE: Duration = Duration::from_secs(1);
/// A connection is made in so long, or not.
const CONNECT: Duration = Duration::from_secs(2);
/// Names are looked up so often: replicas come and go.
const LOOK_UP: Duration = Duration::from_secs(5);

/// Nobody has asked yet.
const UNKNOWN: u8 = 0;
const SERVING: u8 = 1;
const EJECTED: u8 = 2;

/// One replica.
pub(crate) struct Replica {
    address: SocketAddr,
    /// For calls of one request and one reply.
    pub(crate) calls: Channel,
    /// For streams, which would otherwise take the place of calls: a connection has room for a number of both together.
    pub(crate) streams: Channel,
    in_flight: AtomicUsize,
    state: AtomicU8,
}

/// A place among the calls in flight at a replica.
pub(crate) struct Busy(Arc<Replica>);

impl Replica {
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        self.in_flight.fetch_add(1, Relaxed);
        Busy(self.clone())
    }

    /// Nobody is there, or it is not well: no call is sent until it says that it is.
    pub(crate) fn eject(&self) {
        if self.state.swap(EJECTED, AcqRel) != EJECTED {
            METRICS.ejections.inc();
            tracing::warn!(peer = %self.address, "a replica is left out until it answers");
        }
    }

    async fn is_well(&self) -> bool {
        let mut health = HealthClient::new(self.calls.clone());
        let asked = health.check(HealthCheckRequest::default());
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => answer.into_inner().status() == ServingStatus::Serving,
            _ => false,
        }
    }

    fn is(&self, state: u8) -> bool {
        self.state.load(Acquire) == state
    }

    /// Asks how it is, for as long as anyone uses it.
    async fn probe(replica: Weak<Self>) {
        while let Some(replica) = replica.upgrade() {
            // What goes first over a connection that was closed in good order is lost; the second goes over a new one.
            let well = replica.is_well().await || replica.is_well().await;
            match well {
                true => replica.state.store(SERVING, Release),
                false => replica.eject(),
            }
            drop(replica);
            tokio::time::sleep(if well { CALM } else { ANXIOUS }).await;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// Here and not by the endpoint, whose time-out is no failure to connect but one of any kind.
async fn in_time<T>(connected: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    tokio::time::timeout(CONNECT, connected).await.map_err(std::io::Error::other)?
}

async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = in_time(TcpStream::connect(address)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// All replicas that a name leads to.
pub(crate) struct Replicas {
    endpoint: Endpoint,
    hosts: Vec<String>,
    identity: Option<Identity>,
    known: RwLock<Vec<Arc<Replica>>>,
    /// Whether the names lead to nobody.
    unknown: AtomicBool,
}

impl Replicas {
    /// Begins to look up the hosts, each with a port. Numbers are known at once.
    pub(crate) fn of(
        endpoint: Endpoint,
        hosts: Vec<String>,
        identity: Option<Identity>,
    ) -> Result<Arc<Self>, tonic::transport::Error> {
        let origin = endpoint.uri().clone();
        let mut endpoint = crate::channel::settings(endpoint).origin(origin.clone());
        if identity.is_none() && origin.scheme_str() == Some("https") {
            let tls = ClientTlsConfig::new().with_enabled_roots();
            endpoint = endpoint.tls_config(tls.domain_name(origin.host().unwrap_or_default()))?;
        }
        let replicas =
            Arc::new(Self { endpoint, hosts, identity, known: RwLock::default(), unknown: AtomicBool::new(false) });
        let addresses: Vec<SocketAddr> = replicas.hosts.iter().filter_map(|host| host.parse().ok()).collect();
        let all = addresses.len() == replicas.hosts.len();
        replicas.become_these(addresses);
        if !all {
            tokio::spawn(Self::keep(Arc::downgrade(&replicas)));
        }
        Ok(replicas)
    }

    async fn keep(replicas: Weak<Self>) {
        while let Some(replicas) = replicas.upgrade() {
            let mut addresses = Vec::new();
            let mut failed = false;
            for host in &replicas.hosts {
                match tokio::net::lookup_host(host).await {
                    Ok(found) => addresses.extend(found),
                    Err(_) => failed = true,
                }
            }
            // A name service that is down takes away nobody.
            if failed {
                addresses
                    .extend(replicas.known.read().expect("no holder panics").iter().map(|replica| replica.address));
            }
            let empty = addresses.is_empty();
            replicas.unknown.store(empty, Release);
            if !empty {
                replicas.become_these(addresses);
            }
            drop(replicas);
            tokio::time::sleep(if empty { ANXIOUS } else { LOOK_UP }).await;
        }
    }

    /// Keeps those who stay with their connections, and lets go of who has left: what is in flight there goes on.
    fn become_these(&self, mut addresses: Vec<SocketAddr>) {
        addresses.sort_unstable();
        addresses.dedup();
        let mut known = self.known.write().expect("no holder panics");
        let now = addresses.into_iter().map(|address| {
            known.iter().find(|replica| replica.address == address).cloned().unwrap_or_else(|| self.replica(address))
        });
        *known = now.collect();
    }

    fn replica(&self, address: SocketAddr) -> Arc<Replica> {
        // Only the way there differs: what is asked of, and who must answer, is what the URL names.
        let (identity, host) = (self.identity.clone(), self.endpoint.uri().host().unwrap_or_default().to_owned());
        let plain = tower::service_fn(move |_: Uri| async move { connect(address).await.map(TokioIo::new) });
        let connect = move || match identity.clone() {
            None => self.endpoint.connect_with_connector_lazy(plain),
            Some(identity) => {
                let host = host.clone();
                self.endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
                    let (identity, host) = (identity.clone(), host.clone());
                    async move {
                        let proven = async { identity.connect(&host, connect(address).await?).await };
                        in_time(proven).await.map(TokioIo::new)
                    }
                }))
            }
        };
        let (calls, streams) = (connect(), connect());
        let (in_flight, state) = (AtomicUsize::new(0), AtomicU8::new(UNKNOWN));
        let replica = Arc::new(Replica { address, calls, streams, in_flight, state });
        tokio::spawn(Replica::probe(Arc::downgrade(&replica)));
        replica
    }

    /// The less busy of two by chance among those who are well, or among all if none is: then somebody has to be
    /// tried. Another than `last`, if there is one.
    pub(crate) fn pick(&self, last: Option<&Arc<Replica>>) -> Option<Arc<Replica>> {
        let known = self.known.read().expect("no holder panics");
        let is_last = |replica: &Arc<Replica>| last.is_some_and(|last| Arc::ptr_eq(last, replica));
        let less_busy = |usable: &dyn Fn(&Arc<Replica>) -> bool| {
            let count = known.iter().filter(|replica| usable(replica)).count();
            let one = |i: usize| known.iter().filter(|replica| usable(replica)).nth(i);
            match count {
                0 | 1 => one(0).cloned(),
                _ => {
                    let first = fastrand::usize(..count);
                    let second = (first + fastrand::usize(1..count)) % count;
                    [one(first), one(second)].into_iter().flatten().min_by_key(|r| r.in_flight.load(Relaxed)).cloned()
                }
            }
        };
        // Of whom nothing is known yet may be behind a wall that answers nobody.
        less_busy(&|replica| replica.is(SERVING) && !is_last(replica))
            .or_else(|| less_busy(&|replica| !replica.is(EJECTED) && !is_last(replica)))
            .or_else(|| less_busy(&|replica| !replica.is(EJECTED)))
            .or_else(|| less_busy(&|replica| !is_last(replica)))
            .or_else(|| less_busy(&|_| true))
    }

    /// Whether the names were looked up and lead to nobody.
    pub(crate) fn is_unknown(&self) -> bool {
        self.unknown.load(Acquire)
    }

    /// Whether one at least has said that it is well.
    pub(crate) fn any_serving(&self) -> bool {
        self.known.read().expect("no holder panics").iter().any(|replica| replica.is(SERVING))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(replicas: &Replicas) -> Vec<Arc<Replica>> {
        replicas.known.read().unwrap().clone()
    }

    /// `localhost` stands for the name of a headless service.
    #[tokio::test]
    async fn a_name_that_leads_elsewhere_is_followed() {
        let endpoint = Endpoint::from_static("http://localhost:50051");
        let replicas = Replicas::of(endpoint, vec!["localhost:50051".into()], None).unwrap();
        while addresses(&replicas).is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let before = addresses(&replicas);
        let stays = before[0].clone();
        let gone: SocketAddr = "127.0.0.99:50051".parse().unwrap();
        replicas.become_these(vec![gone, stays.address]);
        let with_gone = addresses(&replicas);
        assert!(with_gone.iter().any(|replica| replica.address == gone));
        assert!(with_gone.iter().any(|replica| Arc::ptr_eq(replica, &stays)), "it keeps its connections");

        tokio::time::timeout(LOOK_UP + CALM, async {
            while addresses(&replicas).iter().any(|replica| replica.address == gone) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await
        .expect("names are looked up again");
        let after = addresses(&replicas);
        assert_eq!(after.len(), before.len());
        assert!(after.iter().any(|replica| Arc::ptr_eq(replica, &stays)));
    }
}
