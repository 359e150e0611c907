//! Following what the other services record. A change is only a sign of where to look: what is concluded from is read as it is
//! now, so a rebuild from everyone's present state gives the same as having followed from the start.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use ::store::{Result, uuid};
use access::Call;
use chrono::{Days, NaiveTime, Utc};
use client::Peer;
use proto::{
    feed::v1::WatchChangesResponse,
    order_history::v1::{Order, ReadPurchasesRequest, purchase_service_client::PurchaseServiceClient},
    section::v1::{BatchGetSectionsRequest, Section},
};
use uuid::Uuid;

use crate::{
    store::{Store, purchases, traits},
    traits::Traits,
};

/// So many sections are read at once.
const BATCH: usize = 256;

/// What is read of a service that is followed.
#[derive(Clone, Copy)]
pub enum Reads {
    /// The orders themselves.
    Orders,
    /// What its sections say of customers.
    Sections(fn(&[u8]) -> Result<Traits>),
}

/// What was read.
enum News {
    /// Orders, among them all of some customers.
    Orders {
        whole: Vec<Uuid>,
        orders: Vec<Order>,
    },
    Traits(Vec<(Uuid, Traits)>),
}

/// Follows a service for as long as the pool is open.
pub async fn keep(store: Store, feed: &'static str, reads: Reads, peer: Peer, call: Call) {
    let read = |message| async {
        match reads {
            Reads::Orders => orders(&peer, &call.renewed(), message).await,
            Reads::Sections(read) => sections(&peer, &call.renewed(), message, read).await,
        }
    };
    while !store.db.pool().is_closed() {
        let followed = feed::follow(&store.db, &peer, &call, feed, read, |tx, news: Arc<News>| {
            Box::pin(async move {
                match &*news {
                    News::Orders { whole, orders } => purchases::put(tx, whole, orders).await,
                    News::Traits(said) => traits::put(tx, said).await,
                }
            })
        });
        if let Err(status) = followed.await {
            let reason = error::reason_of(&status);
            tracing::warn!(feed, reason, "changes are gone, so everyone's present state is read anew");
            begin_anew(&store, feed).await;
        }
    }
}

/// Reads everyone's present state anew when a day of UTC begins: people grow older, and what they allowed lapses.
pub async fn keep_daily(store: Store, feeds: [&'static str; 2]) {
    while !store.db.pool().is_closed() {
        let now = Utc::now();
        let tomorrow = (now.date_naive() + Days::new(1)).and_time(NaiveTime::MIN).and_utc();
        tokio::time::sleep((tomorrow - now).to_std().unwrap_or(Duration::from_secs(1))).await;
        for feed in feeds {
            begin_anew(&store, feed).await;
        }
    }
}

async fn begin_anew(store: &Store, feed: &'static str) {
    if let Err(fault) = feed::begin_anew(&store.db, feed).await {
        tracing::warn!(feed, reason = fault.into_failure().reason().name, "the cursor could not be forgotten");
    }
}

/// The orders that a message speaks of.
async fn orders(peer: &Peer, call: &Call, message: WatchChangesResponse) -> Result<News> {
    let whole = message.states.iter().map(|state| uuid(&state.customer_id)).collect::<Result<Vec<Uuid>>>()?;
    // An order that changed twice is read once.
    let changed: BTreeSet<String> = message.changes.iter().filter_map(|change| order_id(&change.payload)).collect();
    let request = ReadPurchasesRequest {
        customer_ids: message.states.into_iter().map(|state| state.customer_id).collect(),
        order_ids: changed.into_iter().collect(),
    };
    let nothing = request.customer_ids.is_empty() && request.order_ids.is_empty();
    let orders = if nothing { Vec::new() } else { read(peer, call, request).await? };
    Ok(News::Orders { whole, orders })
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

/// What the sections say of the customers that a message speaks of.
async fn sections(
    peer: &Peer,
    call: &Call,
    message: WatchChangesResponse,
    read: fn(&[u8]) -> Result<Traits>,
) -> Result<News> {
    let told = message.states.into_iter().map(|state| (state.customer_id.clone(), state));
    let mut sections: BTreeMap<String, Section> = told.collect();
    let changed: BTreeSet<String> = message.changes.into_iter().map(|change| change.customer_id).collect();
    let changed: Vec<String> = changed.into_iter().collect();
    for ids in changed.chunks(BATCH) {
        let request = BatchGetSectionsRequest { customer_ids: ids.to_vec(), uncached: true, ..Default::default() };
        let answer = peer.sections.clone().batch_get_sections(peer.request(call, request)).await;
        let answer = answer.map_err(|status| client::unreachable(&status))?.into_inner();
        sections.extend(answer.sections.into_iter().map(|section| (section.customer_id.clone(), section)));
    }
    // Nothing is said of who was erased; who cannot be read keeps what was known.
    let readable = sections.into_values().filter(|section| section.failure.is_empty());
    let said = readable.map(|section| Ok((uuid(&section.customer_id)?, read(&section.body)?)));
    Ok(News::Traits(said.collect::<Result<_>>()?))
}
