use ::store::Load;
use proto::{
    keys::v1::{DestroyKeysRequest, DestroyKeysResponse, key_service_server::KeyService},
    loyalty::v1::{loyalty_service_server::LoyaltyService, *},
    section::v1::{section_service_server::SectionService, *},
};
use server::accept;
use tonic::{Request, Response, Status};

use crate::{request, store::Store};

/// The RPCs of loyalty.
#[derive(Clone)]
pub struct Service {
    pub store: Store,
    pub load: Load,
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl LoyaltyService for Service {
    async fn create_programme(&self, request: Request<CreateProgrammeRequest>) -> Reply<CreateProgrammeResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        Ok(self.store.programme_create(&call, message).await?.into())
    }

    async fn list_programmes(&self, request: Request<ListProgrammesRequest>) -> Reply<ListProgrammesResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        let page = self.store.programme_list(&message).await?;
        Ok(Response::new(ListProgrammesResponse { programmes: page.items, next_page_token: page.next_page_token }))
    }

    async fn enroll(&self, request: Request<EnrollRequest>) -> Reply<EnrollResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        Ok(self.store.member_enroll(&call, message).await?.into())
    }

    async fn get_member(&self, request: Request<GetMemberRequest>) -> Reply<GetMemberResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        let member = self.store.member_get(&message).await?;
        Ok(Response::new(GetMemberResponse { member: Some(member) }))
    }

    async fn accrue_points(&self, request: Request<AccruePointsRequest>) -> Reply<AccruePointsResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        Ok(self.store.ledger_accrue(&call, message).await?.into())
    }

    async fn redeem_points(&self, request: Request<RedeemPointsRequest>) -> Reply<RedeemPointsResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        Ok(self.store.ledger_redeem(&call, message).await?.into())
    }

    async fn reverse_transaction(
        &self,
        request: Request<ReverseTransactionRequest>,
    ) -> Reply<ReverseTransactionResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        Ok(self.store.ledger_reverse(&call, message).await?.into())
    }

    async fn get_balance(&self, request: Request<GetBalanceRequest>) -> Reply<GetBalanceResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        let balance = self.store.balance_get(&message).await?;
        Ok(Response::new(GetBalanceResponse { balance: Some(balance) }))
    }

    async fn list_ledger_entries(
        &self,
        request: Request<ListLedgerEntriesRequest>,
    ) -> Reply<ListLedgerEntriesResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        let page = self.store.ledger_list(&message).await?;
        Ok(Response::new(ListLedgerEntriesResponse { entries: page.items, next_page_token: page.next_page_token }))
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
impl KeyService for Service {
    async fn destroy_keys(&self, request: Request<DestroyKeysRequest>) -> Reply<DestroyKeysResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        Ok(Response::new(self.store.db.destroy_keys(&call, &message.customer_id).await?))
    }
}
