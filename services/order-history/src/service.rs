use std::pin::Pin;

use ::store::Load;
use futures_util::{Stream, StreamExt};
use proto::{
    keys::v1::{DestroyKeysRequest, DestroyKeysResponse, key_service_server::KeyService},
    order_history::v1::{
        order_history_service_server::OrderHistoryService, purchase_service_server::PurchaseService, *,
    },
    section::v1::{section_service_server::SectionService, *},
};
use server::{accept, accept_batch};
use tonic::{Request, Response, Status, Streaming};

use crate::{purchase, record, request, store::Store};

/// The RPCs of order-history.
#[derive(Clone)]
pub struct Service {
    pub store: Store,
    pub load: Load,
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl OrderHistoryService for Service {
    async fn record_order(&self, request: Request<RecordOrderRequest>) -> Reply<RecordOrderResponse> {
        let (call, message) = accept(request, request::record)?;
        let order = message.order.unwrap_or_default();
        let recorded = record::one(&self.store, &call, order).await.map_err(Status::from)?;
        Ok(Response::new(RecordOrderResponse {
            order_id: recorded.order_id.to_string(),
            revision: recorded.revision,
            outcome: recorded.outcome.into(),
            consistency_token: recorded.consistency_token,
        }))
    }

    async fn batch_record_orders(
        &self,
        request: Request<BatchRecordOrdersRequest>,
    ) -> Reply<BatchRecordOrdersResponse> {
        let (call, orders) = accept_batch(request, "orders", |batch| batch.orders)?;
        let results = record::many(&self.store, &call, orders).await.into_iter().map(record::result).collect();
        Ok(Response::new(BatchRecordOrdersResponse { results }))
    }

    type RecordOrdersStream = Pin<Box<dyn Stream<Item = Result<RecordOrdersResponse, Status>> + Send>>;

    async fn record_orders(&self, request: Request<Streaming<RecordOrdersRequest>>) -> Reply<Self::RecordOrdersStream> {
        let call = server::call(&request)?;
        Ok(Response::new(record::stream(self.store.clone(), call, request.into_inner()).boxed()))
    }

    async fn get_order(&self, request: Request<GetOrderRequest>) -> Reply<GetOrderResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        let order = self.store.order_get(&message).await?;
        Ok(Response::new(GetOrderResponse { order: Some(order) }))
    }

    async fn list_orders(&self, request: Request<ListOrdersRequest>) -> Reply<ListOrdersResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        let page = self.store.order_list(&message).await?;
        Ok(Response::new(ListOrdersResponse { orders: page.items, next_page_token: page.next_page_token }))
    }

    async fn get_order_summary(&self, request: Request<GetOrderSummaryRequest>) -> Reply<GetOrderSummaryResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        let summaries = self.store.summary_get(&message).await?;
        Ok(Response::new(GetOrderSummaryResponse { summaries }))
    }

    async fn record_return(&self, request: Request<RecordReturnRequest>) -> Reply<RecordReturnResponse> {
        let (call, message) = accept(request, request::record_return)?;
        Ok(self.store.return_record(&call, message).await?.into())
    }
}

#[tonic::async_trait]
impl SectionService for Service {
    async fn batch_get_sections(&self, request: Request<BatchGetSectionsRequest>) -> Reply<BatchGetSectionsResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        Ok(Response::new(self.store.db.sections(&self.load, &message).await?))
    }

    async fn resolve_identifiers(
        &self,
        request: Request<ResolveIdentifiersRequest>,
    ) -> Reply<ResolveIdentifiersResponse> {
        let (_, message) = accept(request, request::resolve)?;
        self.store.db.require(message.consistency.as_ref()).await?;
        let resolutions = self.store.identifier_resolve(&message.identifiers).await?;
        Ok(Response::new(ResolveIdentifiersResponse { resolutions }))
    }
}

#[tonic::async_trait]
impl PurchaseService for Service {
    type ReadPurchasesStream = Pin<Box<dyn Stream<Item = Result<ReadPurchasesResponse, Status>> + Send>>;

    async fn read_purchases(&self, request: Request<ReadPurchasesRequest>) -> Reply<Self::ReadPurchasesStream> {
        let (_, message) = accept(request, |_, _| ())?;
        Ok(Response::new(purchase::read(self.store.clone(), message).await?.boxed()))
    }
}

#[tonic::async_trait]
impl KeyService for Service {
    async fn destroy_keys(&self, request: Request<DestroyKeysRequest>) -> Reply<DestroyKeysResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        Ok(Response::new(self.store.db.destroy_keys(&call, &message.customer_id).await?))
    }
}
