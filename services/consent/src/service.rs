use ::store::Load;
use proto::{
    consent::v1::{consent_service_server::ConsentService, *},
    keys::v1::{DestroyKeysRequest, DestroyKeysResponse, key_service_server::KeyService},
    section::v1::{section_service_server::SectionService, *},
};
use server::accept;
use tonic::{Request, Response, Status};

use crate::{request, store::Store};

/// The RPCs of consent.
#[derive(Clone)]
pub struct Service {
    pub store: Store,
    pub load: Load,
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl ConsentService for Service {
    async fn create_purpose(&self, request: Request<CreatePurposeRequest>) -> Reply<CreatePurposeResponse> {
        let (call, message) = accept(request, request::create)?;
        Ok(self.store.purpose_create(&call, message).await?.into())
    }

    async fn publish_notice(&self, request: Request<PublishNoticeRequest>) -> Reply<PublishNoticeResponse> {
        let (call, message) = accept(request, request::publish)?;
        Ok(self.store.notice_publish(&call, message).await?.into())
    }

    async fn list_purposes(&self, request: Request<ListPurposesRequest>) -> Reply<ListPurposesResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        let page = self.store.purpose_list(&message).await?;
        Ok(Response::new(ListPurposesResponse { purposes: page.items, next_page_token: page.next_page_token }))
    }

    async fn grant_consent(&self, request: Request<GrantConsentRequest>) -> Reply<GrantConsentResponse> {
        let (call, message) = accept(request, request::grant)?;
        let key = self.store.db.key("GrantConsent", &message.request_id, &message)?;
        let reply = |record, consistency_token| GrantConsentResponse { record: Some(record), consistency_token };
        Ok(self.store.record_add(&call, key, message.into(), reply).await?.into())
    }

    async fn refuse_consent(&self, request: Request<RefuseConsentRequest>) -> Reply<RefuseConsentResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        let key = self.store.db.key("RefuseConsent", &message.request_id, &message)?;
        let reply = |record, consistency_token| RefuseConsentResponse { record: Some(record), consistency_token };
        Ok(self.store.record_add(&call, key, message.into(), reply).await?.into())
    }

    async fn withdraw_consent(&self, request: Request<WithdrawConsentRequest>) -> Reply<WithdrawConsentResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        let key = self.store.db.key("WithdrawConsent", &message.request_id, &message)?;
        let reply = |record, consistency_token| WithdrawConsentResponse { record: Some(record), consistency_token };
        Ok(self.store.record_add(&call, key, message.into(), reply).await?.into())
    }

    async fn list_consent_records(
        &self,
        request: Request<ListConsentRecordsRequest>,
    ) -> Reply<ListConsentRecordsResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        let page = self.store.record_list(&message).await?;
        Ok(Response::new(ListConsentRecordsResponse { records: page.items, next_page_token: page.next_page_token }))
    }

    async fn check_consent(&self, request: Request<CheckConsentRequest>) -> Reply<CheckConsentResponse> {
        let (_, message) = accept(request, request::check)?;
        Ok(Response::new(self.store.decide(&message).await?))
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
        accept(request, request::resolve)?;
        Ok(Response::new(ResolveIdentifiersResponse::default()))
    }
}

#[tonic::async_trait]
impl KeyService for Service {
    async fn destroy_keys(&self, request: Request<DestroyKeysRequest>) -> Reply<DestroyKeysResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        Ok(Response::new(self.store.db.destroy_keys(&call, &message.customer_id).await?))
    }
}
