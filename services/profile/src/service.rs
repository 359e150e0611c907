use ::store::{Fault, Load, Outcome, Written};
use error::Failure;
use proto::{
    keys::v1::{DestroyKeysRequest, DestroyKeysResponse, key_service_server::KeyService},
    profile::v1::{profile_service_server::ProfileService, *},
    section::v1::{section_service_server::SectionService, *},
};
use server::{accept, accept_batch};
use tonic::{Request, Response, Status};

use crate::{reason, request, store::Store};

/// The RPCs of profile.
#[derive(Clone)]
pub struct Service {
    pub store: Store,
    pub load: Load,
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl ProfileService for Service {
    async fn create_profile(&self, request: Request<CreateProfileRequest>) -> Reply<CreateProfileResponse> {
        let call = server::call(&request)?;
        Ok(self.store.profiles_create(&call, vec![request.into_inner()]).await.remove(0).map_err(Status::from)?.into())
    }

    async fn batch_create_profiles(
        &self,
        request: Request<BatchCreateProfilesRequest>,
    ) -> Reply<BatchCreateProfilesResponse> {
        let (call, requests) = accept_batch(request, "requests", |batch| batch.requests)?;
        let outcomes = self.store.profiles_create(&call, requests).await;
        let results = outcomes.into_iter().map(created).collect::<Result<_, _>>().map_err(Status::from)?;
        Ok(Response::new(BatchCreateProfilesResponse { results }))
    }

    async fn get_profile(&self, request: Request<GetProfileRequest>) -> Reply<GetProfileResponse> {
        let (_, message) = accept(request, request::get)?;
        if let Some(at) = ::store::time(message.as_of_time) {
            let customer = ::store::uuid(&message.customer_id)?;
            self.store.db.require_of(message.consistency.as_ref(), &[customer]).await?;
            let profile = self.store.profile_as_of(customer, at).await?.ok_or(reason::CUSTOMER_NOT_FOUND)?;
            return Ok(Response::new(GetProfileResponse { profile: Some(profile) }));
        }
        let mut found = self.store.profile_get(&self.load, &[message.customer_id], &message.consistency).await?;
        let profile = found.remove(0)?.ok_or(reason::CUSTOMER_NOT_FOUND)?;
        Ok(Response::new(GetProfileResponse { profile: Some(profile) }))
    }

    async fn batch_get_profiles(&self, request: Request<BatchGetProfilesRequest>) -> Reply<BatchGetProfilesResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        let found = self.store.profile_get(&self.load, &message.customer_ids, &message.consistency).await?;
        let result = |found: ::store::Result<Option<Profile>>| match found.map_err(Fault::into_failure) {
            Err(failure) if failure.reason() == error::reason::CUSTOMER_ERASED => Ok(BatchGetProfilesResult::default()),
            found => Ok(BatchGetProfilesResult { profile: found? }),
        };
        let results = found.into_iter().map(result).collect::<Result<_, Status>>()?;
        Ok(Response::new(BatchGetProfilesResponse { results }))
    }

    async fn update_profile(&self, request: Request<UpdateProfileRequest>) -> Reply<UpdateProfileResponse> {
        let (call, message) = accept(request, request::update)?;
        Ok(self.store.profile_update(&call, message).await?.into())
    }

    async fn record_observation(&self, request: Request<RecordObservationRequest>) -> Reply<RecordObservationResponse> {
        let (call, message) = accept(request, request::observation)?;
        Ok(self.store.observation_record(&call, message).await?.into())
    }

    async fn list_observations(&self, request: Request<ListObservationsRequest>) -> Reply<ListObservationsResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        let page = self.store.observation_list(&message).await?;
        Ok(Response::new(ListObservationsResponse { observations: page.items, next_page_token: page.next_page_token }))
    }

    async fn search_profiles(&self, request: Request<SearchProfilesRequest>) -> Reply<SearchProfilesResponse> {
        let (_, message) = accept(request, request::search)?;
        let filter = request::filter(&message)?;
        let page = self.store.profile_search(&message, &filter).await?;
        Ok(Response::new(SearchProfilesResponse { profiles: page.items, next_page_token: page.next_page_token }))
    }

    async fn list_profiles(&self, request: Request<ListProfilesRequest>) -> Reply<ListProfilesResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        let page = self.store.profile_list(&message).await?;
        Ok(Response::new(ListProfilesResponse { profiles: page.items, next_page_token: page.next_page_token }))
    }

    async fn add_external_id(&self, request: Request<AddExternalIdRequest>) -> Reply<AddExternalIdResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        Ok(self.store.external_id_add(&call, message).await?.into())
    }

    async fn remove_external_id(&self, request: Request<RemoveExternalIdRequest>) -> Reply<RemoveExternalIdResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        Ok(self.store.external_id_remove(&call, message).await?.into())
    }

    async fn assess_profile(&self, request: Request<AssessProfileRequest>) -> Reply<AssessProfileResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        Ok(Response::new(self.store.profile_assess(&message).await?))
    }

    async fn verify_identity(&self, request: Request<VerifyIdentityRequest>) -> Reply<VerifyIdentityResponse> {
        let (call, message) = accept(request, request::verify)?;
        Ok(self.store.identity_verify(&call, message).await?.into())
    }

    async fn list_identity_checks(
        &self,
        request: Request<ListIdentityChecksRequest>,
    ) -> Reply<ListIdentityChecksResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        let page = self.store.identity_check_list(&message).await?;
        Ok(Response::new(ListIdentityChecksResponse { checks: page.items, next_page_token: page.next_page_token }))
    }

    async fn set_account(&self, request: Request<SetAccountRequest>) -> Reply<SetAccountResponse> {
        let (call, message) = accept(request, request::account)?;
        Ok(self.store.account_set(&call, message).await?.into())
    }

    async fn get_account(&self, request: Request<GetAccountRequest>) -> Reply<GetAccountResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        let account = Some(self.store.account_get(&message).await?);
        Ok(Response::new(GetAccountResponse { account }))
    }

    async fn set_password(&self, request: Request<SetPasswordRequest>) -> Reply<SetPasswordResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        Ok(Response::new(self.store.password_set(&call, message).await?))
    }

    async fn verify_password(&self, request: Request<VerifyPasswordRequest>) -> Reply<VerifyPasswordResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        Ok(Response::new(self.store.password_verify(&call, message).await?))
    }

    async fn record_sign_in(&self, request: Request<RecordSignInRequest>) -> Reply<RecordSignInResponse> {
        let (call, message) = accept(request, request::sign_in)?;
        Ok(self.store.sign_in_record(&call, message).await?.into())
    }

    async fn record_device(&self, request: Request<RecordDeviceRequest>) -> Reply<RecordDeviceResponse> {
        let (call, message) = accept(request, request::device)?;
        Ok(self.store.device_record(&call, message).await?.into())
    }

    async fn list_devices(&self, request: Request<ListDevicesRequest>) -> Reply<ListDevicesResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        let devices = self.store.device_list(&message).await?;
        Ok(Response::new(ListDevicesResponse { devices }))
    }

    async fn join_household(&self, request: Request<JoinHouseholdRequest>) -> Reply<JoinHouseholdResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        Ok(self.store.household_join(&call, message).await?.into())
    }

    async fn leave_household(&self, request: Request<LeaveHouseholdRequest>) -> Reply<LeaveHouseholdResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        Ok(self.store.household_leave(&call, message).await?.into())
    }

    async fn get_household(&self, request: Request<GetHouseholdRequest>) -> Reply<GetHouseholdResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        let household = self.store.household_get(&message).await?;
        Ok(Response::new(GetHouseholdResponse { household }))
    }

    async fn set_relation(&self, request: Request<SetRelationRequest>) -> Reply<SetRelationResponse> {
        let (call, message) = accept(request, request::relation)?;
        Ok(self.store.relation_set(&call, message).await?.into())
    }

    async fn list_relations(&self, request: Request<ListRelationsRequest>) -> Reply<ListRelationsResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        let page = self.store.relation_list(&message).await?;
        Ok(Response::new(ListRelationsResponse { relations: page.items, next_page_token: page.next_page_token }))
    }

    async fn define_attribute(&self, request: Request<DefineAttributeRequest>) -> Reply<DefineAttributeResponse> {
        let (call, message) = accept(request, request::define)?;
        Ok(self.store.attribute_define(&call, message).await?.into())
    }

    async fn list_attribute_definitions(
        &self,
        request: Request<ListAttributeDefinitionsRequest>,
    ) -> Reply<ListAttributeDefinitionsResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        let page = self.store.attribute_list(&message).await?;
        let next_page_token = page.next_page_token;
        Ok(Response::new(ListAttributeDefinitionsResponse { definitions: page.items, next_page_token }))
    }

    async fn resolve_external_ids(
        &self,
        request: Request<ResolveExternalIdsRequest>,
    ) -> Reply<ResolveExternalIdsResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        self.store.db.require(message.consistency.as_ref()).await?;
        let found = self.store.external_id_resolve(&message.external_ids).await?;
        let results = found
            .into_iter()
            .map(|id| ResolveExternalIdsResult { customer_id: id.map(|id| id.to_string()).unwrap_or_default() })
            .collect();
        Ok(Response::new(ResolveExternalIdsResponse { results }))
    }
}

/// The outcome of a creation as a batch shows it; what is not final is the batch's own.
fn created(outcome: Outcome<CreateProfileResponse>) -> Result<CreateProfileResult, Failure> {
    Ok(match outcome {
        Ok(Written { reply, replayed }) => CreateProfileResult {
            customer_id: reply.profile.unwrap_or_default().customer_id,
            consistency_token: reply.consistency_token,
            replayed,
            ..Default::default()
        },
        Err(failure) if !failure.is_final() => return Err(failure),
        Err(failure) => CreateProfileResult {
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
