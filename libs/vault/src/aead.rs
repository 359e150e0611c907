//! AES-256-GCM-SIV, in which a nonce that repeats by chance reveals only whether two values are equal
//! (RFC 8452).

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};

use crate::secret::Secret;

fn key(secret: &Secret) -> RandomizedNonceKey {
    RandomizedNonceKey::new(&AES_256_GCM_SIV, secret.bytes()).expect("a 32-byte key fits AES-256")
}

/// Nonce, ciphertext, tag.
pub(crate) fn seal(secret: &Secret, associated: &[u8], value: &[u8]) -> Vec<u8> {
    let mut body = value.to_vec();
    let nonce = key(secret).seal_in_place_append_tag(Aad::from(associated), &mut body);
    let mut sealed = nonce.expect("a value in memory is below the cipher's limit").as_ref().to_vec();
    sealed.append(&mut body);
    sealed
}

/// What was sealed, if it is whole and was sealed for this.
pub(crate) fn open(secret: &Secret, associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, body) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut body = body.to_vec();
    let length = key(secret).open_in_place(nonce, Aad::from(associated), &mut body).ok()?.len();
    body.truncate(length);
    Some(body)
}
