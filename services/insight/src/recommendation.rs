//! Answers about recommendations: asks whether the customer allowed them, and puts each with its reason.

use std::sync::Arc;

use access::Call;
use chrono::{Days, NaiveDate};
use client::Peer;
use error::Failure;
use proto::{
    consent::v1::{CheckConsentRequest, consent_service_client::ConsentServiceClient},
    insight::v1::{RecommendationKind as Kind, *},
};
use store::{Result, timestamp, uuid};
use tonic::Status;

use crate::{
    catalogue::{self, Catalogue, Newest, Shelf},
    reason,
    recommend::{self, Bought, Suggestion},
    store::{Store, day_number},
};

/// Of each kind so many unless said.
const LIMIT: i32 = 5;
/// So many related items are told.
const RELATED: usize = 5000;

/// Recommends to a customer who allowed it.
pub async fn list(
    store: &Store,
    newest: &Newest,
    consent: &Peer,
    call: &Call,
    request: &ListRecommendationsRequest,
) -> Result<ListRecommendationsResponse, Status> {
    if !allowed(consent, call, &request.customer_id, &request.purpose_id).await? {
        return Err(Failure::from(reason::CONSENT_MISSING).into());
    }
    let catalogue = counted(newest)?;
    let bought = store.bought(uuid(&request.customer_id)?).await?;
    let shelf = catalogue.shelf(request.level());
    let mut of_shelf = Bought::new();
    for (item, days) in bought {
        let Some(number) = shelf.number(item) else { continue };
        of_shelf.entry(number).or_default().extend(days.into_iter().map(|day| day_number(day) as i32));
    }
    of_shelf.values_mut().for_each(|days| {
        days.sort_unstable();
        days.dedup();
    });
    let kinds: Vec<Kind> = request.kinds().filter(|kind| *kind != Kind::Unspecified).collect();
    let limit = if request.limit == 0 { LIMIT } else { request.limit };
    let suggestions = recommend::recommend(shelf, &of_shelf, &kinds, limit.unsigned_abs() as usize);
    Ok(ListRecommendationsResponse {
        recommendations: suggestions.into_iter().map(|suggestion| recommendation(shelf, suggestion)).collect(),
        counted_time: Some(timestamp(catalogue.counted_at)),
    })
}

/// What lies in baskets with an item.
pub fn related(newest: &Newest, request: &ListRelatedItemsRequest) -> Result<ListRelatedItemsResponse, Failure> {
    let catalogue = counted(newest)?;
    let (shelf, number) = find(&catalogue, &request.sku, &request.category_path)?;
    let mut together = shelf.market.together(number);
    let name = |item: u32| shelf.item(item);
    together.sort_by(|(a, _), (b, _)| {
        let (one, other) = (name(a.item), name(b.item));
        b.both.cmp(&a.both).then_with(|| (&one.sku, &one.category_path).cmp(&(&other.sku, &other.category_path)))
    });
    let related = together.into_iter().take(RELATED).map(|(companion, customers)| RelatedItem {
        item: Some(item(name(companion.item))),
        basket_count: shelf.market.counts(companion.item).baskets.into(),
        together_basket_count: companion.both.into(),
        together_customer_count: customers.into(),
        similarity: companion.similarity,
    });
    Ok(ListRelatedItemsResponse {
        item: Some(item(name(number))),
        basket_count: shelf.market.counts(number).baskets.into(),
        total_basket_count: shelf.market.baskets() as i64,
        related: related.collect(),
        counted_time: Some(timestamp(catalogue.counted_at)),
    })
}

/// Asks consent whether the customer may be addressed for the purpose. No answer means no.
pub async fn allowed(consent: &Peer, call: &Call, customer_id: &str, purpose_id: &str) -> Result<bool, Status> {
    let check = CheckConsentRequest {
        customer_id: customer_id.to_owned(),
        purpose_id: purpose_id.to_owned(),
        ..Default::default()
    };
    let checked = ConsentServiceClient::new(consent.channel.clone()).check_consent(consent.request(call, check)).await;
    let told = |status: Status| match error::reason_of(&status) {
        Some(_) => status,
        None => client::unreachable(&status).into(),
    };
    Ok(checked.map_err(told)?.into_inner().allowed)
}

/// The shelf and the number of a stock keeping unit or else a category.
pub fn find<'c>(catalogue: &'c Catalogue, sku: &str, path: &[String]) -> Result<(&'c Shelf, u32), Failure> {
    let (level, key) = match sku {
        "" => (ItemLevel::Category, path.to_vec()),
        sku => (ItemLevel::Sku, vec![sku.to_owned()]),
    };
    let shelf = catalogue.shelf(level);
    Ok((shelf, shelf.find(&key).ok_or(reason::ITEM_NOT_FOUND)?))
}

/// The newest count of all baskets.
pub fn counted(newest: &Newest) -> Result<Arc<Catalogue>, Failure> {
    let counted = newest.borrow().clone();
    counted.ok_or_else(|| Failure::from(reason::NOT_COUNTED_YET).retry_after(std::time::Duration::from_secs(1)))
}

fn recommendation(shelf: &Shelf, suggestion: Suggestion) -> Recommendation {
    let Suggestion { kind, item: number, because, score, customers, baskets, due, interval } = suggestion;
    let because = because.map(|because| shelf.item(because));
    let of = because.map(name).unwrap_or_default();
    let day = |number: i32| (NaiveDate::default() + Days::new(u64::from(number.unsigned_abs()))).to_string();
    let reason = match kind {
        Kind::BuyAgain => format!("bought on {baskets} days by the customer, and again by {customers} customers"),
        Kind::Accessory => format!("goes with {of}: bought together by {customers} customers"),
        Kind::BetterModel => format!("a better one than {of}: bought by {customers} customers"),
        Kind::BoughtTogether => format!("bought together with {of} by {customers} customers"),
        Kind::Similar | Kind::Unspecified => format!("bought by {customers} customers who bought {of}"),
    };
    Recommendation {
        kind: kind.into(),
        item: Some(item(shelf.item(number))),
        because: because.map(item),
        score,
        customer_count: customers.into(),
        basket_count: baskets.into(),
        reason,
        due_day: due.map(day).unwrap_or_default(),
        earliest_day: interval.map(|(shortest, _)| day(shortest)).unwrap_or_default(),
        latest_day: interval.map(|(_, longest)| day(longest)).unwrap_or_default(),
    }
}

/// What people call an item.
pub fn name(item: &catalogue::Item) -> String {
    match (item.title.as_str(), item.sku.as_str()) {
        ("", "") => item.category_path.last().cloned().unwrap_or_default(),
        ("", sku) => sku.to_owned(),
        (title, _) => title.to_owned(),
    }
}

/// An item as it is told.
pub fn item(item: &catalogue::Item) -> Item {
    Item {
        sku: item.sku.clone(),
        title: item.title.clone(),
        category_path: item.category_path.clone(),
        brand: item.brand.clone(),
        price_minor: item.price_minor,
        currency_code: item.currency.clone(),
    }
}
