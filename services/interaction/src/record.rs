//! Recording interactions: set-wise when all goes well, and one by one when any is refused, so that
//! each one's failure is its own.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use access::Call;
use error::Failure;
use futures_util::Stream;
use prost::Message;
use proto::interaction::v1::*;
use serde_json::json;
use server::validate;
use store::{Change, Claim, Fault, Key, Tx, uuid};
use tonic::{Status, Streaming};
use uuid::Uuid;

use crate::{
    reason, request,
    store::{NewInteraction, Store},
};

/// The method under which replies are kept, the same for a batch, a stream and a single call.
const METHOD: &str = "RecordInteraction";
/// So many interactions are recorded in one transaction.
const CHUNK: usize = 500;

/// What was answered, and whether it had been answered before.
#[derive(Clone)]
pub struct Recorded {
    pub reply: RecordInteractionResponse,
    pub replayed: bool,
}

struct Item {
    key: Key,
    interaction: Interaction,
}

/// Records interactions, each with a result of its own, in their order. Of the same `request_id`
/// twice the second gets the first one's reply.
pub async fn many(
    store: &Store,
    call: &Call,
    requests: Vec<RecordInteractionRequest>,
) -> Vec<Result<Recorded, Failure>> {
    let mut results: Vec<Option<Result<Recorded, Failure>>> = vec![None; requests.len()];
    let (mut set, mut later) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for (i, request) in requests.into_iter().enumerate() {
        match item(store, request) {
            Err(failure) => results[i] = Some(Err(failure)),
            Ok(item) if seen.insert(item.key.request_id()) => set.push((i, item)),
            Ok(item) => later.push((i, item)),
        }
    }
    let (places, items): (Vec<usize>, Vec<Item>) = set.into_iter().unzip();
    let items = Arc::new(items);
    match recorded(store, call, items.clone(), 0..items.len()).await {
        Ok(done) => places.iter().zip(done).for_each(|(i, done)| results[*i] = Some(done)),
        // Someone in the set is refused: now each stands for itself.
        Err(Fault::Refused(_)) if items.len() > 1 => {
            for (n, i) in places.iter().enumerate() {
                let alone = recorded(store, call, items.clone(), n..n + 1).await;
                results[*i] = Some(alone.map_err(Fault::into_failure).and_then(|mut done| done.remove(0)));
            }
        }
        Err(fault) => {
            let failure = fault.into_failure();
            places.iter().for_each(|i| results[*i] = Some(Err(failure.clone())));
        }
    }
    for (i, item) in later {
        let alone = recorded(store, call, Arc::new(vec![item]), 0..1).await;
        results[i] = Some(alone.map_err(Fault::into_failure).and_then(|mut done| done.remove(0)));
    }
    results.into_iter().map(|result| result.expect("every interaction was recorded or refused")).collect()
}

/// Acknowledges the interactions of a stream as they are committed, in the order of arrival. An
/// acknowledgement is the last word about an interaction, so a failure of the moment ends the stream.
pub fn stream(
    store: Store,
    call: Call,
    requests: Streaming<RecordInteractionsRequest>,
) -> impl Stream<Item = Result<RecordInteractionsResponse, Status>> + Send {
    server::acknowledge(requests, CHUNK, move |chunk| {
        let (store, call) = (store.clone(), call.renewed());
        async move {
            let sequences: Vec<i64> = chunk.iter().map(|item| item.sequence).collect();
            let requests = chunk.into_iter().map(|item| item.request.unwrap_or_default()).collect();
            let done = many(&store, &call, requests).await;
            sequences.into_iter().zip(done).map(|(sequence, done)| acknowledgement(sequence, done)).collect()
        }
    })
}

fn acknowledgement(sequence: i64, done: Result<Recorded, Failure>) -> Result<RecordInteractionsResponse, Status> {
    match done {
        Err(failure) if !failure.is_final() => Err(failure.into()),
        done => Ok(RecordInteractionsResponse { sequence, result: Some(result(done)) }),
    }
}

/// A result as a batch or stream shows it.
pub fn result(done: Result<Recorded, Failure>) -> RecordInteractionResult {
    match done {
        Ok(Recorded { reply, replayed }) => RecordInteractionResult {
            interaction_id: reply.interaction_id,
            consistency_token: reply.consistency_token,
            replayed,
            ..Default::default()
        },
        Err(failure) => RecordInteractionResult {
            failure: failure.reason().name.to_owned(),
            invalid_fields: failure.invalid_fields(),
            ..Default::default()
        },
    }
}

fn item(store: &Store, request: RecordInteractionRequest) -> Result<Item, Failure> {
    validate(&request, request::record)?;
    let key = store.db.key(METHOD, &request.request_id, &request).map_err(Fault::into_failure)?;
    Ok(Item { key, interaction: request.interaction.unwrap_or_default() })
}

type Recordings = Vec<Result<Recorded, Failure>>;

async fn recorded(
    store: &Store,
    call: &Call,
    items: Arc<Vec<Item>>,
    range: std::ops::Range<usize>,
) -> Result<Recordings, Fault> {
    if range.is_empty() {
        return Ok(Vec::new());
    }
    store
        .db
        .transact(call, move |tx| {
            let (items, range) = (items.clone(), range.clone());
            Box::pin(async move { record(tx, &items[range]).await })
        })
        .await
}

/// One transaction over items with distinct ids: requests, visitors, customers, then the rest.
/// Visitors come before customers, because they tell whose an interaction is.
async fn record(tx: &mut Tx, items: &[Item]) -> Result<Recordings, Fault> {
    let keys: Vec<Key> = items.iter().map(|item| item.key).collect();
    let claims = tx.claim(METHOD, &keys).await?;
    let fresh = || items.iter().zip(&claims).filter(|(_, claim)| matches!(claim, Claim::Fresh)).map(|(item, _)| item);

    let visitors: Vec<Visitor> = fresh().filter_map(|item| item.interaction.visitor.clone()).collect();
    let mut known = Store::visitors_lock(tx, &visitors).await?.into_iter();
    let mut new = HashMap::new();
    let mut counts: BTreeMap<Uuid, i64> = BTreeMap::new();
    for item in fresh() {
        let (customer_id, visitor_hash) = match &item.interaction.visitor {
            None => (Some(uuid(&item.interaction.customer_id)?), None),
            Some(_) => known.next().map(|(hash, customer)| (customer, Some(hash))).ok_or(reason::INTERNAL_ERROR)?,
        };
        customer_id.iter().for_each(|id| *counts.entry(*id).or_default() += 1);
        let interaction_id = Uuid::now_v7();
        let interaction = item.interaction.clone();
        new.insert(item.key.request_id(), NewInteraction { interaction_id, customer_id, visitor_hash, interaction });
    }
    let mut versions = if counts.is_empty() { BTreeMap::new() } else { tx.raise_many(&counts).await? };
    // The first change of a customer gets the first of the versions that were raised.
    versions.iter_mut().for_each(|(id, version)| *version -= counts[id]);
    Store::interactions_insert(tx, &fresh().map(|item| &new[&item.key.request_id()]).collect::<Vec<_>>()).await?;

    let (mut changes, mut replies, mut results) = (Vec::new(), Vec::new(), Vec::new());
    for (item, claim) in items.iter().zip(&claims) {
        results.push(match claim {
            Claim::Reused => Err(reason::REQUEST_ID_REUSED.into()),
            Claim::Replay(reply) => {
                Ok(Recorded { reply: RecordInteractionResponse::decode(reply.as_slice())?, replayed: true })
            }
            Claim::Fresh => {
                let new = &new[&item.key.request_id()];
                let mut reply =
                    RecordInteractionResponse { interaction_id: new.interaction_id.to_string(), ..Default::default() };
                if let Some(customer) = new.customer_id {
                    let version = versions.get_mut(&customer).ok_or(reason::INTERNAL_ERROR)?;
                    *version += 1;
                    changes.push(change(customer, *version, new));
                    reply.consistency_token = tx.token(customer, *version);
                }
                replies.push((item.key.request_id(), reply.encode_to_vec(), new.customer_id));
                Ok(Recorded { reply, replayed: false })
            }
        });
    }
    if !changes.is_empty() {
        tx.changes(changes).await?;
    }
    if !replies.is_empty() {
        tx.settle(METHOD, &replies).await?;
    }
    Ok(results)
}

fn change(customer_id: Uuid, version: i64, new: &NewInteraction) -> Change {
    let payload = json!({
        "interaction_id": new.interaction_id, "channel": new.interaction.channel().as_str_name(),
        "direction": new.interaction.direction().as_str_name(), "topic": new.interaction.topic,
        "satisfaction": new.interaction.satisfaction,
    });
    Change { customer_id, version, resource: "interaction", kind: "interaction.recorded", payload }
}
