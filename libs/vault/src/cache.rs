use std::collections::BTreeMap;

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hkdf,
};
use uuid::Uuid;

use crate::{KeyRing, expand};

const FORMAT: u8 = 1;
const HEADER: usize = 1 + 4 + NONCE_LEN;

/// The keys of what is cached, derived for each customer and service from a ring of their own that
/// owners and gateway share. No key of the database opens a cached value, nor the other way round.
pub struct CacheKeys {
    current: u32,
    masters: BTreeMap<u32, hkdf::Prk>,
}

impl CacheKeys {
    /// Derives from a ring. Values of its older keys still open.
    pub fn new(ring: &KeyRing) -> Self {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"cache");
        Self {
            current: ring.current(),
            masters: ring.sealing().map(|(id, secret)| (id, salt.extract(secret))).collect(),
        }
    }

    /// Seals a value of a customer and service.
    pub fn seal(&self, customer: Uuid, service: &str, value: &[u8]) -> Vec<u8> {
        let key = self.key(self.current, customer, service).expect("the current key is in the ring");
        let mut sealed = vec![FORMAT];
        sealed.extend(self.current.to_be_bytes());
        let mut body = value.to_vec();
        let nonce = key.seal_in_place_append_tag(Aad::empty(), &mut body).expect("a section is short");
        sealed.extend(nonce.as_ref());
        sealed.extend(body);
        sealed
    }

    /// Opens what was sealed for this customer and service and is whole; `None` for anything else,
    /// which a cache may always say.
    pub fn open(&self, customer: Uuid, service: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (header, body) = sealed.split_at_checked(HEADER)?;
        let (&FORMAT, header) = header.split_first()? else { return None };
        let (id, nonce) = header.split_first_chunk()?;
        let key = self.key(u32::from_be_bytes(*id), customer, service)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = body.to_vec();
        let length = key.open_in_place(nonce, Aad::empty(), &mut body).ok()?.len();
        body.truncate(length);
        Some(body)
    }

    fn key(&self, id: u32, customer: Uuid, service: &str) -> Option<RandomizedNonceKey> {
        let key = expand(self.masters.get(&id)?, &format!("{customer} {service}"));
        RandomizedNonceKey::new(&AES_256_GCM_SIV, &key).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cached_value_opens_for_its_customer_and_service_alone_and_outlives_a_rotation() {
        let mut ring = KeyRing::from_bytes(1, [7; 32], [9; 32]);
        let (customer, other) = (Uuid::now_v7(), Uuid::now_v7());
        let sealed = CacheKeys::new(&ring).seal(customer, "profile", b"Ada");
        ring.rotate();
        let keys = CacheKeys::new(&ring);
        assert_eq!(keys.open(customer, "profile", &sealed).unwrap(), b"Ada");
        assert!(keys.open(other, "profile", &sealed).is_none());
        assert!(keys.open(customer, "contact", &sealed).is_none());
        for i in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[i] ^= 1;
            assert!(keys.open(customer, "profile", &altered).is_none());
            assert!(keys.open(customer, "profile", &sealed[..i]).is_none());
        }
        assert_ne!(keys.seal(customer, "profile", b"Ada")[..5], sealed[..5]);
    }
}
