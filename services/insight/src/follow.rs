//! Following what the other services record. A change is only a sign of where to look: what is concluded from is read as it is
//! now, so a rebuild from everyone's present state gives the same as having followed from the start.

use std::collections::BTreeSet;

use ::store::{Result, Tx, uuid};
use access::Call;
use client::Peer;
use proto::{
    feed::v1::WatchChangesResponse,
    order_history::v1::{Order, ReadPurchasesRequest, purchase_service_client::PurchaseServiceClient},
};
use uuid::Uuid;

use crate::store::{Store, purchases};

/// The feed of orders.
const ORDERS: &str = "order-history";

/// Follows the orders for as long as the pool is open.
pub async fn orders(store: Store, peer: Peer, call: Call) {
    while !store.db.pool().is_closed() {
        let (orders, caller) = (peer.clone(), call.clone());
        let followed = feed::follow(&store.db, &peer, &call, ORDERS, move |tx, message| {
            let (peer, call) = (orders.clone(), caller.renewed());
            Box::pin(async move { derive(tx, &peer, &call, message).await })
        });
        if let Err(status) = followed.await {
            let reason = error::reason_of(&status);
            tracing::warn!(feed = ORDERS, reason, "changes are gone, so everyone's present state is read anew");
            if let Err(fault) = feed::begin_anew(&store.db, ORDERS).await {
                tracing::warn!(reason = fault.into_failure().reason().name, "the cursor could not be forgotten");
            }
        }
    }
}

/// Derives from one message of the feed.
async fn derive(tx: &mut Tx, peer: &Peer, call: &Call, message: WatchChangesResponse) -> Result<()> {
    let whole = message.states.iter().map(|state| uuid(&state.customer_id)).collect::<Result<Vec<Uuid>>>()?;
    // An order that changed twice is read once.
    let changed: BTreeSet<String> = message.changes.iter().filter_map(|change| order_id(&change.payload)).collect();
    let request = ReadPurchasesRequest {
        customer_ids: message.states.into_iter().map(|state| state.customer_id).collect(),
        order_ids: changed.into_iter().collect(),
    };
    if request.customer_ids.is_empty() && request.order_ids.is_empty() {
        return Ok(());
    }
    let orders = read(peer, call, request).await?;
    purchases::put(tx, &whole, &orders).await
}

fn order_id(payload: &str) -> Option<String> {
    let payload: serde_json::Value = serde_json::from_str(payload).ok()?;
    Some(payload.get("order_id")?.as_str()?.to_owned())
}

async fn read(peer: &Peer, call: &Call, request: ReadPurchasesRequest) -> Result<Vec<Order>> {
    let mut client = PurchaseServiceClient::new(peer.channel.clone()).max_decoding_message_size(client::MAX_REPLY);
    let unreachable = |status: tonic::Status| client::unreachable(&status);
    let mut parts = client.read_purchases(peer.request(call, request)).await.map_err(unreachable)?.into_inner();
    let mut orders = Vec::new();
    while let Some(part) = parts.message().await.map_err(unreachable)? {
        orders.extend(part.orders);
    }
    Ok(orders)
}
