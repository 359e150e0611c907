use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use uuid::Uuid;

use crate::Vault;

const FORMAT: u8 = 1;
const HEADER: usize = 1 + 4 + NONCE_LEN;

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

/// A value that does not open: truncated, altered, moved, or sealed under a key that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sealed value could not be opened")]
pub struct Unreadable;

impl Vault {
    /// Seals a value with AES-256-GCM-SIV: format, key id, nonce, ciphertext, tag. A nonce that
    /// repeats by chance reveals only whether two values of one place are equal (RFC 8452).
    pub fn seal(&self, place: Place, value: &[u8]) -> Vec<u8> {
        let aad = self.associated(self.current, place);
        let mut body = value.to_vec();
        let nonce = self.sealing[&self.current]
            .seal_in_place_append_tag(Aad::from(aad), &mut body)
            .expect("a value in memory is below the cipher's limit");
        let mut sealed = Vec::with_capacity(HEADER + body.len());
        sealed.push(FORMAT);
        sealed.extend(self.current.to_be_bytes());
        sealed.extend(nonce.as_ref());
        sealed.append(&mut body);
        sealed
    }

    /// Opens what [`seal`](Self::seal) made for the same place.
    pub fn open(&self, place: Place, sealed: &[u8]) -> Result<Vec<u8>, Unreadable> {
        let (header, body) = sealed.split_at_checked(HEADER).ok_or(Unreadable)?;
        if header[0] != FORMAT {
            return Err(Unreadable);
        }
        let id = u32::from_be_bytes(header[1..5].try_into().map_err(|_| Unreadable)?);
        let nonce = Nonce::try_assume_unique_for_key(&header[5..]).map_err(|_| Unreadable)?;
        let key = self.sealing.get(&id).ok_or(Unreadable)?;
        let mut body = body.to_vec();
        let length =
            key.open_in_place(nonce, Aad::from(self.associated(id, place)), &mut body).map_err(|_| Unreadable)?.len();
        body.truncate(length);
        Ok(body)
    }

    fn associated(&self, key: u32, place: Place) -> Vec<u8> {
        let mut out = key.to_be_bytes().to_vec();
        for name in [self.service, place.table, place.column] {
            out.extend(name.as_bytes());
            out.push(0);
        }
        out.extend(place.row.as_bytes());
        out
    }
}
