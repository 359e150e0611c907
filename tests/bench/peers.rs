//! What the rows are compared with: a bare echo, and two gateways as one writes them without a cache and
//! without batches. Each is this program once more, in a process of its own.

use std::{
    convert::Infallible,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use access::{Call, Caller, InternalKey, Purpose};
use axum::Router;
use client::Peer;
use futures_util::future::{BoxFuture, try_join_all};
use prost::Message;
use proto::{Codec, Composed, customer::v1::*, section::v1::BatchGetSectionsRequest};
use sqlx::{AssertSqlSafe, PgPool, Row, postgres::PgPoolOptions};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService},
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tower::service_fn;

type HttpRequest = http::Request<Body>;
type HttpResponse = http::Response<Body>;

/// A peer that runs.
pub struct Running {
    pub url: String,
    pub process: u32,
    child: Child,
}

impl Running {
    pub fn start(arguments: &[&str]) -> Self {
        let own = std::env::current_exe().unwrap();
        let mut child = Command::new(own).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { url: url.trim().to_owned(), process: child.id(), child }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a peer for ever, if the arguments name one.
pub async fn serve(arguments: &[String]) -> bool {
    let customers = |peers| Routes::new(Customers(Arc::new(peers)));
    let routes = match arguments {
        [name, bytes] if name == "echo" => customers(Peers::echo(bytes.parse().unwrap())),
        [name, key, urls @ ..] if name == "naive_fan_out" => customers(Peers::fan_out(key, urls)),
        [name, database] if name == "naive_queries" => customers(Peers::queries(database).await),
        // What a collector is told is nobody's concern here.
        [name] if name == "collector" => Routes::from(Router::new().fallback(swallow)),
        _ => return false,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("http://{}", listener.local_addr().unwrap());
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder().initial_stream_window_size(1 << 20).initial_connection_window_size(1 << 30);
    let mut server = server.max_concurrent_streams(1024);
    server.add_routes(routes).serve_with_incoming(incoming).await.unwrap();
    true
}

async fn swallow(request: axum::extract::Request) -> HttpResponse {
    let reply = service_fn(async |_: Request<Composed>| Ok::<_, Status>(Response::new(Composed::default())));
    Grpc::new(Codec::default()).unary(reply, request).await
}

enum Peers {
    Echo(Composed),
    FanOut(Vec<Peer>),
    Queries(PgPool, Vec<String>),
}

impl Peers {
    /// A customer of so many bytes, as the field of the reply.
    fn echo(bytes: usize) -> Self {
        let mut reply = Vec::new();
        prost::encoding::bytes::encode(1, &vec![0_u8; bytes.saturating_sub(3)], &mut reply);
        Self::Echo(Composed(reply.into()))
    }

    fn fan_out(key: &str, urls: &[String]) -> Self {
        let key = InternalKey::read("gateway", key.as_ref()).unwrap();
        Self::FanOut(urls.iter().map(|url| Peer::new(client::channel(url).unwrap(), key.clone())).collect())
    }

    async fn queries(database: &str) -> Self {
        let pool = PgPoolOptions::new().max_connections(20).connect(database).await.unwrap();
        Self::Queries(pool, queries())
    }
}

/// The six statements of `queries.sql`.
fn queries() -> Vec<String> {
    let lines = include_str!("queries.sql").lines().filter(|line| line.starts_with("select"));
    lines.map(|line| line.replace(":id", "$1")).collect()
}

/// The gateway's service with another inside.
#[derive(Clone)]
struct Customers(Arc<Peers>);

impl NamedService for Customers {
    const NAME: &str = customer_service_server::SERVICE_NAME;
}

impl tower::Service<HttpRequest> for Customers {
    type Response = HttpResponse;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<HttpResponse, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest) -> Self::Future {
        let peers = self.0.clone();
        Box::pin(async move {
            let get = service_fn(move |request: Request<GetCustomerRequest>| get(peers.clone(), request));
            Ok(Grpc::new(Codec::default()).unary(get, request).await)
        })
    }
}

async fn get(peers: Arc<Peers>, request: Request<GetCustomerRequest>) -> Result<Response<Composed>, Status> {
    let id = request.into_inner().customer_id;
    let customer = match &*peers {
        Peers::Echo(reply) => return Ok(Response::new(reply.clone())),
        Peers::FanOut(peers) => fan_out(peers, id).await?,
        Peers::Queries(pool, queries) => six_queries(pool, queries, id).await?,
    };
    let reply = GetCustomerResponse { customer: Some(customer) };
    Ok(Response::new(Composed(reply.encode_to_vec().into())))
}

/// Asks six services at once, for one customer each.
async fn fan_out(peers: &[Peer], id: String) -> Result<Customer, Status> {
    let caller = Caller { subject: "bench".into(), purpose: Purpose::parse("service").unwrap() };
    let call = Call { caller, deadline: Instant::now() + Duration::from_secs(5), traceparent: "".into() };
    let asked = peers.iter().map(|peer| {
        let message = BatchGetSectionsRequest { customer_ids: vec![id.clone()], ..Default::default() };
        let (mut sections, request) = (peer.sections.clone(), peer.request(&call, message));
        async move { sections.batch_get_sections(request).await }
    });
    let mut customer = Customer { customer_id: id.clone(), ..Default::default() };
    for (number, reply) in (1..).zip(try_join_all(asked).await?) {
        let section = reply.into_inner().sections.remove(0);
        let mut field = Vec::new();
        prost::encoding::bytes::encode(number + 1, &section.body, &mut field);
        customer.merge(field.as_slice()).map_err(|_| Status::internal("a section does not decode"))?;
        customer.section_states.push(SectionState {
            section: number as i32,
            version: section.version,
            as_of: section.as_of,
            valid_until: section.valid_until,
            source: SectionSource::Database.into(),
        });
    }
    Ok(customer)
}

/// Asks one database six times at once. What it found is not made into sections but for the versions, which
/// is in this peer's favour.
async fn six_queries(pool: &PgPool, queries: &[String], id: String) -> Result<Customer, Status> {
    let customer_id: uuid::Uuid = id.parse().map_err(|_| Status::invalid_argument("not a UUID"))?;
    let asked =
        queries.iter().map(|query| sqlx::query(AssertSqlSafe(query.as_str())).bind(customer_id).fetch_all(pool));
    let found = try_join_all(asked).await.map_err(|_| Status::internal("a query failed"))?;
    let states = (1..).zip(found).map(|(section, rows)| {
        let version = rows.first().map_or(0, |row| row.get("version"));
        SectionState { section, version, ..Default::default() }
    });
    Ok(Customer { customer_id: id, section_states: states.collect(), ..Default::default() })
}
