use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use access::{Call, Caller, Purpose};
use error::reason::{CUSTOMER_ERASED, SERVICE_UNAVAILABLE};
use proto::{
    contact::v1::*,
    profile::v1::*,
    r#type::v1::{Consistency, ExternalId},
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tests::{Fixture, Installation, reason};
use uuid::Uuid;

fn named(given_name: &str, id: &str) -> CreateProfileRequest {
    let name = Some(PersonName { given_name: given_name.into(), ..Default::default() });
    let external_ids = vec![ExternalId { system: "many".into(), id: id.into() }];
    let profile = Some(Profile { name, external_ids, ..Default::default() });
    CreateProfileRequest { request_id: client::request_id(), profile, provenance: None }
}

fn email(customer_id: &str, address: String) -> AddContactPointRequest {
    let email = Some(EmailAddress { address, ..Default::default() });
    let contact_point = Some(ContactPoint { email, ..Default::default() });
    AddContactPointRequest { request_id: client::request_id(), customer_id: customer_id.into(), contact_point }
}

/// Two batches of the same requests, one of which has its ids in a system of its own: one is sent whole, of the other
/// each request alone.
#[tokio::test]
async fn whatever_of_it_is_refused() {
    let seed = tests::seed();
    let mut random = StdRng::seed_from_u64(seed);
    let installation = Installation::start().await;
    let client = installation.client();
    let run = Uuid::new_v4().simple().to_string();
    let mut batch: Vec<CreateProfileRequest> = Vec::new();
    for i in 0..120 {
        let mut request = named(&format!("Name {i}"), &format!("{run}{}", random.random_range(0..60)));
        match random.random_range(0..8) {
            0 => request.profile.as_mut().unwrap().language = "??".into(),
            1 if i > 0 => request = batch.choose(&mut random).unwrap().clone(),
            2 if i > 0 => request.request_id = batch.choose(&mut random).unwrap().request_id.clone(),
            _ => (),
        }
        batch.push(request);
    }
    let mut alone = batch.clone();
    for request in &mut alone {
        request.request_id = Uuid::new_v5(&Uuid::NAMESPACE_OID, request.request_id.as_bytes()).to_string();
        request.profile.as_mut().unwrap().external_ids[0].system = "single".into();
    }
    let request = BatchCreateProfilesRequest { requests: batch };
    let results = client.profile().batch_create_profiles(request.clone()).await.unwrap().into_inner().results;
    let mut singles = Vec::new();
    for request in alone {
        singles.push(client.profile().create_profile(request).await.map_err(|status| reason(&status)));
    }
    for (result, single) in results.iter().zip(&singles) {
        match single {
            Ok(reply) => {
                assert_eq!(result.failure, "", "seed {seed}");
                assert_eq!(result.replayed, reply.metadata().contains_key("clientele-replayed"));
            }
            Err(reason) => assert_eq!((&result.failure, result.customer_id.as_str()), (reason, ""), "seed {seed}"),
        }
    }
    let refused = results.iter().filter(|result| !result.failure.is_empty()).count();
    assert!((20..100).contains(&refused), "{refused} of 120 were refused");
    // Again it is the same, and all of it known. Of what is refused the reason may be another by now: an id of a request
    // that was refused may have gone to a later one.
    let again = client.profile().batch_create_profiles(request).await.unwrap().into_inner().results;
    for (result, again) in results.into_iter().zip(again) {
        match result.failure.as_str() {
            "" => assert!(again == CreateProfileResult { replayed: true, ..result }),
            _ => assert_ne!(again.failure, ""),
        }
    }
}

#[tokio::test]
async fn what_was_created_is_what_is_read() {
    let installation = Installation::start().await;
    let client = installation.client();
    let requests = vec![named("Ada", &Uuid::new_v4().to_string()), named("Grace", &Uuid::new_v4().to_string())];
    let batch = BatchCreateProfilesRequest { requests: requests.clone() };
    let results = client.profile().batch_create_profiles(batch).await.unwrap().into_inner().results;
    for (result, request) in results.into_iter().zip(requests) {
        let replied = client.profile().create_profile(request).await.unwrap();
        assert!(replied.metadata().contains_key("clientele-replayed"), "a single call is known from the batch");
        let consistency =
            Some(Consistency { consistency_tokens: vec![result.consistency_token], ..Default::default() });
        let request = GetProfileRequest { customer_id: result.customer_id, consistency, as_of_time: None };
        let read = client.profile().get_profile(request).await.unwrap().into_inner().profile;
        assert!(read == replied.into_inner().profile);
    }
}

#[tokio::test]
async fn the_first_of_a_kind_is_primary_whoever_else_is_in_it() {
    let installation = Installation::start().await;
    let client = installation.client();
    let (one, other) = (Fixture::create(&client).await, Fixture::create(&client).await);
    let new = client.profile().create_profile(named("New", &Uuid::new_v4().to_string())).await.unwrap();
    let new = new.into_inner().profile.unwrap().customer_id;
    let address = |name: &str| format!("{name}-{}@example.org", one.tag);
    let requests = vec![
        email(&one.customer_id, address("a")),
        email(&new, address("b")),
        email(&new, address("c")),
        email(&Uuid::new_v4().to_string(), address("d")),
        email(&new, address("B")),
        email(&other.customer_id, address("a")),
        email(&new, "nowhere".into()),
    ];
    let batch = BatchAddContactPointsRequest { requests };
    let results = client.contact().batch_add_contact_points(batch).await.unwrap().into_inner().results;
    let failures: Vec<&str> = results.iter().map(|result| result.failure.as_str()).collect();
    assert_eq!(failures, ["", "", "", "CUSTOMER_NOT_FOUND", "CONTACT_POINT_EXISTS", "", "INVALID_FIELDS"]);
    assert_eq!(results[6].invalid_fields, ["contact_point.email.address: is not an e-mail address"]);
    let mut told = Vec::new();
    for result in results.iter().filter(|result| result.failure.is_empty()) {
        let consistency_tokens = vec![result.consistency_token.clone()];
        let consistency = Some(Consistency { consistency_tokens, ..Default::default() });
        let request = GetContactPointRequest { contact_point_id: result.contact_point_id.clone(), consistency };
        let point = client.contact().get_contact_point(request).await.unwrap().into_inner().contact_point.unwrap();
        told.push((point.primary, point.shared));
    }
    // The fixtures have an address of their own already.
    assert_eq!(told, [(false, true), (true, false), (false, false), (false, true)]);
}

#[tokio::test]
async fn more_than_a_customer_may_have_are_refused_and_no_others() {
    let installation = Installation::start().await;
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    let requests = (0..120).map(|i| email(&fixture.customer_id, format!("{i}-{}@example.org", fixture.tag)));
    let batch = BatchAddContactPointsRequest { requests: requests.collect() };
    let results = client.contact().batch_add_contact_points(batch).await.unwrap().into_inner().results;
    for (i, result) in results.iter().enumerate() {
        assert_eq!(result.failure, if i < 99 { "" } else { "TOO_MANY_CONTACT_POINTS" }, "{i}");
    }
}

#[tokio::test]
async fn nobody_overtakes_what_failed_for_the_moment() {
    let installation = Installation::start().await;
    let db = installation.db("profile").await;
    let caller = Caller { subject: "test".into(), purpose: Purpose::parse("service").unwrap() };
    let deadline = Instant::now() + Duration::from_secs(10);
    let call = Call { caller, deadline, traceparent: "".into() };
    let tried: Arc<Mutex<Vec<Vec<u32>>>> = Arc::default();
    let writes = (0..8_u32).map(|item| {
        let key = db.key("Test", &client::request_id(), &CreateProfileRequest::default());
        key.map(|key| (key, item)).map_err(store::Fault::into_failure)
    });
    let seen = tried.clone();
    let outcomes = db.write_many(&call, writes.collect(), move |_, items| {
        seen.lock().unwrap().push(items.iter().map(|item| **item).collect());
        let refused = if items.len() == 8 { CUSTOMER_ERASED } else { SERVICE_UNAVAILABLE };
        Box::pin(async move { store::Result::<Vec<store::Reply<CreateProfileResponse>>>::Err(refused.into()) })
    });
    for outcome in outcomes.await {
        assert_eq!(outcome.err().unwrap().reason(), SERVICE_UNAVAILABLE);
    }
    assert_eq!(*tried.lock().unwrap(), [(0..8).collect::<Vec<u32>>(), (0..4).collect()]);
}
