//! Where sections are found: in memory, in Redis, or at their owners. Each level is asked in batches
//! for what the one before did not have.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use access::{Call, Caller, Purpose};
use cache::{Batcher, Entry, Event, Held, Life, Mark, Memory, Shared, Token, Want};
use chrono::{DateTime, Utc};
use error::Failure;
use futures_util::future::join_all;
use metrics::{Counter, METRICS, by};
use proto::{
    customer::v1::{SectionName, SectionSource},
    section::v1::{BatchGetSectionsRequest, Section},
    r#type::v1::Consistency,
};
use tokio::time::timeout_at;
use uuid::Uuid;

use crate::{
    peers::{Owner, Peers},
    reason,
    view::{Part, time_left},
};

/// An owner is asked this often which life its database has.
const LIFE: Duration = Duration::from_secs(1);
/// A batch of sections takes at most so long.
const PATIENCE: Duration = Duration::from_secs(2);

/// How fresh a read must be.
#[derive(Default)]
pub struct Demands {
    fully_consistent: bool,
    tokens: HashMap<(String, Uuid), (Life, i64)>,
}

impl Demands {
    /// Reads what a caller demands. The owners judge whether a token can ever be met.
    pub fn new(consistency: Option<&Consistency>) -> Result<Self, Failure> {
        let mut demands = Self::default();
        let Some(consistency) = consistency else { return Ok(demands) };
        demands.fully_consistent = consistency.fully_consistent;
        for text in &consistency.consistency_tokens {
            let token = Token::demand(text).ok_or(reason::CONSISTENCY_TOKEN_INVALID)?;
            let demand = demands.tokens.entry((token.service, token.customer)).or_insert((token.epoch, 0));
            // Tokens of two lives cannot both be met; the owner's answer tells.
            *demand = if demand.0 == token.epoch {
                (token.epoch, demand.1.max(token.version))
            } else {
                (token.epoch, i64::MAX)
            };
        }
        Ok(demands)
    }

    fn are_met(&self, service: &str, customer: Uuid, entry: &Entry) -> bool {
        if self.tokens.is_empty() {
            return true;
        }
        let demand = self.tokens.get(&(service.to_owned(), customer));
        demand.is_none_or(|(life, version)| *life == entry.life && entry.section.version >= *version)
    }
}

/// The life of an owner's database, as a number; 0 until it is known.
type Known = AtomicU64;

/// One owner, asked for many customers at once.
struct Lane {
    section: SectionName,
    name: &'static str,
    life: Arc<Known>,
    loads: Batcher<Uuid, Arc<Entry>>,
}

/// The sections of all owners.
pub struct Sections {
    memory: Arc<Memory>,
    found: Option<Batcher<Vec<Want>, Vec<Option<Section>>>>,
    lanes: Vec<Lane>,
    /// How many were found in memory, in the cache and at their owners.
    counted: [Counter; 3],
}

/// One section that was not in memory.
struct Miss<'a> {
    place: (usize, usize),
    lane: &'a Lane,
    customer: Uuid,
}

impl Sections {
    /// Prepares the levels. Without Redis nothing would invalidate the memory, so it stays closed.
    pub fn new(peers: &Peers, memory: Arc<Memory>, shared: Option<Shared>) -> Self {
        let lanes = peers.all().map(Lane::new).collect();
        let found = shared.map(|shared| {
            Batcher::new("cached_sections", move |wants: Vec<Vec<Want>>| {
                let shared = shared.clone();
                async move {
                    let all: Vec<Want> = wants.iter().flatten().copied().collect();
                    let mut found = shared.get(&all).await.into_iter();
                    Ok(wants.iter().map(|wants| Ok(found.by_ref().take(wants.len()).collect())).collect())
                }
            })
        });
        let counted = ["memory", "cache", "database"].map(|found| METRICS.sections.get_or_create_owned(&by(found)));
        Self { memory, found, lanes, counted }
    }

    /// What the memory has to be told.
    pub fn listener(memory: Arc<Memory>) -> cache::Listener {
        Arc::new(move |event| match event {
            Event::Open => memory.open(),
            Event::Closed => memory.close(),
            Event::Flushed => memory.clear(),
            Event::Fence(customer) => memory.invalidate(customer),
        })
    }

    /// What memory holds of a customer, if it holds all sections and each is good.
    pub fn whole(&self, customer: Uuid, demands: &Demands, now: Instant, time: DateTime<Utc>) -> Option<Arc<Held>> {
        let held = self.memory.get(customer)?;
        let counts = |lane: &Lane| lane.held(&held, customer, demands, now, time).is_some();
        let is_whole = self.lanes.iter().all(counts);
        if is_whole {
            self.count(0, self.lanes.len());
            let oldest = held.sections.iter().flatten().map(|entry| entry.read).min();
            METRICS.section_age.observe(oldest.map(|read| now - read).unwrap_or_default().as_secs_f64());
        }
        is_whole.then_some(held)
    }

    /// The sections of customers, each in its place.
    pub async fn get(
        &self,
        call: &Call,
        customers: &[Uuid],
        names: &[SectionName],
        demands: &Demands,
    ) -> Vec<Vec<Part>> {
        let lanes: Vec<&Lane> =
            names.iter().filter_map(|name| self.lanes.iter().find(|l| l.section == *name)).collect();
        let unknown = || vec![Err(reason::DEADLINE_EXCEEDED.name.into()); lanes.len()];
        let mut parts: Vec<Vec<Part>> = customers.iter().map(|_| unknown()).collect();
        let (now, time) = (Instant::now(), Utc::now());
        let mut misses = Vec::new();
        let all = customers.len() * lanes.len();
        let marks: Vec<Mark> = customers.iter().map(|customer| self.memory.mark(*customer)).collect();
        for (i, customer) in customers.iter().enumerate() {
            let held = self.memory.get(*customer);
            for (j, lane) in lanes.iter().enumerate() {
                match held.as_ref().and_then(|held| lane.held(held, *customer, demands, now, time)) {
                    Some(entry) => parts[i][j] = Ok((entry.clone(), SectionSource::Memory)),
                    None => misses.push(Miss { place: (i, j), lane, customer: *customer }),
                }
            }
        }
        self.count(0, all - misses.len());
        if misses.is_empty() {
            return parts;
        }
        self.fetch(misses, demands, Instant::now() + time_left(call), &mut parts).await;
        for ((customer, mark), parts) in customers.iter().zip(marks).zip(&parts) {
            let fetched = lanes.iter().zip(parts).filter_map(|(lane, part)| match part {
                Ok((entry, source)) if *source != SectionSource::Memory => Some((lane.number(), entry.clone())),
                _ => None,
            });
            self.memory.insert(*customer, fetched, mark);
        }
        parts
    }

    fn count(&self, level: usize, sections: usize) {
        self.counted[level].inc_by(sections as u64);
    }

    /// Fetches what was not in memory. What is not there by the deadline stays as it was.
    async fn fetch(&self, misses: Vec<Miss<'_>>, demands: &Demands, deadline: Instant, parts: &mut [Vec<Part>]) {
        let Ok(found) = timeout_at(deadline.into(), self.find(&misses, demands)).await else { return };
        let hits = found.iter().flatten().count();
        self.count(1, hits);
        self.count(2, misses.len() - hits);
        let mut loads = Vec::new();
        for (miss, entry) in misses.into_iter().zip(found) {
            match entry {
                Some(entry) => parts[miss.place.0][miss.place.1] = Ok((entry, SectionSource::Cache)),
                None => loads.push((miss.place, miss.lane, miss.customer, miss.lane.loads.get(miss.customer))),
            }
        }
        let loads = loads.into_iter().map(|(place, lane, customer, load)| async move {
            (place, lane, customer, timeout_at(deadline.into(), load).await)
        });
        for ((i, j), lane, customer, loaded) in join_all(loads).await {
            let Ok(loaded) = loaded else { continue };
            parts[i][j] = match loaded {
                Err(failure) => Err(failure.reason().name.into()),
                Ok(entry) if !entry.section.failure.is_empty() => Err(entry.section.failure.clone().into()),
                Ok(entry) if !demands.are_met(lane.name, customer, &entry) => {
                    Err(reason::CONSISTENCY_TOKEN_EXPIRED.name.into())
                }
                Ok(entry) => Ok((entry, SectionSource::Database)),
            };
        }
    }

    /// Looks into Redis, unless the caller wants it from the database.
    async fn find(&self, misses: &[Miss<'_>], demands: &Demands) -> Vec<Option<Arc<Entry>>> {
        let Some(found) = self.found.as_ref().filter(|_| !demands.fully_consistent) else {
            return vec![None; misses.len()];
        };
        let want =
            |miss: &Miss| Some(Want { service: miss.lane.name, life: miss.lane.life()?, customer: miss.customer });
        let wants: Vec<Option<Want>> = misses.iter().map(want).collect();
        let read = Instant::now();
        let sections = found.get(wants.iter().flatten().copied().collect()).await.unwrap_or_default();
        let mut sections = sections.into_iter();
        let entry = |(miss, want): (&Miss, Option<Want>)| {
            let want = want?;
            let entry = Arc::new(Entry { section: sections.next()??, life: want.life, read });
            miss.lane.counts(miss.customer, &entry, demands).then_some(entry)
        };
        misses.iter().zip(wants).map(entry).collect()
    }
}

impl Lane {
    fn new(owner: &Owner) -> Self {
        let life = Arc::new(Known::new(0));
        tokio::spawn(follow_life(owner.clone(), Arc::downgrade(&life)));
        let (asked, known) = (owner.clone(), life.clone());
        let loads = Batcher::new("sections", move |customers: Vec<Uuid>| {
            let (owner, life) = (asked.clone(), known.clone());
            async move { load(&owner, &life, &customers).await }
        });
        Self { section: owner.section, name: owner.name, life, loads }
    }

    fn number(&self) -> usize {
        self.section as usize - 1
    }

    fn life(&self) -> Option<Life> {
        Some(self.life.load(Relaxed)).filter(|life| *life != 0).map(u64::to_be_bytes)
    }

    /// The section of this owner among what is held, if it is good.
    fn held<'a>(
        &self,
        held: &'a Held,
        customer: Uuid,
        demands: &Demands,
        now: Instant,
        time: DateTime<Utc>,
    ) -> Option<&'a Arc<Entry>> {
        let entry = held.sections[self.number()].as_ref()?;
        (entry.is_good(now, time) && self.counts(customer, entry, demands)).then_some(entry)
    }

    /// Whether an entry is of this life of the database and fresh enough.
    fn counts(&self, customer: Uuid, entry: &Entry, demands: &Demands) -> bool {
        !demands.fully_consistent && self.life() == Some(entry.life) && demands.are_met(self.name, customer, entry)
    }
}

/// One call for many customers. It is nobody's own, so it goes out in the gateway's name.
async fn load(owner: &Owner, life: &Known, customers: &[Uuid]) -> Result<Vec<Result<Arc<Entry>, Failure>>, Failure> {
    let message = BatchGetSectionsRequest {
        customer_ids: customers.iter().map(Uuid::to_string).collect(),
        consistency: None,
        cache_missed: true,
        uncached: false,
    };
    let read = Instant::now();
    let reply = owner.peer.sections.clone().batch_get_sections(owner.peer.request(&own_call(), message)).await;
    let reply = reply.map_err(|status| client::unreachable(&status))?.into_inner();
    let now: Life = reply.data_epoch.as_ref().try_into().map_err(|_| reason::INTERNAL_ERROR)?;
    life.store(u64::from_be_bytes(now), Relaxed);
    Ok(reply.sections.into_iter().map(|section| Ok(Arc::new(Entry { section, life: now, read }))).collect())
}

fn own_call() -> Call {
    let caller = Caller { subject: crate::NAME.into(), purpose: Purpose::parse("service").expect("a purpose of ours") };
    Call { caller, deadline: Instant::now() + PATIENCE, traceparent: "".into() }
}

/// Asks which life an owner's database has, so that after a restore nothing older is served for long,
/// for as long as somebody wants to know.
async fn follow_life(owner: Owner, life: Weak<Known>) {
    while let Some(life) = life.upgrade() {
        // Who cannot be reached keeps its life; what is cached is as good as it was.
        let _ = load(&owner, &life, &[]).await;
        drop(life);
        tokio::time::sleep(LIFE).await;
    }
}
