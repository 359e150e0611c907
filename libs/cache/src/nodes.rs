use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use crc::{CRC_16_XMODEM, Crc};
use metrics::METRICS;
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisError, RedisResult, Value,
    aio::MultiplexedConnection, io::tcp::TcpSettings,
};
use tokio::task::AbortHandle;
use uuid::Uuid;

use crate::{
    Event, Listener,
    connection::{RESPONSE, Redis},
};

/// A cluster is asked this often which server has what.
const REFRESH: Duration = Duration::from_millis(500);
/// A cluster's keys lie in so many slots, by the CRC16 of what stands in braces (Redis cluster specification).
const SLOTS: u16 = 16384;
static CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

type Address = (String, u16);

/// The servers that take writes: a single one, or the primaries of a cluster.
pub struct Nodes {
    layout: Arc<RwLock<Arc<Layout>>>,
    openings: Arc<AtomicU64>,
    task: AbortHandle,
}

/// Which server has which slots. A single one has them all.
#[derive(Default)]
struct Layout {
    nodes: BTreeMap<Address, Arc<Redis>>,
    spans: Vec<Span>,
    cluster: bool,
}

/// Slots from the first to the last, and who has them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Span(u16, u16, Address);

/// What one command may ask for, and the connection to ask on, if it lives.
pub struct Group {
    pub connection: Option<MultiplexedConnection>,
    pub places: Vec<usize>,
}

impl Nodes {
    /// Begins to connect to a server, or to a cluster of which one or more servers are named, with commas
    /// between. A listener is told when fences move.
    pub fn connect(urls: &str, listener: Option<Listener>) -> anyhow::Result<Self> {
        let seeds = urls.split(',').map(seed).collect::<anyhow::Result<Vec<_>>>()?;
        let (layout, openings) = (Arc::default(), Arc::default());
        let task = tokio::spawn(keep(seeds, Arc::clone(&layout), Arc::clone(&openings), listener)).abort_handle();
        Ok(Self { layout, openings, task })
    }

    /// How often a server was found or another one took its place. Each time its fences may be older.
    pub fn openings(&self) -> u64 {
        self.openings.load(Ordering::SeqCst)
    }

    /// The places of customers whom one command may name together: all of them for a single server, those
    /// of one slot in a cluster.
    pub fn groups(&self, customers: impl Iterator<Item = Uuid>) -> Vec<Group> {
        let layout = self.layout();
        if !layout.cluster {
            let connection = layout.nodes.values().next().and_then(|node| node.live());
            return vec![Group { connection, places: customers.enumerate().map(|(place, _)| place).collect() }];
        }
        let mut slots: HashMap<u16, Vec<usize>> = HashMap::new();
        for (place, customer) in customers.enumerate() {
            slots.entry(slot(customer)).or_default().push(place);
        }
        let group = |(slot, places)| Group { connection: layout.of(slot), places };
        slots.into_iter().map(group).collect()
    }

    fn layout(&self) -> Arc<Layout> {
        self.layout.read().expect("no holder panics").clone()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Layout {
    fn of(&self, slot: u16) -> Option<MultiplexedConnection> {
        let Span(.., address) = self.spans.iter().find(|Span(first, last, _)| (*first..=*last).contains(&slot))?;
        self.nodes.get(address)?.live()
    }
}

fn slot(customer: Uuid) -> u16 {
    let mut text = Uuid::encode_buffer();
    CRC.checksum(customer.hyphenated().encode_lower(&mut text).as_bytes()) % SLOTS
}

fn seed(url: &str) -> anyhow::Result<ConnectionInfo> {
    let info = url.trim().into_connection_info().context("the URL of Redis is malformed")?;
    // Nagle is on unless said; pushes need RESP3.
    let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    // Redis 7.0 does not know the command by which a library introduces itself.
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
    Ok(info.set_redis_settings(settings))
}

/// Finds out what there is, and in a cluster keeps finding out.
async fn keep(
    seeds: Vec<ConnectionInfo>,
    layout: Arc<RwLock<Arc<Layout>>>,
    openings: Arc<AtomicU64>,
    listener: Option<Listener>,
) {
    let all = Arc::new(All { listener, openings: openings.clone(), state: Mutex::default() });
    loop {
        let known = layout.read().expect("no holder panics").clone();
        match ask(&seeds, &known).await {
            Some(None) => {
                let Some(seed) = seeds.first() else { return };
                let address = address(seed.addr());
                let nodes = connect(seed, BTreeSet::from([address]), &known, &all);
                *layout.write().expect("no holder panics") = Arc::new(Layout { nodes, ..Default::default() });
                return std::future::pending().await;
            }
            Some(Some(spans)) if spans != known.spans => {
                let Some(seed) = seeds.first() else { return };
                let addresses = spans.iter().map(|Span(.., address)| address.clone()).collect();
                // Between the two nobody has what the other one knew.
                openings.fetch_add(1, Ordering::SeqCst);
                let nodes = connect(seed, addresses, &known, &all);
                *layout.write().expect("no holder panics") = Arc::new(Layout { nodes, spans, cluster: true });
                openings.fetch_add(1, Ordering::SeqCst);
                tracing::info!("the servers of the Redis cluster have changed");
            }
            _ => (),
        }
        tokio::time::sleep(REFRESH).await;
    }
}

/// Connections to these servers: the ones that were there, and new ones.
fn connect(
    seed: &ConnectionInfo,
    addresses: BTreeSet<Address>,
    known: &Layout,
    all: &Arc<All>,
) -> BTreeMap<Address, Arc<Redis>> {
    all.expect(addresses.clone());
    let node = |address: Address| {
        let node = known.nodes.get(&address).cloned().unwrap_or_else(|| {
            let (told, of) = (all.clone(), address.clone());
            let listener = all.listener.is_some().then(|| Arc::new(move |event| told.hear(&of, event)) as Listener);
            let info = seed.clone().set_addr(at(seed.addr(), &address));
            Arc::new(Redis::connect(info, all.openings.clone(), listener))
        });
        (address, node)
    };
    addresses.into_iter().map(node).collect()
}

/// What is the same for several servers. To the listener they are open when each of them is.
struct All {
    listener: Option<Listener>,
    openings: Arc<AtomicU64>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    expected: BTreeSet<Address>,
    open: BTreeSet<Address>,
    told: bool,
}

impl All {
    fn hear(&self, of: &Address, event: Event) {
        let Some(listener) = &self.listener else { return };
        let mut state = self.state.lock().expect("no holder panics");
        match event {
            // One that was expected no longer may still speak for a moment.
            Event::Open if state.expected.contains(of) => state.open.extend([of.clone()]),
            Event::Open => (),
            Event::Closed => {
                METRICS.cache_epochs.inc();
                state.open.retain(|open| open != of);
            }
            other => listener(other),
        }
        state.tell(listener);
    }

    /// Other servers from now on. Of those that were there before, the ones that are open stay so; but what
    /// was heard between is worth nothing.
    fn expect(&self, expected: BTreeSet<Address>) {
        let Some(listener) = &self.listener else { return };
        let mut state = self.state.lock().expect("no holder panics");
        let before = std::mem::replace(&mut state.expected, expected.clone());
        state.open.retain(|address| before.contains(address) && expected.contains(address));
        if std::mem::take(&mut state.told) {
            listener(Event::Closed);
        }
        state.tell(listener);
    }
}

impl State {
    fn tell(&mut self, listener: &Listener) {
        let whole = !self.expected.is_empty() && self.expected.is_subset(&self.open);
        if whole != self.told {
            self.told = whole;
            listener(if whole { Event::Open } else { Event::Closed });
        }
    }
}

/// Asks who has which slots: the servers that are known, then the ones that were named. `Some(None)` says
/// that it is no cluster, `None` that nobody could tell.
async fn ask(seeds: &[ConnectionInfo], known: &Layout) -> Option<Option<Vec<Span>>> {
    for (address, node) in &known.nodes {
        if let Some(mut connection) = node.live()
            && let Ok(answer) = spans(&mut connection, &address.0).await
        {
            return Some(answer);
        }
    }
    for seed in seeds {
        if let Ok(mut connection) = once(seed).await
            && let Ok(answer) = spans(&mut connection, &address(seed.addr()).0).await
        {
            return Some(answer);
        }
    }
    None
}

async fn once(seed: &ConnectionInfo) -> RedisResult<MultiplexedConnection> {
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(1)))
        .set_response_timeout(Some(RESPONSE));
    Client::open(seed.clone())?.get_multiplexed_async_connection_with_config(&config).await
}

/// The slots as a server knows them; a server without a cluster says so by an error.
async fn spans(connection: &mut MultiplexedConnection, host: &str) -> RedisResult<Option<Vec<Span>>> {
    let slots = redis::cmd("CLUSTER").arg("SLOTS").query_async::<Vec<Vec<Value>>>(connection).await;
    let slots = match slots {
        Ok(slots) => slots,
        Err(error) if matches!(error.code(), Some("ERR" | "NOPERM")) => return Ok(None),
        Err(error) => return Err(error),
    };
    // One that is cut off from the others knows only what was.
    let info: String = redis::cmd("CLUSTER").arg("INFO").query_async(connection).await?;
    let strange = || RedisError::from((redis::ErrorKind::Client, "the cluster is not whole"));
    if !info.contains("cluster_state:ok") {
        return Err(strange());
    }
    let mut spans = slots.iter().map(|slots| span(slots, host)).collect::<Option<Vec<_>>>().ok_or_else(strange)?;
    spans.sort();
    Ok(Some(spans))
}

/// First slot, last slot, the primary, its replicas.
fn span(slots: &[Value], host: &str) -> Option<Span> {
    let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = slots else { return None };
    let [name, Value::Int(port), ..] = primary.as_slice() else { return None };
    // A server that does not say its own name is the one that was asked.
    let name = match name {
        Value::BulkString(name) if !name.is_empty() => std::str::from_utf8(name).ok()?,
        _ => host,
    };
    Some(Span((*first).try_into().ok()?, (*last).try_into().ok()?, (name.to_owned(), (*port).try_into().ok()?)))
}

fn address(of: &ConnectionAddr) -> Address {
    match of {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => (host.clone(), *port),
        other => (other.to_string(), 0),
    }
}

/// The same way to connect, to another server; one that is reached by no port is the only one.
fn at(like: &ConnectionAddr, (host, port): &Address) -> ConnectionAddr {
    let (host, port) = (host.clone(), *port);
    match like.clone() {
        ConnectionAddr::Tcp(..) => ConnectionAddr::Tcp(host, port),
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure, tls_params }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn a_slot_is_what_redis_says_it_is() {
        // By CLUSTER KEYSLOT of Redis 7.0.
        assert_eq!(CRC.checksum(b"123456789"), 0x31C3);
        assert_eq!(slot(Uuid::nil()), 10372);
    }

    #[test]
    fn several_servers_are_open_when_each_of_them_is() {
        let open = Arc::new(AtomicBool::new(false));
        let seen = open.clone();
        let listener: Listener = Arc::new(move |event| seen.store(matches!(event, Event::Open), Ordering::SeqCst));
        let all = All { listener: Some(listener), openings: Arc::default(), state: Mutex::default() };
        let [one, two] = [("a".to_owned(), 1), ("b".to_owned(), 2)];
        let is_open = || open.load(Ordering::SeqCst);
        all.expect(BTreeSet::from([one.clone(), two.clone()]));
        all.hear(&one, Event::Open);
        assert!(!is_open());
        all.hear(&two, Event::Open);
        assert!(is_open());
        all.hear(&one, Event::Closed);
        assert!(!is_open());
        all.expect(BTreeSet::from([two]));
        assert!(is_open());
    }
}
