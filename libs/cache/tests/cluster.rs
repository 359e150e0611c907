//! Sections in a Redis cluster, against a real one of three primaries and three replicas.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use cache::{Event, Listener, Shared, Want};
use proto::section::v1::Section;
use tempfile::TempDir;
use uuid::Uuid;
use vault::KeyRing;

const NODES: usize = 6;

struct Cluster {
    nodes: Vec<(u16, Child)>,
    state: TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let state = TempDir::new().unwrap();
        let node = |i: usize| {
            let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
            let [port, bus] = held.map(|listener| listener.local_addr().unwrap().port());
            let mut redis = Command::new("redis-server");
            redis.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--cluster-port", &bus.to_string()]);
            redis.args(["--cluster-enabled", "yes", "--cluster-config-file", &format!("nodes-{i}.conf")]);
            redis.args(["--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0", "--save", ""]);
            redis.arg("--dir").arg(state.path()).stdout(Stdio::null());
            let redis = redis.spawn().expect("If you are here because redis-server is missing: run `make test`");
            (port, redis)
        };
        let nodes: Vec<_> = (0..NODES).map(node).collect();
        let cluster = Self { nodes, state };
        let all = cluster.nodes.iter().map(|(port, _)| format!("127.0.0.1:{port}")).collect::<Vec<_>>();
        for (port, _) in &cluster.nodes {
            until("a node answers", || cluster.cli(*port, &["ping"]).starts_with("PONG")).await;
        }
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]).args(all).args(["--cluster-replicas", "1", "--cluster-yes"]);
        assert!(create.stdout(Stdio::null()).status().unwrap().success());
        for (port, _) in &cluster.nodes {
            until("the cluster is whole", || cluster.cli(*port, &["cluster", "info"]).contains("cluster_state:ok"))
                .await;
            until("each replica follows", || {
                let role = cluster.cli(*port, &["info", "replication"]);
                role.contains("role:master") || role.contains("master_link_status:up")
            })
            .await;
        }
        cluster
    }

    fn cli(&self, port: u16, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &port.to_string()]).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn is_primary(&self, port: u16) -> bool {
        self.cli(port, &["info", "replication"]).contains("role:master")
    }

    fn keys(&self, port: u16) -> u64 {
        self.cli(port, &["dbsize"]).trim().parse().unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (_, node) in &mut self.nodes {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..300 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("waited in vain until {what}");
}

fn of_version(version: i64, count: usize) -> Vec<Section> {
    (0..count).map(|_| Section { version, ..Default::default() }).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_holds_sections_tells_of_fences_and_survives_its_primaries() {
    let mut cluster = Cluster::start().await;
    let ring = cluster.state.path().join("ring.json");
    std::fs::write(&ring, KeyRing::generate().to_json()).unwrap();
    let (open, fences) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (is_open, heard) = (open.clone(), fences.clone());
    let listener: Listener = Arc::new(move |event| match event {
        Event::Open => is_open.store(true, SeqCst),
        Event::Closed => is_open.store(false, SeqCst),
        Event::Fence(_) => drop(heard.fetch_add(1, SeqCst)),
        Event::Flushed => (),
    });
    // One of them is named, and the others are found.
    let url = format!("redis://127.0.0.1:{}", cluster.nodes[0].0);
    let shared = Shared::connect(&url, &ring, Some(listener)).unwrap();
    let want = |_| Want { service: "loyalty", life: [1; 8], customer: Uuid::new_v4() };
    let wants: Vec<Want> = (0..200).map(want).collect();
    until("it listens to each primary", || open.load(SeqCst)).await;

    let begun = shared.begin(&wants).await.unwrap();
    shared.fill(&wants, &of_version(5, wants.len()), begun).await;
    let versions = |found: Vec<Option<Section>>| {
        found.into_iter().map(|section| section.map(|section| section.version)).collect::<Vec<_>>()
    };
    assert_eq!(versions(shared.get(&wants).await), vec![Some(5); wants.len()]);
    let primaries: Vec<u16> =
        cluster.nodes.iter().map(|(port, _)| *port).filter(|port| cluster.is_primary(*port)).collect();
    assert_eq!(primaries.len(), 3);
    for primary in &primaries {
        assert!(cluster.keys(*primary) > 50, "each primary holds its part");
    }

    // A write takes its customer away everywhere, and only it.
    assert!(shared.raise("loyalty", [1; 8], &[(wants[0].customer, 6)]).await);
    assert_eq!(versions(shared.get(&wants).await).iter().filter(|version| version.is_none()).count(), 1);
    until("the fence was told", || fences.load(SeqCst) == 1).await;

    // A primary dies: what it held is not there, the rest is, and memory may not be believed.
    let (openings, dead) = (shared.openings(), primaries[0]);
    let (_, child) = cluster.nodes.iter_mut().find(|(port, _)| *port == dead).unwrap();
    child.kill().unwrap();
    until("it is known that one is missing", || !open.load(SeqCst)).await;
    let found = versions(shared.get(&wants).await);
    let there = found.iter().flatten().count();
    assert!(there > 50 && there < wants.len(), "{there} of {}", wants.len());
    let of = |version| wants.iter().map(|want| (want.customer, version)).collect::<Vec<_>>();
    assert!(!shared.raise("loyalty", [1; 8], &of(7)).await, "a fence that is not raised is told");

    // Its replica takes over; fences have to be raised anew, and then everything works as before.
    until("its replica is found", || open.load(SeqCst)).await;
    assert!(shared.openings() > openings);
    assert!(shared.raise("loyalty", [1; 8], &of(8)).await);
    assert_eq!(versions(shared.get(&wants).await), vec![None; wants.len()]);
    let begun = shared.begin(&wants).await.unwrap();
    shared.fill(&wants, &of_version(8, wants.len()), begun).await;
    assert_eq!(versions(shared.get(&wants).await), vec![Some(8); wants.len()]);
}
