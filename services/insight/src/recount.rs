//! The recount of the whole base, which keeps the edges of scores true.

use std::time::{Duration, Instant};

use access::Call;
use store::Fault;

use crate::store::Store;

/// Two recounts are at least so far apart.
const PAUSE: Duration = Duration::from_secs(1);
/// And so many times as long as one takes, so that a great base is not counted all the time.
const SHARE: u32 = 50;

/// Recounts whenever something has changed, for as long as the pool is open.
pub async fn keep(store: Store, call: Call) {
    while !store.db.pool().is_closed() {
        let began = Instant::now();
        if let Err(fault) = once(&store, &call).await {
            tracing::warn!(reason = fault.into_failure().reason().name, "values could not be counted");
        }
        tokio::time::sleep(PAUSE.max(began.elapsed() * SHARE)).await;
    }
}

async fn once(store: &Store, call: &Call) -> Result<(), Fault> {
    let Some(seq) = store.news().await? else { return Ok(()) };
    let began = Instant::now();
    let moved = store.recount(call, seq).await?;
    tracing::debug!(moved, seconds = began.elapsed().as_secs_f64(), "values were counted anew");
    Ok(())
}
