//! Answers about what customers are inclined to, and who is inclined to something.

use std::collections::HashMap;

use access::Call;
use client::Peer;
use futures_util::{StreamExt, TryStreamExt, stream};
use proto::insight::v1::{AffinityKind as Kind, *};
use store::{Result, uuid};
use tonic::Status;

use crate::{
    catalogue::{Newest, Shelf},
    habit::LATELY,
    reason,
    recommend::HALF_LIFE_DAYS,
    recommendation,
    store::{Interest, Store},
};

/// Of each kind so many habits unless said.
const HABITS: usize = 3;
/// So many interested customers unless said.
const INTERESTED: usize = 50;
/// So many like items are taken into account.
const ALIKE: usize = 20;
/// So many customers are looked at.
const LOOKED_AT: i64 = 1000;
/// So many are asked about at once.
const ASKED: usize = 16;

/// What a customer is inclined to.
pub async fn get(store: &Store, newest: &Newest, request: &GetAffinityRequest) -> Result<GetAffinityResponse> {
    let purchases = if request.purchases == 0 { LATELY } else { request.purchases.into() };
    let limit = if request.limit == 0 { HABITS } else { request.limit as usize };
    let habits = store.habits(uuid(&request.customer_id)?, purchases).await?;
    let mut affinities = habits.affinities(|_| limit);
    let counted = newest.borrow().clone();
    if let Some(catalogue) = counted {
        let shelf = catalogue.shelf(ItemLevel::Category);
        for affinity in affinities.iter_mut().filter(|affinity| affinity.kind() == Kind::Category) {
            let baskets = shelf.find(&affinity.category_path).map(|number| shelf.market.counts(number).baskets);
            let of_all = baskets.map(|baskets| f64::from(baskets) / shelf.market.baskets() as f64);
            affinity.lift = of_all.filter(|share| *share > 0.0).map(|share| affinity.share / share);
        }
    }
    Ok(GetAffinityResponse {
        affinities,
        baskets: habits.baskets(),
        next_purchases: habits.next(limit),
        purchase_count: habits.purchases.len() as i64,
    })
}

/// Who is inclined to something, and allowed to be told so.
pub async fn interested(
    store: &Store,
    newest: &Newest,
    consent: &Peer,
    call: &Call,
    request: &ListInterestedCustomersRequest,
) -> Result<ListInterestedCustomersResponse, Status> {
    let catalogue = recommendation::counted(newest)?;
    let (shelf, number) = recommendation::find(&catalogue, &request.sku, &request.category_path)?;
    let mut alike = HashMap::from([(number, 1.0)]);
    alike.extend(shelf.market.similar(number).iter().take(ALIKE).map(|like| (like.item, like.similarity)));
    let (items, likeness): (Vec<i32>, Vec<f64>) = shelf.ids(&alike).into_iter().unzip();
    // Who has something that lasts does not want another.
    let lasts = !shelf.market.counts(number).consumed();
    let itself = shelf.ids(&HashMap::from([(number, 1.0)])).into_iter().map(|(id, _)| id);
    let had: Vec<i32> = itself.filter(|_| lasts).collect();

    let limit = if request.limit == 0 { INTERESTED } else { request.limit as usize };
    let interests = store.interests(&items, &likeness, HALF_LIFE_DAYS, &had, LOOKED_AT).await?;
    let ask = |interest: Interest| async move {
        let customer_id = interest.customer_id.to_string();
        match recommendation::allowed(consent, call, &customer_id, &request.purpose_id).await {
            Err(status) if error::reason_of(&status).is_some_and(|reason| reason == "CUSTOMER_ERASED") => {
                Ok((interest, false))
            }
            allowed => allowed.map(|allowed| (interest, allowed)),
        }
    };
    let mut asked = stream::iter(interests).map(ask).buffered(ASKED);
    let mut reply = ListInterestedCustomersResponse::default();
    while reply.customers.len() < limit {
        match asked.try_next().await? {
            Some((interest, true)) => reply.customers.push(told(shelf, interest)?),
            Some((_, false)) => reply.without_consent_count += 1,
            None => break,
        }
    }
    Ok(reply)
}

fn told(shelf: &Shelf, interest: Interest) -> Result<InterestedCustomer> {
    let because = shelf.item(shelf.number(interest.item_id).ok_or(reason::INTERNAL_ERROR)?);
    let (name, last_day) = (recommendation::name(because), interest.last_day.to_string());
    Ok(InterestedCustomer {
        customer_id: interest.customer_id.to_string(),
        score: interest.score,
        because: Some(recommendation::item(because)),
        day_count: interest.days,
        reason: match interest.days {
            1 => format!("bought {name} on {last_day}"),
            days => format!("bought {name} on {days} days, last on {last_day}"),
        },
        last_day,
    })
}
