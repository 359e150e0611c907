use std::{collections::BTreeMap, fmt, io, path::Path};

use aws_lc_rs::rand;
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The installation's secrets: sealing keys by number, of which one is current, and the key of the
/// hashes, which stays while the hashes do.
#[derive(Clone, ZeroizeOnDrop)]
pub struct KeyRing {
    #[zeroize(skip)]
    current: u32,
    #[zeroize(skip)]
    sealing: BTreeMap<u32, Secret>,
    index: Secret,
}

/// Why a key ring could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The file could not be read.
    #[error("the key ring could not be read: {0}")]
    Io(#[from] io::Error),
    /// The file is no key ring.
    #[error("the key ring is malformed: {0}")]
    Malformed(&'static str),
}

#[derive(Clone, Zeroize, ZeroizeOnDrop)]
struct Secret([u8; 32]);

/// The file's form: JSON with base64 secrets of 32 bytes.
#[derive(Deserialize, Serialize)]
struct File {
    current: u32,
    sealing: BTreeMap<u32, String>,
    index: String,
}

impl KeyRing {
    /// Makes a ring with one new sealing key.
    pub fn generate() -> Self {
        Self::from_bytes(1, Secret::random().0, Secret::random().0)
    }

    /// A ring with one given sealing key.
    pub fn from_bytes(current: u32, sealing: [u8; 32], index: [u8; 32]) -> Self {
        Self { current, sealing: BTreeMap::from([(current, Secret(sealing))]), index: Secret(index) }
    }

    /// Adds a new sealing key and makes it current; what was sealed before still opens.
    pub fn rotate(&mut self) {
        self.current += 1;
        self.sealing.insert(self.current, Secret::random());
    }

    /// Reads a ring from its file.
    pub fn read(path: &Path) -> Result<Self, RingError> {
        let text = std::fs::read(path)?;
        let file: File =
            serde_json::from_slice(&text).map_err(|_| RingError::Malformed("not the JSON of a key ring"))?;
        let sealing: BTreeMap<_, _> =
            file.sealing.iter().map(|(id, text)| Ok((*id, Secret::parse(text)?))).collect::<Result<_, RingError>>()?;
        if !sealing.contains_key(&file.current) {
            return Err(RingError::Malformed("the current key is not among the sealing keys"));
        }
        Ok(Self { current: file.current, sealing, index: Secret::parse(&file.index)? })
    }

    /// The file's contents, to be kept where only the services can read it.
    pub fn to_json(&self) -> String {
        let file = File {
            current: self.current,
            sealing: self.sealing.iter().map(|(id, secret)| (*id, BASE64_STANDARD.encode(secret.0))).collect(),
            index: BASE64_STANDARD.encode(self.index.0),
        };
        serde_json::to_string_pretty(&file).expect("a map of strings is JSON")
    }

    pub(crate) fn current(&self) -> u32 {
        self.current
    }

    pub(crate) fn sealing(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.sealing.iter().map(|(id, secret)| (*id, secret.0.as_slice()))
    }

    pub(crate) fn index(&self) -> &[u8] {
        &self.index.0
    }
}

impl Secret {
    fn random() -> Self {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).expect("the system's random source answers");
        Self(bytes)
    }

    fn parse(text: &str) -> Result<Self, RingError> {
        let bytes = BASE64_STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(RingError::Malformed("a secret is not 32 bytes in base64"))
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRing(…)")
    }
}
