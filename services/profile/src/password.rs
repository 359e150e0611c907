//! Passwords: what is kept of them, and whether one is right. The work is made heavy on purpose, so it runs beside
//! the calls, at most one at a time for each core.

use std::{
    sync::{Arc, LazyLock},
    thread::available_parallelism,
};

use argon2::{
    Argon2, PasswordHasher, PasswordVerifier,
    password_hash::{Error, phc::PasswordHash},
};
use error::reason::INTERNAL_ERROR;
use store::{Fault, Result};
use tokio::{sync::Semaphore, task::spawn_blocking};
use uuid::Uuid;
use vault::Vault;
use zeroize::Zeroizing;

static WORKERS: LazyLock<Arc<Semaphore>> =
    LazyLock::new(|| Arc::new(Semaphore::new(available_parallelism().map_or(1, usize::from))));

/// A password as it goes into the verifier: without the key ring, a verifier cannot be tried against guesses.
pub struct Peppered(Zeroizing<Vec<u8>>);

impl Peppered {
    pub fn new(vault: &Vault, customer: Uuid, password: &str) -> Self {
        let said = Zeroizing::new([customer.as_bytes(), password.as_bytes()].concat());
        Self(Zeroizing::new(vault.index("accounts.password", &said).to_vec()))
    }

    /// The verifier as RFC 9106 and the PHC string format have it, with the parameters that OWASP's cheat sheet asks for:
    /// Argon2id, 19 MiB, two passes, one lane, a salt of its own.
    pub async fn verifier(self) -> Result<String> {
        beside(move || Ok(Argon2::default().hash_password(&self.0)?.to_string())).await
    }

    /// Whether a verifier is of this password.
    pub async fn fits(self, verifier: String) -> Result<bool> {
        beside(move || match Argon2::default().verify_password(&self.0, &PasswordHash::new(&verifier)?) {
            Ok(()) => Ok(true),
            Err(Error::PasswordInvalid) => Ok(false),
            Err(error) => Err(error),
        })
        .await
    }
}

async fn beside<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T> {
    let permit = WORKERS.clone().acquire_owned().await.map_err(|_| Fault::from(INTERNAL_ERROR))?;
    // The work goes on when its caller has gone, and so does its permit.
    let work = move || {
        let _permit = permit;
        work()
    };
    let done = spawn_blocking(work).await.map_err(|_| Fault::from(INTERNAL_ERROR))?;
    done.map_err(|error| {
        tracing::error!(%error, "a password could not be worked on");
        INTERNAL_ERROR.into()
    })
}
