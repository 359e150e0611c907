//! Many repeatable writes at once: in one transaction when all goes well, and in halves when any is refused, so that
//! each one's failure is its own.

use std::{collections::HashSet, ops::Range, sync::Arc};

use access::Call;
use error::{Failure, reason};
use futures_util::future::BoxFuture;
use prost::Message;
use uuid::Uuid;

use crate::{Claim, Db, Key, Result, Tx, Written};

/// After so many refusals the halves are not worth their trouble.
const MANY: usize = 24;

/// A reply, and the customer whose erasure deletes it.
pub type Reply<T> = (T, Option<Uuid>);

/// What became of one write.
pub type Outcome<T> = Result<Written<T>, Failure>;

impl Db {
    /// Runs writes that are each repeatable by a key of the same method, and answers in their order. `work` does those
    /// that were never answered, in one transaction. Of the same key twice the second gets the first one's reply.
    pub async fn write_many<I, T, W>(
        &self,
        call: &Call,
        writes: Vec<Result<(Key, I), Failure>>,
        work: W,
    ) -> Vec<Outcome<T>>
    where
        I: Send + Sync + 'static,
        T: Message + Default + Send + 'static,
        W: for<'t> Fn(&'t mut Tx, Vec<&'t I>) -> BoxFuture<'t, Result<Vec<Reply<T>>>> + Send + Sync + 'static,
    {
        let mut outcomes: Vec<Option<Outcome<T>>> = writes.iter().map(|_| None).collect();
        let (mut places, mut set) = (Vec::new(), Vec::new());
        // A claim needs distinct keys, and nobody overtakes a twin: a second one begins another range.
        let mut left: Vec<Range<usize>> = Vec::new();
        let mut seen = HashSet::new();
        for (place, write) in writes.into_iter().enumerate() {
            match write {
                Err(failure) => outcomes[place] = Some(Err(failure)),
                Ok(write) => {
                    let is_twin = !seen.insert(write.0.request_id);
                    if is_twin {
                        seen = HashSet::from([write.0.request_id]);
                    }
                    match left.last_mut() {
                        Some(range) if !is_twin => range.end += 1,
                        _ => left.push(set.len()..set.len() + 1),
                    }
                    set.push(write);
                    places.push(place);
                }
            }
        }
        left.reverse();
        let (set, work) = (Arc::new(set), Arc::new(work));
        let mut refused = 0;
        while let Some(range) = left.pop() {
            let failure = match self.write_range(call, &set, range.clone(), &work).await {
                Ok(done) => {
                    range.zip(done).for_each(|(i, done)| outcomes[places[i]] = Some(done));
                    continue;
                }
                Err(fault) => fault.into_failure(),
            };
            refused += 1;
            if failure.is_momentary() {
                // Nobody overtakes what is to be repeated.
                let rest = left.drain(..).chain([range]).flatten();
                rest.for_each(|i| outcomes[places[i]] = Some(Err(failure.clone())));
            } else if range.len() == 1 {
                outcomes[places[range.start]] = Some(Err(failure));
            } else if refused > MANY {
                left.extend(range.rev().map(|i| i..i + 1));
            } else {
                let middle = range.start + range.len() / 2;
                left.extend([middle..range.end, range.start..middle]);
            }
        }
        outcomes.into_iter().map(|outcome| outcome.expect("every write was done or refused")).collect()
    }

    async fn write_range<I, T, W>(
        &self,
        call: &Call,
        set: &Arc<Vec<(Key, I)>>,
        range: Range<usize>,
        work: &Arc<W>,
    ) -> Result<Vec<Outcome<T>>>
    where
        I: Send + Sync + 'static,
        T: Message + Default + Send + 'static,
        W: for<'t> Fn(&'t mut Tx, Vec<&'t I>) -> BoxFuture<'t, Result<Vec<Reply<T>>>> + Send + Sync + 'static,
    {
        let (set, work) = (set.clone(), work.clone());
        self.transact(call, move |tx| {
            let (set, work, range) = (set.clone(), work.clone(), range.clone());
            Box::pin(async move { write_each(tx, &set[range], &*work).await })
        })
        .await
    }
}

async fn write_each<I, T, W>(tx: &mut Tx, set: &[(Key, I)], work: &W) -> Result<Vec<Outcome<T>>>
where
    T: Message + Default,
    W: for<'t> Fn(&'t mut Tx, Vec<&'t I>) -> BoxFuture<'t, Result<Vec<Reply<T>>>>,
{
    let keys: Vec<Key> = set.iter().map(|(key, _)| *key).collect();
    let method = keys.first().map_or("", |key| key.method);
    let claims = tx.claim(method, &keys).await?;
    let fresh = set.iter().zip(&claims).filter(|(_, claim)| matches!(claim, Claim::Fresh));
    let fresh: Vec<(Uuid, &I)> = fresh.map(|((key, item), _)| (key.request_id, item)).collect();
    let replies = match fresh.is_empty() {
        true => Vec::new(),
        false => work(tx, fresh.iter().map(|(_, item)| *item).collect()).await?,
    };
    let stored = fresh.iter().zip(&replies).map(|((id, _), (reply, owner))| (*id, reply.encode_to_vec(), *owner));
    let stored: Vec<(Uuid, Vec<u8>, Option<Uuid>)> = stored.collect();
    if !stored.is_empty() {
        tx.settle(method, &stored).await?;
    }
    let mut replies = replies.into_iter();
    let outcome = |claim| {
        Ok(match claim {
            Claim::Reused => Err(reason::REQUEST_ID_REUSED.into()),
            Claim::Replay(reply) => Ok(Written { reply: T::decode(reply.as_slice())?, replayed: true }),
            Claim::Fresh => {
                let (reply, _) = replies.next().ok_or(reason::INTERNAL_ERROR)?;
                Ok(Written { reply, replayed: false })
            }
        })
    };
    claims.into_iter().map(outcome).collect()
}
