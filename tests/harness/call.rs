use std::sync::LazyLock;

use prost::{Message, bytes::Buf};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor};
use serde_json::Value;
use tokio_stream::StreamExt;
use tonic::{
    Request, Response, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::{Channel, Endpoint},
};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| DescriptorPool::decode(proto::DESCRIPTOR_SET).unwrap());

/// Every public RPC of the contract.
pub fn methods() -> Vec<MethodDescriptor> {
    let services = POOL.services().filter(|service| service.full_name().starts_with("clientele."));
    let public = services.filter(|service| {
        !["SectionService", "FeedService", "KeyService", "PurchaseService"].contains(&service.name())
    });
    public.flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
}

/// Calls RPCs by name with JSON or with any bytes.
#[derive(Clone)]
pub struct Caller {
    // tonic's own: a caller in another language has none of our client's care.
    channel: Channel,
    token: String,
}

/// Sends bytes as they are and decodes replies by their descriptor.
struct Bytes(MessageDescriptor);

impl Caller {
    /// A caller of one gateway.
    pub fn new(url: &str, token: &str) -> Self {
        Self { channel: Endpoint::from_shared(url.to_owned()).unwrap().connect_lazy(), token: token.to_owned() }
    }

    /// Calls with a message in the protobuf JSON mapping.
    pub async fn json(&self, method: &MethodDescriptor, message: &Value) -> Result<Response<DynamicMessage>, Status> {
        let message = DynamicMessage::deserialize(method.input(), message.clone()).unwrap();
        self.bytes(method, message.encode_to_vec()).await
    }

    /// Calls with any bytes as the message. Of a stream of replies the first is answered.
    pub async fn bytes(&self, method: &MethodDescriptor, message: Vec<u8>) -> Result<Response<DynamicMessage>, Status> {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.token).parse().unwrap());
        request.metadata_mut().insert("clientele-purpose", "service".parse().unwrap());
        let (path, codec) = (path.parse().unwrap(), Bytes(method.output()));
        if !method.is_client_streaming() && !method.is_server_streaming() {
            return grpc.unary(request, path, codec).await;
        }
        let request = request.map(tokio_stream::once);
        let mut replies = grpc.streaming(request, path, codec).await?.into_inner();
        match replies.next().await {
            Some(reply) => reply.map(Response::new),
            None => Err(Status::unknown("the stream ended without a reply")),
        }
    }
}

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = DynamicMessage;
    type Encoder = Bytes;
    type Decoder = Bytes;

    fn encoder(&mut self) -> Bytes {
        Bytes(self.0.clone())
    }

    fn decoder(&mut self) -> Bytes {
        Bytes(self.0.clone())
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        use prost::bytes::BufMut;
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        DynamicMessage::decode(self.0.clone(), bytes).map(Some).map_err(|error| Status::unknown(error.to_string()))
    }
}
