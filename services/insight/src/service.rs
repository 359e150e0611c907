use ::store::{Load, uuid};
use client::Peer;
use proto::{
    insight::v1::{insight_service_server::InsightService, *},
    keys::v1::{DestroyKeysRequest, DestroyKeysResponse, key_service_server::KeyService},
    section::v1::{section_service_server::SectionService, *},
};
use server::accept;
use tonic::{Request, Response, Status};

use crate::{affinity, base, catalogue::Newest, demand, prediction, recommendation, request, store::Store, value};

/// The RPCs of insight.
#[derive(Clone)]
pub struct Service {
    pub store: Store,
    pub load: Load,
    pub catalogue: Newest,
    pub consent: Peer,
    /// So many customers are behind each number of demand and of the base.
    pub min_group_size: u32,
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl InsightService for Service {
    async fn get_value_tier(&self, request: Request<GetValueTierRequest>) -> Reply<GetValueTierResponse> {
        let (_, message) = accept(request, request::get_value_tier)?;
        let ids = [uuid(&message.customer_id)?];
        let mut tiers = value::tiers(&self.store, &ids, request::day(&message.as_of_day)?).await?;
        Ok(Response::new(tiers.remove(0)))
    }

    async fn batch_get_value_tiers(
        &self,
        request: Request<BatchGetValueTiersRequest>,
    ) -> Reply<BatchGetValueTiersResponse> {
        let (_, message) = accept(request, request::batch_get_value_tiers)?;
        let ids = message.customer_ids.iter().map(|id| uuid(id)).collect::<::store::Result<Vec<_>>>()?;
        let results = value::tiers(&self.store, &ids, request::day(&message.as_of_day)?).await?;
        Ok(Response::new(BatchGetValueTiersResponse { results }))
    }

    async fn count_value_tiers(&self, request: Request<CountValueTiersRequest>) -> Reply<CountValueTiersResponse> {
        let (_, message) = accept(request, request::count_value_tiers)?;
        let counted = value::count(&self.store, &message.currency_code, request::day(&message.as_of_day)?).await?;
        Ok(Response::new(counted))
    }

    async fn fit_lifetime_model(&self, request: Request<FitLifetimeModelRequest>) -> Reply<FitLifetimeModelResponse> {
        let (call, message) = accept(request, request::fit_lifetime_model)?;
        let day = request::day(&message.as_of_day)?.unwrap_or_else(prediction::yesterday);
        let (model, repeat_counts) = prediction::fit(&self.store, &call, &message.currency_code, day).await?;
        Ok(Response::new(FitLifetimeModelResponse { model: Some(model.into_proto()), repeat_counts }))
    }

    async fn get_lifetime_model(&self, request: Request<GetLifetimeModelRequest>) -> Reply<GetLifetimeModelResponse> {
        let (_, message) = accept(request, request::get_lifetime_model)?;
        let model = self.store.model(&message.currency_code, request::day(&message.as_of_day)?).await?;
        Ok(Response::new(GetLifetimeModelResponse { model: Some(model.into_proto()) }))
    }

    async fn batch_get_predictions(
        &self,
        request: Request<BatchGetPredictionsRequest>,
    ) -> Reply<BatchGetPredictionsResponse> {
        let (_, message) = accept(request, request::batch_get_predictions)?;
        let results = prediction::predict(&self.store, &message, request::day(&message.as_of_day)?).await?;
        Ok(Response::new(BatchGetPredictionsResponse { results }))
    }

    async fn list_recommendations(
        &self,
        request: Request<ListRecommendationsRequest>,
    ) -> Reply<ListRecommendationsResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        let listed = recommendation::list(&self.store, &self.catalogue, &self.consent, &call, &message).await?;
        Ok(Response::new(listed))
    }

    async fn list_related_items(&self, request: Request<ListRelatedItemsRequest>) -> Reply<ListRelatedItemsResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        Ok(Response::new(recommendation::related(&self.catalogue, &message)?))
    }

    async fn get_affinity(&self, request: Request<GetAffinityRequest>) -> Reply<GetAffinityResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        Ok(Response::new(affinity::get(&self.store, &self.catalogue, &message).await?))
    }

    async fn list_interested_customers(
        &self,
        request: Request<ListInterestedCustomersRequest>,
    ) -> Reply<ListInterestedCustomersResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        let listed = affinity::interested(&self.store, &self.catalogue, &self.consent, &call, &message).await?;
        Ok(Response::new(listed))
    }

    async fn get_demand(&self, request: Request<GetDemandRequest>) -> Reply<GetDemandResponse> {
        let (_, message) = accept(request, request::get_demand)?;
        let demand =
            demand::get(&self.store, &message, request::Span::of(&message), self.min_group_size as usize).await?;
        Ok(Response::new(demand))
    }

    async fn count_customers(&self, request: Request<CountCustomersRequest>) -> Reply<CountCustomersResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        Ok(Response::new(base::count(&self.store, &message, self.min_group_size.into()).await?))
    }

    async fn get_progress(&self, request: Request<GetProgressRequest>) -> Reply<GetProgressResponse> {
        let (_, message) = accept(request, |_, _| ())?;
        Ok(Response::new(GetProgressResponse { feeds: self.store.progress(&message.service).await? }))
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
        let resolutions = vec![Resolution::default(); message.identifiers.len()];
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
