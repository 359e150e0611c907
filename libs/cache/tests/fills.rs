//! What may fill the cache, against a real Redis.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use cache::{Begun, Shared, Want};
use proto::section::v1::Section;
use uuid::Uuid;
use vault::KeyRing;

/// A Redis of the test's own, and what is cached in it.
struct Cached {
    port: u16,
    redis: Child,
    shared: Shared,
    want: Want,
}

impl Cached {
    async fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut redis = Command::new("redis-server");
        redis.args(["--port", &port.to_string(), "--save", "", "--dir", "/tmp"]).stdout(Stdio::null());
        let redis = redis.spawn().expect("If you are here because redis-server is missing: run `make test`");
        let ring = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(ring.path(), KeyRing::generate().to_json()).unwrap();
        let shared = Shared::connect(&format!("redis://127.0.0.1:{port}"), ring.path(), None).unwrap();
        let want = Want { service: "loyalty", life: [1; 8], customer: Uuid::now_v7() };
        let cached = Self { port, redis, shared, want };
        cached.connected(1).await;
        cached
    }

    /// Waits until Redis was found so often.
    async fn connected(&self, times: u64) {
        while self.shared.openings() < times || self.shared.begin(&[self.want]).await.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn begin(&self) -> Begun {
        self.shared.begin(&[self.want]).await.unwrap()
    }

    async fn fill(&self, version: i64, begun: Begun) {
        let section = Section { version, ..Default::default() };
        self.shared.fill(&[self.want], &[section], begun).await;
    }

    async fn raise(&self, version: i64) {
        assert!(self.shared.raise("loyalty", self.want.life, &[(self.want.customer, version)]).await);
    }

    async fn version(&self) -> Option<i64> {
        self.shared.get(&[self.want]).await.remove(0).map(|section| section.version)
    }

    fn cli(&self, command: &str) {
        let mut cli = Command::new("redis-cli");
        cli.args(["-p", &self.port.to_string()]).args(command.split(' ')).stdout(Stdio::null());
        assert!(cli.status().unwrap().success());
    }
}

impl Drop for Cached {
    fn drop(&mut self) {
        let _ = self.redis.kill();
        let _ = self.redis.wait();
    }
}

#[tokio::test]
async fn what_nothing_overtook_is_filled() {
    let cached = Cached::start().await;
    let begun = cached.begin().await;
    cached.fill(5, begun).await;
    assert_eq!(cached.version().await, Some(5));
}

#[tokio::test]
async fn a_load_that_a_write_overtook_fills_nothing() {
    let cached = Cached::start().await;
    let begun = cached.begin().await;
    cached.raise(6).await;
    cached.fill(5, begun).await;
    assert_eq!(cached.version().await, None);
    // Nor while somebody else has begun since.
    let (first, _second) = (cached.begin().await, cached.begin().await);
    cached.raise(7).await;
    let third = cached.begin().await;
    cached.fill(6, first).await;
    assert_eq!(cached.version().await, None);
    cached.fill(7, third).await;
    assert_eq!(cached.version().await, Some(7));
}

#[tokio::test]
async fn a_write_takes_away_what_is_cached_and_a_late_repetition_does_not() {
    let cached = Cached::start().await;
    cached.fill(5, cached.begin().await).await;
    cached.raise(6).await;
    assert_eq!(cached.version().await, None);
    cached.fill(6, cached.begin().await).await;
    cached.raise(6).await;
    cached.raise(4).await;
    assert_eq!(cached.version().await, Some(6));
}

#[tokio::test]
async fn an_older_section_does_not_replace_a_newer_one() {
    let cached = Cached::start().await;
    let (first, second) = (cached.begin().await, cached.begin().await);
    cached.fill(6, second).await;
    cached.fill(5, first).await;
    assert_eq!(cached.version().await, Some(6));
}

#[tokio::test]
async fn what_redis_has_lost_meanwhile_stops_a_fill() {
    let cached = Cached::start().await;
    let begun = cached.begin().await;
    cached.cli("flushall");
    cached.fill(5, begun).await;
    assert_eq!(cached.version().await, None);
    // A new note is another one.
    let begun = cached.begin().await;
    cached.cli("flushall");
    let _other = cached.begin().await;
    cached.fill(5, begun).await;
    assert_eq!(cached.version().await, None);
}

#[tokio::test]
async fn a_fill_belongs_to_the_connection_that_its_load_began_on() {
    let cached = Cached::start().await;
    let begun = cached.begin().await;
    cached.cli("client kill type normal");
    // Behind another connection may be a Redis with older fences and the same notes.
    cached.connected(2).await;
    cached.fill(5, begun).await;
    assert_eq!(cached.version().await, None);
}

#[tokio::test]
async fn a_load_that_took_long_fills_nothing() {
    let cached = Cached::start().await;
    let begun = cached.begin().await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    cached.fill(5, begun).await;
    assert_eq!(cached.version().await, None);
}

#[tokio::test]
async fn another_life_of_the_database_finds_nothing() {
    let mut cached = Cached::start().await;
    cached.fill(5, cached.begin().await).await;
    cached.want.life = [2; 8];
    assert_eq!(cached.version().await, None);
}
