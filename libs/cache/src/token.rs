use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use uuid::Uuid;

const FORMAT: u8 = 1;
const MAC: usize = 16;

/// What a consistency token says: in this life of the database, this service had given this
/// customer this version.
pub struct Token {
    /// The life of the database.
    pub epoch: [u8; 8],
    /// The service.
    pub service: String,
    /// The customer.
    pub customer: Uuid,
    /// The version.
    pub version: i64,
}

impl Token {
    /// The token as text, with a proof that it is one of ours.
    pub fn encode(&self, key: &hmac::Key) -> String {
        let mut bytes = vec![FORMAT];
        bytes.extend(self.epoch);
        bytes.extend(self.customer.as_bytes());
        bytes.extend(self.version.to_be_bytes());
        bytes.extend(self.service.as_bytes());
        let mac = hmac::sign(key, &bytes);
        bytes.extend(&mac.as_ref()[..MAC]);
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a token that is one of ours.
    pub fn decode(text: &str, key: &hmac::Key) -> Option<Self> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let (body, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC)?)?;
        let expected = hmac::sign(key, body);
        aws_lc_rs::constant_time::verify_slices_are_equal(&expected.as_ref()[..MAC], mac).ok()?;
        Self::parse(body)
    }

    /// Reads what a token demands without its proof. A demand only makes a read fresher, so nobody
    /// gains by a forged one.
    pub fn demand(text: &str) -> Option<Self> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        Self::parse(bytes.get(..bytes.len().checked_sub(MAC)?)?)
    }

    fn parse(body: &[u8]) -> Option<Self> {
        let (&FORMAT, body) = body.split_first()? else { return None };
        let (epoch, body) = body.split_first_chunk()?;
        let (customer, body) = body.split_first_chunk()?;
        let (version, service) = body.split_first_chunk()?;
        Some(Self {
            epoch: *epoch,
            service: String::from_utf8(service.to_vec()).ok()?,
            customer: Uuid::from_bytes(*customer),
            version: i64::from_be_bytes(*version),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_was_altered_is_none_of_ours() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]);
        let token = Token { epoch: [1; 8], service: "loyalty".into(), customer: Uuid::now_v7(), version: 7 };
        let text = token.encode(&key);
        assert_eq!(Token::decode(&text, &key).unwrap().version, 7);
        assert_eq!(Token::demand(&text).unwrap().service, "loyalty");
        let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(&text).unwrap();
        for i in 0..bytes.len() {
            bytes[i] ^= 1;
            assert!(Token::decode(&BASE64_URL_SAFE_NO_PAD.encode(&bytes), &key).is_none());
            bytes[i] ^= 1;
            assert!(Token::decode(&BASE64_URL_SAFE_NO_PAD.encode(&bytes[..i]), &key).is_none());
        }
    }
}
