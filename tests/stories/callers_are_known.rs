use std::sync::Arc;

use access::{Authority, InternalKey, Jwks};
use proto::{customer::v1::*, section::v1::*};
use tests::{Fixture, Installation, reason};
use tonic::{Code, Request};

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
        let mut request = Request::new(BatchGetSectionsRequest { customer_ids, consistency: None });
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
    assert_eq!(reply.into_inner().sections[0].version, 1);
    // From outside there is no way to the internal contract at all.
    let mut sections = section_service_client::SectionServiceClient::new(client::channel(&installation.url()).unwrap());
    let customer_ids = vec![fixture.customer_id.clone()];
    let mut request = Request::new(BatchGetSectionsRequest { customer_ids, consistency: None });
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
}
