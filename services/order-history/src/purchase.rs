//! What was bought, for those who draw conclusions: whole orders but for what is sealed, a part at a time.

use std::collections::VecDeque;

use futures_util::{Stream, stream};
use proto::order_history::v1::*;
use store::{Result, uuid};
use tonic::Status;
use uuid::Uuid;

use crate::store::Store;

/// A part has so many orders.
const PART: usize = 200;

/// The orders that a request names, or those of the customers that it names, in parts.
pub async fn read(
    store: Store,
    request: ReadPurchasesRequest,
) -> Result<impl Stream<Item = Result<ReadPurchasesResponse, Status>> + Send> {
    let ids = |texts: &[String]| texts.iter().map(|id| uuid(id)).collect::<Result<Vec<Uuid>>>();
    let wanted = match request.customer_ids.as_slice() {
        [] => ids(&request.order_ids)?,
        customers => store.order_ids(&ids(customers)?).await?,
    };
    Ok(stream::try_unfold((store, VecDeque::from(wanted)), |(store, mut left)| async move {
        if left.is_empty() {
            return Ok::<_, Status>(None);
        }
        let part: Vec<Uuid> = left.drain(..left.len().min(PART)).collect();
        let orders = store.purchases(&part).await?;
        Ok(Some((ReadPurchasesResponse { orders }, (store, left))))
    }))
}
