use ::store::{Load, Outcome, Written};
use error::Failure;
use proto::{
    contact::v1::{contact_service_server::ContactService, *},
    keys::v1::{DestroyKeysRequest, DestroyKeysResponse, key_service_server::KeyService},
    section::v1::{section_service_server::SectionService, *},
};
use server::{accept, accept_batch};
use tonic::{Request, Response, Status};

use crate::{request, store::Store};

/// The RPCs of contact.
#[derive(Clone)]
pub struct Service {
    pub store: Store,
    pub load: Load,
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl ContactService for Service {
    async fn add_contact_point(&self, request: Request<AddContactPointRequest>) -> Reply<AddContactPointResponse> {
        let call = server::call(&request)?;
        let outcome = self.store.contact_points_add(&call, vec![request.into_inner()]).await.remove(0);
        Ok(outcome.map_err(Status::from)?.into())
    }

    async fn batch_add_contact_points(
        &self,
        request: Request<BatchAddContactPointsRequest>,
    ) -> Reply<BatchAddContactPointsResponse> {
        let (call, requests) = accept_batch(request, "requests", |batch| batch.requests)?;
        let outcomes = self.store.contact_points_add(&call, requests).await;
        let results = outcomes.into_iter().map(added).collect::<Result<_, _>>().map_err(Status::from)?;
        Ok(Response::new(BatchAddContactPointsResponse { results }))
    }

    async fn get_contact_point(&self, request: Request<GetContactPointRequest>) -> Reply<GetContactPointResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        let contact_point = Some(self.store.contact_point_get(&message).await?);
        Ok(Response::new(GetContactPointResponse { contact_point }))
    }

    async fn update_contact_point(
        &self,
        request: Request<UpdateContactPointRequest>,
    ) -> Reply<UpdateContactPointResponse> {
        let (call, message) = accept(request, request::update)?;
        Ok(self.store.contact_point_update(&call, message).await?.into())
    }

    async fn remove_contact_point(
        &self,
        request: Request<RemoveContactPointRequest>,
    ) -> Reply<RemoveContactPointResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        Ok(self.store.contact_point_remove(&call, message).await?.into())
    }

    async fn list_contact_points(
        &self,
        request: Request<ListContactPointsRequest>,
    ) -> Reply<ListContactPointsResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        let page = self.store.contact_point_list(&message).await?;
        let (contact_points, next_page_token) = (page.items, page.next_page_token);
        Ok(Response::new(ListContactPointsResponse { contact_points, next_page_token }))
    }

    async fn set_primary_contact_point(
        &self,
        request: Request<SetPrimaryContactPointRequest>,
    ) -> Reply<SetPrimaryContactPointResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        Ok(self.store.contact_point_set_primary(&call, message).await?.into())
    }

    async fn record_delivery_events(
        &self,
        request: Request<RecordDeliveryEventsRequest>,
    ) -> Reply<RecordDeliveryEventsResponse> {
        let (call, message) = accept(request, request::deliveries)?;
        let results = self.store.deliveries_record(&call, message).await?;
        Ok(Response::new(RecordDeliveryEventsResponse { results }))
    }

    async fn start_verification(&self, request: Request<StartVerificationRequest>) -> Reply<StartVerificationResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        Ok(self.store.verification_start(&call, message).await?.into())
    }

    async fn check_verification(&self, request: Request<CheckVerificationRequest>) -> Reply<CheckVerificationResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        Ok(self.store.verification_check(&call, message).await?.into())
    }

    async fn set_contact_preferences(
        &self,
        request: Request<SetContactPreferencesRequest>,
    ) -> Reply<SetContactPreferencesResponse> {
        let (call, message) = accept(request, request::preferences)?;
        Ok(self.store.preferences_set(&call, message).await?.into())
    }

    async fn lookup_contact_points(
        &self,
        request: Request<LookupContactPointsRequest>,
    ) -> Reply<LookupContactPointsResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        self.store.db.require(message.consistency.as_ref()).await?;
        let results = self.store.contact_point_lookup(&message.values).await?;
        Ok(Response::new(LookupContactPointsResponse { results }))
    }
}

/// The outcome of an addition as a batch shows it; what is not final is the batch's own.
fn added(outcome: Outcome<AddContactPointResponse>) -> Result<AddContactPointResult, Failure> {
    Ok(match outcome {
        Ok(Written { reply, replayed }) => AddContactPointResult {
            contact_point_id: reply.contact_point.unwrap_or_default().contact_point_id,
            consistency_token: reply.consistency_token,
            replayed,
            ..Default::default()
        },
        Err(failure) if !failure.is_final() => return Err(failure),
        Err(failure) => AddContactPointResult {
            failure: failure.reason().name.to_owned(),
            invalid_fields: failure.invalid_fields(),
            ..Default::default()
        },
    })
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
        let values: Vec<_> = message.identifiers.iter().filter_map(request::contact_value).collect();
        let results = self.store.contact_point_lookup(&values).await?;
        let resolution =
            |found: LookupContactPointsResult| Resolution { customer_ids: found.customer_ids, failure: found.failure };
        Ok(Response::new(ResolveIdentifiersResponse { resolutions: results.into_iter().map(resolution).collect() }))
    }
}

#[tonic::async_trait]
impl KeyService for Service {
    async fn destroy_keys(&self, request: Request<DestroyKeysRequest>) -> Reply<DestroyKeysResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        Ok(Response::new(self.store.db.destroy_keys(&call, &message.customer_id).await?))
    }
}
