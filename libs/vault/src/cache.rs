use std::{collections::BTreeMap, ops::Range};

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hkdf,
};
use uuid::Uuid;

use crate::{KeyRing, expand};

const FORMAT: u8 = 1;
const HEADER: usize = 1 + 4 + NONCE_LEN;

/// The keys of what is cached, from a ring of their own that owners and gateway share. No key of the
/// database opens a cached value, nor the other way round. A value is bound to its customer and service
/// by associated data; the cipher derives a key for each value from its nonce (RFC 8452).
pub struct CacheKeys {
    current: u32,
    keys: BTreeMap<u32, RandomizedNonceKey>,
}

impl CacheKeys {
    /// Derives from a ring. Values of its older keys still open.
    pub fn new(ring: &KeyRing) -> Self {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"cache");
        let key = |secret: &[u8]| {
            let key: [u8; 32] = expand(&salt.extract(secret), "section");
            RandomizedNonceKey::new(&AES_256_GCM_SIV, &key).expect("a 32-byte key fits AES-256")
        };
        Self { current: ring.current(), keys: ring.sealing().map(|(id, secret)| (id, key(secret))).collect() }
    }

    /// Seals a value of a customer and service.
    pub fn seal(&self, customer: Uuid, service: &str, value: &[u8]) -> Vec<u8> {
        let mut body = value.to_vec();
        let aad = Aad::from(associated(self.current, customer, service));
        let nonce = self.keys[&self.current].seal_in_place_append_tag(aad, &mut body).expect("a section is short");
        let mut sealed = Vec::with_capacity(HEADER + body.len());
        sealed.push(FORMAT);
        sealed.extend(self.current.to_be_bytes());
        sealed.extend(nonce.as_ref());
        sealed.extend(body);
        sealed
    }

    /// Opens in its place what was sealed for this customer and service and is whole, and says where the
    /// value now stands; `None` for anything else, which a cache may always say.
    pub fn open(&self, customer: Uuid, service: &str, sealed: &mut [u8]) -> Option<Range<usize>> {
        let (header, body) = sealed.split_at_mut_checked(HEADER)?;
        let (&mut FORMAT, header) = header.split_first_mut()? else { return None };
        let (id, nonce) = header.split_first_chunk()?;
        let id = u32::from_be_bytes(*id);
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let aad = Aad::from(associated(id, customer, service));
        let length = self.keys.get(&id)?.open_in_place(nonce, aad, body).ok()?.len();
        Some(HEADER..HEADER + length)
    }
}

fn associated(key: u32, customer: Uuid, service: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    out.extend(key.to_be_bytes());
    out.extend(customer.as_bytes());
    out.extend(service.as_bytes());
    out
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
        let open = |customer, service, sealed: &[u8]| {
            let mut sealed = sealed.to_vec();
            keys.open(customer, service, &mut sealed).map(|value| sealed[value].to_vec())
        };
        assert_eq!(open(customer, "profile", &sealed).unwrap(), b"Ada");
        assert!(open(other, "profile", &sealed).is_none());
        assert!(open(customer, "contact", &sealed).is_none());
        for i in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[i] ^= 1;
            assert!(open(customer, "profile", &altered).is_none());
            assert!(open(customer, "profile", &sealed[..i]).is_none());
        }
        assert_ne!(keys.seal(customer, "profile", b"Ada")[..5], sealed[..5]);
    }
}
