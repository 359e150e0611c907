use std::{
    path::Path,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use aws_lc_rs::rand;
use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use prost::{Message, bytes::Bytes};
use proto::section::v1::Section;
use redis::{RedisResult, Script, aio::MultiplexedConnection};
use uuid::Uuid;
use vault::{CacheKeys, KeyRing};

use crate::{
    Listener,
    nodes::{Group, Nodes},
};

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

/// What was noted before a load; no note, no fill.
pub struct Begun {
    notes: Vec<Option<String>>,
    at: Instant,
    openings: u64,
}

/// The sections in Redis.
#[derive(Clone)]
pub struct Shared {
    nodes: Arc<Nodes>,
    keys: Arc<CacheKeys>,
}

impl Shared {
    /// The sections behind a URL, or several of one cluster with commas between, sealed with keys of a ring
    /// that owners and gateway share. It connects by and by. A listener is told when fences move.
    pub fn connect(urls: &str, ring: &Path, listener: Option<Listener>) -> anyhow::Result<Self> {
        let keys = CacheKeys::new(&KeyRing::read(ring)?);
        Ok(Self { nodes: Arc::new(Nodes::connect(urls, listener)?), keys: Arc::new(keys) })
    }

    /// What is there and still good of what is wanted, in its order.
    pub async fn get(&self, wants: &[Want]) -> Vec<Option<Section>> {
        let mut found = Vec::with_capacity(wants.len());
        for wants in wants.chunks(AT_ONCE) {
            let values = self.each(wants, |mut connection, places| {
                let mut command = redis::cmd("MGET");
                for place in places {
                    command.arg(wants[*place].key(VALUE));
                }
                async move { command.query_async::<Vec<Option<Vec<u8>>>>(&mut connection).await }
            });
            let (values, now) = (values.await, Utc::now());
            found.extend(wants.iter().zip(values).map(|(want, value)| self.open(want, value??, now)));
        }
        found
    }

    fn open(&self, want: &Want, mut value: Vec<u8>, now: DateTime<Utc>) -> Option<Section> {
        let place = self.keys.open(want.customer, want.service, value.get_mut(DIGITS..)?)?;
        // The body stays where it is.
        let section = Bytes::from(value).slice(DIGITS + place.start..DIGITS + place.end);
        Section::decode(section).ok().filter(|section| is_valid(section, now))
    }

    /// Looks at the notes before a load of the same sections. `None`: what is loaded fills nothing.
    pub async fn begin(&self, wants: &[Want]) -> Option<Begun> {
        // In this order here and in the other at the end, so that a connection between is noticed.
        let (openings, at) = (self.openings(), Instant::now());
        let notes = self.each(wants, |mut connection, places| {
            let mut call = BEGIN.prepare_invoke();
            for place in places {
                call.key(wants[*place].key(NOTE));
            }
            call.arg(random()).arg(NOTE_MS);
            async move { call.invoke_async::<Vec<String>>(&mut connection).await }
        });
        let notes = notes.await;
        notes.iter().any(Option::is_some).then_some(Begun { notes, at, openings })
    }

    /// Fills what was loaded since; not what has an end that is past, or a failure.
    pub async fn fill(&self, wants: &[Want], sections: &[Section], begun: Begun) {
        let now = Utc::now();
        let (begun, fillable) = (&begun, |section: &Section| section.failure.is_empty() && is_valid(section, now));
        // What is not filled is read from the database once more.
        self.each(wants, |mut connection, places| {
            let mut call = FILL.prepare_invoke();
            call.arg(VALUE_MS);
            for place in places {
                let (want, section) = (&wants[*place], &sections[*place]);
                let Some(note) = begun.notes[*place].as_ref().filter(|_| fillable(section)) else { continue };
                let mut value = format!("{:0DIGITS$}", section.version).into_bytes();
                value.extend(self.keys.seal(want.customer, want.service, &section.encode_to_vec()));
                call.key(want.key(VALUE)).key(want.key(FENCE)).key(want.key(NOTE));
                call.arg(section.version).arg(note).arg(value);
            }
            // The connection was chosen before this look.
            let timely = begun.at.elapsed() < FRESH && begun.openings == self.openings();
            async move {
                if timely {
                    call.invoke_async::<()>(&mut connection).await?;
                }
                Ok(Vec::<()>::new())
            }
        })
        .await;
    }

    /// Raises the fences of customers to their new versions. False when Redis did not.
    pub async fn raise(&self, service: &'static str, life: Life, versions: &[(Uuid, i64)]) -> bool {
        let wants: Vec<Want> =
            versions.iter().map(|(customer, _)| Want { service, life, customer: *customer }).collect();
        let (versions, wants) = (versions, wants.as_slice());
        let raised = self.each(wants, |mut connection, places| {
            let mut call = RAISE.prepare_invoke();
            call.arg(FENCE_MS);
            for place in places {
                let want = &wants[*place];
                call.key(want.key(VALUE)).key(want.key(FENCE)).key(want.key(NOTE)).arg(versions[*place].1);
            }
            let raised = vec![(); places.len()];
            async move { call.invoke_async::<()>(&mut connection).await.map(|()| raised) }
        });
        raised.await.iter().all(Option::is_some)
    }

    /// How often Redis was found. Each time its fences may be older than they were.
    pub fn openings(&self) -> u64 {
        self.nodes.openings()
    }

    /// Asks for each group of places by one command, and puts the answers in their places. Nothing stands
    /// where Redis did not answer.
    async fn each<T, F>(&self, wants: &[Want], ask: impl Fn(MultiplexedConnection, &[usize]) -> F) -> Vec<Option<T>>
    where
        F: Future<Output = RedisResult<Vec<T>>>,
    {
        let mut answers: Vec<Option<T>> = wants.iter().map(|_| None).collect();
        let groups = self.nodes.groups(wants.iter().map(|want| want.customer)).into_iter();
        let asked = groups.filter_map(|Group { connection, places }| {
            let answer = ask(connection?, &places);
            Some(async { (places, answer.await) })
        });
        for (places, answered) in join_all(asked.collect::<Vec<_>>()).await {
            for (place, answer) in places.into_iter().zip(answered.into_iter().flatten()) {
                answers[place] = Some(answer);
            }
        }
        answers
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
