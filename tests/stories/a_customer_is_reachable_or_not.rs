use client::{Client, request_id};
use prost_types::Timestamp;
use proto::{
    consent::v1::WithdrawConsentRequest,
    contact::v1::*,
    customer::v1::*,
    interaction::v1::{Direction, Interaction, RecordInteractionRequest},
};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use tests::{Fixture, Installation, reason, violations};

async fn read(client: &Client, contact_point_id: &str) -> ContactPoint {
    let request = GetContactPointRequest { contact_point_id: contact_point_id.to_owned(), ..Default::default() };
    client.contact().get_contact_point(request).await.unwrap().into_inner().contact_point.unwrap()
}

async fn add(client: &Client, customer_id: &str, address: &str) -> ContactPoint {
    let email = EmailAddress { address: address.to_owned(), ..Default::default() };
    let request = AddContactPointRequest {
        request_id: request_id(),
        customer_id: customer_id.to_owned(),
        contact_point: Some(ContactPoint { email: Some(email), ..Default::default() }),
    };
    client.contact().add_contact_point(request).await.unwrap().into_inner().contact_point.unwrap()
}

async fn start(client: &Client, contact_point_id: &str) -> Result<StartVerificationResponse, tonic::Status> {
    let contact_point_id = contact_point_id.to_owned();
    let request = StartVerificationRequest { request_id: request_id(), contact_point_id };
    client.contact().start_verification(request).await.map(|reply| reply.into_inner())
}

async fn check(client: &Client, verification_id: &str, code: &str) -> (VerificationResult, i32) {
    let (verification_id, code) = (verification_id.to_owned(), code.to_owned());
    let request = CheckVerificationRequest { request_id: request_id(), verification_id, code };
    let reply = client.contact().check_verification(request).await.unwrap().into_inner();
    (reply.result(), reply.tries_left)
}

/// A code that is not this one.
fn wrong(code: &str) -> String {
    let first = if code.starts_with('0') { '1' } else { '0' };
    format!("{first}{}", &code[1..])
}

#[tokio::test]
async fn whatever_comes_back_and_in_whatever_order() {
    let installation = Installation::start().await;
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    use DeliveryEventKind::*;
    let day = 86_400;
    let heard = [
        (Delivered, 10),
        (SoftBounced, day),
        (SoftBounced, 2 * day),
        (Opened, 2 * day + 5),
        (SoftBounced, 3 * day),
        (SoftBounced, 3 * day + 7),
        (HardBounced, day + 3),
        (SoftBounced, 4 * day),
        (SoftBounced, 5 * day),
    ];
    let mut rng = StdRng::seed_from_u64(tests::seed());
    for round in 0..5 {
        let point = add(&client, &fixture.customer_id, &format!("{round}@example.org")).await.contact_point_id;
        assert!(read(&client, &point).await.deliverability.is_none());
        let mut order: Vec<_> = heard.into_iter().chain(heard).collect();
        order.shuffle(&mut rng);
        let event = |(kind, seconds): (DeliveryEventKind, i64)| DeliveryEvent {
            contact_point_id: point.clone(),
            kind: kind.into(),
            occurred_time: Some(Timestamp { seconds, nanos: 0 }),
        };
        let mut token = String::new();
        for some in order.chunks(4) {
            let request = RecordDeliveryEventsRequest { events: some.iter().copied().map(event).collect() };
            let reply = client.contact().record_delivery_events(request).await.unwrap().into_inner();
            token = reply.results[0].consistency_token.clone();
        }
        assert!(!token.is_empty());
        let state = read(&client, &point).await.deliverability.unwrap();
        assert_eq!(state.state(), DeliverabilityState::SoftBouncing, "round {round}");
        assert_eq!(state.since_time.unwrap().seconds, 3 * day);
    }

    // Of a batch each event is its own.
    let point = add(&client, &fixture.customer_id, "last@example.org").await;
    let unknown = uuid::Uuid::new_v4().to_string();
    let events = [(&point.contact_point_id, Complained), (&unknown, Delivered), (&point.contact_point_id, Replied)];
    let event = |(id, kind): (&String, DeliveryEventKind)| DeliveryEvent {
        contact_point_id: id.clone(),
        kind: kind.into(),
        occurred_time: Some(Timestamp { seconds: 5, nanos: 0 }),
    };
    let request = RecordDeliveryEventsRequest { events: events.map(event).into() };
    let results = client.contact().record_delivery_events(request).await.unwrap().into_inner().results;
    assert_eq!(results[1].failure, "CONTACT_POINT_NOT_FOUND");
    assert_eq!(results[2].deliverability.as_ref().unwrap().state(), DeliverabilityState::Complained);
    // Another value begins anew.
    let request = UpdateContactPointRequest {
        request_id: request_id(),
        contact_point_id: point.contact_point_id.clone(),
        contact_point: Some(ContactPoint {
            email: Some(EmailAddress { address: "new@example.org".into(), ..Default::default() }),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["email".into()] }),
        ..Default::default()
    };
    client.contact().update_contact_point(request).await.unwrap();
    assert!(read(&client, &point.contact_point_id).await.deliverability.is_none());
    // What is heard late of the old one is none of it.
    let request = RecordDeliveryEventsRequest { events: vec![event((&point.contact_point_id, Complained))] };
    let late = client.contact().record_delivery_events(request).await.unwrap().into_inner().results.remove(0);
    assert_eq!(late.deliverability.unwrap().state(), DeliverabilityState::Unspecified);
}

#[tokio::test]
async fn a_code_proves_that_somebody_is_there() {
    let installation = Installation::start().await;
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    let point = add(&client, &fixture.customer_id, "verify@example.org").await.contact_point_id;
    let first = start(&client, &point).await.unwrap();
    assert!(first.code.len() == 6 && first.code.bytes().all(|byte| byte.is_ascii_digit()));
    assert_eq!(check(&client, &first.verification_id, &wrong(&first.code)).await, (VerificationResult::WrongCode, 4));
    // Whoever begins again ends the one before.
    let second = start(&client, &point).await.unwrap();
    assert_eq!(check(&client, &first.verification_id, &first.code).await.0, VerificationResult::Expired);
    assert!(read(&client, &point).await.verified_time.is_none());
    assert_eq!(check(&client, &second.verification_id, &second.code).await, (VerificationResult::Verified, 4));
    assert!(read(&client, &point).await.verified_time.is_some());
    assert_eq!(check(&client, &second.verification_id, &second.code).await.0, VerificationResult::Expired, "good once");

    // Five tries, the right code too late.
    let third = start(&client, &point).await.unwrap();
    for left in (0..5).rev() {
        let tried = check(&client, &third.verification_id, &wrong(&third.code)).await;
        assert_eq!(tried, (VerificationResult::WrongCode, left));
    }
    assert_eq!(check(&client, &third.verification_id, &third.code).await, (VerificationResult::Exhausted, 0));
    // Ten minutes.
    let fourth = start(&client, &point).await.unwrap();
    let query = "update contact.verifications set expires_at = expires_at - interval '10 minutes' where tries = 0";
    sqlx::query(query).execute(&mut installation.sql().await).await.unwrap();
    assert_eq!(check(&client, &fourth.verification_id, &fourth.code).await.0, VerificationResult::Expired);
    start(&client, &point).await.unwrap();
    assert_eq!(reason(&start(&client, &point).await.err().unwrap()), "TOO_MANY_VERIFICATIONS");
    // Nothing that is stored is the code.
    let codes = "select count(*) from contact.verifications where octet_length(code) <> 32";
    assert_eq!(installation.count(codes).await, 0);
}

#[tokio::test]
async fn a_shared_value_is_flagged_for_as_long_as_it_is_shared() {
    let installation = Installation::start().await;
    let client = installation.client();
    let mut customers = Vec::new();
    for _ in 0..5 {
        customers.push(Fixture::create(&client).await.customer_id);
    }
    let own = async |points: &[ContactPoint]| {
        let mut shared = Vec::new();
        for point in points {
            shared.push(read(&client, &point.contact_point_id).await.shared);
        }
        shared
    };
    let mut points = Vec::new();
    for (i, customer) in customers.iter().enumerate() {
        points.push(add(&client, customer, "Family@example.org").await);
        assert_eq!(own(&points).await, vec![i > 0; i + 1]);
    }
    // The section of who was there before says it too.
    let customer = tests::get(&client, &customers[0], Vec::new()).await.unwrap();
    let flagged = customer.contact.unwrap().contact_points.into_iter().filter(|point| point.shared).count();
    assert_eq!(flagged, 1);
    while points.len() > 1 {
        let contact_point_id = points.remove(0).contact_point_id;
        let request = RemoveContactPointRequest { request_id: request_id(), contact_point_id };
        client.contact().remove_contact_point(request).await.unwrap();
        let left = points.len();
        assert_eq!(own(&points).await, vec![left > 1; left]);
    }

    // Sixteen at once, each the other's.
    let adds = (0..8).map(|i| add(&client, &customers[i % 4], ["a@example.org", "b@example.org"][i / 4]));
    let points = futures_util::future::join_all(adds).await;
    assert_eq!(own(&points).await, vec![true; 8]);
}

#[tokio::test]
async fn a_channel_is_chosen_that_leads_somewhere_and_is_allowed() {
    let installation = Installation::start().await;
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    let purpose_id = format!("m{}", fixture.tag);
    let choose = async |at: Option<&str>| {
        let seconds =
            |at: &str| at.parse::<sqlx::types::chrono::DateTime<sqlx::types::chrono::Utc>>().unwrap().timestamp();
        let request = ChooseChannelRequest {
            customer_id: fixture.customer_id.clone(),
            purpose_id: purpose_id.clone(),
            at_time: at.map(|at| Timestamp { seconds: seconds(at), nanos: 0 }),
        };
        client.customer().choose_channel(request).await.map(|reply| reply.into_inner())
    };
    // The fixture's customer has an e-mail address and allows everything.
    let chosen = choose(None).await.unwrap();
    assert_eq!((chosen.channel(), chosen.contact_point_id), (Channel::Email, fixture.contact_point_id.clone()));
    assert!(chosen.passed.is_empty());

    let preferences = ContactPreferences {
        channels: vec![Channel::Sms.into(), Channel::Email.into()],
        quiet_from_minute: Some(0),
        quiet_until_minute: Some(1439),
        frequency_caps: vec![FrequencyCap { purpose_id: "other".into(), max_count: 1, days: 1 }],
        preferred_from_minute: Some(1200),
        preferred_until_minute: Some(1190),
    };
    let request = SetContactPreferencesRequest {
        request_id: request_id(),
        customer_id: fixture.customer_id.clone(),
        preferences: Some(preferences.clone()),
    };
    let set = client.contact().set_contact_preferences(request).await.unwrap().into_inner();
    let section = tests::get(&client, &fixture.customer_id, vec![set.consistency_token]).await;
    let section = section.unwrap().contact.unwrap();
    assert!(section.preferences == Some(preferences));
    let quiet = choose(Some("2036-01-01T12:00:00Z")).await.unwrap();
    assert_eq!(quiet.channel(), Channel::Unspecified);
    let passed: Vec<_> = quiet.passed.iter().map(|passed| (passed.channel(), passed.obstacle())).collect();
    let expected = [
        (Channel::Sms, ChannelObstacle::NoContactPoint),
        (Channel::Email, ChannelObstacle::QuietHours),
        (Channel::Phone, ChannelObstacle::NoContactPoint),
        (Channel::Post, ChannelObstacle::NoContactPoint),
    ];
    assert_eq!(passed, expected);
    assert_eq!(quiet.quiet_until_time.unwrap().seconds % 86_400, 1439 * 60);
    assert_eq!(quiet.preferred_time, quiet.quiet_until_time);
    let welcome = choose(Some("2036-01-01T23:59:30Z")).await.unwrap();
    assert_eq!((welcome.channel(), welcome.preferred_time), (Channel::Email, None));

    // A withdrawal holds at once.
    let request = WithdrawConsentRequest {
        request_id: request_id(),
        customer_id: fixture.customer_id.clone(),
        purpose_id: purpose_id.clone(),
        evidence: Some(tests::evidence()),
        ..Default::default()
    };
    client.consent().withdraw_consent(request).await.unwrap();
    let refused = choose(Some("2036-01-01T23:59:30Z")).await.unwrap();
    assert!(refused.passed.iter().any(|passed| passed.obstacle() == ChannelObstacle::NotAllowed));
    assert_eq!(refused.channel(), Channel::Unspecified);
    let request = ChooseChannelRequest {
        customer_id: fixture.customer_id.clone(),
        purpose_id: "nobody-knows-it".into(),
        at_time: Some(Timestamp { seconds: 2_082_844_770, nanos: 0 }),
    };
    assert_eq!(reason(&client.customer().choose_channel(request).await.err().unwrap()), "PURPOSE_NOT_FOUND");
    let request =
        ChooseChannelRequest { customer_id: uuid::Uuid::new_v4().to_string(), purpose_id, ..Default::default() };
    assert_eq!(reason(&client.customer().choose_channel(request).await.err().unwrap()), "CUSTOMER_NOT_FOUND");
}

#[tokio::test]
async fn a_customer_is_addressed_as_often_as_wished() {
    let installation = Installation::start().await;
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    let purpose_id = format!("m{}", fixture.tag);
    let time = |seconds| Some(Timestamp { seconds, nanos: 500_000 });
    const DAY: i64 = 86_400;
    // After the fixture's customer allowed everything.
    let begin = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64 + 60;
    let choose = async |seconds| {
        let (customer_id, purpose_id) = (fixture.customer_id.clone(), purpose_id.clone());
        let request = ChooseChannelRequest { customer_id, purpose_id, at_time: time(seconds) };
        client.customer().choose_channel(request).await.unwrap().into_inner()
    };
    let cap = |purpose_id: &str| FrequencyCap { purpose_id: purpose_id.to_owned(), max_count: 2, days: 7 };
    let set = |frequency_caps| SetContactPreferencesRequest {
        request_id: request_id(),
        customer_id: fixture.customer_id.clone(),
        preferences: Some(ContactPreferences { frequency_caps, ..Default::default() }),
    };
    let refused = client.contact().set_contact_preferences(set(vec![cap(&purpose_id), cap(&purpose_id)])).await;
    assert_eq!(violations(&refused.err().unwrap()), ["preferences.frequency_caps[1]"]);
    client.contact().set_contact_preferences(set(vec![cap("other"), cap(&purpose_id)])).await.unwrap();

    let record = async |seconds, direction: Direction, purpose_id: &str| {
        let interaction = Some(Interaction {
            customer_id: fixture.customer_id.clone(),
            occurred_time: time(seconds),
            direction: direction.into(),
            purpose_id: purpose_id.to_owned(),
            ..Default::default()
        });
        let request = RecordInteractionRequest { request_id: request_id(), interaction };
        client.interaction().record_interaction(request).await.unwrap();
    };
    record(begin - 20 * DAY, Direction::Outbound, &purpose_id).await;
    record(begin - 3 * DAY, Direction::Outbound, &purpose_id).await;
    record(begin - 2 * DAY, Direction::Inbound, &purpose_id).await;
    record(begin - 2 * DAY, Direction::Outbound, "other").await;
    let once = choose(begin).await;
    assert_eq!((once.channel(), once.capped_until_time), (Channel::Email, None), "once in seven days");
    record(begin - DAY, Direction::Outbound, &purpose_id).await;
    let twice = choose(begin).await;
    assert_eq!(twice.channel(), Channel::Unspecified);
    let until = twice.capped_until_time.unwrap();
    assert_eq!(until, time(begin + 4 * DAY).unwrap(), "the first of them is seven days back then");
    assert_eq!(twice.passed[0].obstacle(), ChannelObstacle::FrequencyCap);
    assert_eq!(choose(until.seconds).await.channel(), Channel::Email);
    let before = choose(until.seconds - 1).await;
    assert_eq!(before.capped_until_time, Some(until));
}

#[tokio::test]
async fn an_address_is_what_its_country_asks_for() {
    let installation = Installation::start().await;
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    let add = async |address: PostalAddress| {
        let request = AddContactPointRequest {
            request_id: request_id(),
            customer_id: fixture.customer_id.clone(),
            contact_point: Some(ContactPoint { postal_address: Some(address), ..Default::default() }),
        };
        client.contact().add_contact_point(request).await.map(|reply| reply.into_inner().contact_point.unwrap())
    };
    let moscow = PostalAddress {
        region_code: "RU".into(),
        recipient: "Иванов Иван Иванович".into(),
        address_lines: vec!["ул. Тверская, д. 7".into()],
        locality: "Москва".into(),
        administrative_area: "Москва".into(),
        postal_code: "125009".into(),
        formatted: "as the caller would have it".into(),
        ..Default::default()
    };
    let added = add(moscow.clone()).await.unwrap();
    let expected = "Иванов Иван Иванович\nУЛ. ТВЕРСКАЯ, Д. 7\nМОСКВА\nМосква\n125009\nRUSSIAN FEDERATION";
    assert_eq!(added.postal_address.unwrap().formatted, expected);
    let stored = read(&client, &added.contact_point_id).await.postal_address.unwrap();
    assert_eq!((stored.formatted.as_str(), stored.locality.as_str()), (expected, "Москва"), "told as it was given");
    let view = tests::get(&client, &fixture.customer_id, Vec::new()).await.unwrap().contact.unwrap();
    let shown = view.contact_points.into_iter().find_map(|point| point.postal_address).unwrap();
    assert_eq!(shown.formatted, "");
    // The same written otherwise is the same.
    let twice = PostalAddress { locality: "МОСКВА".into(), ..moscow.clone() };
    assert_eq!(reason(&add(twice).await.err().unwrap()), "CONTACT_POINT_EXISTS");

    let wrong = PostalAddress { postal_code: "12500".into(), ..moscow.clone() };
    let told = tests::violations(&add(wrong).await.err().unwrap());
    assert_eq!(told, ["contact_point.postal_address.postal_code"]);
    let short = PostalAddress { postal_code: String::new(), administrative_area: " ".into(), ..moscow.clone() };
    let short = add(short).await.unwrap().postal_address.unwrap();
    assert_eq!(short.missing_fields, ["administrative_area", "postal_code"], "it is kept, and what it lacks is told");
    let nowhere = PostalAddress { region_code: "XX".into(), ..moscow };
    let told = tests::violations(&add(nowhere).await.err().unwrap());
    assert_eq!(told, ["contact_point.postal_address.region_code"]);
}
