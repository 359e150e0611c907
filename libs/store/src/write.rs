//! Repeatable writes, one or many at once: in one transaction when all goes well, and in halves when any is refused,
//! so that each one's failure is its own.

use std::{collections::HashSet, ops::Range, sync::Arc};

use access::Call;
use error::{Failure, reason};
use futures_util::future::BoxFuture;
use prost::Message;
use uuid::Uuid;

use crate::{
    Db, Fault, Key, Result, Tx,
    request::{Answer, Known},
};

/// After so many refusals the halves are not worth their trouble.
const MANY: usize = 24;

/// The reply of a repeatable write.
pub struct Written<T> {
    /// The reply, the same for every repetition.
    pub reply: T,
    /// Whether it was written by an earlier call.
    pub replayed: bool,
}

impl<T> From<Written<T>> for tonic::Response<T> {
    fn from(written: Written<T>) -> Self {
        let mut response = tonic::Response::new(written.reply);
        if written.replayed {
            let value = tonic::metadata::MetadataValue::from_static("true");
            response.metadata_mut().insert("clientele-replayed", value);
        }
        response
    }
}

/// A reply, and the customer whose erasure deletes it.
pub type Reply<T> = (T, Option<Uuid>);

/// What became of one write.
pub type Outcome<T> = Result<Written<T>, Failure>;

impl Db {
    /// Runs a write that is repeatable by its key: a second call gets the first one's reply.
    pub async fn write<T, W>(&self, call: &Call, key: Key, work: W) -> Result<Written<T>>
    where
        T: Message + Default + Send + 'static,
        W: for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Send + Sync + 'static,
    {
        let work = Arc::new(work);
        let mut outcomes = self
            .write_many(call, vec![Ok((key, ()))], move |tx, _| {
                let work = work.clone();
                Box::pin(async move {
                    let reply = work(tx).await?;
                    Ok(vec![(reply, tx.owner)])
                })
            })
            .await;
        Ok(outcomes.remove(0)?)
    }

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
        // The keys of a range are distinct, and nobody overtakes a twin: a second one begins another range.
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
            let mut done = self.write_range(call, &set, range.clone(), &work).await;
            if let (1, Err(Fault::Refused(refusal))) = (range.len(), &done) {
                // A twin may have been faster, and what it did be what refuses this one.
                done = self.write_range(call, &set, range.clone(), &Arc::new(refuse(refusal.clone()))).await;
            }
            let failure = match done {
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

/// Work that is refused, for whoever wants to know what was answered and nothing more.
fn refuse<I, T>(
    refusal: Failure,
) -> impl for<'t> Fn(&'t mut Tx, Vec<&'t I>) -> BoxFuture<'t, Result<Vec<Reply<T>>>> + Send + Sync + 'static {
    move |_, _| {
        let refusal = refusal.clone();
        Box::pin(async move { Err(refusal.into()) })
    }
}

async fn write_each<I, T, W>(tx: &mut Tx, set: &[(Key, I)], work: &W) -> Result<Vec<Outcome<T>>>
where
    T: Message + Default,
    W: for<'t> Fn(&'t mut Tx, Vec<&'t I>) -> BoxFuture<'t, Result<Vec<Reply<T>>>>,
{
    let keys: Vec<Key> = set.iter().map(|(key, _)| *key).collect();
    let known = tx.recall(&keys).await?;
    let fresh = set.iter().zip(&known).filter(|(_, known)| matches!(known, Known::Fresh));
    let (fresh, items): (Vec<Key>, Vec<&I>) = fresh.map(|((key, item), _)| (*key, item)).unzip();
    let replies = match items.is_empty() {
        true => Vec::new(),
        false => work(tx, items).await?,
    };
    let answer = |(key, (reply, owner)): (&Key, &Reply<T>)| (*key, reply.encode_to_vec(), *owner);
    let answers: Vec<Answer> = fresh.iter().zip(&replies).map(answer).collect();
    tx.keep(&answers).await?;
    let mut replies = replies.into_iter();
    let outcome = |known| {
        Ok(match known {
            Known::Reused => Err(reason::REQUEST_ID_REUSED.into()),
            Known::Replay(reply) => Ok(Written { reply: T::decode(reply.as_slice())?, replayed: true }),
            Known::Fresh => {
                let (reply, _) = replies.next().ok_or(reason::INTERNAL_ERROR)?;
                Ok(Written { reply, replayed: false })
            }
        })
    };
    known.into_iter().map(outcome).collect()
}
