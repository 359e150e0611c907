//! Sealed values and keyed hashes. Whoever holds the database without the key ring learns neither
//! what is in a sealed column nor which value stands behind a hash.

mod cache;
mod ring;
mod sealed;

pub use cache::CacheKeys;
pub use ring::{KeyRing, RingError};
pub use sealed::{Place, Unreadable};

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::{aead, hkdf, hmac};

/// The keys of one service, derived from the installation's [`KeyRing`].
pub struct Vault {
    service: &'static str,
    current: u32,
    sealing: BTreeMap<u32, aead::RandomizedNonceKey>,
    index: hkdf::Prk,
    installation: hkdf::Prk,
}

impl Vault {
    /// Derives the keys of `service`, which open nothing of another service.
    pub fn new(ring: &KeyRing, service: &'static str) -> Self {
        let salt = |name: &str| hkdf::Salt::new(hkdf::HKDF_SHA256, name.as_bytes());
        let sealing = ring
            .sealing()
            .map(|(id, secret)| {
                let key: [u8; 32] = expand(&salt("seal").extract(secret), service);
                let key = aead::RandomizedNonceKey::new(&aead::AES_256_GCM_SIV, &key);
                (id, key.expect("a 32-byte key fits AES-256"))
            })
            .collect();
        let own: [u8; 32] = expand(&salt("index").extract(ring.index()), service);
        Self {
            service,
            current: ring.current(),
            sealing,
            index: salt("field").extract(&own),
            installation: salt("installation").extract(ring.index()),
        }
    }

    /// A keyed hash of a value for equality look-ups. Each field has a key of its own, so equal
    /// values of two fields do not show.
    pub fn index(&self, field: &str, value: &[u8]) -> [u8; 32] {
        sign(&expand(&self.index, field), value)
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

fn sign(key: &[u8; 32], value: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), value);
    tag.as_ref().try_into().expect("HMAC-SHA256 is 32 bytes")
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
    use uuid::Uuid;

    fn vault(service: &'static str) -> Vault {
        Vault::new(&KeyRing::from_bytes(1, [7; 32], [9; 32]), service)
    }

    #[test]
    fn a_sealed_value_opens_only_in_its_place() {
        let vault = vault("contact");
        let row = Uuid::now_v7();
        let place = Place { table: "contact_points", column: "sealed", row };
        let sealed = vault.seal(place, b"ada@example.org");
        assert_eq!(vault.open(place, &sealed).unwrap(), b"ada@example.org");
        for elsewhere in [
            Place { table: "orders", ..place },
            Place { column: "label", ..place },
            Place { row: Uuid::now_v7(), ..place },
        ] {
            assert_eq!(vault.open(elsewhere, &sealed), Err(Unreadable));
        }
        assert_eq!(self::vault("profile").open(place, &sealed), Err(Unreadable));
    }

    #[test]
    fn an_altered_or_truncated_value_does_not_open() {
        let vault = vault("contact");
        let place = Place { table: "t", column: "c", row: Uuid::nil() };
        let sealed = vault.seal(place, b"secret");
        for i in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[i] ^= 1;
            assert_eq!(vault.open(place, &altered), Err(Unreadable));
            assert_eq!(vault.open(place, &sealed[..i]), Err(Unreadable));
        }
    }

    #[test]
    fn an_old_key_still_opens_after_a_new_one_was_added() {
        let mut ring = KeyRing::from_bytes(1, [7; 32], [9; 32]);
        let place = Place { table: "t", column: "c", row: Uuid::nil() };
        let old = Vault::new(&ring, "contact").seal(place, b"secret");
        ring.rotate();
        let vault = Vault::new(&ring, "contact");
        assert_eq!(vault.open(place, &old).unwrap(), b"secret");
        assert_ne!(vault.seal(place, b"secret")[..5], old[..5]);
    }

    #[test]
    fn equal_values_of_two_fields_or_services_do_not_show() {
        let contact = vault("contact");
        assert_eq!(contact.index("email", b"x"), contact.index("email", b"x"));
        assert_ne!(contact.index("email", b"x"), contact.index("phone", b"x"));
        assert_ne!(contact.index("email", b"x"), vault("profile").index("email", b"x"));
    }
}
