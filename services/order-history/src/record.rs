//! Recording orders: set-wise when all goes well, and one by one when any is refused, so that each
//! order's failure is its own.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use access::Call;
use error::Failure;
use futures_util::Stream;
use prost::Message;
use proto::order_history::v1::*;
use serde_json::json;
use server::validate;
use store::{Change, Fault, Tx, time, uuid};
use tonic::{Status, Streaming};
use uuid::Uuid;

use crate::{
    reason, request,
    store::{NewOrder, Store, Stored},
    summary::Summary,
};

/// So many orders are recorded in one transaction.
const CHUNK: usize = 500;

/// What recording an order did.
#[derive(Clone)]
pub struct Recorded {
    pub order_id: Uuid,
    pub revision: i32,
    pub outcome: RecordOutcome,
    pub consistency_token: String,
}

/// Records one order that was validated.
pub async fn one(store: &Store, call: &Call, order: Order) -> Result<Recorded, Failure> {
    let order = NewOrder::new(store, order).map_err(Fault::into_failure)?;
    let orders = Arc::new(vec![order]);
    match recorded(store, call, &orders).await {
        // Another call recorded the same number meanwhile; now it is there to be compared with.
        Err(Fault::Refused(failure)) if failure.reason() == reason::WRITE_CONFLICT => {
            recorded(store, call, &orders).await
        }
        done => done,
    }
    .map(|mut results| results.remove(0))
    .map_err(Fault::into_failure)
}

/// Records orders, each with a result of its own, in their order. Of the same number twice the
/// second is compared with the first.
pub async fn many(store: &Store, call: &Call, orders: Vec<Order>) -> Vec<Result<Recorded, Failure>> {
    let mut results: Vec<Option<Result<Recorded, Failure>>> = vec![None; orders.len()];
    let mut set = Vec::new();
    let mut later = Vec::new();
    let mut numbers = HashSet::new();
    for (i, order) in orders.into_iter().enumerate() {
        if let Err(failure) = validate(&order, request::order) {
            results[i] = Some(Err(failure));
        } else if numbers.insert((order.source.clone(), order.number.clone())) {
            set.push((i, order));
        } else {
            later.push((i, order));
        }
    }
    let new: Result<Vec<NewOrder>, Fault> = set.iter().map(|(_, o)| NewOrder::new(store, o.clone())).collect();
    let done = match new {
        Ok(new) if !new.is_empty() => recorded(store, call, &Arc::new(new)).await,
        Ok(_) => Ok(Vec::new()),
        Err(fault) => Err(fault),
    };
    match done {
        Ok(done) => set.iter().zip(done).for_each(|((i, _), recorded)| results[*i] = Some(Ok(recorded))),
        Err(Fault::Refused(_)) => later.splice(0..0, set).for_each(drop),
        Err(fault) => {
            let failure = fault.into_failure();
            // One that stands twice must not overtake itself.
            set.iter().chain(&later).for_each(|(i, _)| results[*i] = Some(Err(failure.clone())));
            later.clear();
        }
    }
    for (i, order) in later {
        results[i] = Some(one(store, call, order).await);
    }
    results.into_iter().map(|result| result.expect("every order was recorded or refused")).collect()
}

/// Acknowledges the orders of a stream as they are committed, in the order of arrival. An
/// acknowledgement is the last word about an order, so a failure of the moment ends the stream.
pub fn stream(
    store: Store,
    call: Call,
    orders: Streaming<RecordOrdersRequest>,
) -> impl Stream<Item = Result<RecordOrdersResponse, Status>> + Send {
    server::acknowledge(orders, CHUNK, move |chunk| {
        let (store, call) = (store.clone(), call.renewed());
        async move {
            let sequences: Vec<i64> = chunk.iter().map(|item| item.sequence).collect();
            let orders = chunk.into_iter().map(|item| item.order.unwrap_or_default()).collect();
            let done = many(&store, &call, orders).await;
            sequences.into_iter().zip(done).map(|(sequence, done)| acknowledgement(sequence, done)).collect()
        }
    })
}

fn acknowledgement(sequence: i64, done: Result<Recorded, Failure>) -> Result<RecordOrdersResponse, Status> {
    match done {
        Err(failure) if !failure.is_final() => Err(failure.into()),
        done => Ok(RecordOrdersResponse { sequence, result: Some(result(done)) }),
    }
}

/// A result as a batch or stream shows it.
pub fn result(done: Result<Recorded, Failure>) -> RecordOrderResult {
    match done {
        Ok(recorded) => RecordOrderResult {
            order_id: recorded.order_id.to_string(),
            revision: recorded.revision,
            outcome: recorded.outcome.into(),
            consistency_token: recorded.consistency_token,
            ..Default::default()
        },
        Err(failure) => RecordOrderResult {
            failure: failure.reason().name.to_owned(),
            invalid_fields: failure.invalid_fields(),
            ..Default::default()
        },
    }
}

async fn recorded(store: &Store, call: &Call, orders: &Arc<Vec<NewOrder>>) -> Result<Vec<Recorded>, Fault> {
    let orders = orders.clone();
    store
        .db
        .transact(call, move |tx| {
            let orders = orders.clone();
            Box::pin(async move { record(tx, &orders).await })
        })
        .await
}

/// One transaction over orders with distinct numbers: customers first, in ascending order, then
/// the rest.
async fn record(tx: &mut Tx, orders: &[NewOrder]) -> Result<Vec<Recorded>, Fault> {
    let stored = Stored::select(tx, orders).await?;
    let mut counts = BTreeMap::new();
    for order in orders {
        match stored.get(&order.key()) {
            Some(stored) if stored.customer_id != order.customer_id => {
                return Err(reason::ORDER_OF_ANOTHER_CUSTOMER.into());
            }
            Some(stored) if stored.outdates(order) => (),
            _ => *counts.entry(order.customer_id).or_insert(0) += 1,
        }
    }
    let mut versions = if counts.is_empty() { BTreeMap::new() } else { tx.raise_many(&counts).await? };
    // The first change of a customer gets the first of the versions that were raised.
    versions.iter_mut().for_each(|(id, version)| *version -= counts[id]);

    let new: Vec<&NewOrder> = orders.iter().filter(|order| !stored.contains_key(&order.key())).collect();
    Store::orders_insert(tx, &new).await?;
    Store::summaries_add(tx, &summaries(&new)).await?;

    let mut changes = Vec::new();
    let mut results = Vec::with_capacity(orders.len());
    for order in orders {
        let before = stored.get(&order.key());
        if let Some(stored) = before.filter(|stored| stored.outdates(order)) {
            results.push(Recorded {
                order_id: stored.order_id,
                revision: stored.revision,
                outcome: RecordOutcome::Unchanged,
                consistency_token: tx.token(order.customer_id, stored.customer_version),
            });
            continue;
        }
        let version = versions.get_mut(&order.customer_id).ok_or(reason::WRITE_CONFLICT)?;
        *version += 1;
        let (order_id, revision, outcome, kind) = match before {
            None => (order.order_id, 1, RecordOutcome::Created, "order.recorded"),
            Some(stored) => {
                Store::order_revise(tx, stored, order).await?;
                (stored.order_id, stored.revision + 1, RecordOutcome::Revised, "order.revised")
            }
        };
        let message = &order.order;
        let payload = json!({
            "order_id": order_id, "revision": revision, "state": message.state().as_str_name(),
            "currency": message.currency_code, "total_minor": message.total_minor, "placed_at": order.placed_at,
        });
        changes.push(Change { customer_id: order.customer_id, version: *version, resource: "order", kind, payload });
        let consistency_token = tx.token(order.customer_id, *version);
        results.push(Recorded { order_id, revision, outcome, consistency_token });
    }
    if !changes.is_empty() {
        tx.changes(changes).await?;
    }
    Ok(results)
}

fn summaries(orders: &[&NewOrder]) -> BTreeMap<(Uuid, String), Summary> {
    let mut sums: BTreeMap<(Uuid, String), Summary> = BTreeMap::new();
    for order in orders {
        let Some(summary) = Summary::of(&order.order, order.placed_at) else { continue };
        sums.entry((order.customer_id, summary.currency.clone()))
            .and_modify(|sum| sum.add(&summary))
            .or_insert(summary);
    }
    sums
}

impl NewOrder {
    /// Prepares a valid order: its ids, its time, and the keyed hash of what it says.
    pub fn new(store: &Store, order: Order) -> Result<Self, Fault> {
        let customer_id = uuid(&order.customer_id)?;
        let order = said(order, customer_id);
        let content = store.db.vault().index("orders.content", &order.encode_to_vec()).to_vec();
        Ok(Self {
            order_id: Uuid::now_v7(),
            customer_id,
            content,
            placed_at: time(order.placed_time).ok_or_else(|| Failure::invalid("placed_time", "is not a time"))?,
            order,
        })
    }

    /// The natural key.
    pub fn key(&self) -> (String, String) {
        (self.order.source.clone(), self.order.number.clone())
    }
}

/// An order without what is output only, so that one that was read and recorded again is the same.
fn said(mut order: Order, customer_id: Uuid) -> Order {
    order.lines.iter_mut().for_each(|line| line.quantity_returned = 0);
    Order {
        customer_id: customer_id.to_string(),
        order_id: String::new(),
        refunded_minor: 0,
        revision: 0,
        returns: Vec::new(),
        create_time: None,
        update_time: None,
        ..order
    }
}

/// Orders that are stored already, by natural key.
pub type StoredOrders = HashMap<(String, String), Stored>;
