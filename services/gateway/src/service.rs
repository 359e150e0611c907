use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use access::Call;
use chrono::Utc;
use error::Failure;
use futures_util::{StreamExt, future::BoxFuture, stream::BoxStream};
use prost::{
    Message,
    bytes::Bytes,
    encoding::{bytes, string},
};
use proto::{
    Codec, Composed,
    customer::v1::{customer_service_server::SERVICE_NAME, *},
    profile::v1::{SearchProfilesRequest, profile_service_client::ProfileServiceClient},
    section::v1::Resolution,
    r#type::v1::Consistency,
};
use server::accept;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService},
};
use tower::service_fn;
use uuid::Uuid;

use crate::{
    brief, choose, lookup,
    peers::{Peers, told},
    reason, request,
    sections::{Demands, Sections},
    view,
    watch::Watch,
};

/// The RPCs that only the gateway answers.
#[derive(Clone)]
pub struct Service {
    pub peers: Arc<Peers>,
    pub sections: Arc<Sections>,
}

type Reply<T> = Result<Response<T>, Status>;

type HttpRequest = http::Request<Body>;
type HttpResponse = http::Response<Body>;

impl NamedService for Service {
    const NAME: &str = SERVICE_NAME;
}

/// In place of the generated server, which would want whole messages where encoded ones do.
impl tower::Service<HttpRequest> for Service {
    type Response = HttpResponse;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<HttpResponse, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(request).await) })
    }
}

impl Service {
    async fn answer(self, request: HttpRequest) -> HttpResponse {
        let method = request.uri().path().strip_prefix('/').and_then(|path| path.strip_prefix(SERVICE_NAME));
        let method = method.and_then(|method| method.strip_prefix('/')).unwrap_or_default();
        // Only the call that is made most lies in this future itself.
        match method {
            "GetCustomer" => self.unary(Self::get_customer, request).await,
            "BatchGetCustomers" => Box::pin(self.unary(Self::batch_get_customers, request)).await,
            "LookupCustomer" => Box::pin(self.unary(Self::lookup_customer, request)).await,
            "BatchLookupCustomers" => Box::pin(self.unary(Self::batch_lookup_customers, request)).await,
            "SearchCustomers" => Box::pin(self.unary(Self::search_customers, request)).await,
            "ChooseChannel" => Box::pin(self.unary(Self::choose_channel, request)).await,
            "GetServiceBrief" => Box::pin(self.unary(Self::get_service_brief, request)).await,
            "WatchCustomers" => {
                let call = service_fn(move |request| self.clone().watch_customers(request));
                Box::pin(Grpc::new(Codec::default()).server_streaming(call, request)).await
            }
            _ => Status::unimplemented("").into_http(),
        }
    }

    async fn unary<Q, R, F>(self, method: fn(Self, Request<Q>) -> F, request: HttpRequest) -> HttpResponse
    where
        Q: Message + Default + 'static,
        R: Message + 'static,
        F: Future<Output = Reply<R>> + Send + 'static,
    {
        let call = service_fn(move |request| method(self.clone(), request));
        Grpc::new(Codec::default()).unary(call, request).await
    }

    async fn get_customer(self, request: Request<GetCustomerRequest>) -> Reply<Composed> {
        let (call, message) = accept(request, request::get)?;
        let wanted = request::sections(message.read_mask.as_ref());
        self.one(&call, &message.customer_id, &wanted, message.consistency.as_ref()).await
    }

    async fn batch_get_customers(self, request: Request<BatchGetCustomersRequest>) -> Reply<Composed> {
        let (call, message) = accept(request, request::batch_get)?;
        let wanted = request::sections(message.read_mask.as_ref());
        let demands = Demands::new(message.consistency.as_ref())?;
        let customers: Vec<Uuid> = message.customer_ids.iter().map(|id| uuid(id)).collect::<Result<_, _>>()?;
        let views = view::read(&self.sections, &call, &customers, &wanted, &demands).await;
        let mut reply = Vec::new();
        for view in views {
            let mut result = Vec::new();
            match view {
                Ok(view) => bytes::encode(1, &view, &mut result),
                Err(failure) => string::encode(2, &failure.reason().name.to_owned(), &mut result),
            }
            bytes::encode(1, &result, &mut reply);
        }
        Ok(Response::new(Composed(reply.into())))
    }

    async fn lookup_customer(self, request: Request<LookupCustomerRequest>) -> Reply<Composed> {
        let (call, message) = accept(request, request::lookup)?;
        let customer = self.only(&call, &message).await?;
        let wanted = request::sections(message.read_mask.as_ref());
        self.one(&call, &customer, &wanted, message.consistency.as_ref()).await
    }

    async fn batch_lookup_customers(
        self,
        request: Request<BatchLookupCustomersRequest>,
    ) -> Reply<BatchLookupCustomersResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        let found = lookup::resolve(&self.peers, &call, &message.identifiers, message.consistency.as_ref()).await;
        let result =
            |found: Resolution| BatchLookupCustomersResult { customer_ids: found.customer_ids, failure: found.failure };
        Ok(Response::new(BatchLookupCustomersResponse { results: found.into_iter().map(result).collect() }))
    }

    async fn search_customers(self, request: Request<SearchCustomersRequest>) -> Reply<Composed> {
        let (call, message) = accept(request, request::search)?;
        let wanted = request::sections(message.read_mask.as_ref());
        let demands = Demands::new(message.consistency.as_ref())?;
        let profile = self.peers.peer(SectionName::Profile)?;
        let SearchCustomersRequest { query, filter, page_size, page_token, consistency, .. } = message;
        let asked = SearchProfilesRequest { query, filter, page_size, page_token, consistency };
        let mut client =
            ProfileServiceClient::new(profile.channel.clone()).max_decoding_message_size(client::MAX_REPLY);
        let found = client.search_profiles(profile.request(&call, asked)).await.map_err(told)?.into_inner();
        let ids = found.profiles.iter().map(|profile| uuid(&profile.customer_id)).collect::<Result<Vec<_>, _>>()?;
        let mut reply = Vec::new();
        for view in view::read(&self.sections, &call, &ids, &wanted, &demands).await {
            match view {
                Ok(view) => bytes::encode(1, &view, &mut reply),
                Err(gone) if [reason::CUSTOMER_ERASED, reason::CUSTOMER_NOT_FOUND].contains(&gone.reason()) => (),
                Err(failure) => return Err(failure.into()),
            }
        }
        string::encode(2, &found.next_page_token, &mut reply);
        Ok(Response::new(Composed(reply.into())))
    }

    async fn choose_channel(self, request: Request<ChooseChannelRequest>) -> Reply<ChooseChannelResponse> {
        let (call, message) = accept(request, request::choose)?;
        let customer = uuid(&message.customer_id)?;
        Ok(Response::new(choose::choose(&self, &call, customer, &message).await?))
    }

    async fn get_service_brief(self, request: Request<GetServiceBriefRequest>) -> Reply<GetServiceBriefResponse> {
        let (call, message) = accept(request, |_, _| ())?;
        let demands = Demands::new(message.consistency.as_ref())?;
        let customer = uuid(&message.customer_id)?;
        let wanted = request::sections(None);
        let view = view::read(&self.sections, &call, &[customer], &wanted, &demands).await.remove(0)?;
        let customer = Customer::decode(view).map_err(|_| Failure::from(reason::INTERNAL_ERROR))?;
        Ok(Response::new(GetServiceBriefResponse { brief: Some(brief::brief(customer, Utc::now())) }))
    }

    async fn watch_customers(
        self,
        request: Request<WatchCustomersRequest>,
    ) -> Reply<BoxStream<'static, Result<WatchCustomersResponse, Status>>> {
        let draining = server::draining(&request);
        let (call, message) = accept(request, request::watch)?;
        Ok(Response::new(Watch::begin(&self.peers, &call, &message, draining)?.stream().boxed()))
    }

    /// A reply whose only field is a customer.
    async fn one(
        &self,
        call: &Call,
        customer: &str,
        wanted: &[SectionName],
        consistency: Option<&Consistency>,
    ) -> Reply<Composed> {
        let demands = Demands::new(consistency)?;
        let view: Bytes = view::read(&self.sections, call, &[uuid(customer)?], wanted, &demands).await.remove(0)?;
        let mut reply = Vec::with_capacity(view.len() + 8);
        bytes::encode(1, &view, &mut reply);
        Ok(Response::new(Composed(reply.into())))
    }

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

fn uuid(text: &str) -> Result<Uuid, Failure> {
    Uuid::parse_str(text).map_err(|_| Failure::invalid("customer_id", "must be a UUID"))
}
