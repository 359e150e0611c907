use access::PURPOSE_HEADER;
use opentelemetry::propagation::Injector;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue, errors::InvalidMetadataValue},
    service::Interceptor,
};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Adds to each call who calls, what for, and within which trace.
#[derive(Clone)]
pub struct Credentials {
    authorization: MetadataValue<Ascii>,
    purpose: MetadataValue<Ascii>,
}

impl Credentials {
    pub(crate) fn new(bearer_token: &str, purpose: &str) -> Result<Self, InvalidMetadataValue> {
        let mut authorization: MetadataValue<Ascii> = format!("Bearer {bearer_token}").parse()?;
        authorization.set_sensitive(true);
        Ok(Self { authorization, purpose: purpose.parse()? })
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert("authorization", self.authorization.clone());
        metadata.insert(PURPOSE_HEADER, self.purpose.clone());
        inject_trace(metadata);
        Ok(request)
    }
}

/// Writes the current span's context as W3C `traceparent`; nothing without a span, so that whoever is called
/// decides. Answers whether there was one.
pub(crate) fn inject_trace(metadata: &mut MetadataMap) -> bool {
    let span = tracing::Span::current();
    if span.is_none() {
        return false;
    }
    let context = span.context();
    opentelemetry::global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&context, &mut Carrier(metadata));
    });
    true
}

struct Carrier<'a>(&'a mut MetadataMap);

impl Injector for Carrier<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (key.parse::<MetadataKey<Ascii>>(), value.parse()) {
            self.0.insert(key, value);
        }
    }
}
