use std::pin::Pin;

use ::store::Load;
use futures_util::{Stream, StreamExt};
use proto::{
    interaction::v1::{interaction_service_server::InteractionService, *},
    keys::v1::{DestroyKeysRequest, DestroyKeysResponse, key_service_server::KeyService},
    section::v1::{section_service_server::SectionService, *},
};
use server::{accept, accept_batch};
use tonic::{Request, Response, Status, Streaming};

use crate::{record, request, store::Store};

/// The RPCs of interaction.
#[derive(Clone)]
pub struct Service {
    pub store: Store,
    pub load: Load,
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl InteractionService for Service {
    async fn record_interaction(&self, request: Request<RecordInteractionRequest>) -> Reply<RecordInteractionResponse> {
        let (call, message) = accept(request, request::record)?;
        Ok(record::many(&self.store, &call, vec![message]).await.remove(0).map_err(Status::from)?.into())
    }

    async fn batch_record_interactions(
        &self,
        request: Request<BatchRecordInteractionsRequest>,
    ) -> Reply<BatchRecordInteractionsResponse> {
        let (call, requests) = accept_batch(request, "requests", |batch| batch.requests)?;
        let results = record::many(&self.store, &call, requests).await.into_iter().map(record::result).collect();
        Ok(Response::new(BatchRecordInteractionsResponse { results }))
    }

    type RecordInteractionsStream = Pin<Box<dyn Stream<Item = Result<RecordInteractionsResponse, Status>> + Send>>;

    async fn record_interactions(
        &self,
        request: Request<Streaming<RecordInteractionsRequest>>,
    ) -> Reply<Self::RecordInteractionsStream> {
        let call = server::call(&request)?;
        Ok(Response::new(record::stream(self.store.clone(), call, request.into_inner()).boxed()))
    }

    async fn get_interaction(&self, request: Request<GetInteractionRequest>) -> Reply<GetInteractionResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        let interaction = Some(self.store.interaction_get(&message).await?);
        Ok(Response::new(GetInteractionResponse { interaction }))
    }

    async fn list_interactions(&self, request: Request<ListInteractionsRequest>) -> Reply<ListInteractionsResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        let page = self.store.interaction_list(&message).await?;
        Ok(Response::new(ListInteractionsResponse { interactions: page.items, next_page_token: page.next_page_token }))
    }

    async fn count_outbound_interactions(
        &self,
        request: Request<CountOutboundInteractionsRequest>,
    ) -> Reply<CountOutboundInteractionsResponse> {
        let (_, message) = accept(request, request::count)?;
        Ok(Response::new(self.store.outbound_count(&message).await?))
    }

    async fn link_visitor(&self, request: Request<LinkVisitorRequest>) -> Reply<LinkVisitorResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        Ok(self.store.visitor_link(&call, message).await?.into())
    }

    async fn open_case(&self, request: Request<OpenCaseRequest>) -> Reply<OpenCaseResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        Ok(self.store.case_open(&call, message).await?.into())
    }

    async fn close_case(&self, request: Request<CloseCaseRequest>) -> Reply<CloseCaseResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        Ok(self.store.case_close(&call, message).await?.into())
    }

    async fn get_case(&self, request: Request<GetCaseRequest>) -> Reply<GetCaseResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        let case = Some(self.store.case_get(&message).await?);
        Ok(Response::new(GetCaseResponse { case }))
    }

    async fn list_cases(&self, request: Request<ListCasesRequest>) -> Reply<ListCasesResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        let page = self.store.case_list(&message).await?;
        Ok(Response::new(ListCasesResponse { cases: page.items, next_page_token: page.next_page_token }))
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
        let visitors: Vec<_> = message.identifiers.iter().filter_map(request::visitor).collect();
        let customers = self.store.visitor_resolve(&visitors).await?;
        let resolution = |id: Option<uuid::Uuid>| Resolution {
            customer_ids: id.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        Ok(Response::new(ResolveIdentifiersResponse { resolutions: customers.into_iter().map(resolution).collect() }))
    }
}

#[tonic::async_trait]
impl KeyService for Service {
    async fn destroy_keys(&self, request: Request<DestroyKeysRequest>) -> Reply<DestroyKeysResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        Ok(Response::new(self.store.db.destroy_keys(&call, &message.customer_id).await?))
    }
}
