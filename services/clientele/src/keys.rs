//! The secrets of an installation on one machine, made when it first starts.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use access::PURPOSES;
use anyhow::Context;
use aws_lc_rs::{
    rand,
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp, jwk::JwkSet};
use serde_json::json;
use vault::KeyRing;

use crate::suite::SERVICES;

/// The issuer of this machine's own tokens.
pub const ISSUER: &str = "clientele-development";
/// The audience of this machine's own tokens.
pub const AUDIENCE: &str = "clientele";

/// Where the keys are, and the passwords of the database roles.
pub struct Keys {
    folder: PathBuf,
    /// The password of each service's role.
    pub passwords: BTreeMap<String, String>,
    /// The password of the private database's owner.
    pub owner_password: String,
    /// The password of each process in the private Redis.
    pub redis_passwords: BTreeMap<String, String>,
}

impl Keys {
    /// Reads the keys in a state folder, or makes them.
    pub fn load_or_create(state: &Path) -> anyhow::Result<Self> {
        let folder = state.join("keys");
        if !folder.join("passwords.json").exists() {
            fs::create_dir_all(&folder)?;
            secret(&folder.join("key-ring.json"), KeyRing::generate().to_json().as_bytes())?;
            secret(&folder.join("internal.key"), random(32).as_bytes())?;
            let pair = Ed25519KeyPair::generate().context("no key pair could be made")?;
            secret(&folder.join("callers.der"), pair.to_pkcs8()?.as_ref())?;
            let x = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
            // Another installation's key has another id, so whoever changes over fetches it.
            let kid = format!("development-{}", random(6));
            let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "alg": "EdDSA", "use": "sig"});
            fs::write(folder.join("jwks.json"), json!({ "keys": [jwk] }).to_string())?;
            // Written last: the folder is whole when this file is there.
            fill(&folder.join("passwords.json"), "owner")?;
        }
        // An installation from before there was a cache has none yet, and a service that is new since no password.
        let cache = folder.join("cache-key-ring.json");
        if !cache.exists() {
            secret(&cache, KeyRing::generate().to_json().as_bytes())?;
        }
        fill(&folder.join("passwords.json"), "owner")?;
        fill(&folder.join("redis-passwords.json"), gateway::NAME)?;
        Self::load(state)
    }

    /// Reads the keys in a state folder.
    pub fn load(state: &Path) -> anyhow::Result<Self> {
        let folder = state.join("keys");
        let text = fs::read(folder.join("passwords.json"))
            .with_context(|| format!("there is no installation in {}; start one with clientele up", state.display()))?;
        let mut passwords: BTreeMap<String, String> = serde_json::from_slice(&text)?;
        let owner_password = passwords.remove("owner").context("the owner's password is missing")?;
        let redis_passwords = fs::read(folder.join("redis-passwords.json")).unwrap_or_else(|_| b"{}".to_vec());
        Ok(Self { redis_passwords: serde_json::from_slice(&redis_passwords)?, folder, passwords, owner_password })
    }

    /// The key ring that seals.
    pub fn key_ring_file(&self) -> PathBuf {
        self.folder.join("key-ring.json")
    }

    /// The secret between processes.
    pub fn internal_key_file(&self) -> PathBuf {
        self.folder.join("internal.key")
    }

    /// The keys of what is cached.
    pub fn cache_key_file(&self) -> PathBuf {
        self.folder.join("cache-key-ring.json")
    }

    /// The public keys of callers' tokens.
    pub fn jwks_file(&self) -> PathBuf {
        self.folder.join("jwks.json")
    }

    /// Signs a caller's token; without purposes it allows all.
    pub fn token(&self, subject: &str, purposes: &[String], hours: u64) -> anyhow::Result<String> {
        let key = EncodingKey::from_ed_der(&fs::read(self.folder.join("callers.der"))?);
        let keys: JwkSet = serde_json::from_slice(&fs::read(self.jwks_file())?)?;
        let kid = keys.keys.first().and_then(|key| key.common.key_id.clone());
        let header = Header { kid, ..Header::new(Algorithm::EdDSA) };
        let all: Vec<String> = PURPOSES.iter().map(|purpose| (*purpose).to_owned()).collect();
        let purposes = if purposes.is_empty() { &all } else { purposes };
        let exp = get_current_timestamp() + hours * 3600;
        let claims = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "purposes": purposes, "exp": exp});
        Ok(encode(&header, &claims, &key)?)
    }
}

/// Makes the passwords that a file does not have yet: one for each service, and one more.
fn fill(file: &Path, more: &'static str) -> anyhow::Result<()> {
    let known = if file.exists() { fs::read(file)? } else { b"{}".to_vec() };
    let mut passwords: BTreeMap<String, String> = serde_json::from_slice(&known)?;
    let names = || SERVICES.into_iter().chain([more]);
    if names().any(|name| !passwords.contains_key(name)) {
        for name in names() {
            passwords.entry(name.to_owned()).or_insert_with(|| random(24));
        }
        secret(file, serde_json::to_string_pretty(&passwords)?.as_bytes())?;
    }
    Ok(())
}

/// A file that only its owner can read.
pub fn secret(path: &Path, contents: &[u8]) -> anyhow::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(file.write_all(contents)?)
}

fn random(bytes: usize) -> String {
    let mut secret = vec![0; bytes];
    rand::fill(&mut secret).expect("the system's random source answers");
    BASE64_URL_SAFE_NO_PAD.encode(secret)
}
