use std::sync::Arc;

use access::Call;
use error::Failure;
use futures_util::{StreamExt, stream::BoxStream};
use proto::{
    customer::v1::{customer_service_server::CustomerService, *},
    section::v1::Resolution,
};
use server::accept;
use tonic::{Request, Response, Status};

use crate::{lookup, peers::Peers, reason, request, view, watch::Watch};

/// The RPCs that only the gateway answers.
pub struct Service {
    pub peers: Arc<Peers>,
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl CustomerService for Service {
    type WatchCustomersStream = BoxStream<'static, Result<WatchCustomersResponse, Status>>;

    async fn get_customer(&self, request: Request<GetCustomerRequest>) -> Reply<GetCustomerResponse> {
        let (call, message) = accept(request, request::get)?;
        let sections = request::sections(message.read_mask.as_ref());
        let ids = [message.customer_id];
        let customer = view::read(&self.peers, &call, &ids, &sections, message.consistency).await?.remove(0)?;
        Ok(Response::new(GetCustomerResponse { customer: Some(customer) }))
    }

    async fn batch_get_customers(
        &self,
        request: Request<BatchGetCustomersRequest>,
    ) -> Reply<BatchGetCustomersResponse> {
        let (call, message) = accept(request, request::batch_get)?;
        let sections = request::sections(message.read_mask.as_ref());
        let customers = view::read(&self.peers, &call, &message.customer_ids, &sections, message.consistency).await?;
        let result = |customer: Result<Customer, Failure>| match customer {
            Ok(customer) => BatchGetCustomersResult { customer: Some(customer), failure: String::new() },
            Err(failure) => BatchGetCustomersResult { customer: None, failure: failure.reason().name.to_owned() },
        };
        Ok(Response::new(BatchGetCustomersResponse { results: customers.into_iter().map(result).collect() }))
    }

    async fn lookup_customer(&self, request: Request<LookupCustomerRequest>) -> Reply<LookupCustomerResponse> {
        let (call, message) = accept(request, request::lookup)?;
        let customer_id = self.only(&call, &message).await?;
        let sections = request::sections(message.read_mask.as_ref());
        let customer =
            view::read(&self.peers, &call, &[customer_id], &sections, message.consistency).await?.remove(0)?;
        Ok(Response::new(LookupCustomerResponse { customer: Some(customer) }))
    }

    async fn batch_lookup_customers(
        &self,
        request: Request<BatchLookupCustomersRequest>,
    ) -> Reply<BatchLookupCustomersResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        let found = lookup::resolve(&self.peers, &call, &message.identifiers, message.consistency.as_ref()).await;
        let result =
            |found: Resolution| BatchLookupCustomersResult { customer_ids: found.customer_ids, failure: found.failure };
        Ok(Response::new(BatchLookupCustomersResponse { results: found.into_iter().map(result).collect() }))
    }

    async fn watch_customers(&self, request: Request<WatchCustomersRequest>) -> Reply<Self::WatchCustomersStream> {
        let (call, message) = accept(request, request::watch)?;
        Ok(Response::new(Watch::begin(&self.peers, &call, &message)?.stream().boxed()))
    }
}

impl Service {
    /// The one customer whom an identifier names.
    async fn only(&self, call: &Call, message: &LookupCustomerRequest) -> Result<String, Failure> {
        let identifiers = message.identifier.iter().cloned().collect::<Vec<_>>();
        let consistency = message.consistency.as_ref();
        let found = lookup::resolve(&self.peers, call, &identifiers, consistency).await.remove(0);
        let Resolution { customer_ids, failure } = found;
        if failure == reason::INVALID_FIELDS.name {
            return Err(Failure::invalid("identifier", "is malformed"));
        }
        if failure == reason::DEADLINE_EXCEEDED.name {
            return Err(reason::DEADLINE_EXCEEDED.into());
        }
        let tokens = [reason::CONSISTENCY_TOKEN_EXPIRED, reason::CONSISTENCY_TOKEN_INVALID];
        if let Some(refused) = tokens.into_iter().find(|reason| reason.name == failure) {
            return Err(refused.into());
        }
        if !failure.is_empty() {
            return Err(Failure::from(reason::SERVICE_UNAVAILABLE).retry_after(std::time::Duration::from_secs(1)));
        }
        match customer_ids.as_slice() {
            [] => Err(reason::CUSTOMER_NOT_FOUND.into()),
            [only] => Ok(only.clone()),
            several => Err(Failure::from(reason::IDENTIFIER_SHARED).with("customer_ids", several.join(","))),
        }
    }
}
