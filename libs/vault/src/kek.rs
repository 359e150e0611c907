use std::{future::ready, io};

use futures_util::future::BoxFuture;

use crate::{KeyRing, aead, secret::Secret};

/// What wraps the service keys: the ring in a file or in the environment, or a key-management service,
/// whose calls to encrypt and to decrypt have this shape. It is asked when a process starts and when
/// a service key is turned, never for a call.
pub trait KeyEncryption: Send + Sync {
    /// The name of the key that wraps from now on.
    fn current(&self) -> String;

    /// Wraps a secret under the current key, for one context alone.
    fn wrap<'a>(&'a self, context: &'a str, secret: &'a Secret) -> BoxFuture<'a, io::Result<Vec<u8>>>;

    /// Unwraps what a named key has wrapped for the same context.
    fn unwrap<'a>(&'a self, key: &'a str, context: &'a str, wrapped: &'a [u8]) -> BoxFuture<'a, io::Result<Secret>>;
}

impl KeyEncryption for KeyRing {
    fn current(&self) -> String {
        self.current.to_string()
    }

    fn wrap<'a>(&'a self, context: &'a str, secret: &'a Secret) -> BoxFuture<'a, io::Result<Vec<u8>>> {
        let wrapped = aead::seal(&self.sealing[&self.current], context.as_bytes(), secret.bytes());
        Box::pin(ready(Ok(wrapped)))
    }

    fn unwrap<'a>(&'a self, key: &'a str, context: &'a str, wrapped: &'a [u8]) -> BoxFuture<'a, io::Result<Secret>> {
        let known = key.parse().ok().and_then(|key: u32| self.sealing.get(&key));
        let unwrapped =
            known.ok_or_else(|| io::Error::other(format!("key-encryption key {key} is not in the key ring")));
        let unwrapped = unwrapped.and_then(|known| {
            let secret =
                aead::open(known, context.as_bytes(), wrapped).and_then(|secret| Secret::try_from(secret).ok());
            secret.ok_or_else(|| io::Error::other(format!("key-encryption key {key} of the key ring does not open it")))
        });
        Box::pin(ready(unwrapped))
    }
}
