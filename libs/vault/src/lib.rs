//! Sealed values and keyed hashes. Whoever holds the database without the key ring learns neither
//! what is in a sealed column nor which value stands behind a hash.
//!
//! A key-encryption key, which no database holds, wraps a service's keys; the newest of those wraps a data
//! key for each customer; and that seals. Key-encryption keys and service keys turn, each without the other,
//! and what is sealed stays as it is.
//! Destroying a customer's data keys makes all that they sealed unreadable, in every copy.

mod aead;
mod cache;
mod data_key;
mod kek;
mod ring;
mod secret;
mod service_key;

pub use cache::CacheKeys;
pub use data_key::{DataKey, Keys, Place, Unreadable, named};
pub use kek::KeyEncryption;
pub use ring::{KeyRing, RingError};
pub use secret::Secret;
pub use service_key::{ServiceKeys, WrappedServiceKey};

use std::{collections::HashMap, fmt, sync::RwLock};

use aws_lc_rs::{hkdf, hmac};

/// The keyed hashes of one service, under keys derived from the installation's [`KeyRing`].
pub struct Vault {
    service: &'static str,
    index: hkdf::Prk,
    installation: hkdf::Prk,
    /// The keys of fields that were asked for already: deriving one costs more than the hash.
    fields: RwLock<HashMap<&'static str, hmac::Key>>,
}

impl Vault {
    /// Derives the keys of `service`, which are no other's.
    pub fn new(ring: &KeyRing, service: &'static str) -> Self {
        let salt = |name: &str| hkdf::Salt::new(hkdf::HKDF_SHA256, name.as_bytes());
        let own: [u8; 32] = expand(&salt("index").extract(ring.index()), service);
        Self {
            service,
            index: salt("field").extract(&own),
            installation: salt("installation").extract(ring.index()),
            fields: RwLock::default(),
        }
    }

    /// A keyed hash of a value for equality look-ups. Each field has a key of its own, so equal
    /// values of two fields do not show.
    pub fn index(&self, field: &'static str, value: &[u8]) -> [u8; 32] {
        if let Some(key) = self.fields.read().expect("no holder panics").get(field) {
            return sign(key, value);
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, &expand(&self.index, field));
        let hash = sign(&key, value);
        self.fields.write().expect("no holder panics").insert(field, key);
        hash
    }

    /// A key that all services of the installation share, for tokens that travel between them.
    pub fn installation_key(&self, name: &str) -> hmac::Key {
        let key: [u8; 32] = expand(&self.installation, name);
        hmac::Key::new(hmac::HMAC_SHA256, &key)
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({})", self.service)
    }
}

fn sign(key: &hmac::Key, value: &[u8]) -> [u8; 32] {
    hmac::sign(key, value).as_ref().try_into().expect("HMAC-SHA256 is 32 bytes")
}

fn expand(key: &hkdf::Prk, name: &str) -> [u8; 32] {
    let mut out = [0; 32];
    key.expand(&[name.as_bytes()], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut out))
        .expect("32 bytes are within the reach of HKDF-SHA256");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(service: &'static str) -> Vault {
        Vault::new(&KeyRing::from_bytes(1, [7; 32], [9; 32]), service)
    }

    #[test]
    fn equal_values_of_two_fields_or_services_do_not_show() {
        let contact = vault("contact");
        assert_eq!(contact.index("email", b"x"), contact.index("email", b"x"));
        assert_ne!(contact.index("email", b"x"), contact.index("phone", b"x"));
        assert_ne!(contact.index("email", b"x"), vault("profile").index("email", b"x"));
    }
}
