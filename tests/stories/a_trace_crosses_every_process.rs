use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use proto::customer::v1::GetCustomerRequest;
use tests::{Fixture, Processes};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

/// Spans by id, with the service that made each.
type Spans = Arc<Mutex<BTreeMap<Vec<u8>, (String, Span)>>>;

struct Receiver(Spans);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let name = attributes.into_iter().find(|attribute| attribute.key == "service.name").unwrap();
            let name = format!("{:?}", name.value.unwrap().value.unwrap());
            let name = name.split('"').nth(1).unwrap().to_owned();
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.0.lock().unwrap().insert(span.span_id.clone(), (name.clone(), span));
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_look_up_is_one_trace_from_the_caller_to_the_statements() {
    let spans = Spans::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let receiver = tonic::transport::Server::builder().add_service(TraceServiceServer::new(Receiver(spans.clone())));
    tokio::spawn(receiver.serve_with_incoming(TcpIncoming::from(listener)));

    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "200".to_owned())];
    let processes = Processes::start(&environment).await;
    let client = processes.client();
    let customer_id = Fixture::create(&client).await.customer_id;
    let (trace_id, caller) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let mut request = Request::new(GetCustomerRequest { customer_id, ..Default::default() });
    let traceparent = format!("00-{trace_id}-{caller}-01");
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    let channel = client::channel(&processes.url).unwrap();
    let mut customers = proto::customer::v1::customer_service_client::CustomerServiceClient::new(channel);
    let metadata = request.metadata_mut();
    metadata.insert("authorization", format!("Bearer {}", processes.token).parse().unwrap());
    metadata.insert("clientele-purpose", "service".parse().unwrap());
    customers.get_customer(request).await.unwrap();
    // From the time that it took to its trace.
    let exemplar = format!("# {{trace_id=\"{trace_id}\"}}");
    assert!(processes.metrics("gateway").await.contains(&exemplar));

    let trace_id = hex(trace_id);
    for _ in 0..100 {
        let all = services(&spans, &trace_id).len() == 8 && statements(&spans, &trace_id).len() == 7;
        // A span is told when it ends, so a statement comes before what it is part of.
        if all && orphan(&spans, &trace_id, &hex(caller)).is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let names = ["consent", "contact", "gateway", "insight", "interaction", "loyalty", "order-history", "profile"];
    assert_eq!(services(&spans, &trace_id), names.map(str::to_owned).into());
    let statements = statements(&spans, &trace_id);
    assert_eq!(statements.len(), 7, "{statements:?}");
    // Connected: every span leads to the caller's own.
    assert_eq!(orphan(&spans, &trace_id, &hex(caller)), None);
    let spans = spans.lock().unwrap();
    let gateway = spans.values().find(|(name, span)| name == "gateway" && span.trace_id == trace_id).unwrap();
    assert_eq!(gateway.1.name, "clientele.customer.v1.CustomerService/GetCustomer");
    let keys: BTreeSet<&str> = gateway.1.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert!(keys.is_superset(&["rpc.system.name", "rpc.method", "rpc.response.status_code"].into()), "{keys:?}");
    drop(spans);
    processes.stop();
}

/// A span of the trace that does not lead to the caller's own.
fn orphan(spans: &Spans, trace_id: &[u8], caller: &[u8]) -> Option<String> {
    let spans = spans.lock().unwrap();
    let leads = |span: &Span| {
        let mut at = Some(span);
        while let Some(span) = at.filter(|span| span.parent_span_id != caller) {
            at = spans.get(&span.parent_span_id).map(|(_, span)| span);
        }
        at.is_some()
    };
    let mut of_trace = spans.values().map(|(_, span)| span).filter(|span| span.trace_id == trace_id);
    of_trace.find(|span| !leads(span)).map(|span| span.name.clone())
}

fn services(spans: &Spans, trace_id: &[u8]) -> BTreeSet<String> {
    let spans = spans.lock().unwrap();
    spans.values().filter(|(_, span)| span.trace_id == trace_id).map(|(name, _)| name.clone()).collect()
}

/// The services that ran a statement within the trace.
fn statements(spans: &Spans, trace_id: &[u8]) -> BTreeSet<String> {
    let spans = spans.lock().unwrap();
    let statement = |span: &Span| span.attributes.iter().any(|attribute| attribute.key == "db.system.name");
    spans.values().filter(|(_, s)| s.trace_id == trace_id && statement(s)).map(|(name, _)| name.clone()).collect()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}
