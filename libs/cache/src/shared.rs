use std::{
    path::Path,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use aws_lc_rs::rand;
use chrono::{DateTime, Utc};
use prost::Message;
use proto::section::v1::Section;
use redis::Script;
use uuid::Uuid;
use vault::{CacheKeys, KeyRing};

use crate::{Listener, connection::Redis};

/// A value lives so long.
const VALUE_MS: u64 = 10 * 60 * 1000;
/// A fence outlives a value and the longest fill.
const FENCE_MS: u64 = 15 * 60 * 1000;
/// So many values are asked for at once, so that nobody else waits long for Redis.
const AT_ONCE: usize = 2000;
/// A load that took longer fills nothing.
const FRESH: Duration = Duration::from_secs(2);
/// A note outlives the longest load.
const NOTE_MS: u64 = 5 * 1000;
const VALUE: &str = "section";
const FENCE: &str = "fence";
const NOTE: &str = "note";
/// Every fence's key begins so.
pub(crate) const FENCES: &str = "clientele:fence:";
/// A value begins with its version in so many digits, for the scripts.
const DIGITS: usize = 16;

static BEGIN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/begin.lua")));
static FILL: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/fill.lua")));
static RAISE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/raise.lua")));

/// A life of a service's database; what was cached of another one does not exist.
pub type Life = [u8; 8];

/// One section that is wanted.
#[derive(Clone, Copy)]
pub struct Want {
    /// The service.
    pub service: &'static str,
    /// The life of its database.
    pub life: Life,
    /// The customer.
    pub customer: Uuid,
}

/// What was noted before a load.
pub struct Begun {
    notes: Vec<String>,
    at: Instant,
    openings: u64,
}

/// The sections in Redis.
#[derive(Clone)]
pub struct Shared {
    redis: Arc<Redis>,
    keys: Arc<CacheKeys>,
}

impl Shared {
    /// The sections behind a URL, sealed with keys of a ring that owners and gateway share. It connects
    /// by and by. A listener is told when fences move.
    pub fn connect(url: &str, ring: &Path, listener: Option<Listener>) -> anyhow::Result<Self> {
        let keys = CacheKeys::new(&KeyRing::read(ring)?);
        Ok(Self { redis: Arc::new(Redis::connect(url, listener)?), keys: Arc::new(keys) })
    }

    /// What is there and still good of what is wanted, in its order.
    pub async fn get(&self, wants: &[Want]) -> Vec<Option<Section>> {
        let mut found = Vec::with_capacity(wants.len());
        for wants in wants.chunks(AT_ONCE) {
            found.extend(self.get_chunk(wants).await);
        }
        found
    }

    async fn get_chunk(&self, wants: &[Want]) -> Vec<Option<Section>> {
        let nothing = || wants.iter().map(|_| None).collect();
        let Some(mut redis) = self.redis.live() else { return nothing() };
        let mut command = redis::cmd("MGET");
        for want in wants {
            command.arg(want.key(VALUE));
        }
        let Ok(values) = command.query_async::<Vec<Option<Vec<u8>>>>(&mut redis).await else { return nothing() };
        let now = Utc::now();
        let open = |(want, value): (&Want, Option<Vec<u8>>)| {
            let value = value?;
            let section = self.keys.open(want.customer, want.service, value.get(DIGITS..)?)?;
            Section::decode(section.as_slice()).ok().filter(|section| is_valid(section, now))
        };
        wants.iter().zip(values).map(open).collect()
    }

    /// Looks at the notes before a load of the same sections. `None`: what is loaded fills nothing.
    pub async fn begin(&self, wants: &[Want]) -> Option<Begun> {
        // In this order here and in the other at the end, so that a connection between is noticed.
        let (openings, at) = (self.openings(), Instant::now());
        let mut redis = self.redis.live()?;
        let mut call = BEGIN.prepare_invoke();
        for want in wants {
            call.key(want.key(NOTE));
        }
        let notes = call.arg(random()).arg(NOTE_MS).invoke_async::<Vec<String>>(&mut redis).await.ok()?;
        Some(Begun { notes, at, openings })
    }

    /// Fills what was loaded since; not what has an end that is past, or a failure.
    pub async fn fill(&self, wants: &[Want], sections: &[Section], begun: Begun) {
        let Some(mut redis) = self.redis.live() else { return };
        if begun.at.elapsed() >= FRESH || begun.openings != self.openings() {
            return;
        }
        let now = Utc::now();
        let mut call = FILL.prepare_invoke();
        call.arg(VALUE_MS);
        let mut any = false;
        for ((want, section), note) in wants.iter().zip(sections).zip(&begun.notes) {
            if !section.failure.is_empty() || !is_valid(section, now) {
                continue;
            }
            any = true;
            let mut value = format!("{:0DIGITS$}", section.version).into_bytes();
            value.extend(self.keys.seal(want.customer, want.service, &section.encode_to_vec()));
            call.key(want.key(VALUE)).key(want.key(FENCE)).key(want.key(NOTE));
            call.arg(section.version).arg(note).arg(value);
        }
        if any {
            // What is not filled is read from the database once more.
            let _ = call.invoke_async::<()>(&mut redis).await;
        }
    }

    /// Raises the fences of customers to their new versions. False when Redis did not.
    pub async fn raise(&self, service: &'static str, life: Life, versions: &[(Uuid, i64)]) -> bool {
        let Some(mut redis) = self.redis.live() else { return false };
        let mut call = RAISE.prepare_invoke();
        call.arg(FENCE_MS);
        for (customer, version) in versions {
            let want = Want { service, life, customer: *customer };
            call.key(want.key(VALUE)).key(want.key(FENCE)).key(want.key(NOTE)).arg(*version);
        }
        call.invoke_async::<()>(&mut redis).await.is_ok()
    }

    /// How often Redis was found. Each time its fences may be older than they were.
    pub fn openings(&self) -> u64 {
        self.redis.openings()
    }
}

/// Whether a section reads the same now as when it was computed.
pub(crate) fn is_valid(section: &Section, now: DateTime<Utc>) -> bool {
    section.valid_until.is_none_or(|until| {
        let until = DateTime::from_timestamp(until.seconds, until.nanos.try_into().unwrap_or(0));
        until.is_some_and(|until| now < until)
    })
}

/// The customer whose fence has this key.
pub(crate) fn customer_of(fence: &str) -> Option<Uuid> {
    let (customer, _) = fence.strip_prefix(FENCES)?.strip_prefix('{')?.split_once('}')?;
    customer.parse().ok()
}

impl Want {
    /// One of the keys of a section. All keys of a customer lie in one slot.
    fn key(&self, kind: &str) -> String {
        let life = u64::from_be_bytes(self.life);
        format!("clientele:{kind}:{{{}}}:{}:{life:016x}", self.customer, self.service)
    }
}

fn random() -> String {
    let mut bytes = [0; 8];
    rand::fill(&mut bytes).expect("the system's random source answers");
    format!("{:016x}", u64::from_be_bytes(bytes))
}
