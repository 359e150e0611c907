//! Where sections are found: in memory, in Redis, or at their owners. Each level is asked in batches
//! for what the one before did not have.

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use access::{Call, Caller, Purpose};
use cache::{Batcher, Entry, Event, Life, Mark, Memory, Shared, Token, Want};
use chrono::Utc;
use error::Failure;
use futures_util::{StreamExt, stream::FuturesUnordered};
use proto::{
    customer::v1::{SectionName, SectionSource},
    section::v1::{BatchGetSectionsRequest, Section},
    r#type::v1::Consistency,
};
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

/// One owner, asked for many customers at once.
struct Lane {
    section: SectionName,
    name: &'static str,
    life: Arc<RwLock<Option<Life>>>,
    loads: Batcher<Uuid, Arc<Entry>>,
}

/// The sections of all owners.
pub struct Sections {
    memory: Arc<Memory>,
    found: Option<Batcher<Vec<Want>, Vec<Option<Section>>>>,
    lanes: Vec<Lane>,
}

/// One section that was not in memory.
struct Miss<'a> {
    place: (usize, usize),
    lane: &'a Lane,
    customer: Uuid,
    mark: Mark,
}

impl Sections {
    /// Prepares the levels. Without Redis nothing would invalidate the memory, so it stays closed.
    pub fn new(peers: &Peers, memory: Arc<Memory>, shared: Option<Shared>) -> Self {
        let lanes = peers.all().map(Lane::new).collect();
        let found = shared.map(|shared| {
            Batcher::new(move |wants: Vec<Vec<Want>>| {
                let shared = shared.clone();
                async move {
                    let all: Vec<Want> = wants.iter().flatten().copied().collect();
                    let mut found = shared.get(&all).await.into_iter();
                    Ok(wants.iter().map(|wants| Ok(found.by_ref().take(wants.len()).collect())).collect())
                }
            })
        });
        Self { memory, found, lanes }
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
        let now = Utc::now();
        let mut misses = Vec::new();
        for (i, customer) in customers.iter().enumerate() {
            for (j, lane) in lanes.iter().enumerate() {
                let mark = self.memory.mark(*customer);
                let entry = self.memory.get(*customer, lane.number(), now);
                match entry.filter(|entry| lane.counts(*customer, entry, demands)) {
                    Some(entry) => parts[i][j] = Ok((entry, SectionSource::Memory)),
                    None => misses.push(Miss { place: (i, j), lane, customer: *customer, mark }),
                }
            }
        }
        if !misses.is_empty() {
            let fetch = self.fetch(misses, demands, &mut parts);
            // What did not come back in time stays as it was.
            let _ = tokio::time::timeout(time_left(call), fetch).await;
        }
        parts
    }

    /// Fetches what was not in memory, and keeps it there.
    async fn fetch(&self, misses: Vec<Miss<'_>>, demands: &Demands, parts: &mut [Vec<Part>]) {
        let mut left = Vec::with_capacity(misses.len());
        for (miss, entry) in self.find(misses, demands).await {
            match entry {
                Some(entry) => {
                    self.memory.insert(miss.customer, miss.lane.number(), entry.clone(), miss.mark);
                    parts[miss.place.0][miss.place.1] = Ok((entry, SectionSource::Cache));
                }
                None => left.push(miss),
            }
        }
        let loads = left.into_iter().map(|miss| async move {
            let loaded = miss.lane.loads.get(miss.customer).await;
            (miss, loaded)
        });
        let mut loads: FuturesUnordered<_> = loads.collect();
        while let Some((miss, loaded)) = loads.next().await {
            let part = match loaded {
                Err(failure) => Err(failure.reason().name.into()),
                Ok(entry) if !entry.section.failure.is_empty() => Err(entry.section.failure.clone().into()),
                Ok(entry) if !demands.are_met(miss.lane.name, miss.customer, &entry) => {
                    Err(reason::CONSISTENCY_TOKEN_EXPIRED.name.into())
                }
                Ok(entry) => {
                    self.memory.insert(miss.customer, miss.lane.number(), entry.clone(), miss.mark);
                    Ok((entry, SectionSource::Database))
                }
            };
            parts[miss.place.0][miss.place.1] = part;
        }
    }

    /// Looks into Redis, unless the caller wants it from the database.
    async fn find<'a>(&self, misses: Vec<Miss<'a>>, demands: &Demands) -> Vec<(Miss<'a>, Option<Arc<Entry>>)> {
        let Some(found) = self.found.as_ref().filter(|_| !demands.fully_consistent) else {
            return misses.into_iter().map(|miss| (miss, None)).collect();
        };
        let want =
            |miss: &Miss| Some(Want { service: miss.lane.name, life: miss.lane.life()?, customer: miss.customer });
        let wants: Vec<Option<Want>> = misses.iter().map(want).collect();
        let read = Instant::now();
        let sections = found.get(wants.iter().flatten().copied().collect()).await.unwrap_or_default();
        let mut sections = sections.into_iter();
        let entry = |(miss, want): (Miss<'a>, Option<Want>)| {
            let entry = want.and_then(|want| {
                let entry = Arc::new(Entry { section: sections.next()??, life: want.life, read });
                miss.lane.counts(miss.customer, &entry, demands).then_some(entry)
            });
            (miss, entry)
        };
        misses.into_iter().zip(wants).map(entry).collect()
    }
}

impl Lane {
    fn new(owner: &Owner) -> Self {
        let life = Arc::new(RwLock::new(None));
        tokio::spawn(follow_life(owner.clone(), Arc::downgrade(&life)));
        let (asked, known) = (owner.clone(), life.clone());
        let loads = Batcher::new(move |customers: Vec<Uuid>| {
            let (owner, life) = (asked.clone(), known.clone());
            async move { load(&owner, &life, &customers).await }
        });
        Self { section: owner.section, name: owner.name, life, loads }
    }

    fn number(&self) -> u8 {
        self.section as u8
    }

    fn life(&self) -> Option<Life> {
        *self.life.read().expect("no holder panics")
    }

    /// Whether an entry is of this life of the database and fresh enough.
    fn counts(&self, customer: Uuid, entry: &Entry, demands: &Demands) -> bool {
        !demands.fully_consistent && self.life() == Some(entry.life) && demands.are_met(self.name, customer, entry)
    }
}

/// One call for many customers. It is nobody's own, so it goes out in the gateway's name.
async fn load(
    owner: &Owner,
    life: &RwLock<Option<Life>>,
    customers: &[Uuid],
) -> Result<Vec<Result<Arc<Entry>, Failure>>, Failure> {
    let message = BatchGetSectionsRequest {
        customer_ids: customers.iter().map(Uuid::to_string).collect(),
        consistency: None,
        cache_missed: true,
    };
    let read = Instant::now();
    let reply = owner.peer.sections.clone().batch_get_sections(owner.peer.request(&own_call(), message)).await;
    let reply = reply.map_err(|status| client::unreachable(&status))?.into_inner();
    let now: Life = reply.data_epoch.as_ref().try_into().map_err(|_| reason::INTERNAL_ERROR)?;
    *life.write().expect("no holder panics") = Some(now);
    Ok(reply.sections.into_iter().map(|section| Ok(Arc::new(Entry { section, life: now, read }))).collect())
}

fn own_call() -> Call {
    let caller = Caller { subject: crate::NAME.into(), purpose: Purpose::parse("service").expect("a purpose of ours") };
    Call { caller, deadline: Instant::now() + PATIENCE, traceparent: "".into() }
}

/// Asks which life an owner's database has, so that after a restore nothing older is served for long,
/// for as long as somebody wants to know.
async fn follow_life(owner: Owner, life: std::sync::Weak<RwLock<Option<Life>>>) {
    while let Some(life) = life.upgrade() {
        // Who cannot be reached keeps its life; what is cached is as good as it was.
        let _ = load(&owner, &life, &[]).await;
        drop(life);
        tokio::time::sleep(LIFE).await;
    }
}
