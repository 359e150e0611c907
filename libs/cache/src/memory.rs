use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use prost::bytes::Bytes;
use proto::section::v1::Section;
use quick_cache::{Weighter, sync::Cache};
use uuid::Uuid;

use crate::{Life, shared::is_valid};

/// An entry lives so long at most: the bound on staleness should every invalidation be lost.
const LIFETIME: Duration = Duration::from_secs(10);
/// Invalidations are counted for so many groups of customers.
const GROUPS: usize = 4096;
/// Sections are numbered from 0.
const SECTIONS: usize = 7;
/// What a customer costs beside the sections, and each section beside its body.
const OVERHEAD: u64 = 200;

/// A section and the life of the database that it is from.
pub struct Entry {
    /// The section.
    pub section: Section,
    /// The life of its database.
    pub life: Life,
    /// When it was read.
    pub read: Instant,
}

impl Entry {
    /// Whether it still reads the same, and is young enough.
    pub fn is_good(&self, now: Instant, time: DateTime<Utc>) -> bool {
        now.saturating_duration_since(self.read) < LIFETIME && is_valid(&self.section, time)
    }
}

/// What is held of one customer.
#[derive(Default)]
pub struct Held {
    /// The sections, by their numbers.
    pub sections: [Option<Arc<Entry>>; SECTIONS],
    /// All of them as one answer, once somebody has put it together.
    pub view: OnceLock<Bytes>,
    /// What had been invalidated when the sections were fetched, the same for all of them.
    mark: Mark,
}

/// What had been invalidated when a fetch began.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    openings: u64,
    invalidations: u64,
}

#[derive(Clone)]
struct Size;

/// The view will be about as long as its sections, so each body counts twice.
impl Weighter<Uuid, Arc<Held>> for Size {
    fn weight(&self, _: &Uuid, held: &Arc<Held>) -> u64 {
        held.sections.iter().flatten().map(|entry| 2 * entry.section.body.len() as u64 + OVERHEAD).sum::<u64>()
            + OVERHEAD
    }
}

/// Sections in this process, bounded by bytes. Closed, it holds nothing and takes nothing.
pub struct Memory {
    customers: Cache<Uuid, Arc<Held>, Size>,
    invalidations: Box<[AtomicU64]>,
    openings: AtomicU64,
    open: AtomicBool,
}

impl Memory {
    /// An empty, closed one.
    pub fn new(bytes: u64) -> Self {
        Self {
            customers: Cache::with_weighter((bytes / 4000).max(1) as usize, bytes, Size),
            invalidations: (0..GROUPS).map(|_| AtomicU64::new(0)).collect(),
            openings: AtomicU64::new(0),
            open: AtomicBool::new(false),
        }
    }

    /// What must not have changed when the fetch that begins now is inserted.
    pub fn mark(&self, customer: Uuid) -> Mark {
        Mark { openings: self.openings.load(SeqCst), invalidations: self.group(customer).load(SeqCst) }
    }

    /// What is held of a customer, good or not.
    pub fn get(&self, customer: Uuid) -> Option<Arc<Held>> {
        self.customers.get(&customer)
    }

    /// Keeps sections, if nothing of the customer's group was invalidated since the mark, beside those that
    /// are held of the same mark: one of an earlier mark may be there for a moment, put in by somebody who
    /// has not yet looked again. It is looked at again behind the insertion, since an invalidation counts
    /// first and removes then.
    pub fn insert(&self, customer: Uuid, entries: impl Iterator<Item = (usize, Arc<Entry>)>, mark: Mark) {
        let mut entries = entries.peekable();
        if entries.peek().is_none() || !self.stands(customer, mark) {
            return;
        }
        let held = self.get(customer).filter(|held| held.mark == mark);
        let mut sections = held.map(|held| held.sections.clone()).unwrap_or_default();
        entries.for_each(|(number, entry)| sections[number] = Some(entry));
        self.customers.insert(customer, Arc::new(Held { sections, view: OnceLock::new(), mark }));
        if !self.stands(customer, mark) {
            self.customers.remove(&customer);
        }
    }

    /// Forgets what is known of a customer.
    pub fn invalidate(&self, customer: Uuid) {
        self.group(customer).fetch_add(1, SeqCst);
        self.customers.remove(&customer);
    }

    /// Begins to take entries: invalidations arrive from now on.
    pub fn open(&self) {
        self.openings.fetch_add(1, SeqCst);
        self.open.store(true, SeqCst);
    }

    /// Forgets everything and takes nothing more.
    pub fn close(&self) {
        self.open.store(false, SeqCst);
        self.openings.fetch_add(1, SeqCst);
        self.customers.clear();
    }

    /// Forgets everything; what is being fetched is not taken either.
    pub fn clear(&self) {
        self.openings.fetch_add(1, SeqCst);
        self.customers.clear();
    }

    fn stands(&self, customer: Uuid, mark: Mark) -> bool {
        self.open.load(SeqCst) && self.mark(customer) == mark
    }

    fn group(&self, customer: Uuid) -> &AtomicU64 {
        &self.invalidations[(customer.as_u128() % GROUPS as u128) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Arc<Entry> {
        Arc::new(Entry { section: Section::default(), life: [0; 8], read: Instant::now() })
    }

    #[test]
    fn an_entry_counts_only_if_nothing_was_invalidated_meanwhile() {
        let (memory, customer) = (Memory::new(1 << 20), Uuid::now_v7());
        let there = || memory.get(customer).is_some();
        let mark = memory.mark(customer);
        memory.insert(customer, [(0, entry())].into_iter(), mark);
        assert!(!there(), "closed, it takes nothing");
        memory.open();
        memory.insert(customer, [(0, entry())].into_iter(), mark);
        assert!(!there(), "begun before it was open");
        let mark = memory.mark(customer);
        memory.invalidate(customer);
        memory.insert(customer, [(0, entry())].into_iter(), mark);
        assert!(!there(), "invalidated between");
        memory.insert(customer, [(0, entry())].into_iter(), memory.mark(customer));
        assert!(there());
        memory.invalidate(customer);
        assert!(!there());
        memory.insert(customer, [(0, entry())].into_iter(), memory.mark(customer));
        let mark = memory.mark(customer);
        memory.close();
        memory.open();
        assert!(!there(), "closed between");
        memory.insert(customer, [(0, entry())].into_iter(), mark);
        assert!(!there(), "begun before it was closed");
    }

    #[test]
    fn sections_of_different_marks_are_not_mixed() {
        let (memory, customer) = (Memory::new(1 << 20), Uuid::now_v7());
        memory.open();
        let early = memory.mark(customer);
        memory.insert(customer, [(0, entry())].into_iter(), early);
        let held = memory.get(customer).unwrap();
        memory.invalidate(customer);
        // As one who has checked the mark and not yet looked again would leave it.
        memory.customers.insert(customer, held);
        memory.insert(customer, [(1, entry())].into_iter(), memory.mark(customer));
        let sections = &memory.get(customer).unwrap().sections;
        assert!(sections[0].is_none() && sections[1].is_some());
        memory.insert(customer, [(0, entry())].into_iter(), memory.mark(customer));
        assert!(memory.get(customer).unwrap().sections[1].is_some());
    }

    #[test]
    fn it_is_bounded_by_bytes() {
        let memory = Memory::new(100_000);
        memory.open();
        for _ in 0..10_000 {
            let customer = Uuid::now_v7();
            let section = Section { body: vec![0; 1000].into(), ..Default::default() };
            let entry = Arc::new(Entry { section, life: [0; 8], read: Instant::now() });
            memory.insert(customer, [(0, entry)].into_iter(), memory.mark(customer));
        }
        assert!(memory.customers.weight() <= 100_000);
    }
}
