use access::{Call, InternalKey, PURPOSE_HEADER};
use error::{Failure, reason};
use proto::{
    feed::v1::feed_service_client::FeedServiceClient,
    section::v1::{ResolveIdentifiersRequest, section_service_client::SectionServiceClient},
    r#type::v1::Identifier,
};
use tonic::{
    Code, Request, Status,
    metadata::{MetadataMap, MetadataValue},
};
use uuid::Uuid;

use crate::{Channel, credentials::inject_trace};

/// A trace that nobody keeps.
const NOT_TRACED: &str = "00-00000000000000000000000000000001-0000000000000001-00";

/// Another process of the installation, and the key that proves us to it.
#[derive(Clone)]
pub struct Peer {
    /// Its channel, for calls that are passed through.
    pub channel: Channel,
    /// Its internal contract.
    pub sections: SectionServiceClient<Channel>,
    /// Its changes.
    pub feed: FeedServiceClient<Channel>,
    key: InternalKey,
}

impl Peer {
    /// A peer behind a channel.
    pub fn new(channel: Channel, key: InternalKey) -> Self {
        let sections = SectionServiceClient::new(channel.clone()).max_decoding_message_size(crate::MAX_REPLY);
        let feed = FeedServiceClient::new(channel.clone()).max_decoding_message_size(crate::MAX_REPLY);
        Self { channel, sections, feed, key }
    }

    /// A request on behalf of a caller, with what is left of the caller's time.
    pub fn request<T>(&self, call: &Call, message: T) -> Request<T> {
        let mut request = self.stream(call, message);
        request.set_timeout(call.left());
        request
    }

    /// The same for a stream, which lasts until one side ends it, a day at most.
    pub fn stream<T>(&self, call: &Call, message: T) -> Request<T> {
        let mut request = Request::new(message);
        self.sign(call, request.metadata_mut());
        request
    }

    /// Puts our own credentials and trace in place of the caller's.
    pub fn sign(&self, call: &Call, metadata: &mut MetadataMap) {
        metadata.insert("authorization", self.key.authorization(&call.caller));
        metadata.insert(PURPOSE_HEADER, call.caller.purpose.name().parse().expect("purposes are ASCII"));
        // It was decided once, at the first hop, that this call is not traced.
        if !inject_trace(metadata) && !metadata.contains_key("traceparent") {
            metadata.insert("traceparent", MetadataValue::from_static(NOT_TRACED));
        }
    }
}

/// What a failed call to a peer means: nobody there, no time left, or the peer's own answer.
pub fn unreachable(status: &Status) -> Failure {
    match status.code() {
        Code::DeadlineExceeded | Code::Cancelled => reason::DEADLINE_EXCEEDED.into(),
        _ => Failure::from(reason::SERVICE_UNAVAILABLE).retry_after(std::time::Duration::from_secs(1)),
    }
}

/// Profile, as the other services see it: it knows which customers exist.
#[derive(Clone)]
pub struct Directory(Peer);

impl Directory {
    /// The directory behind a peer.
    pub fn new(profile: Peer) -> Self {
        Self(profile)
    }

    /// Those of the customers that do not exist. Never answered from a cache.
    pub async fn unknown(&self, call: &Call, customers: &[Uuid]) -> Result<Vec<Uuid>, Failure> {
        let mut unknown = Vec::new();
        for customers in customers.chunks(250) {
            let identifiers =
                customers.iter().map(|id| Identifier { customer_id: id.to_string(), ..Default::default() }).collect();
            let request = self.0.request(call, ResolveIdentifiersRequest { identifiers, consistency: None });
            let reply =
                self.0.sections.clone().resolve_identifiers(request).await.map_err(|status| unreachable(&status))?;
            let known = reply.into_inner().resolutions;
            let absent = customers.iter().zip(known).filter(|(_, found)| found.customer_ids.is_empty());
            unknown.extend(absent.map(|(id, _)| *id));
        }
        Ok(unknown)
    }
}
