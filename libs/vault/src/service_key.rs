use std::{collections::BTreeMap, io};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{KeyEncryption, aead, secret::Secret};

/// The keys of one service, which wrap its data keys. The newest wraps; older ones still unwrap.
pub struct ServiceKeys {
    service: &'static str,
    keys: BTreeMap<i32, Secret>,
}

/// A service key as it is stored, in a database or beside a backup of one.
#[derive(Deserialize, Serialize)]
pub struct WrappedServiceKey {
    /// Its number.
    pub number: i32,
    /// The key-encryption key that wraps it.
    pub wrapped_by: String,
    /// The wrapped key.
    pub wrapped: Vec<u8>,
}

impl ServiceKeys {
    /// Unwraps the stored keys of a service.
    pub async fn open(
        service: &'static str,
        stored: &[WrappedServiceKey],
        ring: &dyn KeyEncryption,
    ) -> io::Result<Self> {
        let mut keys = BTreeMap::new();
        for key in stored {
            let unwrapped = ring.unwrap(&key.wrapped_by, &context(service, key.number), &key.wrapped).await;
            let named = |error| io::Error::other(format!("service key {} of {service}: {error}", key.number));
            keys.insert(key.number, unwrapped.map_err(named)?);
        }
        Ok(Self { service, keys })
    }

    /// A new service key with the next number, to be stored.
    pub async fn next(&self, ring: &dyn KeyEncryption) -> io::Result<WrappedServiceKey> {
        let number = self.newest().unwrap_or(0) + 1;
        Self::wrapped(self.service, number, &Secret::random(), ring).await
    }

    /// The keys as they are stored once the ring's current key has wrapped them.
    pub async fn wrapped_anew(&self, ring: &dyn KeyEncryption) -> io::Result<Vec<WrappedServiceKey>> {
        let mut wrapped = Vec::new();
        for (number, secret) in &self.keys {
            wrapped.push(Self::wrapped(self.service, *number, secret, ring).await?);
        }
        Ok(wrapped)
    }

    /// The number of the key that wraps.
    pub fn newest(&self) -> Option<i32> {
        self.keys.last_key_value().map(|(number, _)| *number)
    }

    pub(crate) fn wrap(&self, id: Uuid, secret: &Secret) -> (i32, Vec<u8>) {
        let (number, key) = self.keys.last_key_value().expect("a service has a key from its start");
        (*number, aead::seal(key, &self.associated(id), secret.bytes()))
    }

    pub(crate) fn unwrap(&self, id: Uuid, number: i32, wrapped: &[u8]) -> Option<Secret> {
        let secret = aead::open(self.keys.get(&number)?, &self.associated(id), wrapped)?;
        Secret::try_from(secret).ok()
    }

    /// Wraps a data key, as it is stored, under the newest key; `None` if it does not open.
    pub fn rewrap(&self, id: Uuid, number: i32, wrapped: &[u8]) -> Option<(i32, Vec<u8>)> {
        Some(self.wrap(id, &self.unwrap(id, number, wrapped)?))
    }

    async fn wrapped(
        service: &str,
        number: i32,
        secret: &Secret,
        ring: &dyn KeyEncryption,
    ) -> io::Result<WrappedServiceKey> {
        let wrapped = ring.wrap(&context(service, number), secret).await?;
        Ok(WrappedServiceKey { number, wrapped_by: ring.current(), wrapped })
    }

    /// A data key may change its owner, never its service or its name.
    fn associated(&self, id: Uuid) -> Vec<u8> {
        [self.service.as_bytes(), id.as_bytes()].concat()
    }
}

fn context(service: &str, number: i32) -> String {
    format!("service key {number} of {service}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataKey, KeyRing};

    async fn opened(stored: &[WrappedServiceKey], ring: &KeyRing) -> io::Result<ServiceKeys> {
        ServiceKeys::open("contact", stored, ring).await
    }

    #[tokio::test]
    async fn each_level_turns_and_what_was_wrapped_still_opens() {
        let mut ring = KeyRing::generate();
        let none = opened(&[], &ring).await.unwrap();
        let mut stored = vec![none.next(&ring).await.unwrap()];
        let first = opened(&stored, &ring).await.unwrap();
        let key = DataKey::generate();
        let (number, wrapped) = key.wrap(&first);
        assert_eq!(number, 1);
        // A new service key wraps, and the old one still unwraps.
        stored.push(first.next(&ring).await.unwrap());
        let both = opened(&stored, &ring).await.unwrap();
        assert!(DataKey::unwrap(&both, key.id(), 1, &wrapped).is_some());
        let (number, anew) = both.rewrap(key.id(), 1, &wrapped).unwrap();
        assert_eq!(number, 2);
        assert!(DataKey::unwrap(&both, key.id(), 2, &anew).is_some());
        assert!(DataKey::unwrap(&first, key.id(), 2, &anew).is_none());
        // Another data key's wrapping does not open.
        assert!(DataKey::unwrap(&both, Uuid::new_v4(), 2, &anew).is_none());
        // A new key-encryption key wraps the same service keys.
        ring.rotate();
        let stored = both.wrapped_anew(&ring).await.unwrap();
        assert!(stored.iter().all(|key| key.wrapped_by == "2"));
        let again = opened(&stored, &ring).await.unwrap();
        assert!(DataKey::unwrap(&again, key.id(), 2, &anew).is_some());
    }

    #[tokio::test]
    async fn a_ring_that_does_not_fit_is_named() {
        let ring = KeyRing::generate();
        let stored = [opened(&[], &ring).await.unwrap().next(&ring).await.unwrap()];
        let foreign = opened(&stored, &KeyRing::generate()).await.err().unwrap().to_string();
        assert_eq!(foreign, "service key 1 of contact: key-encryption key 1 of the key ring does not open it");
        let unknown = WrappedServiceKey {
            wrapped_by: "7".into(),
            ..opened(&[], &ring).await.unwrap().next(&ring).await.unwrap()
        };
        let unknown = opened(&[unknown], &ring).await.err().unwrap().to_string();
        assert_eq!(unknown, "service key 1 of contact: key-encryption key 7 is not in the key ring");
        let elsewhere = ServiceKeys::open("profile", &stored, &ring).await;
        assert!(elsewhere.is_err(), "a key of another service");
    }
}
