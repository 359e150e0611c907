//! The Rust SDK. A [`Client`] hands out the generated, typed clients of every service behind one
//! gateway and takes care of what every call needs: credentials, the declared purpose, a deadline and
//! the trace. It remembers the tokens of writes that later reads must have seen, makes request ids,
//! and repeats what found nobody to answer it.

mod credentials;
mod peer;
mod retry;

pub use credentials::Credentials;
pub use peer::{Directory, Peer, unreachable};
pub use retry::retry;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

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
use tonic::{
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};

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

/// Opens a channel that connects when it is first used. Small writes leave at once (no Nagle), and
/// a peer that died silently is noticed within half a minute.
pub fn channel(url: &str) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(url.to_owned())?
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(2))
        .http2_keep_alive_interval(Duration::from_secs(15))
        .keep_alive_timeout(Duration::from_secs(10))
        // As many streams as a server takes fit into the connection's window, so that one whose reader
        // has gone to sleep holds up nobody but itself.
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(1 << 30)
        // A server that refuses a long request before it has read it all resets the stream; a thousand
        // such refusals are no attack and must not end the connection.
        .http2_max_local_error_reset_streams(None);
    Ok(endpoint.connect_lazy())
}

impl Client {
    /// Prepares a caller with a bearer token and a declared purpose. Each call has ten seconds
    /// unless its request says otherwise.
    pub fn new(url: &str, bearer_token: &str, purpose: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let credentials = Credentials::new(bearer_token, purpose, Duration::from_secs(10))?;
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
