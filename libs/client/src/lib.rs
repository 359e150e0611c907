//! The Rust SDK. A [`Client`] hands out the generated, typed clients of every service behind one
//! gateway and takes care of what every call needs: credentials, the declared purpose, a deadline and
//! the trace. It remembers the tokens of writes that later reads must have seen, and makes request ids. Its
//! [`Channel`] knows all replicas of a gateway or service and repeats what found nobody to answer it.

mod budget;
mod channel;
mod credentials;
mod peer;
mod replica;
mod timed;

pub use channel::{Channel, PUSHBACK, channel, channel_as};
pub use credentials::Credentials;
pub use peer::{Directory, Peer, unreachable};
pub use timed::ending;

use std::sync::{Arc, Mutex};

use proto::{
    consent::v1::consent_service_client::ConsentServiceClient,
    contact::v1::contact_service_client::ContactServiceClient,
    customer::v1::customer_service_client::CustomerServiceClient,
    insight::v1::insight_service_client::InsightServiceClient,
    interaction::v1::interaction_service_client::InteractionServiceClient,
    loyalty::v1::loyalty_service_client::LoyaltyServiceClient,
    order_history::v1::order_history_service_client::OrderHistoryServiceClient,
    profile::v1::profile_service_client::ProfileServiceClient, r#type::v1::Consistency,
};
use tonic::service::interceptor::InterceptedService;

/// What carries the calls of a [`Client`].
pub type Transport = InterceptedService<Channel, Credentials>;

/// A gateway takes so many tokens with one read.
const MAX_TOKENS: usize = 512;
/// The largest reply that is read: 250 customers or a page of a thousand, with room to spare.
pub const MAX_REPLY: usize = 32 << 20;

/// A caller of one gateway. Clones share the connection and the remembered tokens.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    credentials: Credentials,
    tokens: Arc<Mutex<Vec<String>>>,
}

impl Client {
    /// Prepares a caller with a bearer token and a declared purpose. Each call has ten seconds
    /// unless its request says otherwise; a stream lasts as long as both sides want, a day at most.
    pub fn new(url: &str, bearer_token: &str, purpose: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let credentials = Credentials::new(bearer_token, purpose)?;
        Ok(Self { channel: channel(url)?, credentials, tokens: Arc::default() })
    }

    fn transport(&self) -> Transport {
        InterceptedService::new(self.channel.clone(), self.credentials.clone())
    }

    /// Composed look-ups.
    pub fn customer(&self) -> CustomerServiceClient<Transport> {
        CustomerServiceClient::new(self.transport()).max_decoding_message_size(MAX_REPLY)
    }

    /// Who the customer is.
    pub fn profile(&self) -> ProfileServiceClient<Transport> {
        ProfileServiceClient::new(self.transport()).max_decoding_message_size(MAX_REPLY)
    }

    /// How to reach the customer.
    pub fn contact(&self) -> ContactServiceClient<Transport> {
        ContactServiceClient::new(self.transport()).max_decoding_message_size(MAX_REPLY)
    }

    /// What the customer bought.
    pub fn order_history(&self) -> OrderHistoryServiceClient<Transport> {
        OrderHistoryServiceClient::new(self.transport()).max_decoding_message_size(MAX_REPLY)
    }

    /// What passed between us.
    pub fn interaction(&self) -> InteractionServiceClient<Transport> {
        InteractionServiceClient::new(self.transport()).max_decoding_message_size(MAX_REPLY)
    }

    /// What we promised the customer.
    pub fn loyalty(&self) -> LoyaltyServiceClient<Transport> {
        LoyaltyServiceClient::new(self.transport()).max_decoding_message_size(MAX_REPLY)
    }

    /// What the customer allowed.
    pub fn consent(&self) -> ConsentServiceClient<Transport> {
        ConsentServiceClient::new(self.transport()).max_decoding_message_size(MAX_REPLY)
    }

    /// What may be concluded about the customer.
    pub fn insight(&self) -> InsightServiceClient<Transport> {
        InsightServiceClient::new(self.transport()).max_decoding_message_size(MAX_REPLY)
    }

    /// Remembers a write, so that [`consistency`](Self::consistency) covers it. The oldest of more
    /// than 512 are forgotten.
    pub fn remember(&self, consistency_token: &str) {
        let mut tokens = self.tokens.lock().expect("no holder panics");
        if tokens.len() == MAX_TOKENS {
            tokens.remove(0);
        }
        tokens.push(consistency_token.to_owned());
    }

    /// Asks a read to have seen every remembered write.
    pub fn consistency(&self) -> Option<Consistency> {
        let consistency_tokens = self.tokens.lock().expect("no holder panics").clone();
        (!consistency_tokens.is_empty()).then_some(Consistency { consistency_tokens, fully_consistent: false })
    }
}

/// A new id for a request that may be repeated.
pub fn request_id() -> String {
    uuid::Uuid::now_v7().to_string()
}
