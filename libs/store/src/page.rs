use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use error::{Failure, reason};
use serde::{Serialize, de::DeserializeOwned};

use crate::Db;

const MAC: usize = 16;

/// How many items a page has: what was asked for, up to the limit, or the default for 0.
pub fn page_size(asked: i32, default: i64) -> i64 {
    if asked == 0 { default } else { i64::from(asked) }
}

/// A page of a listing: the items and the token of the next page.
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Empty on the last page.
    pub next_page_token: String,
}

impl Db {
    /// Reads the cursor of a page token. A token belongs to one listing, named by its method and
    /// what it lists, and to no other.
    pub fn cursor<C: DeserializeOwned>(&self, listing: &str, token: &str) -> Result<Option<C>, Failure> {
        if token.is_empty() {
            return Ok(None);
        }
        let cursor = || {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
            let (mac, body) = bytes.split_at_checked(MAC)?;
            verify_slices_are_equal(&self.page_mac(listing, body), mac).ok()?;
            serde_json::from_slice(body).ok()
        };
        cursor().map(Some).ok_or_else(|| reason::PAGE_TOKEN_INVALID.into())
    }

    /// Cuts rows into a page. They were read with one more than the page holds: if it is there,
    /// there is a next page, behind the cursor of the last item.
    pub fn page<T, C: Serialize>(
        &self,
        listing: &str,
        mut items: Vec<T>,
        size: i64,
        cursor: impl Fn(&T) -> C,
    ) -> Page<T> {
        let more = items.len() as i64 > size;
        items.truncate(size as usize);
        let next_page_token = match items.last() {
            Some(last) if more => self.page_token(listing, &cursor(last)),
            _ => String::new(),
        };
        Page { items, next_page_token }
    }

    /// The token of a page that goes on behind a cursor.
    pub fn page_token(&self, listing: &str, cursor: &impl Serialize) -> String {
        let body = serde_json::to_vec(cursor).expect("a cursor is a tuple of ids and times");
        let mac = self.page_mac(listing, &body);
        BASE64_URL_SAFE_NO_PAD.encode([mac.as_slice(), &body].concat())
    }

    fn page_mac(&self, listing: &str, body: &[u8]) -> [u8; MAC] {
        let tag = hmac::sign(&self.0.page_key, &[listing.as_bytes(), &[0], body].concat());
        *tag.as_ref().first_chunk().expect("HMAC-SHA256 is 32 bytes")
    }
}
