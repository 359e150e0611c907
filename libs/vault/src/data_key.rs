use std::{collections::HashMap, sync::Arc};

use uuid::Uuid;

use crate::{aead, secret::Secret, service_key::ServiceKeys};

const FORMAT: u8 = 2;
const HEADER: usize = 1 + 16;

/// A key of one customer in one service. Destroying it makes everything sealed by it unreadable.
pub struct DataKey {
    id: Uuid,
    secret: Secret,
}

impl DataKey {
    /// A new one.
    pub fn generate() -> Self {
        Self { id: Uuid::new_v4(), secret: Secret::random() }
    }

    /// Its name, which every value that it seals carries.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Wraps it under the newest key of its service. Answers that key's number too.
    pub fn wrap(&self, service: &ServiceKeys) -> (i32, Vec<u8>) {
        service.wrap(self.id, &self.secret)
    }

    /// Unwraps what [`wrap`](Self::wrap) made; `None` when the service key is not there or does not open it.
    pub fn unwrap(service: &ServiceKeys, id: Uuid, number: i32, wrapped: &[u8]) -> Option<Self> {
        Some(Self { id, secret: service.unwrap(id, number, wrapped)? })
    }
}

/// Where a sealed value stands. It opens nowhere else.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The table.
    pub table: &'static str,
    /// The column.
    pub column: &'static str,
    /// The row's id, which must not change with its owner.
    pub row: Uuid,
}

/// Why a value does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is truncated, altered or moved, or names a key that was never there.
    #[error("a sealed value could not be opened")]
    Broken,
    /// Its key was destroyed.
    #[error("the key of a sealed value was destroyed")]
    Destroyed,
}

/// The data keys that one piece of work needs, open.
pub struct Keys {
    service: &'static str,
    open: HashMap<Uuid, Option<Arc<DataKey>>>,
    owned: HashMap<Uuid, Arc<DataKey>>,
}

impl Keys {
    /// None yet, of a service.
    pub fn new(service: &'static str) -> Self {
        Self { service, open: HashMap::new(), owned: HashMap::new() }
    }

    /// Adds a key by its name; `None` says that it was destroyed.
    pub fn add(&mut self, id: Uuid, key: Option<Arc<DataKey>>) {
        self.open.insert(id, key);
    }

    /// Adds the key that seals for an owner.
    pub fn own(&mut self, owner: Uuid, key: Arc<DataKey>) {
        self.add(key.id(), Some(key.clone()));
        self.owned.insert(owner, key);
    }

    /// Whether there is a key that seals for an owner.
    pub fn owns(&self, owner: Uuid) -> bool {
        self.owned.contains_key(&owner)
    }

    /// Whether a key is known by its name.
    pub fn knows(&self, id: Uuid) -> bool {
        self.open.contains_key(&id)
    }

    /// Seals a value of an owner, whose key must have been added: format, key id, nonce, ciphertext, tag.
    pub fn seal(&self, owner: Uuid, place: Place, value: &[u8]) -> Result<Vec<u8>, Unreadable> {
        let key = self.owned.get(&owner).ok_or(Unreadable::Broken)?;
        let mut sealed = vec![FORMAT];
        sealed.extend(key.id.as_bytes());
        sealed.extend(aead::seal(&key.secret, &self.associated(key.id, place), value));
        Ok(sealed)
    }

    /// Opens what [`seal`](Self::seal) made for the same place.
    pub fn open(&self, place: Place, sealed: &[u8]) -> Result<Vec<u8>, Unreadable> {
        let id = named(sealed).ok_or(Unreadable::Broken)?;
        let key = self.open.get(&id).ok_or(Unreadable::Broken)?.as_ref().ok_or(Unreadable::Destroyed)?;
        aead::open(&key.secret, &self.associated(id, place), &sealed[HEADER..]).ok_or(Unreadable::Broken)
    }

    fn associated(&self, key: Uuid, place: Place) -> Vec<u8> {
        let mut out = key.as_bytes().to_vec();
        for name in [self.service, place.table, place.column] {
            out.extend(name.as_bytes());
            out.push(0);
        }
        out.extend(place.row.as_bytes());
        out
    }
}

/// The key that a sealed value names.
pub fn named(sealed: &[u8]) -> Option<Uuid> {
    let (&FORMAT, rest) = sealed.split_first()? else { return None };
    Some(Uuid::from_bytes(*rest.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { table: "contact_points", column: "sealed", row: Uuid::nil() };

    fn keys(service: &'static str, owner: Uuid, key: &Arc<DataKey>) -> Keys {
        let mut keys = Keys::new(service);
        keys.own(owner, key.clone());
        keys
    }

    #[test]
    fn a_sealed_value_opens_only_in_its_place_and_under_its_key() {
        let (ada, bob) = (Uuid::now_v7(), Uuid::now_v7());
        let [first, second] = [(); 2].map(|()| Arc::new(DataKey::generate()));
        let mut both = keys("contact", ada, &first);
        both.own(bob, second);
        let sealed = both.seal(ada, PLACE, b"ada@example.org").unwrap();
        assert_eq!(both.open(PLACE, &sealed).unwrap(), b"ada@example.org");
        for elsewhere in [
            Place { table: "orders", ..PLACE },
            Place { column: "label", ..PLACE },
            Place { row: Uuid::now_v7(), ..PLACE },
        ] {
            assert_eq!(both.open(elsewhere, &sealed), Err(Unreadable::Broken));
        }
        assert_eq!(keys("profile", ada, &first).open(PLACE, &sealed), Err(Unreadable::Broken));
        // Said to be sealed by another's key.
        let other = both.seal(bob, PLACE, b"x").unwrap();
        let renamed = [&other[..HEADER], &sealed[HEADER..]].concat();
        assert_eq!(both.open(PLACE, &renamed), Err(Unreadable::Broken));
        assert_eq!(Keys::new("contact").open(PLACE, &sealed), Err(Unreadable::Broken));
        both.add(first.id(), None);
        assert_eq!(both.open(PLACE, &sealed), Err(Unreadable::Destroyed));
    }

    #[test]
    fn an_altered_or_truncated_value_does_not_open() {
        let owner = Uuid::now_v7();
        let keys = keys("contact", owner, &Arc::new(DataKey::generate()));
        let sealed = keys.seal(owner, PLACE, b"secret").unwrap();
        for i in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[i] ^= 1;
            assert_eq!(keys.open(PLACE, &altered), Err(Unreadable::Broken));
            assert_eq!(keys.open(PLACE, &sealed[..i]), Err(Unreadable::Broken));
        }
    }
}
