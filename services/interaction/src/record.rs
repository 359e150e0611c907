//! Recording interactions, one or many.

use std::collections::BTreeMap;

use access::Call;
use error::Failure;
use futures_util::Stream;
use proto::interaction::v1::*;
use serde_json::json;
use server::validate;
use store::{Change, Fault, Key, Outcome, Reply, Tx, Written, uuid};
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

/// Records interactions, each with an outcome of its own, in their order.
pub async fn many(
    store: &Store,
    call: &Call,
    requests: Vec<RecordInteractionRequest>,
) -> Vec<Outcome<RecordInteractionResponse>> {
    let writes = requests.into_iter().map(|request| item(store, request)).collect();
    store.db.write_many(call, writes, |tx, new| Box::pin(record(tx, new))).await
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

fn acknowledgement(
    sequence: i64,
    done: Outcome<RecordInteractionResponse>,
) -> Result<RecordInteractionsResponse, Status> {
    match done {
        Err(failure) if !failure.is_final() => Err(failure.into()),
        done => Ok(RecordInteractionsResponse { sequence, result: Some(result(done)) }),
    }
}

/// A result as a batch or stream shows it.
pub fn result(done: Outcome<RecordInteractionResponse>) -> RecordInteractionResult {
    match done {
        Ok(Written { reply, replayed }) => RecordInteractionResult {
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

fn item(store: &Store, request: RecordInteractionRequest) -> Result<(Key, Interaction), Failure> {
    validate(&request, request::record)?;
    let key = store.db.key(METHOD, &request.request_id, &request).map_err(Fault::into_failure)?;
    Ok((key, request.interaction.unwrap_or_default()))
}

/// Records what is new: visitors, customers, then the rest. Visitors come before customers, because they tell whose an
/// interaction is.
async fn record(tx: &mut Tx, interactions: Vec<&Interaction>) -> store::Result<Vec<Reply<RecordInteractionResponse>>> {
    let visitors: Vec<Visitor> = interactions.iter().filter_map(|interaction| interaction.visitor.clone()).collect();
    let mut known = Store::visitors_lock(tx, &visitors).await?.into_iter();
    let mut new = Vec::new();
    let mut counts: BTreeMap<Uuid, i64> = BTreeMap::new();
    for interaction in interactions {
        let (customer_id, visitor_hash) = match &interaction.visitor {
            None => (Some(uuid(&interaction.customer_id)?), None),
            Some(_) => known.next().map(|(hash, customer)| (customer, Some(hash))).ok_or(reason::INTERNAL_ERROR)?,
        };
        customer_id.iter().for_each(|id| *counts.entry(*id).or_default() += 1);
        let (interaction_id, interaction) = (Uuid::now_v7(), interaction.clone());
        new.push(NewInteraction { interaction_id, customer_id, visitor_hash, interaction });
    }
    let mut versions = tx.raise_many(&counts).await?;
    // The first change of a customer gets the first of the versions that were raised.
    versions.iter_mut().for_each(|(id, version)| *version -= counts[id]);
    Store::interactions_insert(tx, &new).await?;

    let (mut changes, mut replies) = (Vec::new(), Vec::new());
    for new in &new {
        let mut reply =
            RecordInteractionResponse { interaction_id: new.interaction_id.to_string(), ..Default::default() };
        if let Some(customer) = new.customer_id {
            let version = versions.get_mut(&customer).ok_or(reason::INTERNAL_ERROR)?;
            *version += 1;
            changes.push(change(customer, *version, new));
            reply.consistency_token = tx.token(customer, *version);
        }
        replies.push((reply, new.customer_id));
    }
    tx.changes(changes).await?;
    Ok(replies)
}

fn change(customer_id: Uuid, version: i64, new: &NewInteraction) -> Change {
    let payload = json!({
        "interaction_id": new.interaction_id, "channel": new.interaction.channel().as_str_name(),
        "direction": new.interaction.direction().as_str_name(), "topic": new.interaction.topic,
        "satisfaction": new.interaction.satisfaction,
    });
    Change { customer_id, version, resource: "interaction", kind: "interaction.recorded", payload }
}
