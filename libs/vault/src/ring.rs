use std::{collections::BTreeMap, fmt, io, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use zeroize::ZeroizeOnDrop;

use crate::Secret;

/// The installation's secrets: key-encryption keys by number, of which one is current, and the key of the
/// hashes, which stays while the hashes do.
#[derive(Clone, ZeroizeOnDrop)]
pub struct KeyRing {
    #[zeroize(skip)]
    pub(crate) current: u32,
    #[zeroize(skip)]
    pub(crate) sealing: BTreeMap<u32, Secret>,
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
        Self { current: 1, sealing: BTreeMap::from([(1, Secret::random())]), index: Secret::random() }
    }

    /// A ring with one given sealing key.
    pub fn from_bytes(current: u32, sealing: [u8; 32], index: [u8; 32]) -> Self {
        Self { current, sealing: BTreeMap::from([(current, Secret::new(sealing))]), index: Secret::new(index) }
    }

    /// Adds a new sealing key and makes it current; what was sealed before still opens.
    pub fn rotate(&mut self) {
        self.current += 1;
        self.sealing.insert(self.current, Secret::random());
    }

    /// Reads a ring from its file.
    pub fn read(path: &Path) -> Result<Self, RingError> {
        Self::parse(&std::fs::read(path)?)
    }

    /// Reads a ring from the text of its file, which may come from the environment.
    pub fn parse(text: &[u8]) -> Result<Self, RingError> {
        let file: File =
            serde_json::from_slice(text).map_err(|_| RingError::Malformed("not the JSON of a key ring"))?;
        let sealing: BTreeMap<_, _> =
            file.sealing.iter().map(|(id, text)| Ok((*id, parse(text)?))).collect::<Result<_, RingError>>()?;
        if !sealing.contains_key(&file.current) {
            return Err(RingError::Malformed("the current key is not among the sealing keys"));
        }
        Ok(Self { current: file.current, sealing, index: parse(&file.index)? })
    }

    /// The file's contents, to be kept where only the services can read it.
    pub fn to_json(&self) -> String {
        let file = File {
            current: self.current,
            sealing: self.sealing.iter().map(|(id, secret)| (*id, BASE64_STANDARD.encode(secret.bytes()))).collect(),
            index: BASE64_STANDARD.encode(self.index.bytes()),
        };
        serde_json::to_string_pretty(&file).expect("a map of strings is JSON")
    }

    pub(crate) fn current(&self) -> u32 {
        self.current
    }

    pub(crate) fn sealing(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.sealing.iter().map(|(id, secret)| (*id, secret.bytes().as_slice()))
    }

    pub(crate) fn index(&self) -> &[u8] {
        self.index.bytes()
    }
}

fn parse(text: &str) -> Result<Secret, RingError> {
    let secret = BASE64_STANDARD.decode(text).ok().and_then(|bytes| Secret::try_from(bytes).ok());
    secret.ok_or(RingError::Malformed("a secret is not 32 bytes in base64"))
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRing(…)")
    }
}
