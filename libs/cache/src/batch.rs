use std::{future::Future, time::Duration};

use error::{Failure, reason};
use metrics::{METRICS, by};
use tokio::sync::{mpsc, oneshot};
use tracing::{Instrument, Span};

/// A batch has at most so many items.
const MOST: usize = 256;
/// What callers share takes at most so long; then each asks once more by itself.
const PATIENCE: Duration = Duration::from_secs(2);

type Item<K, V> = (K, Span, oneshot::Sender<Result<V, Failure>>);

/// Collects without waiting: a batch is whatever came in while the one before was under way. A call
/// joins only a batch that has not begun, so what it gets was read after it asked.
pub struct Batcher<K, V>(mpsc::UnboundedSender<Item<K, V>>);

impl<K, V> Batcher<K, V>
where
    K: Clone + Send + 'static,
    V: Send + 'static,
{
    /// Begins to collect. `load` answers the items of a batch in their order; `name` is what the sizes are counted by.
    pub fn new<F>(name: &'static str, load: impl Fn(Vec<K>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<Vec<Result<V, Failure>>, Failure>> + Send,
    {
        let sizes = METRICS.batch_size.get_or_create_owned(&by(name));
        let (sender, mut queue) = mpsc::unbounded_channel::<Item<K, V>>();
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(MOST);
            while queue.recv_many(&mut batch, MOST).await > 0 {
                // Who has gone away is not asked for; the others do not notice.
                batch.retain(|(.., answer)| !answer.is_closed());
                if batch.is_empty() {
                    continue;
                }
                sizes.observe(batch.len() as f64);
                // Shared work belongs to one trace, if any of those who share it is traced.
                let span = batch.iter().map(|(_, span, _)| span).find(|span| !span.is_none());
                let span = span.cloned().unwrap_or_else(Span::none);
                let keys = batch.iter().map(|(key, ..)| key.clone()).collect();
                let loaded = tokio::time::timeout(PATIENCE, load(keys).instrument(span)).await;
                let failure = match loaded {
                    Ok(Ok(values)) => {
                        batch.drain(..).zip(values).for_each(|((.., answer), value)| drop(answer.send(value)));
                        continue;
                    }
                    Ok(Err(failure)) => failure,
                    Err(_) => reason::DEADLINE_EXCEEDED.into(),
                };
                batch.drain(..).for_each(|(.., answer)| drop(answer.send(Err(failure.clone()))));
            }
        });
        Self(sender)
    }

    /// Asks for one item at once; what is answered is to be waited for. A batch that took too long is not
    /// this caller's fault, so it is asked for once more; the caller's own deadline ends it.
    pub fn get(&self, key: K) -> impl Future<Output = Result<V, Failure>> {
        let asked = self.ask(key.clone());
        async move {
            match asked.await {
                Err(failure) if failure.reason() == reason::DEADLINE_EXCEEDED => self.ask(key).await,
                answer => answer,
            }
        }
    }

    /// The item is in the queue when this returns.
    fn ask(&self, key: K) -> impl Future<Output = Result<V, Failure>> + use<K, V> {
        let (sender, answer) = oneshot::channel();
        let sent = self.0.send((key, Span::current(), sender));
        async move {
            // Both fail only when the process ends.
            sent.map_err(|_| reason::SERVICE_UNAVAILABLE)?;
            answer.await.map_err(|_| reason::SERVICE_UNAVAILABLE)?
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn what_comes_in_during_a_batch_is_the_next() {
        let batches = Arc::new(Mutex::new(Vec::new()));
        let seen = batches.clone();
        let batcher = Batcher::new("test", move |keys: Vec<u32>| {
            seen.lock().unwrap().push(keys.len());
            async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                // One bad item is no other's trouble.
                let answer = |key: u32| if key == 13 { Err(reason::CUSTOMER_NOT_FOUND.into()) } else { Ok(key * 2) };
                Ok(keys.into_iter().map(answer).collect())
            }
        });
        let first = batcher.get(1);
        let rest = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            // One of them goes away while it waits.
            let impatient = tokio::time::timeout(Duration::from_millis(1), batcher.get(7));
            let (answers, gone) = tokio::join!(join_all((0..300).map(|key| batcher.get(key))), impatient);
            assert!(gone.is_err());
            answers
        };
        let (first, rest) = tokio::join!(first, rest);
        assert_eq!(first.unwrap(), 2);
        for (key, answer) in rest.into_iter().enumerate() {
            match key {
                13 => assert!(answer.is_err()),
                key => assert_eq!(answer.unwrap(), key as u32 * 2),
            }
        }
        let batches = batches.lock().unwrap().clone();
        assert_eq!(batches.iter().sum::<usize>(), 301);
        assert!(batches.len() == 3 && batches[1] >= 255, "{batches:?}");
    }

    #[tokio::test]
    async fn a_batch_that_hangs_is_given_up_and_each_is_asked_for_once_more() {
        let calls = Arc::new(Mutex::new(0));
        let seen = calls.clone();
        let batcher = Batcher::new("test", move |keys: Vec<u32>| {
            *seen.lock().unwrap() += 1;
            let hangs = *seen.lock().unwrap() == 1;
            async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                Ok(keys.into_iter().map(Ok).collect())
            }
        });
        assert_eq!(batcher.get(5).await.unwrap(), 5);
        assert_eq!(*calls.lock().unwrap(), 2);
    }
}
