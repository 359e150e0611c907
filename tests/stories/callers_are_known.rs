use std::sync::Arc;

use access::{Authority, InternalKey, Jwks};
use proto::{customer::v1::*, section::v1::*};
use tests::{Fixture, Installation, reason};
use tonic::{Code, Request};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

async fn refused(installation: &Installation, token: Option<&str>, purpose: Option<&str>) -> (Code, String) {
    let channel = client::channel(&installation.url()).unwrap();
    let mut customers = customer_service_client::CustomerServiceClient::new(channel);
    let customer_id = uuid::Uuid::new_v4().to_string();
    let mut request = Request::new(GetCustomerRequest { customer_id, ..Default::default() });
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    if let Some(purpose) = purpose {
        request.metadata_mut().insert("clientele-purpose", purpose.parse().unwrap());
    }
    let failure = customers.get_customer(request).await.err().unwrap();
    (failure.code(), reason(&failure))
}

#[tokio::test]
async fn a_caller_without_a_good_token_and_purpose_is_refused() {
    let installation = Installation::start().await;
    let keys = &installation.plan.keys;
    let good = installation.token();
    let narrow = keys.token("shop", &["marketing".to_owned()], 1).unwrap();
    let stranger = tempfile::TempDir::new().unwrap();
    let stranger = clientele::keys::Keys::load_or_create(stranger.path()).unwrap().token("x", &[], 1).unwrap();
    let none = jsonless(&good);
    for (token, purpose, code, expected) in [
        (None, Some("service"), Code::Unauthenticated, "CREDENTIALS_MISSING"),
        (Some("nonsense"), Some("service"), Code::Unauthenticated, "CREDENTIALS_INVALID"),
        (Some(stranger.as_str()), Some("service"), Code::Unauthenticated, "CREDENTIALS_INVALID"),
        (Some(none.as_str()), Some("service"), Code::Unauthenticated, "CREDENTIALS_INVALID"),
        (Some(good.as_str()), None, Code::InvalidArgument, "PURPOSE_MISSING"),
        (Some(good.as_str()), Some("curiosity"), Code::InvalidArgument, "PURPOSE_UNKNOWN"),
        (Some(narrow.as_str()), Some("service"), Code::PermissionDenied, "PURPOSE_NOT_ALLOWED"),
        (Some(narrow.as_str()), Some("marketing"), Code::NotFound, "CUSTOMER_NOT_FOUND"),
    ] {
        assert_eq!(refused(&installation, token, purpose).await, (code, expected.to_owned()));
    }
}

/// The same claims with the signature cut off.
fn jsonless(token: &str) -> String {
    let (signed, _) = token.rsplit_once('.').unwrap();
    format!("{signed}.")
}

#[tokio::test]
async fn a_service_accepts_only_its_own_installation() {
    let installation = Installation::start().await;
    let fixture = Fixture::create(&installation.client()).await;
    let profile = format!("http://{}", installation.suite.services[0]);
    let ask = |token: String| {
        let mut sections = section_service_client::SectionServiceClient::new(client::channel(&profile).unwrap());
        let customer_ids = vec![fixture.customer_id.clone()];
        let mut request = Request::new(BatchGetSectionsRequest { customer_ids, ..Default::default() });
        request.metadata_mut().insert("authorization", token.parse().unwrap());
        async move { sections.batch_get_sections(request).await }
    };
    let caller = access::Caller { subject: "x".into(), purpose: access::Purpose::parse("service").unwrap() };
    let foreign = InternalKey::new("gateway", &[7; 32]).authorization(&caller);
    for token in [format!("Bearer {}", installation.token()), foreign.to_str().unwrap().to_owned()] {
        assert_eq!(reason(&ask(token).await.err().unwrap()), "CREDENTIALS_INVALID");
    }
    let own = InternalKey::read("gateway", &installation.plan.keys.internal_key_file()).unwrap();
    let reply = ask(own.authorization(&caller).to_str().unwrap().to_owned()).await.unwrap();
    assert!(reply.into_inner().sections[0].version > 0);
    // From outside there is no way to the internal contract at all.
    let mut sections = section_service_client::SectionServiceClient::new(client::channel(&installation.url()).unwrap());
    let customer_ids = vec![fixture.customer_id.clone()];
    let mut request = Request::new(BatchGetSectionsRequest { customer_ids, ..Default::default() });
    request.metadata_mut().insert("authorization", format!("Bearer {}", installation.token()).parse().unwrap());
    request.metadata_mut().insert("clientele-purpose", "service".parse().unwrap());
    assert_eq!(reason(&sections.batch_get_sections(request).await.err().unwrap()), "METHOD_NOT_FOUND");
}

#[tokio::test]
async fn without_issuer_audience_or_keys_there_is_no_start() {
    let installation = Installation::start().await;
    let jwks = || Jwks::File(installation.plan.keys.jwks_file());
    assert!(Authority::new(jwks(), "issuer", "audience").await.is_ok());
    assert!(Authority::new(jwks(), "", "audience").await.is_err());
    assert!(Authority::new(jwks(), "issuer", "").await.is_err());
    assert!(Authority::new(Jwks::File("/nowhere".into()), "issuer", "audience").await.is_err());
    // A token of the right key for another issuer or audience opens nothing.
    let purpose = access::Purpose::parse("service").unwrap();
    let other = Arc::new(Authority::new(jwks(), "issuer", "audience").await.unwrap());
    assert!(other.authenticate(&installation.token(), purpose).await.is_err());
}

#[tokio::test]
async fn health_and_reflection_are_open_and_speak_for_all() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let installation = Installation::start().await;
    let mut health = HealthClient::new(client::channel(&installation.url()).unwrap());
    for service in gateway::services().into_iter().chain(["", "clientele.customer.v1.CustomerService"]) {
        let answer = health.check(HealthCheckRequest { service: service.to_owned() }).await.unwrap();
        assert_eq!(answer.into_inner().status, 1, "{service}");
    }
    let channel = client::channel(&installation.url()).unwrap();
    let mut reflection = ServerReflectionClient::new(channel);
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let request = tokio_stream::once(ServerReflectionRequest { message_request, ..Default::default() });
    let mut replies = reflection.server_reflection_info(request).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(listed)) =
        replies.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list")
    };
    let listed: Vec<&str> = listed.service.iter().map(|service| service.name.as_str()).collect();
    for service in gateway::services() {
        assert!(listed.contains(&service), "{service}");
    }
    assert!(!listed.contains(&"clientele.section.v1.SectionService"));
}

/// A key set behind a URL that takes its time.
async fn key_server(keys: Arc<std::sync::Mutex<String>>) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.read(&mut [0; 4096]).await;
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            let body = keys.lock().unwrap().clone();
            let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = socket.write_all((head + &body).as_bytes()).await;
        }
    });
    url
}

#[tokio::test]
async fn new_keys_are_fetched_even_when_those_who_ask_do_not_wait() {
    use clientele::keys::{AUDIENCE, ISSUER, Keys};
    let purpose = access::Purpose::parse("service").unwrap();
    let (old, new) = (tempfile::TempDir::new().unwrap(), tempfile::TempDir::new().unwrap());
    let (old, new) = (Keys::load_or_create(old.path()).unwrap(), Keys::load_or_create(new.path()).unwrap());
    let read = |keys: &Keys| std::fs::read_to_string(keys.jwks_file()).unwrap();
    let served = Arc::new(std::sync::Mutex::new(read(&old)));
    let source = Jwks::parse(&key_server(served.clone()).await);
    let authority = Authority::refreshing(source, ISSUER, AUDIENCE, std::time::Duration::ZERO).await.unwrap();
    assert!(authority.authenticate(&old.token("x", &[], 1).unwrap(), purpose).await.is_ok());
    *served.lock().unwrap() = read(&new);
    let token = new.token("x", &[], 1).unwrap();
    let impatient = std::time::Duration::from_millis(50);
    assert!(tokio::time::timeout(impatient, authority.authenticate(&token, purpose)).await.is_err());
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    // The keys came in for those who went away; nobody has to wait now.
    let known = tokio::time::timeout(impatient, authority.authenticate(&token, purpose)).await.unwrap();
    assert_eq!(&*known.unwrap().subject, "x");
}
