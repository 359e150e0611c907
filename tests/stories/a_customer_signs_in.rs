use client::{Client, request_id};
use prost_types::Timestamp;
use proto::{
    customer::v1::LookupCustomerRequest,
    profile::v1::*,
    r#type::v1::{FederatedSubject, Identifier},
};
use tests::{Fixture, Installation, reason, violations};

const PASSWORD: &str = "correct horse battery";

fn subject(subject: &str) -> FederatedSubject {
    FederatedSubject { issuer: "https://login.example.com".into(), subject: subject.into() }
}

async fn set(client: &Client, customer_id: &str, account: Account) -> Result<Account, tonic::Status> {
    let customer_id = customer_id.to_owned();
    let request = SetAccountRequest { request_id: request_id(), customer_id, account: Some(account) };
    client.profile().set_account(request).await.map(|reply| reply.into_inner().account.unwrap())
}

async fn verify(client: &Client, customer_id: &str, password: &str) -> Result<VerifyPasswordResponse, tonic::Status> {
    let request = VerifyPasswordRequest { customer_id: customer_id.to_owned(), password: password.to_owned() };
    client.profile().verify_password(request).await.map(tonic::Response::into_inner)
}

async fn read(client: &Client, customer_id: &str) -> Account {
    let request = GetAccountRequest { customer_id: customer_id.to_owned(), consistency: None };
    client.profile().get_account(request).await.unwrap().into_inner().account.unwrap()
}

async fn lookup(client: &Client, identifier: Identifier) -> Result<String, String> {
    let request = LookupCustomerRequest { identifier: Some(identifier), ..Default::default() };
    let found = client.customer().lookup_customer(request).await.map_err(|status| reason(&status))?;
    Ok(found.into_inner().customer.unwrap().customer_id)
}

#[tokio::test]
async fn an_account_leads_to_one_customer() {
    let installation = Installation::start().await;
    let client = installation.client();
    let (ada, eve) = (Fixture::create(&client).await.customer_id, Fixture::create(&client).await.customer_id);
    let named = |user_name: &str, subjects: &[&str]| Account {
        user_name: user_name.into(),
        federated_subjects: subjects.iter().map(|name| subject(name)).collect(),
        second_factors: vec![SecondFactor::Totp.into()],
        ..Default::default()
    };
    let stored = set(&client, &ada, named("Ada.L", &["7", "8"])).await.unwrap();
    assert!(stored.password_time.is_none() && stored.second_factors == [SecondFactor::Totp as i32]);
    for (user_name, subjects) in [("ADA.l", ["9"]), ("eve", ["8"])] {
        let taken = set(&client, &eve, named(user_name, &subjects)).await.err().unwrap();
        assert_eq!(reason(&taken), "ACCOUNT_NAME_TAKEN");
    }
    let twice = set(&client, &eve, named("eve", &["9", "9"])).await.err().unwrap();
    assert_eq!(violations(&twice), ["account.federated_subjects[1]"]);
    let by_name = |name: &str| Identifier { user_name: name.into(), ..Default::default() };
    let by_subject = |name: &str| Identifier { federated_subject: Some(subject(name)), ..Default::default() };
    assert_eq!(lookup(&client, by_name("aDA.L")).await.unwrap(), ada);
    assert_eq!(lookup(&client, by_subject("8")).await.unwrap(), ada);
    // What is given up is free for others.
    set(&client, &ada, named("ada", &["7"])).await.unwrap();
    set(&client, &eve, named("Ada.L", &["8"])).await.unwrap();
    assert_eq!(lookup(&client, by_subject("8")).await.unwrap(), eve);
    assert_eq!(lookup(&client, by_name("ada.l")).await.unwrap(), eve);
    installation.destroy_keys(&eve).await;
    assert_eq!(lookup(&client, by_subject("8")).await.unwrap_err(), "CUSTOMER_NOT_FOUND");
    let request = GetAccountRequest { customer_id: eve.clone(), consistency: None };
    assert_eq!(reason(&client.profile().get_account(request).await.err().unwrap()), "CUSTOMER_ERASED");
    assert_eq!(reason(&verify(&client, &eve, PASSWORD).await.err().unwrap()), "CUSTOMER_ERASED");
}

#[tokio::test]
async fn a_password_is_never_readable_and_five_wrong_ones_lock() {
    let installation = Installation::start().await;
    let client = installation.client();
    let customer_id = Fixture::create(&client).await.customer_id;
    assert_eq!(reason(&verify(&client, &customer_id, PASSWORD).await.err().unwrap()), "PASSWORD_NOT_SET");
    let set_password = async |password: Option<&str>| {
        let password = password.map(str::to_owned);
        let request = SetPasswordRequest { customer_id: customer_id.clone(), password };
        client.profile().set_password(request).await.map(|reply| reply.into_inner().account.unwrap())
    };
    assert_eq!(violations(&set_password(Some("short")).await.err().unwrap()), ["password"]);
    assert!(set_password(Some(PASSWORD)).await.unwrap().password_time.is_some());
    let right = verify(&client, &customer_id, PASSWORD).await.unwrap();
    assert!(right.verified && right.tries_left == 5);
    let wrong = verify(&client, &customer_id, "correct horse batterY").await.unwrap();
    assert!(!wrong.verified && wrong.tries_left == 4);
    // The right one in between begins the count anew.
    assert!(verify(&client, &customer_id, PASSWORD).await.unwrap().verified);
    // Many at once get no more tries than one after the other.
    let guesses = (0..12).map(|i| {
        let (client, customer_id) = (client.clone(), customer_id.clone());
        async move { verify(&client, &customer_id, &format!("guess {i}")).await }
    });
    let answers = futures_util::future::join_all(guesses).await;
    let mut left: Vec<i32> = answers.iter().flatten().map(|answer| answer.tries_left).collect();
    left.sort();
    assert_eq!(left, [0, 1, 2, 3, 4]);
    assert!(answers.iter().flatten().all(|answer| !answer.verified));
    let locked = verify(&client, &customer_id, PASSWORD).await.err().unwrap();
    assert_eq!(reason(&locked), "ACCOUNT_LOCKED", "the right one is not looked at either");
    let wait = tonic_types::StatusExt::get_details_retry_info(&locked).unwrap().retry_delay.unwrap().as_secs();
    assert!((880..=901).contains(&wait), "{wait}");
    assert!(read(&client, &customer_id).await.lock_end_time.is_some());
    // A new password opens it.
    set_password(Some("another one")).await.unwrap();
    assert!(verify(&client, &customer_id, "another one").await.unwrap().verified);
    assert!(!verify(&client, &customer_id, PASSWORD).await.unwrap().verified);
    assert!(set_password(None).await.unwrap().password_time.is_none());
    assert_eq!(reason(&verify(&client, &customer_id, PASSWORD).await.err().unwrap()), "PASSWORD_NOT_SET");
}

#[tokio::test]
async fn sign_ins_and_devices_are_told_in_any_order() {
    let installation = Installation::start().await;
    let client = installation.client();
    let customer_id = Fixture::create(&client).await.customer_id;
    for seconds in [200, 300, 100] {
        let sign_in_time = Some(Timestamp { seconds, nanos: 0 });
        let request = RecordSignInRequest { request_id: request_id(), customer_id: customer_id.clone(), sign_in_time };
        client.profile().record_sign_in(request).await.unwrap();
    }
    assert_eq!(read(&client, &customer_id).await.last_sign_in_time.unwrap().seconds, 300);

    let chrome = |version: u32| {
        format!("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/{version}.0.0.0 Safari/537.36")
    };
    let seen = async |seconds: i64, user_agent: String, ip_address: &str| {
        let request = RecordDeviceRequest {
            request_id: request_id(),
            customer_id: customer_id.clone(),
            device: Some(Device { network_kind: NetworkKind::Wifi.into(), ..Default::default() }),
            user_agent,
            ip_address: ip_address.into(),
            seen_time: Some(Timestamp { seconds, nanos: 0 }),
        };
        client.profile().record_device(request).await.map(|reply| reply.into_inner().device.unwrap())
    };
    seen(200, chrome(120), "203.0.113.77").await.unwrap();
    seen(300, chrome(143), "2001:db8:85a3:8d3::1").await.unwrap();
    seen(100, chrome(100), "198.51.100.1").await.unwrap();
    let phone =
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 Version/17.4 Mobile Safari/604.1";
    seen(400, phone.to_owned(), "").await.unwrap();
    assert_eq!(violations(&seen(1, String::new(), "203.0.113").await.err().unwrap()), ["ip_address", "user_agent"]);
    assert_eq!(violations(&seen(1, String::new(), "").await.err().unwrap()), ["user_agent"]);
    let request = ListDevicesRequest { customer_id: customer_id.clone(), consistency: None };
    let devices = client.profile().list_devices(request).await.unwrap().into_inner().devices;
    let types: Vec<DeviceType> = devices.iter().map(Device::r#type).collect();
    assert_eq!(types, [DeviceType::Unspecified, DeviceType::Smartphone, DeviceType::Computer]);
    let computer = &devices[2];
    assert_eq!((computer.browser.as_str(), computer.browser_version.as_str()), ("Chrome", "143.0.0.0"));
    assert_eq!(computer.network, "2001:db8:85a3::/48", "the rest of the address is gone");
    assert_eq!(computer.first_seen_time.unwrap().seconds, 100);
    assert_eq!(computer.last_seen_time.unwrap().seconds, 300);
}
