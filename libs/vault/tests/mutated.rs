//! Whatever the bytes, nothing panics and nothing opens that was not sealed so.

use std::{env, sync::Arc};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use uuid::Uuid;
use vault::{CacheKeys, DataKey, KeyRing, Keys, Place, ServiceKeys};

const PLACE: Place = Place { table: "contact_points", column: "sealed", row: Uuid::nil() };

fn number(variable: &str, or: u64) -> u64 {
    env::var(variable).map_or(or, |number| number.parse().expect("a number"))
}

/// Changes, cuts, doubles or replaces a few bytes.
fn mutate(rng: &mut StdRng, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = rng.random(),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, rng.random()),
            _ => bytes.extend_from_within(at..),
        }
    }
    bytes
}

#[tokio::test]
async fn nothing_mutated_opens_or_panics() {
    let (times, seed) = (number("CLIENTELE_SOAK_MUTATIONS", 50_000), number("CLIENTELE_SOAK_SEED", 7));
    let mut rng = StdRng::seed_from_u64(seed);
    let ring = KeyRing::generate();
    let none = ServiceKeys::open("contact", &[], &ring).await.unwrap();
    let stored = [none.next(&ring).await.unwrap()];
    let service_keys = ServiceKeys::open("contact", &stored, &ring).await.unwrap();
    let (owner, key) = (Uuid::now_v7(), Arc::new(DataKey::generate()));
    let (service_key, wrapped) = key.wrap(&service_keys);
    let mut keys = Keys::new("contact");
    keys.own(owner, key.clone());
    let sealed = keys.seal(owner, PLACE, b"ada@example.org").unwrap();
    let sections = CacheKeys::new(&ring);
    let section = sections.seal(owner, "contact", b"ada@example.org");
    let text = ring.to_json().into_bytes();
    let mut opened = 0;
    for _ in 0..times {
        let mutated = mutate(&mut rng, &sealed);
        opened += u64::from(mutated != sealed && keys.open(PLACE, &mutated).is_ok());
        let mutated = mutate(&mut rng, &wrapped);
        opened +=
            u64::from(mutated != wrapped && DataKey::unwrap(&service_keys, key.id(), service_key, &mutated).is_some());
        let mut mutated = mutate(&mut rng, &section);
        let altered = mutated != section;
        opened += u64::from(sections.open(owner, "contact", &mut mutated).is_some() && altered);
        let _ = KeyRing::parse(&mutate(&mut rng, &text));
    }
    assert_eq!(opened, 0, "seed {seed}");
}
