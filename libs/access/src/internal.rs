use std::{io, path::Path, sync::Arc, time::Duration};

use error::{Failure, reason};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode, get_current_timestamp};
use serde::{Deserialize, Serialize};
use tonic::metadata::{Ascii, MetadataValue};

use crate::{Caller, Purpose};

/// The audience of every internal token.
pub const INTERNAL_AUDIENCE: &str = "clientele-internal";

const LIFETIME: Duration = Duration::from_secs(60);

/// The secret with which the processes of one installation prove themselves to each other. Whoever
/// holds it can speak as any of them, so it lives in a file that only they can read.
#[derive(Clone)]
pub struct InternalKey {
    service: &'static str,
    sign: EncodingKey,
    verify: DecodingKey,
    validation: Arc<Validation>,
}

#[derive(Deserialize, Serialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    purpose: String,
    exp: u64,
}

impl InternalKey {
    /// The key of `service` from the secret of the installation.
    pub fn new(service: &'static str, secret: &[u8]) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[INTERNAL_AUDIENCE]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        validation.leeway = 5;
        Self {
            service,
            sign: EncodingKey::from_secret(secret),
            verify: DecodingKey::from_secret(secret),
            validation: Arc::new(validation),
        }
    }

    /// Reads the secret from its file, at least 32 bytes.
    pub fn read(service: &'static str, path: &Path) -> io::Result<Self> {
        let secret = std::fs::read(path)?;
        if secret.len() < 32 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the internal key is shorter than 32 bytes"));
        }
        Ok(Self::new(service, &secret))
    }

    /// The `authorization` of a call on behalf of `caller`, good for a minute.
    pub fn authorization(&self, caller: &Caller) -> MetadataValue<Ascii> {
        let claims = Claims {
            iss: self.service.to_owned(),
            aud: INTERNAL_AUDIENCE.to_owned(),
            sub: caller.subject.to_string(),
            purpose: caller.purpose.name().to_owned(),
            exp: get_current_timestamp() + LIFETIME.as_secs(),
        };
        let token = encode(&Header::new(Algorithm::HS256), &claims, &self.sign).expect("strings are JSON");
        format!("Bearer {token}").parse().expect("a JWT is ASCII")
    }

    /// Who calls, by a token that a process of this installation has signed.
    pub fn verify(&self, token: &str) -> Result<Caller, Failure> {
        let claims =
            decode::<Claims>(token, &self.verify, &self.validation).map_err(|_| reason::CREDENTIALS_INVALID)?.claims;
        Ok(Caller { subject: claims.sub.into(), purpose: Purpose::parse(&claims.purpose)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_only_under_the_key_that_signed_it() {
        let caller = Caller { subject: "shop".into(), purpose: Purpose::parse("service").unwrap() };
        let key = InternalKey::new("gateway", &[1; 32]);
        let header = key.authorization(&caller);
        let token = header.to_str().unwrap().strip_prefix("Bearer ").unwrap();
        assert_eq!(InternalKey::new("loyalty", &[1; 32]).verify(token).unwrap().subject.as_ref(), "shop");
        let refused = InternalKey::new("loyalty", &[2; 32]).verify(token).unwrap_err();
        assert_eq!(refused.reason(), reason::CREDENTIALS_INVALID);
    }
}
