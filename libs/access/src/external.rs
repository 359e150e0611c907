use std::{
    path::PathBuf,
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use aws_lc_rs::digest;
use error::{Failure, reason};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, get_current_timestamp, jwk::JwkSet};
use quick_cache::sync::Cache;
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::{Caller, Purpose};

/// How long a verified token is believed without another look: a signature check costs as much as
/// a whole echo.
const CACHE_LIFETIME: Duration = Duration::from_secs(60);
/// An unknown key id makes the key set be read again, at most this often.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);

/// Where the public keys of the callers' tokens come from.
#[derive(Clone, Debug)]
pub enum Jwks {
    /// A file.
    File(PathBuf),
    /// An `https://` URL, or `http://` on a trusted network.
    Url(String),
}

impl Jwks {
    /// A URL when it looks like one, else a file.
    pub fn parse(text: &str) -> Self {
        if text.starts_with("https://") || text.starts_with("http://") {
            Self::Url(text.to_owned())
        } else {
            Self::File(text.into())
        }
    }

    async fn load(&self) -> Result<JwkSet, String> {
        let text = match self {
            Self::File(path) => tokio::fs::read(path).await.map_err(|e| format!("{}: {e}", path.display()))?,
            Self::Url(url) => {
                let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build();
                let answer = client.map_err(|e| e.to_string())?.get(url).send().await;
                let answer = answer.and_then(reqwest::Response::error_for_status).map_err(|e| e.to_string())?;
                answer.bytes().await.map_err(|e| e.to_string())?.to_vec()
            }
        };
        serde_json::from_slice(&text).map_err(|e| format!("not a JSON Web Key Set: {e}"))
    }
}

/// Verifies the tokens of callers from outside (JWT, RFC 7519; keys RFC 7517).
pub struct Authority {
    validation: Validation,
    keys: Arc<Keys>,
    verified: Cache<[u8; 32], Arc<Verified>>,
}

/// The issuer's keys, and when they were last asked for.
struct Keys {
    source: Jwks,
    set: RwLock<Arc<JwkSet>>,
    refreshed: Mutex<Instant>,
    interval: Duration,
}

struct Verified {
    subject: Arc<str>,
    purposes: Vec<String>,
    until: u64,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
    #[serde(default)]
    purposes: Vec<String>,
}

impl Authority {
    /// Reads the keys. Issuer and audience are mandatory, since without them a token for any other
    /// service would open this one.
    pub async fn new(source: Jwks, issuer: &str, audience: &str) -> Result<Self, String> {
        Self::refreshing(source, issuer, audience, REFRESH_INTERVAL).await
    }

    /// The same with another time between two readings of the keys.
    pub async fn refreshing(source: Jwks, issuer: &str, audience: &str, interval: Duration) -> Result<Self, String> {
        if issuer.is_empty() || audience.is_empty() {
            return Err("an issuer and an audience are needed to verify callers' tokens".to_owned());
        }
        let keys = source.load().await?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.algorithms = vec![Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256];
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        validation.validate_nbf = true;
        validation.leeway = 5;
        Ok(Self {
            validation,
            keys: Arc::new(Keys {
                source,
                set: RwLock::new(Arc::new(keys)),
                refreshed: Mutex::new(Instant::now()),
                interval,
            }),
            verified: Cache::new(10_000),
        })
    }

    /// Who calls, if the token holds and allows the purpose.
    pub async fn authenticate(&self, token: &str, purpose: Purpose) -> Result<Caller, Failure> {
        let verified = self.verify(token).await?;
        if !verified.purposes.iter().any(|allowed| allowed == purpose.name()) {
            return Err(reason::PURPOSE_NOT_ALLOWED.into());
        }
        Ok(Caller { subject: verified.subject.clone(), purpose })
    }

    async fn verify(&self, token: &str) -> Result<Arc<Verified>, Failure> {
        let hash = digest::digest(&digest::SHA256, token.as_bytes());
        let hash: [u8; 32] = hash.as_ref().try_into().expect("SHA-256 is 32 bytes");
        if let Some(verified) = self.verified.get(&hash)
            && get_current_timestamp() < verified.until
        {
            return Ok(verified);
        }
        Box::pin(self.look_at(token, hash)).await
    }

    async fn look_at(&self, token: &str, hash: [u8; 32]) -> Result<Arc<Verified>, Failure> {
        let header = decode_header(token).map_err(|_| reason::CREDENTIALS_INVALID)?;
        let key = self.key(header.kid.as_deref(), header.alg).await?;
        let mut validation = self.validation.clone();
        // The library wants all algorithms of one family; the header's is one of ours and the key fits it.
        validation.algorithms.retain(|algorithm| *algorithm == header.alg);
        if validation.algorithms.is_empty() {
            return Err(reason::CREDENTIALS_INVALID.into());
        }
        let claims = decode::<Claims>(token, &key, &validation).map_err(|_| reason::CREDENTIALS_INVALID)?.claims;
        let verified = Arc::new(Verified {
            subject: claims.sub.into(),
            purposes: claims.purposes,
            until: claims.exp.min(get_current_timestamp() + CACHE_LIFETIME.as_secs()),
        });
        self.verified.insert(hash, verified.clone());
        Ok(verified)
    }

    async fn key(&self, id: Option<&str>, algorithm: Algorithm) -> Result<DecodingKey, Failure> {
        if let Some(key) = find(&self.keys.set(), id, algorithm) {
            return Ok(key);
        }
        // In a task of its own, since a caller that goes away would take the refresh with it.
        let keys = self.keys.clone();
        let _ = tokio::spawn(async move { keys.refresh().await }).await;
        find(&self.keys.set(), id, algorithm).ok_or_else(|| reason::CREDENTIALS_INVALID.into())
    }
}

impl Keys {
    fn set(&self) -> Arc<JwkSet> {
        self.set.read().expect("no holder panics").clone()
    }

    /// Reads the keys again, unless somebody just did.
    async fn refresh(&self) {
        let mut refreshed = self.refreshed.lock().await;
        if refreshed.elapsed() < self.interval {
            return;
        }
        match self.source.load().await {
            Ok(keys) => *self.set.write().expect("no holder panics") = Arc::new(keys),
            Err(error) => tracing::warn!(%error, "the key set could not be read again"),
        }
        *refreshed = Instant::now();
    }
}

/// The key with that id; without an id, the only key of the set.
fn find(keys: &JwkSet, id: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
    let jwk = match id {
        Some(id) => keys.find(id)?,
        None => match keys.keys.as_slice() {
            [only] => only,
            _ => return None,
        },
    };
    let key = DecodingKey::from_jwk(jwk).ok()?;
    (key.family() == algorithm.family()).then_some(key)
}
